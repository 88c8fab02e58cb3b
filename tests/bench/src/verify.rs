//! That every job of a run came to its end, as it is recorded: no figure is reported before.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use job::{ClientName, JobId, State};
use protocol::UnixMillis;
use store::{JobName, Record, Store};

use crate::fleet::{Cpu, Fleet};
use crate::ground::{CLIENT, Ground};
use crate::traffic::{self, Run, Traffic, check};

/// Records read in one go.
const CHUNK: usize = 500;
/// How often it is looked whether all is done.
pub const LOOK_EVERY: Duration = Duration::from_millis(20);
/// For a million jobs on a slow machine.
const WITHIN: Duration = Duration::from_secs(900);
/// The only one, unless Redis is a cluster.
const SLOT: u16 = 0;

/// Runs some jobs to their end, as it is recorded.
///
/// # Errors
/// Something was lost.
pub async fn run_to_the_end(
    ground: &Ground,
    store: &Store,
    fleet: &Fleet,
    traffic: &Traffic,
) -> anyhow::Result<Run> {
    let run = traffic::run(ground, fleet, traffic).await?;
    until_all_done(ground, store, traffic, &run).await?;
    Ok(run)
}

/// Waits until every job has succeeded, reads what came back, and returns how many seconds after
/// the beginning the last one did, by the records.
///
/// # Errors
/// A job has ended otherwise, or the time is up.
pub async fn until_all_done(
    ground: &Ground,
    store: &Store,
    traffic: &Traffic,
    run: &Run,
) -> anyhow::Result<f64> {
    wait(ground, store, traffic, run, || Ok(())).await
}

/// The same, and what was used from the run's beginning until none was unfinished: to read every
/// record costs nearly as much again, and is no part of a job.
///
/// # Errors
/// As above; or a process has ended.
pub async fn until_all_done_at_cost(
    ground: &Ground,
    store: &Store,
    fleet: &Fleet,
    traffic: &Traffic,
    run: &Run,
) -> anyhow::Result<(f64, Cpu)> {
    let mut cpu = Cpu::default();
    let counted = || {
        cpu = fleet.cpu(ground)?.since(run.cpu_before);
        Ok(())
    };
    let seconds = wait(ground, store, traffic, run, counted).await?;
    Ok((seconds, cpu))
}

/// Calls `counted` when nothing is unfinished by the one number that is kept, which tells when it
/// is worth while to read the records.
async fn wait(
    ground: &Ground,
    store: &Store,
    traffic: &Traffic,
    run: &Run,
    mut counted: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    let mut redis = ground.redis().await?;
    let last = tokio::time::timeout(WITHIN, async {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            looks.tick().await;
            if unfinished(store, &mut redis).await? > 0 {
                continue;
            }
            counted()?;
            if let Some(last) = last_end(store, traffic).await? {
                return anyhow::Ok(last);
            }
        }
    })
    .await
    .context("not every job succeeded in time")??;
    run.heard.iter().try_for_each(|heard| check(heard, traffic))?;
    Ok((last.0 - run.began.0) as f64 / 1000.0)
}

/// Waits until so many jobs are queued, where nobody works.
///
/// # Errors
/// Redis fails, or the time is up.
pub async fn until_all_queued(ground: &Ground, store: &Store, jobs: usize) -> anyhow::Result<()> {
    let mut redis = ground.redis().await?;
    let key = store.keys().state_set(SLOT, State::Queued).context("a set")?;
    let mut looks = tokio::time::interval(LOOK_EVERY);
    tokio::time::timeout(WITHIN, async {
        loop {
            looks.tick().await;
            let queued: usize = redis::cmd("ZCARD").arg(&key).query_async(&mut redis).await?;
            if queued >= jobs {
                return anyhow::Ok(());
            }
        }
    })
    .await
    .context("not every job was queued in time")?
}

/// Jobs of the client that are recorded and have not ended.
pub async fn unfinished(
    store: &Store,
    redis: &mut redis::aio::MultiplexedConnection,
) -> anyhow::Result<u64> {
    let counter = store.keys().unfinished(SLOT);
    let count: Option<u64> = redis::cmd("HGET").arg(counter).arg(CLIENT).query_async(redis).await?;
    Ok(count.unwrap_or_default())
}

/// When the last job succeeded; none if one has not yet.
async fn last_end(store: &Store, traffic: &Traffic) -> anyhow::Result<Option<UnixMillis>> {
    let mut last = UnixMillis(0);
    for first in (0..traffic.jobs).step_by(CHUNK) {
        let numbers = first..(first + CHUNK).min(traffic.jobs);
        let names = names(traffic, numbers.clone())?;
        let (_, records) = store.read_without_results(&names).await?;
        for (number, record) in numbers.zip(records) {
            let Some(at) = succeeded_at(traffic, number, record)? else { return Ok(None) };
            last = last.max(at);
        }
    }
    Ok(Some(last))
}

fn succeeded_at(
    traffic: &Traffic,
    number: usize,
    record: Option<Record>,
) -> anyhow::Result<Option<UnixMillis>> {
    let Some(record) = record else { return Ok(None) };
    let state: State = record.state.as_deref().context("a state")?.parse()?;
    let is_right = state == State::Succeeded || !state.is_terminal();
    ensure!(is_right, "{} is {state}", traffic.job_id(number));
    Ok(if state.is_terminal() { Record::instant(&record.finished_at) } else { None })
}

fn names(traffic: &Traffic, numbers: std::ops::Range<usize>) -> anyhow::Result<Vec<JobName>> {
    let client = ClientName::parse(CLIENT)?;
    let name = |number| -> anyhow::Result<JobName> {
        let job_id = JobId::parse(&traffic.job_id(number))?;
        Ok(JobName { client: client.clone(), job_id })
    };
    numbers.map(name).collect()
}

/// What the handlers returned, as numbers.
///
/// # Errors
/// A result is no number.
pub async fn results(store: &Store, traffic: &Traffic) -> anyhow::Result<Vec<f64>> {
    let mut results = Vec::with_capacity(traffic.jobs);
    for first in (0..traffic.jobs).step_by(CHUNK) {
        let names = names(traffic, first..(first + CHUNK).min(traffic.jobs))?;
        let (_, records) = store.read(&names).await?;
        for record in records {
            let result = record.and_then(|record| record.result).context("a result")?;
            results.push(result.parse()?);
        }
    }
    Ok(results)
}
