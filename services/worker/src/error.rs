/// Why a worker ended, or was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The broker; see [`broker::Error::is_transient`].
    #[error(transparent)]
    Broker(#[from] broker::Error),
    /// The store; see [`store::Error::is_transient`].
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A type or queue outside its alphabet: mend the program.
    #[error(transparent)]
    InvalidId(#[from] job::InvalidId),
    /// A setting that cannot be.
    #[error("{0}")]
    Settings(String),
    /// A part of the worker panicked.
    #[error("the worker failed unexpectedly")]
    Panicked,
    /// No handler was given: there is nothing to do.
    #[error("no handler: a worker needs at least one type")]
    NoHandler,
    /// Something was said of a type that has no handler yet: give it one first.
    #[error("the type {0:?} has no handler yet")]
    Unhandled(String),
}

impl Error {
    /// Whether everything built anew may work.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Broker(error) => error.is_transient(),
            Self::Store(error) => error.is_transient(),
            Self::Panicked => true,
            Self::InvalidId(_) | Self::Settings(_) | Self::NoHandler | Self::Unhandled(_) => false,
        }
    }
}
