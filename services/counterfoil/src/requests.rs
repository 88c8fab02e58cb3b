//! `list`, `subscribe`, `erase`, `report`, and `replay` for operators.

use anyhow::Context as _;
use client::ask;
use comfy_table::Cell;
use job::{ClientName, JobId};
use serde_json::{Value, json};
use store::replay::Replayed;
use store::{JobName, Store};

use crate::ask::{print, subject};
use crate::cli::{self, Arguments};
use crate::exit::Exit;
use crate::output;
use crate::settings::Settings;

pub(crate) async fn list(arguments: &Arguments, options: &cli::List) -> anyhow::Result<Exit> {
    let wanted = ask::List {
        states: options.state.clone(),
        job_type: options.job_type.clone(),
        tag: options.tag.clone(),
        after: options.after.clone(),
        before: options.before.clone(),
        ..ask::List::default()
    };
    let mut table = output::table(&["job id", "type", "state", "attempt", "accepted", "changed"]);
    let mut left = if options.limit == 0 { u32::MAX } else { options.limit };
    Settings::as_client(arguments, async |client| {
        let mut page = None;
        while left > 0 {
            let limit = Some(left.min(PAGE));
            let answer = client.list(&ask::List { page, limit, ..wanted.clone() }).await?;
            for job in answer.jobs.iter().flatten() {
                if arguments.json {
                    output::json(job)?;
                } else {
                    table.add_row(row(job));
                }
                left -= 1;
            }
            page = answer.next_page;
            if page.is_none() {
                break;
            }
        }
        Ok(())
    })
    .await?;
    if !arguments.json {
        output::line(&table.to_string());
    }
    Ok(Exit::Done)
}

const PAGE: u32 = 100;

fn row(job: &client::Answer) -> [Cell; 6] {
    let text = |text: &Option<String>| Cell::new(text.as_deref().unwrap_or_default());
    let time = |at: &Option<_>| Cell::new(at.as_ref().map_or(String::new(), ToString::to_string));
    [
        text(&job.job_id),
        text(&job.r#type),
        output::state(job.state.as_deref().unwrap_or_default()),
        Cell::new(job.attempt.unwrap_or_default()),
        time(&job.accepted_at),
        time(&job.changed_at),
    ]
}

pub(crate) async fn subscribe(
    arguments: &Arguments,
    options: &cli::Subscribe,
) -> anyhow::Result<Exit> {
    let subject = subject(&options.subject)?;
    let subscribe = ask::Subscribe {
        notify: options.notify.clone(),
        notify_to: options.notify_to.clone(),
        redeliver: options.redeliver,
    };
    let answer = Settings::as_client(arguments, async |client| {
        Ok(client.subscribe(subject, &subscribe).await?)
    })
    .await?;
    print(arguments, &answer)?;
    // How the job ended is not what was asked.
    Ok(if answer.state.is_some() { Exit::Done } else { Exit::of(&answer) })
}

pub(crate) async fn erase(arguments: &Arguments, options: &cli::Erase) -> anyhow::Result<Exit> {
    let subject = subject(&options.subject)?;
    let answer =
        Settings::as_client(arguments, async |client| Ok(client.erase(subject).await?)).await?;
    print(arguments, &answer)?;
    Ok(if answer.retired_at.is_some() { Exit::Done } else { Exit::of(&answer) })
}

pub(crate) async fn report(arguments: &Arguments, options: &cli::Report) -> anyhow::Result<Exit> {
    let mut body = json!({ "report_token": options.token });
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body[name] = value;
        }
    };
    put("outcome", options.outcome.clone().map(Value::String));
    put("error", options.error.clone().map(Value::String));
    put("stage", options.stage.clone().map(Value::String));
    put("progress", options.progress.map(Value::from));
    let result = options.result.as_deref().map(serde_json::from_str);
    put("result", result.transpose().context("--result: no JSON")?);
    let answer =
        Settings::as_client(arguments, async |client| Ok(client.report(&body).await?)).await?;
    print(arguments, &answer)?;
    Ok(if answer.state.is_some() { Exit::Done } else { Exit::of(&answer) })
}

pub(crate) async fn replay(arguments: &Arguments, options: &cli::Replay) -> anyhow::Result<Exit> {
    let settings = Settings::load(arguments)?;
    let name = JobName {
        client: ClientName::parse(&options.client)?,
        job_id: JobId::parse_recorded(&options.job_id)?,
    };
    let store = Store::connect(settings.redis).await?;
    match store.replay(&name).await? {
        Replayed::As(again) => {
            let id = again.job_id.as_str();
            if arguments.json {
                output::json(&json!({ "client": options.client, "job_id": id }))?;
            } else {
                output::line(id);
            }
            Ok(Exit::Done)
        }
        Replayed::NoJob => {
            output::problem("no such job is recorded");
            Ok(Exit::Unknown)
        }
        Replayed::Unfinished => anyhow::bail!("the job is not finished"),
        Replayed::UsedUp(again) => anyhow::bail!(
            "{} is used up: voided, or the id of a job that was retired",
            again.job_id
        ),
        Replayed::NoPayload => anyhow::bail!(
            "the body is not kept (only failed jobs keep it): submit it again under a new id"
        ),
    }
}
