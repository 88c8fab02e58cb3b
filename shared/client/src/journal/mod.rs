//! The client's file of identifiers and submissions, written and synced before the first byte is
//! sent: the counterfoil.
//!
//! SQLite in WAL mode with `synchronous=FULL`: a commit returns when it is on disk. Several
//! processes may share the file. One thread writes; what waits is committed together.
//!
//! # Standing of an entry
//! ```text
//!   journaled ─► confirmed ─► accepted ─► done          sent again until a receipt or a refusal;
//!        └───────────┴───────────┴──────► refused       the body is kept until the job is done
//! ```

mod file;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot};

use crate::Error;
use crate::submission::{Options, Submission};

/// What is known of a submission, on the client's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// On disk; not known to have reached the broker.
    Journaled,
    /// The broker has it.
    Confirmed,
    /// The server has recorded it.
    Accepted,
    /// The job has reached a final state.
    Done,
    /// It was refused, voided or forgotten: it will not be sent again.
    Refused,
}

impl Standing {
    /// Every standing, in order.
    pub const ALL: &[Self] =
        &[Self::Journaled, Self::Confirmed, Self::Accepted, Self::Done, Self::Refused];

    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Journaled => "journaled",
            Self::Confirmed => "confirmed",
            Self::Accepted => "accepted",
            Self::Done => "done",
            Self::Refused => "refused",
        }
    }
}

/// One submission in the journal.
#[derive(Debug, Clone)]
pub struct JournalEntry {
    /// The identifier.
    pub job_id: String,
    /// What is to be done.
    pub job_type: String,
    /// The body; empty once the job is done.
    pub body: Vec<u8>,
    /// What is known of it.
    pub standing: Standing,
    /// The server's identifier, once a receipt has come.
    pub ticket: Option<String>,
    /// The last state, or the code of a refusal.
    pub outcome: Option<String>,
    /// Milliseconds since 1970.
    pub journaled_at_ms: i64,
    pub(crate) options: Options,
}

/// A change of an entry's standing.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    pub(crate) job_id: String,
    pub(crate) standing: Standing,
    pub(crate) ticket: Option<String>,
    pub(crate) outcome: Option<String>,
}

enum Write {
    Append(Vec<Appended>, oneshot::Sender<Result<Vec<bool>, Error>>),
    Mark(Mark),
    Flush(oneshot::Sender<()>),
}

/// An entry to be added.
#[derive(Debug, Clone)]
pub(crate) struct Appended {
    pub(crate) job_id: String,
    pub(crate) submission: Submission,
}

/// A handle on the journal; clones share the writing thread.
#[derive(Debug, Clone)]
pub struct Journal {
    path: PathBuf,
    client: String,
    writes: mpsc::UnboundedSender<Write>,
    poisoned: Arc<AtomicBool>,
}

impl Journal {
    /// Opens the journal of a client, and makes it if there is none.
    ///
    /// # Errors
    /// [`Error::Journal`] says what is wrong with the file.
    pub fn open(path: &Path, client: &str) -> Result<Self, Error> {
        let connection = file::open(path)?;
        let (writes, waiting) = mpsc::unbounded_channel();
        let poisoned = Arc::new(AtomicBool::new(false));
        let writer = writer::Writer {
            connection,
            path: path.to_owned(),
            client: client.to_owned(),
            poisoned: Arc::clone(&poisoned),
        };
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run(waiting))
            .map_err(|error| file::failed(path, error))?;
        Ok(Self { path: path.to_owned(), client: client.to_owned(), writes, poisoned })
    }

    /// Writes submissions and returns when they are on disk. An entry is `false` if the same was
    /// there before.
    pub(crate) async fn append(&self, entries: Vec<Appended>) -> Result<Vec<bool>, Error> {
        if self.poisoned.load(Ordering::Acquire) {
            return Err(Error::Poisoned);
        }
        let (reply, written) = oneshot::channel();
        self.writes.send(Write::Append(entries, reply)).map_err(|_| Error::Closed)?;
        written.await.map_err(|_| Error::Closed)?
    }

    /// Notes what has become of a submission. Not waited for: a mark that is lost is found again by
    /// asking.
    pub(crate) fn mark(&self, mark: Mark) {
        if self.writes.send(Write::Mark(mark)).is_err() {
            tracing::debug!("the journal is closed");
        }
    }

    /// Waits until everything that was handed over before is on disk.
    pub async fn flush(&self) {
        let (reply, flushed) = oneshot::channel();
        if self.writes.send(Write::Flush(reply)).is_ok() {
            // The thread has ended: there is nothing left to wait for.
            flushed.await.ok();
        }
    }

    /// Entries of this client, oldest first; only those of some standings if any are named.
    ///
    /// # Errors
    /// [`Error::Journal`] if the file cannot be read.
    pub fn entries(&self, standings: &[Standing]) -> Result<Vec<JournalEntry>, Error> {
        let connection = file::open(&self.path)?;
        file::entries(&connection, &self.client, standings)
            .map_err(|error| file::failed(&self.path, error))
    }
}
