use protocol::Answer;
use protocol::batch::SHORT_BYTES_MAX;

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
    /// The journal holds as much as it may. Nothing was written and nothing was sent: wait until
    /// submissions are settled, or raise the key.
    #[error(
        "the journal {path} is full: {key} is {limit}. Nothing was written, nothing was sent. \
         Settle what is open (`counterfoil recover`), or raise {key}"
    )]
    JournalFull {
        /// Its file.
        path: String,
        /// The setting that bounds it.
        key: &'static str,
        /// What it is set to.
        limit: u64,
    },
    /// The journal could not be synced. Nothing was sent, and nothing more is taken. Whether the
    /// submission is on disk nobody knows: mend the disk, start anew and look; if it is there,
    /// [`Client::recover`](crate::Client::recover) sends it.
    #[error(
        "the journal {path} could not be synced: {message}. Nothing was sent, and it takes nothing \
         more. Mend the disk and start this program again; `counterfoil journal list --open` shows \
         what is in it, and only that is sent by `counterfoil recover`"
    )]
    NotSynced {
        /// Its file.
        path: String,
        /// What failed.
        message: String,
    },
    /// The journal could not be synced before, so nothing that it says can be relied on until it is
    /// opened again. Nothing was written and nothing was sent.
    #[error("the journal {0} failed before and takes nothing more: start this program again")]
    Poisoned(String),
    /// One id is one job for so long only: the server may have forgotten what became of this one,
    /// so it is not sent (again). Ask for it; if it never arrived, submit it under a new id and
    /// cancel this one.
    #[error(
        "{job_id} was journaled more than {horizon_ms} ms ago (horizon_ms) and is not sent. Ask what \
         became of it (`counterfoil status {job_id}`). If it never arrived: submit it under a new \
         id, then close this one (`counterfoil cancel {job_id}`)"
    )]
    TooOld {
        /// The identifier.
        job_id: String,
        /// How long one id is one job.
        horizon_ms: u64,
    },
    /// This id is in the journal already, with another content: use another id.
    #[error("the journal holds another submission with the id {0}")]
    DuplicateId(String),
    /// An id, a type or an origin outside its alphabet: mend it.
    #[error(transparent)]
    InvalidId(#[from] job::InvalidId),
    /// A MIME type that no message could carry: mend it. Nothing was written and nothing was sent.
    #[error("the content_type has {0} bytes; allowed are up to {SHORT_BYTES_MAX}")]
    LongContentType(usize),
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
