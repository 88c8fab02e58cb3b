//! What the writing thread does to the file, inside its transaction.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::{Appended, Horizon, Mark, Standing};
use crate::{Error, Submission};

/// Adds entries; returns when each was journaled first. The same submission again is no error,
/// unless it is too old to be sent; another one under its id is.
pub(super) fn append(
    transaction: &Connection,
    client: &str,
    entries: &[Appended],
    now: i64,
    horizon: &Horizon,
) -> rusqlite::Result<Result<Vec<i64>, Error>> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO submissions \
         (client, job_id, type, options, body, standing, journaled_at_ms, changed_at_ms) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7) ON CONFLICT DO NOTHING",
    )?;
    let mut journaled_at = Vec::with_capacity(entries.len());
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
        let at = match added {
            0 => known_since(transaction, client, job_id, submission, &options)?,
            _ => Some(now),
        };
        let Some(at) = at else { return Ok(Err(Error::DuplicateId(job_id.clone()))) };
        if horizon.is_passed(at) {
            return Ok(Err(horizon.too_old(job_id)));
        }
        journaled_at.push(at);
    }
    Ok(Ok(journaled_at))
}

/// Since when the journal has had this very submission.
fn known_since(
    transaction: &Connection,
    client: &str,
    job_id: &str,
    submission: &Submission,
    options: &str,
) -> rusqlite::Result<Option<i64>> {
    let known: Option<(String, String, Vec<u8>, i64)> = transaction
        .query_row(
            "SELECT type, options, body, journaled_at_ms FROM submissions \
             WHERE client = ?1 AND job_id = ?2",
            params![client, job_id],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )
        .optional()?;
    Ok(known.and_then(|(job_type, known_options, body, at)| {
        let is_same = job_type == submission.job_type
            && known_options == options
            // A finished job's body is gone; its type and options speak for it.
            && (body == submission.body || body.is_empty());
        is_same.then_some(at)
    }))
}

/// A standing only moves forward: a late receipt does not reopen a finished job.
pub(super) fn mark(
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

/// The last receipt's word on how long one id is one job.
pub(super) fn set_horizon(
    transaction: &Connection,
    client: &str,
    horizon_ms: u64,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO horizons (client, horizon_ms) VALUES (?1, ?2) \
             ON CONFLICT DO UPDATE SET horizon_ms = excluded.horizon_ms",
        )?
        .execute(params![client, i64::try_from(horizon_ms).unwrap_or(i64::MAX)])?;
    Ok(())
}

pub(super) fn horizon(connection: &Connection, client: &str) -> rusqlite::Result<Option<u64>> {
    let told: Option<i64> = connection
        .query_row("SELECT horizon_ms FROM horizons WHERE client = ?1", [client], |row| row.get(0))
        .optional()?;
    Ok(told.and_then(|ms| u64::try_from(ms).ok()))
}
