//! `submit`: to the journal first.

use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use client::{Answer, Client, Submission, Submitted};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::cli::{Arguments, Submit, Until};
use crate::exit::{Exit, UsageError};
use crate::output;
use crate::settings::Settings;

/// Submissions written with one sync of the disk.
const BATCH: usize = 256;
/// For as long as it takes.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

pub(crate) async fn run(arguments: &Arguments, options: &Submit) -> anyhow::Result<Exit> {
    let submissions = read(options)?;
    Settings::as_client(arguments, async |client| {
        submit(arguments, options, client, &submissions).await
    })
    .await
}

async fn submit(
    arguments: &Arguments,
    options: &Submit,
    client: &Client,
    submissions: &[Submission],
) -> anyhow::Result<Exit> {
    let bar = progress_bar(submissions.len() as u64);
    let mut all = Vec::with_capacity(submissions.len());
    for batch in submissions.chunks(BATCH) {
        if options.until == Until::Journaled {
            let ids = client.journal_many(batch.to_vec()).await?;
            ids.iter().try_for_each(|id| print(arguments, id, None))?;
            continue;
        }
        let submitted = client.submit_many(batch.to_vec()).await?;
        // Whoever stops waiting has the ids; standard output is for what became of them.
        bar.suspend(|| output::journaled(&submitted));
        all.extend(submitted);
    }
    let mut exit = Exit::Done;
    for submitted in all {
        let settled = settle(client, &submitted, options.until).await;
        let one = bar.suspend(|| report(arguments, &submitted, settled))?;
        bar.inc(1);
        if exit == Exit::Done {
            exit = one;
        }
    }
    bar.finish_and_clear();
    Ok(exit)
}

/// What is to be submitted.
fn read(options: &Submit) -> anyhow::Result<Vec<Submission>> {
    let with = |body: Vec<u8>| {
        let mut submission = Submission::new(&options.job_type, body);
        if let Some(content_type) = &options.content_type {
            submission = submission.content_type(content_type);
        }
        if let Some(changes) = &options.notify {
            submission = submission.notify(changes);
        }
        if let Some(queue) = &options.notify_to {
            submission = submission.notify_to(queue);
        }
        options
            .headers
            .iter()
            .fold(submission, |submission, (name, value)| submission.header(name, value))
    };
    if let Some(path) = &options.jsonl {
        return read_lines(path)?
            .into_iter()
            .enumerate()
            .map(|(number, line)| {
                let Some(field) = &options.id_field else { return Ok(with(line.into_bytes())) };
                // An id made here would make another job of the same line next time.
                let id = id_of(&line, field).ok_or_else(|| {
                    let (path, number) = (path.display(), number + 1);
                    UsageError(format!("{path}, job {number}: there is no id in {field:?}"))
                })?;
                Ok(with(line.into_bytes()).job_id(id))
            })
            .collect();
    }
    let body = match (&options.body, &options.file) {
        (Some(dash), None) if dash == "-" => {
            let mut body = Vec::new();
            std::io::stdin().read_to_end(&mut body).context("standard input")?;
            body
        }
        (Some(body), None) => body.clone().into_bytes(),
        (None, Some(path)) => std::fs::read(path).with_context(|| path.display().to_string())?,
        _ => bail!(UsageError(
            "what is to be submitted? Give BODY, --file FILE, --jsonl FILE, or - for standard input"
                .to_owned()
        )),
    };
    Ok(vec![match &options.id {
        Some(id) => with(body).job_id(id),
        None => with(body),
    }])
}

fn read_lines(path: &Path) -> anyhow::Result<Vec<String>> {
    let text =
        |lines: std::io::Result<Vec<String>>| lines.with_context(|| path.display().to_string());
    let lines = if path == Path::new("-") {
        text(std::io::stdin().lock().lines().collect())?
    } else {
        let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
        text(std::io::BufReader::new(file).lines().collect())?
    };
    Ok(lines.into_iter().filter(|line| !line.trim().is_empty()).collect())
}

fn id_of(line: &str, field: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    match value.get(field)? {
        serde_json::Value::String(id) => Some(id.clone()),
        serde_json::Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}

async fn settle(
    client: &Client,
    submitted: &Submitted,
    until: Until,
) -> Result<Option<Answer>, client::Error> {
    match until {
        Until::Journaled => Ok(None),
        Until::Confirmed => submitted.confirmed().await.map(|()| None),
        Until::Accepted => submitted.answered().await.map(Some),
        Until::Done => {
            submitted.answered().await?;
            client.wait(submitted.job_id(), FOREVER, |_| {}).await.map(Some)
        }
    }
}

/// Prints what became of one submission. A refusal is an answer like any other.
fn report(
    arguments: &Arguments,
    submitted: &Submitted,
    settled: Result<Option<Answer>, client::Error>,
) -> anyhow::Result<Exit> {
    let answer = match settled {
        Ok(answer) => answer,
        Err(client::Error::Answered(answer)) => {
            if answer.retryable == Some(true) {
                let job_id = submitted.job_id();
                eprintln!("{job_id}: refused for now; `counterfoil recover` sends it again");
            }
            Some(*answer)
        }
        Err(error) => return Err(error.into()),
    };
    print(arguments, submitted.job_id(), answer.as_ref())?;
    Ok(answer.as_ref().map_or(Exit::Done, Exit::of))
}

fn print(arguments: &Arguments, job_id: &str, answer: Option<&Answer>) -> anyhow::Result<()> {
    if arguments.json {
        return match answer {
            Some(answer) => output::json(answer),
            None => output::json(&json!({ "job_id": job_id })),
        };
    }
    let Some(answer) = answer else {
        output::line(job_id);
        return Ok(());
    };
    let what = answer.message.as_deref().or(answer.error.as_deref()).unwrap_or_default();
    let ticket = answer.ticket.as_deref().unwrap_or("-");
    let line = format!("{job_id}  {ticket}  {}  {what}", output::standing(answer));
    output::line(line.trim_end());
    Ok(())
}

/// Only for many, and only for a person.
fn progress_bar(count: u64) -> ProgressBar {
    if count < 2 || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(count);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec}") {
        bar.set_style(style);
    }
    bar
}
