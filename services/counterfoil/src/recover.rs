//! `recover`: what the journal holds open is asked for, and sent again if it never arrived.

use client::{AnswerWord, Client, Recovered};
use serde_json::json;

use crate::cli::Arguments;
use crate::exit::Exit;
use crate::output;
use crate::settings::Settings;

/// What is said of a submission that the server does not know and that may not be sent again.
const TOO_OLD: &str = "not sent: older than horizon_ms. `counterfoil journal show` has its body; \
                       submit it under a new id, then `counterfoil cancel` this one";

pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    Settings::as_client(arguments, async |client| recover(arguments, client).await).await
}

async fn recover(arguments: &Arguments, client: &Client) -> anyhow::Result<Exit> {
    let recovered = client.recover().await?;
    let mut exit = Exit::Done;
    let mut table = output::table(&["job id", "journal said", "server said", "done about it"]);
    for one in &recovered {
        let now = match &one.sent_again {
            Some(submitted) => {
                let receipt = submitted.answered().await;
                match receipt {
                    Ok(receipt) => format!("sent again: {}", output::standing(&receipt)),
                    Err(error) => {
                        exit = Exit::JobFailed;
                        format!("sent again: {error}")
                    }
                }
            }
            None if one.too_old => {
                exit = Exit::JobFailed;
                TOO_OLD.to_owned()
            }
            None => {
                if matches!(one.answer.answer, AnswerWord::Unavailable) {
                    exit = Exit::NoAnswer;
                }
                "nothing".to_owned()
            }
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
    if !arguments.json {
        if recovered.is_empty() {
            output::line("nothing is open");
        } else {
            output::line(&table.to_string());
        }
    }
    Ok(exit)
}

fn print_json(one: &Recovered, now: &str) -> anyhow::Result<()> {
    output::json(&json!({
        "job_id": one.entry.job_id,
        "journal": one.entry.standing.as_str(),
        "server": output::standing(&one.answer),
        "done": now,
    }))
}
