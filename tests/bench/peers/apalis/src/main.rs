//! apalis: no-op jobs through Redis alone.
//!
//! What it measures: the time from the first `push` until Redis has the last job in the set of the
//! jobs that are done. One process submits and runs the jobs, with a concurrency of 500. No more
//! pushes wait for their reply than may be in flight.
//!
//! What it guarantees: a job and its result are as durable as the Redis is. With
//! `appendfsync everysec` a crash of the machine can lose the last second, jobs that `push` has
//! returned included. What a worker has fetched is kept as its own until its result is written, and
//! is queued again when the worker's heartbeat stays away: at least once. It is not recorded that a
//! job has started. More than about 8,000 pushes between two fetches are more than a script of
//! apalis-redis 1.0.0 can take; such a run fails, and says so.
//!
//!     REDIS_URL=redis://127.0.0.1:6379/9 apalis-peer --jobs 10000 --bytes 200 --in-flight 512

mod again;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use apalis::layers::WorkerBuilderExt;
use apalis::prelude::*;
use apalis_redis::{Config, ConnectionManager, RedisStorage};
use clap::Parser;
use futures_util::{StreamExt, TryStreamExt, stream};
use redis::AsyncCommands;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::sleep;

const QUEUE: &str = "peer-apalis";
const CONCURRENCY: usize = 500;
const WARM_UP: usize = 500;
const PAUSE: Duration = Duration::from_millis(20);
/// Without a single new job done for so long, a run has failed.
const STALLED_AFTER: Duration = Duration::from_secs(120);

type Storage = RedisStorage<String>;

#[derive(Parser)]
struct Options {
    #[arg(long, default_value_t = 10_000)]
    jobs: usize,
    #[arg(long, default_value_t = 200)]
    bytes: usize,
    /// Pushes without a reply, at most
    #[arg(long, default_value_t = 512)]
    in_flight: usize,
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    redis_url: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Options::parse()).await {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("apalis: {}", format!("{error:#}").replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<serde_json::Value> {
    let mut connection = apalis_redis::connect(options.redis_url.as_str()).await?;
    flush(&mut connection).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    let measured = tokio::select! {
        measured = work(options, &connection) => measured,
        _ = terminate.recv() => Err(anyhow!("terminated")),
    };
    flush(&mut connection).await?;
    let (seconds, submitted) = measured?;
    Ok(serde_json::json!({
        "peer": "apalis",
        "jobs": options.jobs,
        "seconds": rounded(seconds),
        "submitted_seconds": rounded(submitted),
        "versions": {"apalis": version("apalis"), "apalis-redis": version("apalis-redis")},
    }))
}

/// In the background: to free some hundred thousand jobs takes Redis about as long as this client
/// waits for a reply, half a second.
async fn flush(connection: &mut ConnectionManager) -> Result<()> {
    Ok(redis::cmd("FLUSHDB").arg("ASYNC").query_async(connection).await?)
}

/// Starts the worker, has the jobs done, and stops it.
async fn work(options: &Options, connection: &ConnectionManager) -> Result<(Duration, Duration)> {
    // As many jobs at once as may be at work. A lock is renewed with a heartbeat, and no job lasts
    // that long; nobody listens to events. So both are off, as the documentation has it.
    let config =
        Config::default().queue(QUEUE).batch_size(CONCURRENCY).lock_tasks(false).emit_events(false);
    let storage: Storage = RedisStorage::new(connection.clone()).with_config(config);
    let worker = WorkerBuilder::new("peer-apalis")
        .backend(storage.clone().poll_with_strategy(again::Again::new()))
        .concurrency(CONCURRENCY)
        .build(noop);
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = tokio::spawn(worker.run_until(async {
        stopped.await.ok();
        Ok::<_, std::io::Error>(())
    }));
    let measured = tokio::select! {
        measured = measure(options, &storage) => measured,
        () = async { while !worker.is_finished() { sleep(PAUSE).await } } => {
            Err(anyhow!("the worker ended during the run"))
        }
    };
    drop(stop);
    worker.await?.context("the worker")?;
    measured
}

async fn noop(_body: String) -> Result<(), BoxDynError> {
    Ok(())
}

async fn measure(options: &Options, storage: &Storage) -> Result<(Duration, Duration)> {
    push(options, storage, WARM_UP).await?;
    done(storage, WARM_UP).await?;
    let start = Instant::now();
    push(options, storage, options.jobs).await?;
    let submitted = start.elapsed();
    done(storage, WARM_UP + options.jobs).await?;
    let seconds = start.elapsed();
    check(storage, WARM_UP + options.jobs).await?;
    Ok((seconds, submitted))
}

async fn push(options: &Options, storage: &Storage, jobs: usize) -> Result<()> {
    stream::iter(0..jobs)
        .map(|_| {
            let (mut storage, body) = (storage.clone(), "x".repeat(options.bytes));
            async move { storage.push(body).await }
        })
        .buffer_unordered(options.in_flight.max(1))
        .try_collect::<()>()
        .await
        .context("push")
}

/// Waits until as many jobs are done.
async fn done(storage: &Storage, jobs: usize) -> Result<()> {
    let mut connection = storage.clone().get_connection().clone();
    let done_set = storage.get_config().done_jobs_set();
    let (mut last, mut moved) = (0, Instant::now());
    loop {
        let done: usize = connection.scard(&done_set).await?;
        if done >= jobs {
            return Ok(());
        }
        if done > last {
            (last, moved) = (done, Instant::now());
        } else if moved.elapsed() > STALLED_AFTER {
            bail!("{last} of {jobs} jobs done, and no more came");
        }
        sleep(PAUSE).await;
    }
}

/// Every job is done, and none is in any other state.
async fn check(storage: &Storage, jobs: usize) -> Result<()> {
    let mut connection = storage.clone().get_connection().clone();
    let config = storage.get_config();
    let (done, dead, stored, waiting, delayed): (usize, usize, usize, usize, usize) = redis::pipe()
        .scard(config.done_jobs_set())
        .scard(config.dead_jobs_set())
        .hlen(config.job_data_hash())
        .llen(config.active_jobs_list())
        .zcard(config.scheduled_jobs_set())
        .query_async(&mut connection)
        .await?;
    ensure!(
        [done, dead, stored, waiting, delayed] == [jobs, 0, jobs, 0, 0],
        "in the end, of {jobs} jobs {done} are done, {dead} dead, {waiting} waiting, {delayed} \
         delayed, {stored} stored"
    );
    Ok(())
}

fn rounded(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

/// The version of a package, as the lock file has it.
fn version(package: &str) -> &'static str {
    let name = format!("name = \"{package}\"\nversion = \"");
    let after = include_str!("../Cargo.lock").split_once(&name);
    after.and_then(|(_, rest)| rest.split('"').next()).unwrap_or("unknown")
}
