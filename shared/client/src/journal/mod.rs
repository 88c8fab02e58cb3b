//! The client's file of identifiers and submissions, written and synced before the first byte is
//! sent: the counterfoil.
//!
//! SQLite in WAL mode with `synchronous=FULL`: a commit returns when it is on disk. Several
//! processes of a machine may share the file. One thread of each writes; what waits is committed
//! together. Reading ([`Reader`]) changes nothing and holds up nobody.
//!
//! # Standing of an entry
//! ```text
//!   journaled ─► confirmed ─► accepted ─► done          sent again until a receipt or a refusal;
//!        └───────────┴───────────┴──────► refused       the body is kept until the job is done
//! ```
//!
//! # Bounds
//! Unfinished entries and the bytes of all entries are counted by triggers, in the transaction that
//! changes them, for all processes together; a submission beyond a bound is an error
//! ([`Error::JournalFull`]). Finished entries are removed after `client.journal_keep_ms`, some with
//! each commit, and earlier when their room is needed.
//!
//! # Failures
//! - The disk is full, or another process holds the file: the transaction is undone, the caller is
//!   told, the next one may succeed.
//! - A sync fails, or anything else: [`Error::NotSynced`], and nothing more is taken
//!   ([`Error::Poisoned`]).
//! - The process dies: an entry whose `submit` returned is there; `recover` settles it.
//! - The file was copied: see [`Identity`].
//!
//! Decision 0010.

mod bounds;
mod changes;
mod file;
mod horizon;
mod identity;
mod read;
mod schema;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot};

use crate::submission::{Options, Submission};
use crate::{ClientSettings, Error};

pub(crate) use horizon::Horizon;
pub use identity::Identity;
pub use read::{Cursor, Query, Reader};

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

    /// Those of which more is to come.
    pub const OPEN: &[Self] = &[Self::Journaled, Self::Confirmed, Self::Accepted];

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
    /// When its standing changed last.
    pub changed_at_ms: i64,
    pub(crate) options: Options,
}

impl JournalEntry {
    /// MIME type of the body, if it was given.
    pub fn content_type(&self) -> Option<&str> {
        self.options.content_type.as_deref()
    }

    /// The headers that were given, in their order.
    pub fn headers(&self) -> &[(String, String)] {
        &self.options.headers
    }
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
    Append(Vec<Appended>, oneshot::Sender<Result<Vec<i64>, Error>>),
    Mark(Mark),
    Horizon(u64),
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
    identity: Identity,
    horizon: Horizon,
    writes: mpsc::UnboundedSender<Write>,
    poisoned: Arc<AtomicBool>,
}

impl Journal {
    /// Opens the journal of a client, and makes it if there is none. A copy becomes a journal of
    /// its own, and that is said in the log.
    ///
    /// # Errors
    /// [`Error::Journal`] says what is wrong with the file, and what to do.
    pub fn open(settings: &ClientSettings, client: &str) -> Result<Self, Error> {
        let path = settings.journal.as_path();
        let mut connection = file::open(path)?;
        let identity = settle(path, &mut connection)?;
        let told = changes::horizon(&connection, client);
        let horizon = Horizon::new(told.map_err(|error| file::explain(path, &error))?);
        let (writes, waiting) = mpsc::unbounded_channel();
        let poisoned = Arc::new(AtomicBool::new(false));
        let writer = writer::Writer {
            connection,
            path: path.to_owned(),
            client: client.to_owned(),
            bounds: bounds::Bounds::new(settings),
            horizon: horizon.clone(),
            place: identity::place(path),
            poisoned: Arc::clone(&poisoned),
            is_hindered: false,
        };
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run(waiting))
            .map_err(|error| file::failed(path, error))?;
        let (path, client) = (path.to_owned(), client.to_owned());
        Ok(Self { path, client, identity, horizon, writes, poisoned })
    }

    /// Which file this is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// How long a submission may be sent again.
    pub(crate) fn horizon(&self) -> &Horizon {
        &self.horizon
    }

    /// Writes submissions and returns when they are on disk, with the instant at which each was
    /// journaled first, in milliseconds since 1970.
    pub(crate) async fn append(&self, entries: Vec<Appended>) -> Result<Vec<i64>, Error> {
        if self.poisoned.load(Ordering::Acquire) {
            return Err(Error::Poisoned(self.path.display().to_string()));
        }
        let (reply, written) = oneshot::channel();
        self.writes.send(Write::Append(entries, reply)).map_err(|_| Error::Closed)?;
        written.await.map_err(|_| Error::Closed)?
    }

    /// Notes what has become of a submission. Not waited for: a mark that is lost is found again by
    /// asking.
    pub(crate) fn mark(&self, mark: Mark) {
        self.note(Write::Mark(mark));
    }

    /// Takes a receipt's word on how long one id is one job.
    pub(crate) fn learn_horizon(&self, horizon_ms: u64) {
        if self.horizon.learn(horizon_ms) {
            self.note(Write::Horizon(horizon_ms));
        }
    }

    fn note(&self, write: Write) {
        if self.writes.send(write).is_err() {
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

    /// Reads this client's entries, in pages.
    ///
    /// # Errors
    /// [`Error::Journal`] if the file cannot be read, or is gone.
    pub fn reader(&self) -> Result<Reader, Error> {
        Reader::open(&self.path, &self.client)?
            .ok_or_else(|| file::failed(&self.path, "it is gone: it was removed while in use"))
    }

    /// All entries of this client with their bodies, oldest first; only those of some standings if
    /// any are named. For a large journal use [`Self::reader`].
    ///
    /// # Errors
    /// [`Error::Journal`] if the file cannot be read.
    pub fn entries(&self, standings: &[Standing]) -> Result<Vec<JournalEntry>, Error> {
        let standings = standings.to_vec();
        self.reader()?.page(&Query { standings, bodies: true, ..Query::page(usize::MAX) })
    }
}

fn settle(path: &Path, connection: &mut rusqlite::Connection) -> Result<Identity, Error> {
    let (identity, origin) = identity::settle(connection, &identity::Here::of(path))
        .map_err(|error| file::explain(path, &error))?;
    if let (true, Some(from)) = (origin != identity::Origin::Same, &identity.copied_from) {
        let (path, is) = (path.display(), origin.as_str());
        tracing::warn!(
            %path, is, from,
            "this journal is not where it was made: it goes on as a journal of its own, and \
             `counterfoil recover` settles what it holds"
        );
    }
    Ok(identity)
}
