//! `journal`: what the client keeps. Reads only, and needs no broker.

use std::io::{BufWriter, ErrorKind, Write as _};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::journal::{Cursor, Query};
use client::{JournalEntry, Reader, Standing};
use comfy_table::Cell;
use protocol::UnixMillis;
use serde_json::{Value, json};

use crate::cli::{Arguments, Journal, JournalCommand, JournalList};
use crate::exit::{Exit, UsageError};
use crate::output;
use crate::settings::Settings;

/// Entries read at a time: a journal of a million is never in memory.
const PAGE: usize = 500;

pub(crate) fn run(arguments: &Arguments, options: &Journal) -> anyhow::Result<Exit> {
    let settings = Settings::for_client(arguments)?;
    let path = &settings.client.journal;
    let reader = Reader::open(path, &settings.amqp.user()?)?;
    if reader.is_none() {
        tracing::info!(path = %path.display(), "there is no journal yet");
    }
    match &options.command {
        None => list(arguments, reader.as_ref(), &options.list),
        Some(JournalCommand::List(options)) => list(arguments, reader.as_ref(), options),
        Some(JournalCommand::Show { job_id }) => show(arguments, reader.as_ref(), job_id),
        Some(JournalCommand::Export { open }) => export(reader.as_ref(), *open),
    }
}

/// Goes through entries in pages, without their bodies, until there are no more or `each` says so.
fn pages(
    reader: &Reader,
    open: bool,
    mut after: Option<Cursor>,
    limit: usize,
    mut each: impl FnMut(&[JournalEntry]) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let standings = if open { Standing::OPEN.to_vec() } else { Vec::new() };
    let mut left = limit;
    while left > 0 {
        let page = Query::page(PAGE.min(left));
        let page = reader.page(&Query { standings: standings.clone(), after, ..page })?;
        let Some(last) = page.last() else { break };
        left -= page.len();
        after = Some(last.cursor());
        if !each(&page)? {
            break;
        }
    }
    Ok(())
}

fn list(
    arguments: &Arguments,
    reader: Option<&Reader>,
    options: &JournalList,
) -> anyhow::Result<Exit> {
    let mut is_empty = true;
    if let Some(reader) = reader {
        let after = match &options.after {
            Some(id) => Some(
                reader
                    .entry(id)?
                    .ok_or_else(|| UsageError(format!("--after {id}: not in the journal")))?
                    .cursor(),
            ),
            None => None,
        };
        let limit = options.limit.map_or(usize::MAX, |limit| limit as usize);
        pages(reader, options.open, after, limit, |page| {
            is_empty = false;
            if arguments.json {
                page.iter().try_for_each(|entry| output::json(&summary(entry)))?;
            } else {
                output::line(&table(page));
            }
            Ok(true)
        })?;
    }
    if is_empty && !arguments.json {
        output::line(match options {
            JournalList { after: Some(_), .. } => "there is nothing after it",
            JournalList { open: true, .. } => "nothing is open",
            _ => "the journal is empty",
        });
    }
    Ok(Exit::Done)
}

fn table(page: &[JournalEntry]) -> String {
    let mut table = output::table(&["job id", "type", "standing", "last known", "ticket"]);
    for entry in page {
        table.add_row([
            Cell::new(&entry.job_id),
            Cell::new(&entry.job_type),
            Cell::new(entry.standing.as_str()),
            output::state(entry.outcome.as_deref().unwrap_or_default()),
            Cell::new(entry.ticket.as_deref().unwrap_or_default()),
        ]);
    }
    table.to_string()
}

fn summary(entry: &JournalEntry) -> Value {
    json!({
        "job_id": entry.job_id,
        "type": entry.job_type,
        "standing": entry.standing.as_str(),
        "outcome": entry.outcome,
        "ticket": entry.ticket,
        "journaled_at_ms": entry.journaled_at_ms,
    })
}

/// The whole entry; a body that is no text is in `body_base64`.
fn whole(entry: &JournalEntry) -> Value {
    let mut value = summary(entry);
    value["journaled_at"] = json!(UnixMillis(entry.journaled_at_ms).to_string());
    value["changed_at_ms"] = json!(entry.changed_at_ms);
    value["content_type"] = json!(entry.content_type());
    value["headers"] = entry.headers().iter().map(|(name, value)| json!([name, value])).collect();
    match std::str::from_utf8(&entry.body) {
        Ok(text) => value["body"] = json!(text),
        Err(_) => value["body_base64"] = json!(STANDARD.encode(&entry.body)),
    }
    value
}

fn show(arguments: &Arguments, reader: Option<&Reader>, job_id: &str) -> anyhow::Result<Exit> {
    let entry = match reader {
        Some(reader) => reader.entry(job_id)?,
        None => None,
    };
    let Some(entry) = entry else {
        if arguments.json {
            output::json(&json!({ "job_id": job_id, "standing": null }))?;
        } else {
            output::line(&format!("{job_id} is not in the journal"));
        }
        return Ok(Exit::Unknown);
    };
    if arguments.json {
        output::json(&whole(&entry))?;
    } else {
        output::entry(&entry);
    }
    Ok(Exit::Done)
}

/// One entry at a time. What cannot be written is an error, for the file it goes to may be all that
/// is left; a reader that has gone (`| head`) is none.
fn export(reader: Option<&Reader>, open: bool) -> anyhow::Result<Exit> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut written = Ok(());
    if let Some(reader) = reader {
        pages(reader, open, None, usize::MAX, |page| {
            for entry in page {
                // It may have been removed since.
                let Some(entry) = reader.entry(&entry.job_id)? else { continue };
                written = writeln!(out, "{}", whole(&entry));
                if written.is_err() {
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
    }
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("the export is not whole")
        }
        _ => Ok(Exit::Done),
    }
}
