//! Many submissions at once, by our own client: on disk first, then sent together.

use std::collections::HashSet;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use client::{Client, Submission};
use protocol::UnixMillis;

use crate::fleet::Fleet;
use crate::ground::{CLIENT, Ground};
use crate::traffic::{Run, Traffic, check_end};

/// Submissions written to the journal with one sync.
const TOGETHER: usize = 1000;

/// Submits, and waits for every receipt and every event.
///
/// # Errors
/// A submission was refused.
pub async fn run(ground: &Ground, fleet: &Fleet, traffic: &Traffic) -> anyhow::Result<Run> {
    let client = Client::open(settings(ground, &traffic.prefix)?)?;
    let mut events = client.events();
    let body = format!("\"{}\"", "x".repeat(traffic.bytes.saturating_sub(2)));
    let cpu_before = fleet.cpu(ground)?;
    let (began, clock) = (UnixMillis::now(), Instant::now());
    let jobs = traffic.jobs;
    // One may come twice, which is not the event of another.
    let heard = tokio::spawn(async move {
        let mut heard = HashSet::with_capacity(jobs);
        while heard.len() < jobs {
            let event = harness::within("an event", events.recv()).await?;
            let event = event.context("this listener did not keep up")?;
            check_end(&event)?;
            heard.insert(event.job_id.context("a job id")?);
        }
        anyhow::Ok(heard)
    });
    let mut submitted = Vec::with_capacity(jobs);
    for first in (0..jobs).step_by(TOGETHER) {
        let these = (first..(first + TOGETHER).min(jobs)).map(|number| {
            Submission::new(traffic.job_type, body.clone())
                .job_id(traffic.job_id(number))
                .notify("terminal")
        });
        submitted.extend(client.submit_many(these.collect()).await?);
    }
    for submitted in &submitted {
        submitted.accepted().await.with_context(|| submitted.job_id().to_owned())?;
    }
    let heard = heard.await??;
    let answered = clock.elapsed().as_secs_f64();
    let cpu = fleet.cpu(ground)?.since(cpu_before);
    client.close().await;
    let missing = submitted.iter().find(|submitted| !heard.contains(submitted.job_id()));
    ensure!(missing.is_none(), "no event of {missing:?}");
    // They are read above.
    Ok(Run { began, answered, cpu, cpu_before, heard: Vec::new() })
}

/// A client with a journal of its own.
///
/// # Errors
/// The settings are wrong.
pub fn settings(ground: &Ground, name: &str) -> anyhow::Result<client::Settings> {
    let journal = ground.directory.join(format!("{name}.db")).display().to_string();
    Ok(settings::load_with(
        None,
        [
            ("COUNTERFOIL_AMQP_URL".to_owned(), ground.amqp_url(CLIENT)),
            ("COUNTERFOIL_CLIENT_JOURNAL".to_owned(), journal),
        ],
    )?)
}
