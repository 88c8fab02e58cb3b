//! What the journal may hold, and for how long.

use rusqlite::{Connection, params};

use crate::ClientSettings;

/// The bounds of the settings, as SQLite counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    entries_max: u64,
    bytes_max: u64,
    keep_ms: i64,
}

/// A bound that a submission would break: the key, and what it is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full {
    pub(super) key: &'static str,
    pub(super) limit: u64,
}

/// Finished entries that give way at a time when room is needed.
const GIVE_WAY: i64 = 64;
/// Finished entries that are removed with every commit, beside two for each write of it: so what
/// has been kept long enough goes faster than new entries come, and no submission waits for long.
const RETIRED_MIN: i64 = 16;

impl Bounds {
    pub(super) fn new(settings: &ClientSettings) -> Self {
        Self {
            entries_max: settings.journal_entries_max,
            bytes_max: settings.journal_bytes_max,
            keep_ms: i64::try_from(settings.journal_keep_ms).unwrap_or(i64::MAX),
        }
    }

    /// Whether what was just added may stay. Finished entries give way, the oldest first.
    pub(super) fn check(&self, transaction: &Connection) -> rusqlite::Result<Result<(), Full>> {
        loop {
            let (entries, bytes) = counted(transaction)?;
            if entries > self.entries_max {
                let limit = self.entries_max;
                return Ok(Err(Full { key: "client.journal_entries_max", limit }));
            }
            if bytes <= self.bytes_max {
                return Ok(Ok(()));
            }
            if remove_finished(transaction, i64::MAX, GIVE_WAY)? == 0 {
                let limit = self.bytes_max;
                return Ok(Err(Full { key: "client.journal_bytes_max", limit }));
            }
        }
    }

    /// Removes some of the finished entries that have been kept long enough.
    pub(super) fn retire(
        &self,
        transaction: &Connection,
        now: i64,
        writes: usize,
    ) -> rusqlite::Result<usize> {
        let writes = i64::try_from(writes).unwrap_or(i64::MAX);
        let count = writes.saturating_mul(2).saturating_add(RETIRED_MIN);
        remove_finished(transaction, now.saturating_sub(self.keep_ms), count)
    }
}

/// Unfinished entries and bytes, of all clients and processes that share the file.
fn counted(transaction: &Connection) -> rusqlite::Result<(u64, u64)> {
    let count = |value: i64| u64::try_from(value).unwrap_or(0);
    transaction
        .prepare_cached("SELECT open_entries, bytes FROM about")?
        .query_row([], |row| Ok((count(row.get(0)?), count(row.get(1)?))))
}

fn remove_finished(
    transaction: &Connection,
    changed_before_ms: i64,
    count: i64,
) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached(
            "DELETE FROM submissions WHERE (client, job_id) IN \
             (SELECT client, job_id FROM submissions INDEXED BY finished_submissions \
              WHERE standing IN ('done', 'refused') AND changed_at_ms < ?1 \
              ORDER BY changed_at_ms LIMIT ?2)",
        )?
        .execute(params![changed_before_ms, count])
}
