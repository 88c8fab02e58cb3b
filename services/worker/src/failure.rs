use std::time::Duration;

/// Why a handler did not succeed. Any error becomes [`Failure::Retry`] by `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It may work another time: tried again while attempts are left.
    Retry {
        /// Why, in words; recorded with the job.
        reason: String,
        /// The pause, instead of the one that the retry policy gives.
        after: Option<Duration>,
    },
    /// It will not work another time: the job has failed.
    Fail {
        /// Why, in words; recorded with the job.
        reason: String,
    },
    /// It stopped because it was asked to.
    Cancelled,
}

impl Failure {
    /// It may work another time.
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { reason: reason.into(), after: None }
    }

    /// It will not work another time.
    pub fn fail(reason: impl Into<String>) -> Self {
        Self::Fail { reason: reason.into() }
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::retry(broker::chain(&error))
    }
}
