//! The worker of a run, and what its jobs do.

use std::time::{SystemTime, UNIX_EPOCH};

use worker::{Failure, Json, Worker};

/// A job that does nothing; several of them may come in one message.
pub const NOTHING: &str = "bench.nothing";
/// A job that does nothing, each in a message of its own.
pub const ALONE: &str = "bench.alone";
/// A job that says how long ago it was sent.
pub const SINCE: &str = "bench.since";

/// Runs the worker until it is told to stop.
///
/// # Errors
/// The settings are wrong, or the nodes refuse it.
pub async fn work() -> anyhow::Result<()> {
    let settings: worker::Settings = settings::load(None)?;
    let nothing = || async { Ok::<_, Failure>(()) };
    let mut running = Worker::new(settings)
        .handle(NOTHING, nothing)?
        .short(NOTHING)?
        .handle(ALONE, nothing)?
        .handle(SINCE, |Json(sent): Json<u64>| async move {
            Ok::<_, Failure>(now_us().saturating_sub(sent))
        })?
        .start();
    running.ready().await?;
    println!("working");
    crate::until_told().await?;
    Ok(running.stop().await?)
}

/// Microseconds since 1970.
pub fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
