/// Why a role stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The broker; see [`broker::Error::is_transient`].
    #[error(transparent)]
    Broker(#[from] broker::Error),
    /// The store; see [`store::Error::is_transient`].
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A role panicked. Its deliveries return to their queues.
    #[error("the {0} failed unexpectedly")]
    Panicked(&'static str),
    /// A setting that cannot be.
    #[error("{0}")]
    Settings(String),
}

impl Error {
    /// Whether everything built anew may work.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Broker(error) => error.is_transient(),
            Self::Store(error) => error.is_transient(),
            Self::Panicked(_) => true,
            Self::Settings(_) => false,
        }
    }
}
