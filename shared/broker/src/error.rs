/// What the broker could not do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The broker cannot be reached, or a connection or channel has failed: open another.
    #[error("RabbitMQ is not available")]
    Unavailable(#[source] lapin::Error),
    /// The connection was not made in time: open another.
    #[error("RabbitMQ did not answer within {0} ms")]
    Timeout(u64),
    /// Wrong user, password, virtual host or right: mend the settings.
    #[error("RabbitMQ refuses this program")]
    Refused(#[source] lapin::Error),
    /// An exchange or a queue does not exist. It is there when an administrator has created it.
    #[error(
        "{0} does not exist in RabbitMQ. Create it: counterfoil setup (with --queue NAME for counterfoil.work.NAME)"
    )]
    Missing(String),
    /// An exchange or a queue exists with other arguments than this version's.
    #[error("{0} exists in RabbitMQ with other arguments. See: counterfoil doctor")]
    Drift(String, #[source] lapin::Error),
    /// `amqp.url` is none.
    #[error("amqp.url: {0} (amqp://user:password@host:port/vhost)")]
    Url(String),
    /// A name is longer than AMQP's 255 bytes.
    #[error("{0:?} is longer than 255 bytes")]
    TooLong(String),
    /// A consumer was cancelled by the broker: its queue was deleted or moved.
    #[error("RabbitMQ ended the consumer of {0}")]
    Cancelled(String),
    /// What was opened before has failed: open another.
    #[error("the channel is gone")]
    Gone,
}

/// 403 access refused and 530 not allowed: what is tried again in vain.
/// <https://www.rabbitmq.com/amqp-0-9-1-reference.html#constants>
const REFUSALS: [u16; 2] = [403, 530];
const NOT_FOUND: u16 = 404;
const PRECONDITION_FAILED: u16 = 406;

impl Error {
    /// Whether the same may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_)
                | Self::Timeout(_)
                | Self::Missing(_)
                | Self::Cancelled(_)
                | Self::Gone
        )
    }

    /// What an error means that came of looking at a queue or an exchange.
    pub(crate) fn about(name: &str, error: lapin::Error) -> Self {
        match amqp_code(&error) {
            Some(NOT_FOUND) => Self::Missing(name.to_owned()),
            Some(PRECONDITION_FAILED) => Self::Drift(name.to_owned(), error),
            _ => error.into(),
        }
    }
}

fn amqp_code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

impl From<lapin::Error> for Error {
    fn from(error: lapin::Error) -> Self {
        match amqp_code(&error) {
            Some(code) if REFUSALS.contains(&code) => Self::Refused(error),
            _ => Self::Unavailable(error),
        }
    }
}
