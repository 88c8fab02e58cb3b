//! Types to try things out with: `demo.echo`, `demo.sleep`, `demo.fail`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Bytes, Context, Error, Failure, Json, Worker};

/// What `demo.sleep` does: sleeps in ten steps and reports its progress.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sleep {
    /// How long, in milliseconds.
    pub ms: u64,
}

/// What `demo.fail` does: fails so many times, then succeeds.
#[derive(Debug, Serialize, Deserialize)]
pub struct Fail {
    /// How many attempts fail; for ever if absent.
    #[serde(default)]
    pub times: Option<u32>,
    /// Whether the first failure is the last.
    #[serde(default)]
    pub fatal: bool,
}

/// Adds the demo types to a worker.
///
/// # Errors
/// None in practice: the names are valid.
pub fn add(worker: Worker) -> Result<Worker, Error> {
    worker.handle("demo.echo", echo)?.handle("demo.sleep", sleep)?.handle("demo.fail", fail)
}

/// Returns the body: JSON as it is, anything else as text.
async fn echo(Bytes(body): Bytes) -> Result<Value, Failure> {
    Ok(serde_json::from_slice(&body)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned())))
}

async fn sleep(Json(sleep): Json<Sleep>, job: Context) -> Result<Value, Failure> {
    const STEPS: u8 = 10;
    for step in 1..=STEPS {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(sleep.ms / u64::from(STEPS))) => {}
            () = job.cancelled() => return Err(Failure::Cancelled),
        }
        job.progress(step * (100 / STEPS), "").await?;
    }
    Ok(serde_json::json!({ "slept_ms": sleep.ms }))
}

async fn fail(Json(fail): Json<Fail>, job: Context) -> Result<Value, Failure> {
    if fail.fatal {
        return Err(Failure::fail("asked to fail for good"));
    }
    if fail.times.is_none_or(|times| job.attempt() <= times) {
        return Err(Failure::retry(format!("asked to fail, attempt {}", job.attempt())));
    }
    Ok(serde_json::json!({ "attempt": job.attempt() }))
}
