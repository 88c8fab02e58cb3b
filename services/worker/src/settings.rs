use std::time::Duration;

use job::RetryPolicy;
use serde::Deserialize;

/// What a worker needs to run.
#[derive(Debug, Clone, Deserialize)]
pub struct Settings {
    /// How to reach RabbitMQ.
    pub amqp: broker::Settings,
    /// How to reach Redis.
    pub redis: store::Settings,
    /// How jobs are run.
    pub worker: WorkerSettings,
}

/// The section `[worker]`; `config/default.toml` is its reference.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerSettings {
    /// Jobs that run at the same time; also how many messages a work queue hands over at a time.
    pub slots: u16,
    /// How long a run keeps its right after the last sign of life.
    pub lease_ms: u64,
    /// How often a run gives a sign of life; also how soon it learns that it was cancelled.
    pub beat_ms: u64,
    /// After so long a run no longer depends on its message, which is then acknowledged.
    pub detach_after_ms: u64,
    /// How long one attempt may take, unless the job says otherwise.
    pub timeout_ms: u64,
    /// How long running jobs may go on after the worker was told to stop.
    pub drain_ms: u64,
    /// Attempts that a job has, unless the job says otherwise.
    pub attempts_max: u32,
    /// Attempts in a row that ended without an outcome, after which the next one runs alone.
    pub alone_after: u32,
    /// The pause after the first failed attempt; it doubles with each.
    pub backoff_first_ms: u64,
    /// The longest pause.
    pub backoff_max_ms: u64,
}

/// RabbitMQ closes a channel whose delivery is unacknowledged for 30 minutes, counted from the
/// delivery. <https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout>
const ACKNOWLEDGEMENT_LIMIT_MS: u64 = 30 * 60 * 1000;

impl WorkerSettings {
    /// The retry policy of handlers that bring none of their own.
    pub fn retry(&self) -> RetryPolicy {
        RetryPolicy {
            attempts_max: self.attempts_max,
            backoff_first: Duration::from_millis(self.backoff_first_ms),
            backoff_max: Duration::from_millis(self.backoff_max_ms),
        }
    }

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// A sentence that names the keys and what is allowed.
    pub fn validate(&self) -> Result<(), String> {
        if self.slots == 0 {
            return Err("worker.slots is 0; allowed is 1 to 65535".to_owned());
        }
        if self.attempts_max == 0 {
            return Err("worker.attempts_max is 0; allowed is 1 and more".to_owned());
        }
        if self.alone_after == 0 {
            return Err("worker.alone_after is 0; allowed is 1 and more".to_owned());
        }
        if self.beat_ms == 0 || self.beat_ms.saturating_mul(3) > self.lease_ms {
            return Err(format!(
                "worker.beat_ms is {} and worker.lease_ms is {}; a lease must last at least three \
                 beats, and a beat at least 1 ms",
                self.beat_ms, self.lease_ms
            ));
        }
        if self.detach_after_ms > ACKNOWLEDGEMENT_LIMIT_MS / 2 {
            return Err(format!(
                "worker.detach_after_ms is {}; allowed is at most {}, half of RabbitMQ's \
                 acknowledgement limit",
                self.detach_after_ms,
                ACKNOWLEDGEMENT_LIMIT_MS / 2
            ));
        }
        Ok(())
    }
}
