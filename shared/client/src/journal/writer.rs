//! The thread that writes: what waits is committed together, with one sync.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use faults::{Point, crash_point};
use protocol::UnixMillis;
use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use tokio::sync::mpsc;

use super::bounds::{Bounds, Full};
use super::identity::place;
use super::{Horizon, Write, changes, file};
use crate::Error;

/// Writes committed together.
const GROUP_MAX: usize = 1024;

pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    pub(super) client: String,
    pub(super) bounds: Bounds,
    pub(super) horizon: Horizon,
    /// Where the file was when it was opened.
    pub(super) place: Option<String>,
    pub(super) poisoned: Arc<AtomicBool>,
    /// Whether the last group could not be written, and it was said.
    pub(super) is_hindered: bool,
}

impl Writer {
    pub(super) fn run(mut self, mut waiting: mpsc::UnboundedReceiver<Write>) {
        while let Some(first) = waiting.blocking_recv() {
            let mut group = vec![first];
            while group.len() < GROUP_MAX
                && let Ok(next) = waiting.try_recv()
            {
                group.push(next);
            }
            self.commit(group);
        }
    }

    /// Writes a group and answers when it is on disk. After a failed sync nothing more is taken:
    /// an operating system may drop what it could not write and call the next sync a success.
    pub(super) fn commit(&mut self, group: Vec<Write>) {
        if self.poisoned.load(Ordering::Acquire) {
            answer_all(group, || Error::Poisoned(self.path.display().to_string()));
            return;
        }
        if place(&self.path) != self.place {
            let why = "it was removed, or another file was put in its place, while it was in use";
            self.poison(group, &why);
            return;
        }
        match self.write(&group) {
            Ok(appended) => {
                if std::mem::take(&mut self.is_hindered) {
                    tracing::info!(path = %self.path.display(), "the journal is written again");
                }
                answer(group, appended);
            }
            // Undone, and nothing was synced that would have to be relied on.
            Err(error) if is_passing(&error) => {
                if !std::mem::replace(&mut self.is_hindered, true) {
                    let error = file::explain(&self.path, &error);
                    tracing::warn!(%error, "the journal cannot be written for now");
                }
                answer_all(group, || file::explain(&self.path, &error));
            }
            Err(error) => self.poison(group, &error),
        }
    }

    fn poison(&self, group: Vec<Write>, error: &dyn std::fmt::Display) {
        let path = self.path.display().to_string();
        tracing::error!(%error, path, "the journal failed");
        self.poisoned.store(true, Ordering::Release);
        let message = error.to_string();
        answer_all(group, || Error::NotSynced { path: path.clone(), message: message.clone() });
    }

    fn write(&mut self, group: &[Write]) -> rusqlite::Result<Vec<AppendResult>> {
        let behavior = TransactionBehavior::Immediate;
        let mut transaction = self.connection.transaction_with_behavior(behavior)?;
        if group.iter().any(|write| matches!(write, Write::Append(..))) {
            crash_point(Point::JournalBegun);
        }
        let now = UnixMillis::now().0;
        let mut results = Vec::new();
        let mut writes = 0;
        for write in group {
            match write {
                Write::Append(entries, _) => {
                    // All of a call or nothing of it.
                    let part = transaction.savepoint()?;
                    let mut appended =
                        changes::append(&part, &self.client, entries, now, &self.horizon)?;
                    // What was there before needs no room.
                    if appended.as_ref().is_ok_and(|times| times.contains(&now))
                        && let Err(Full { key, limit }) = self.bounds.check(&part)?
                    {
                        let path = self.path.display().to_string();
                        appended = Err(Error::JournalFull { path, key, limit });
                    }
                    if appended.is_ok() {
                        part.commit()?;
                    }
                    writes += entries.len();
                    results.push(appended);
                }
                Write::Mark(mark) => {
                    changes::mark(&transaction, &self.client, mark, now)?;
                    writes += 1;
                }
                Write::Horizon(ms) => changes::set_horizon(&transaction, &self.client, *ms)?,
                Write::Flush(_) => {}
            }
        }
        self.bounds.retire(&transaction, now, writes)?;
        transaction.commit()?;
        if !results.is_empty() {
            crash_point(Point::JournalSynced);
        }
        Ok(results)
    }
}

type AppendResult = Result<Vec<i64>, Error>;

/// The disk is full or another process holds the file: the transaction was undone before anything
/// was synced, and the next one may succeed.
fn is_passing(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn answer(group: Vec<Write>, appended: Vec<AppendResult>) {
    let mut appended = appended.into_iter();
    for write in group {
        match write {
            Write::Append(_, reply) => {
                let result = appended.next().unwrap_or(Err(Error::Closed));
                // Who asked may have gone; the entry stands.
                reply.send(result).ok();
            }
            Write::Flush(reply) => {
                reply.send(()).ok();
            }
            Write::Mark(_) | Write::Horizon(_) => {}
        }
    }
}

fn answer_all(group: Vec<Write>, error: impl Fn() -> Error) {
    for write in group {
        match write {
            Write::Append(_, reply) => {
                reply.send(Err(error())).ok();
            }
            Write::Flush(reply) => {
                reply.send(()).ok();
            }
            Write::Mark(_) | Write::Horizon(_) => {}
        }
    }
}
