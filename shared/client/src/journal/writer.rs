//! The thread that writes: what waits is committed together, with one sync.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use protocol::UnixMillis;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use tokio::sync::mpsc;

use super::{Appended, Mark, Standing, Write, file};
use crate::Error;

/// Writes committed together.
const GROUP_MAX: usize = 1024;

pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    pub(super) client: String,
    pub(super) poisoned: Arc<AtomicBool>,
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

    /// Writes a group and answers when it is on disk. After a failed commit nothing more is taken:
    /// an operating system may drop what it could not write and call the next sync a success.
    fn commit(&mut self, group: Vec<Write>) {
        if self.poisoned.load(Ordering::Acquire) {
            answer_all(group, || Error::Poisoned);
            return;
        }
        let written = write(&mut self.connection, &self.client, &group);
        match written {
            Ok(appended) => {
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
                        Write::Mark(_) => {}
                    }
                }
            }
            Err(error) => {
                tracing::error!(%error, path = %self.path.display(), "the journal failed");
                self.poisoned.store(true, Ordering::Release);
                answer_all(group, || file::failed(&self.path, &error));
            }
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
            Write::Mark(_) => {}
        }
    }
}

type AppendResult = Result<Vec<bool>, Error>;

fn write(
    connection: &mut Connection,
    client: &str,
    group: &[Write],
) -> rusqlite::Result<Vec<AppendResult>> {
    let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let now = UnixMillis::now().0;
    let mut results = Vec::new();
    for write in group {
        match write {
            Write::Append(entries, _) => {
                // All of a call or nothing of it.
                let part = transaction.savepoint()?;
                let appended = append(&part, client, entries, now)?;
                if appended.is_ok() {
                    part.commit()?;
                }
                results.push(appended);
            }
            Write::Mark(mark) => apply(&transaction, client, mark, now)?,
            Write::Flush(_) => {}
        }
    }
    transaction.commit()?;
    Ok(results)
}

/// Adds entries. The same submission again is no error; another one under its id is.
fn append(
    transaction: &Connection,
    client: &str,
    entries: &[Appended],
    now: i64,
) -> rusqlite::Result<AppendResult> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO submissions \
         (client, job_id, type, options, body, standing, journaled_at_ms, changed_at_ms) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7) ON CONFLICT DO NOTHING",
    )?;
    let mut fresh = Vec::with_capacity(entries.len());
    for Appended { job_id, submission } in entries {
        // Texts and lists of texts always have a JSON form.
        let options = serde_json::to_string(&submission.options).unwrap_or_default();
        let standing = Standing::Journaled.as_str();
        let added = insert.execute(params![
            client,
            job_id,
            submission.job_type,
            options,
            submission.body,
            standing,
            now
        ])?;
        if added == 0 && !is_same(transaction, client, job_id, submission, &options)? {
            return Ok(Err(Error::DuplicateId(job_id.clone())));
        }
        fresh.push(added == 1);
    }
    Ok(Ok(fresh))
}

fn is_same(
    transaction: &Connection,
    client: &str,
    job_id: &str,
    submission: &crate::Submission,
    options: &str,
) -> rusqlite::Result<bool> {
    let known: Option<(String, String, Vec<u8>)> = transaction
        .query_row(
            "SELECT type, options, body FROM submissions WHERE client = ?1 AND job_id = ?2",
            params![client, job_id],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .optional()?;
    Ok(known.is_some_and(|(job_type, known_options, body)| {
        job_type == submission.job_type
            && known_options == options
            // A finished job's body is gone; its type and options speak for it.
            && (body == submission.body || body.is_empty())
    }))
}

/// A standing only moves forward: a late receipt does not reopen a finished job.
fn apply(
    transaction: &Transaction<'_>,
    client: &str,
    mark: &Mark,
    now: i64,
) -> rusqlite::Result<()> {
    let earlier: Vec<&str> = Standing::ALL
        .iter()
        .take_while(|standing| **standing != mark.standing)
        .map(|standing| standing.as_str())
        .filter(|word| mark.standing != Standing::Refused || *word != Standing::Done.as_str())
        .chain([mark.standing.as_str()])
        .collect();
    let list = format!("'{}'", earlier.join("','"));
    let ends = matches!(mark.standing, Standing::Done | Standing::Refused);
    let body = if ends { ", body = x''" } else { "" };
    transaction
        .prepare_cached(&format!(
            "UPDATE submissions SET standing = ?3, ticket = coalesce(?4, ticket), \
             outcome = coalesce(?5, outcome), changed_at_ms = ?6{body} \
             WHERE client = ?1 AND job_id = ?2 AND standing IN ({list})"
        ))?
        .execute(params![
            client,
            mark.job_id,
            mark.standing.as_str(),
            mark.ticket,
            mark.outcome,
            now
        ])?;
    Ok(())
}
