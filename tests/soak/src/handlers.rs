//! The worker of the campaign: handlers that work, fail, retry, linger and kill their process, and
//! write down when they begin and end.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use worker::{Context, Failure, Json, Worker};

use crate::history::{Log, Seen};

/// What a job of the campaign is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Works for so many milliseconds.
    Work(u64),
    /// The same, and says where it is in between.
    Staged(u64),
    /// Fails this many times, then succeeds.
    Retry(u32),
    /// Fails, and is not to be tried again.
    Fail,
    /// Kills its worker, each time.
    Poison,
}

/// The type of all jobs of the campaign.
pub const TYPE: &str = "soak.task";

/// A worker with the handler of [`TYPE`].
///
/// # Errors
/// The settings are wrong.
pub fn worker(settings: worker::Settings, log: Log) -> anyhow::Result<Worker> {
    let run = move |Json(task): Json<Task>, job: Context| {
        let log = log.clone();
        async move { perform(&log, task, &job).await }
    };
    // Not all of them are; but more can go wrong where several come in one message.
    Ok(Worker::new(settings).handle(TYPE, run)?.short(TYPE)?)
}

/// Says that the run was cut off, unless it came to its end.
struct Run<'a> {
    log: &'a Log,
    job: String,
    fence: String,
    has_ended: bool,
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        let (job, fence) = (self.job.clone(), self.fence.clone());
        self.log.write(match self.has_ended {
            true => Seen::Ended { job, fence },
            false => Seen::CutOff { job, fence },
        });
    }
}

async fn perform(log: &Log, task: Task, job: &Context) -> Result<serde_json::Value, Failure> {
    let name = format!("{}:{}", job.client(), job.job_id());
    let (attempt, fence) = (job.attempt(), job.fence().to_owned());
    log.write(Seen::Began { job: name.clone(), attempt, fence: fence.clone() });
    let mut run = Run { log, job: name, fence: fence.clone(), has_ended: false };
    let done = match task {
        Task::Work(ms) => {
            pause(ms, job).await?;
            Ok(())
        }
        Task::Staged(ms) => {
            for stage in ["first", "second"] {
                job.stage(stage).await?;
                pause(ms / 2, job).await?;
            }
            Ok(())
        }
        Task::Retry(times) if attempt <= times => {
            Err(Failure::retry(format!("{attempt} of {times}")))
        }
        Task::Retry(_) => Ok(()),
        Task::Fail => Err(Failure::fail("as it was told to")),
        Task::Poison => {
            // Not `abort`: that is how a crash point ends a process.
            nodes::kill(std::process::id());
            std::future::pending().await
        }
    };
    run.has_ended = true;
    done.map(|()| json!({ "attempt": attempt, "fence": fence }))
}

async fn pause(ms: u64, job: &Context) -> Result<(), Failure> {
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(ms)) => Ok(()),
        () = job.cancelled() => Err(Failure::Cancelled),
    }
}
