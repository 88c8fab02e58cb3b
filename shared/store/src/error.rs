use std::fmt;

/// What the store could not do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Redis cannot be reached, did not answer in time, is loading, full, read-only or busy. It is
    /// not known whether a script ran: run it again.
    #[error("Redis is not available")]
    Unavailable(#[source] redis::RedisError),
    /// Redis refuses this program: wrong password, missing right, wrong address. Mend the settings.
    #[error("Redis refuses this program")]
    Refused(#[source] redis::RedisError),
    /// `redis.url` is none.
    #[error("redis.url: not a Redis URL (redis://user:password@host:port/database)")]
    Url(#[source] redis::RedisError),
    /// Redis is set up in a way in which promises cannot be kept.
    #[error("{0}")]
    Unfit(String),
    /// Redis said something that this version does not understand.
    #[error("unexpected answer from Redis: {0}")]
    Unexpected(String),
}

/// Error codes of Redis that say: not like this, whatever is tried.
const REFUSALS: &[&str] = &["NOAUTH", "WRONGPASS", "NOPERM"];

impl Error {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Unexpected(_))
    }

    pub(crate) fn unexpected(what: impl fmt::Debug) -> Self {
        let shown: String = format!("{what:?}").chars().take(200).collect();
        Self::Unexpected(shown)
    }
}

impl From<redis::RedisError> for Error {
    fn from(error: redis::RedisError) -> Self {
        let refused = error.code().is_some_and(|code| REFUSALS.contains(&code))
            || error.kind() == redis::ErrorKind::AuthenticationFailed
            // The database of the URL: no such number.
            || error.detail().is_some_and(|detail| detail.contains("DB index"));
        if refused { Self::Refused(error) } else { Self::Unavailable(error) }
    }
}
