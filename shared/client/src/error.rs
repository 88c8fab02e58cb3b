use protocol::Answer;

/// What a client could not do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The journal cannot be opened, read or written. Nothing was sent: mend the disk or the path.
    #[error("the journal {path}: {message}")]
    Journal {
        /// Its file.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// The journal could not be synced once, so nothing that it says can be relied on until it is
    /// opened again. Nothing was sent.
    #[error("the journal failed before and takes nothing more; restart this program")]
    Poisoned,
    /// This id is in the journal already, with another content: use another id.
    #[error("the journal holds another submission with the id {0}")]
    DuplicateId(String),
    /// An id, a type or an origin outside its alphabet: mend it.
    #[error(transparent)]
    InvalidId(#[from] job::InvalidId),
    /// RabbitMQ refuses this client for good; what is journaled stays there.
    #[error("{0}")]
    Refused(String),
    /// No answer came in time: ask again. The job is not affected.
    #[error("no answer within {0} ms")]
    NoAnswer(u64),
    /// The server refused what was asked; the answer says why and what to do.
    #[error("{}: {}", .0.code.as_deref().unwrap_or("refused"), .0.message.as_deref().unwrap_or(""))]
    Answered(Box<Answer>),
    /// The client is closed.
    #[error("the client is closed")]
    Closed,
    /// The connection's settings are wrong.
    #[error(transparent)]
    Broker(#[from] broker::Error),
}
