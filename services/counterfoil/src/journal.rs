//! `journal`: what the client keeps. Needs no broker.

use client::{Journal, Standing};
use serde_json::json;

use crate::cli::{self, Arguments};
use crate::exit::Exit;
use crate::output;
use crate::settings::Settings;

pub(crate) fn run(arguments: &Arguments, options: &cli::Journal) -> anyhow::Result<Exit> {
    let settings = Settings::for_client(arguments)?;
    let journal = Journal::open(&settings.client.journal, &settings.amqp.user()?)?;
    let open = [Standing::Journaled, Standing::Confirmed, Standing::Accepted];
    let entries = journal.entries(if options.open { &open } else { &[] })?;
    let mut table = output::table(&["job id", "type", "standing", "last known", "ticket"]);
    for entry in &entries {
        if arguments.json {
            output::json(&json!({
                "job_id": entry.job_id,
                "type": entry.job_type,
                "standing": entry.standing.as_str(),
                "outcome": entry.outcome,
                "ticket": entry.ticket,
                "journaled_at_ms": entry.journaled_at_ms,
            }))?;
        } else {
            table.add_row([
                comfy_table::Cell::new(&entry.job_id),
                comfy_table::Cell::new(&entry.job_type),
                comfy_table::Cell::new(entry.standing.as_str()),
                output::state(entry.outcome.as_deref().unwrap_or_default()),
                comfy_table::Cell::new(entry.ticket.as_deref().unwrap_or_default()),
            ]);
        }
    }
    if !arguments.json {
        output::line(&if entries.is_empty() {
            "the journal is empty".to_owned()
        } else {
            table.to_string()
        });
    }
    Ok(Exit::Done)
}
