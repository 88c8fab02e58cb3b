//! `recover`: what the journal holds open is asked for, and sent again if it never arrived.

use client::{Client, Recovered};
use serde_json::json;

use crate::cli::Arguments;
use crate::exit::Exit;
use crate::output;
use crate::settings::Settings;

pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let client = Client::open(Settings::for_client(arguments)?)?;
    let recovered = client.recover().await?;
    let mut table = output::table(&["job id", "journal said", "server said", "done about it"]);
    for one in &recovered {
        let now = match &one.sent_again {
            Some(submitted) => {
                let receipt = submitted.accepted().await;
                match receipt {
                    Ok(receipt) => format!("sent again: {}", output::standing(&receipt)),
                    Err(error) => format!("sent again: {error}"),
                }
            }
            None => "nothing".to_owned(),
        };
        if arguments.json {
            print_json(one, &now)?;
        } else {
            table.add_row([
                one.entry.job_id.as_str(),
                one.entry.standing.as_str(),
                &output::standing(&one.answer),
                &now,
            ]);
        }
    }
    client.journal().flush().await;
    if !arguments.json {
        if recovered.is_empty() {
            output::line("nothing is open");
        } else {
            output::line(&table.to_string());
        }
    }
    Ok(Exit::Done)
}

fn print_json(one: &Recovered, now: &str) -> anyhow::Result<()> {
    output::json(&json!({
        "job_id": one.entry.job_id,
        "journal": one.entry.standing.as_str(),
        "server": output::standing(&one.answer),
        "done": now,
    }))
}
