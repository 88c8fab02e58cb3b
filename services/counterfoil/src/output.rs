//! What a command prints: a table for people, JSON for programs.

use std::io::Write as _;

use client::{Answer, AnswerWord, JournalEntry, Submitted};
use comfy_table::{Attribute, Cell, Color, Table, presets};
use job::State;
use protocol::UnixMillis;
use serde::Serialize;

/// Prints a line; a reader that has gone (`| head`) is no error.
pub(crate) fn line(text: &str) {
    writeln!(std::io::stdout(), "{text}").ok();
}

/// Says on standard error that submissions are on disk.
pub(crate) fn journaled(submitted: &[Submitted]) {
    let what = match submitted {
        [one] => one.job_id().to_owned(),
        many => format!("{} submissions: counterfoil journal list --open", many.len()),
    };
    writeln!(std::io::stderr(), "journaled {what}").ok();
}

/// Says what went wrong, on standard error.
pub(crate) fn problem(text: &str) {
    writeln!(std::io::stderr(), "{text}").ok();
}

/// Prints a value as one line of JSON.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(&serde_json::to_string(value)?);
    Ok(())
}

/// A table with a header.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(header.iter().map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
    table
}

/// A state in its colour, on a terminal.
pub(crate) fn state(word: &str) -> Cell {
    let cell = Cell::new(word);
    match word.parse() {
        Ok(State::Succeeded) => cell.fg(Color::Green),
        Ok(State::Failed | State::Expired) => cell.fg(Color::Red),
        Ok(State::Cancelled) => cell.fg(Color::DarkGrey),
        Ok(State::Running | State::HandedOver) => cell.fg(Color::Cyan),
        Ok(_) => cell.fg(Color::Yellow),
        Err(_) => cell,
    }
}

/// What an answer says of where the job is, in a word.
pub(crate) fn standing(answer: &Answer) -> String {
    match answer.answer {
        AnswerWord::Found => answer.state.clone().unwrap_or_default(),
        AnswerWord::Unknown => "unknown".to_owned(),
        AnswerWord::Forgotten => match &answer.outcome {
            Some(outcome) => format!("forgotten, {outcome}"),
            None => "forgotten".to_owned(),
        },
        AnswerWord::Voided => "voided".to_owned(),
        AnswerWord::Refused => answer.code.clone().unwrap_or_else(|| "refused".to_owned()),
        AnswerWord::Unavailable => "unavailable".to_owned(),
        AnswerWord::Pending => "pending".to_owned(),
    }
}

/// Prints a submission of the journal for a person.
pub(crate) fn entry(entry: &JournalEntry) {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    let mut row = |name: &str, value: Option<String>| add(&mut table, name, value);
    let at = |ms| Some(UnixMillis(ms).to_string());
    row("job id", Some(entry.job_id.clone()));
    row("ticket", entry.ticket.clone());
    row("type", Some(entry.job_type.clone()));
    row("standing", Some(entry.standing.as_str().to_owned()));
    row("last known", entry.outcome.clone());
    row("journaled", at(entry.journaled_at_ms));
    row("changed", at(entry.changed_at_ms));
    row("content type", entry.content_type().map(str::to_owned));
    for (name, value) in entry.headers() {
        row("header", Some(format!("{name}={value}")));
    }
    let body = match std::str::from_utf8(&entry.body) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("{} bytes that are no text: --json prints them", entry.body.len()),
    };
    row("body", Some(body).filter(|body| !body.is_empty()));
    line(&table.to_string());
}

fn add(table: &mut Table, name: &str, value: Option<String>) {
    if let Some(value) = value {
        table.add_row([Cell::new(name).fg(Color::DarkGrey), Cell::new(value)]);
    }
}

/// The delivery ledger in a line.
fn pushed(ledger: &client::Notifications) -> String {
    let mut text = format!("{} to {}", ledger.changes.join(","), ledger.to);
    if let Some(revision) = ledger.delivered_revision {
        text.push_str(&format!(", delivered up to revision {revision}"));
    }
    if ledger.undeliverable > 0 {
        let reason = ledger.reason.as_deref().unwrap_or_default();
        text.push_str(&format!(", {} undeliverable: {reason}", ledger.undeliverable));
    }
    text
}

/// Prints an answer for a person.
pub(crate) fn answer(answer: &Answer) {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    let mut row = |name: &str, value: Option<String>| add(&mut table, name, value);
    let time = |at: &Option<_>| at.as_ref().map(ToString::to_string);
    row("job id", answer.job_id.clone());
    row("ticket", answer.ticket.clone());
    row("type", answer.r#type.clone());
    row("state", Some(standing(answer)));
    row("stage", answer.stage.clone());
    row(
        "progress",
        answer.progress.map(|percent| {
            let note = answer.progress_note.clone().unwrap_or_default();
            format!("{percent} % {note}").trim_end().to_owned()
        }),
    );
    row("attempt", answer.attempt.filter(|attempt| *attempt > 0).map(|n| n.to_string()));
    row("revision", answer.revision.map(|revision| revision.to_string()));
    row("result", answer.result.as_ref().map(|result| result.get().to_owned()));
    row("error", answer.error.clone());
    row("cancel", answer.cancel_requested.map(|_| "asked for; the handler decides".to_owned()));
    row("parked", answer.parked_reason.clone());
    row("origin", answer.origin.clone());
    row("accepted", time(&answer.accepted_at));
    row("started", time(&answer.started_at));
    row("due", time(&answer.due_at));
    row("finished", time(&answer.finished_at));
    row("outcome", answer.outcome.clone());
    row("retired", time(&answer.retired_at));
    row("kept until", time(&answer.expires_at));
    row("replay of", answer.replay_of.clone());
    row("replayed as", answer.replayed_as.clone());
    row("pushed", answer.notifications.as_ref().map(pushed));
    row("duplicate", answer.duplicate.filter(|duplicate| *duplicate).map(|_| "yes".to_owned()));
    row("durability", answer.durability.clone());
    row("message", answer.message.clone());
    row("what to do", answer.action.clone());
    line(&table.to_string());
    if let Some(history) = &answer.history {
        let mut table = self::table(&["", "at", "event", "state", "attempt", "detail"]);
        for entry in history {
            table.add_row([
                Cell::new(entry.revision),
                Cell::new(entry.at),
                Cell::new(&entry.event),
                state(&entry.state),
                Cell::new(entry.attempt),
                Cell::new(entry.detail.as_deref().unwrap_or_default()),
            ]);
        }
        line(&format!("\n{table}"));
    }
}
