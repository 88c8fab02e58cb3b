use std::collections::BTreeMap;
use std::time::Duration;

use job::State;
use serde::{Deserialize, Deserializer};
use store::Retention;

/// The section `[server]`; `config/default.toml` is its reference.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Which roles this process has; in the environment, joined by commas.
    #[serde(deserialize_with = "roles")]
    pub roles: Vec<Role>,
    /// The largest body of a submission.
    pub payload_bytes_max: usize,
    /// How long a job whose type nobody serves is kept.
    pub parked_ms: u64,
    /// A duplicate of a job that has waited for so long dispatches it again.
    pub duplicate_redispatch_ms: u64,
    /// How long one id remains one job; said in receipts. So long a tombstone lives.
    pub horizon_ms: u64,
    /// How long the record of a job that succeeded is kept.
    pub keep_succeeded_ms: u64,
    /// Of one that failed.
    pub keep_failed_ms: u64,
    /// Of one that was cancelled.
    pub keep_cancelled_ms: u64,
    /// Of one that expired.
    pub keep_expired_ms: u64,
    /// The same by type.
    #[serde(default)]
    pub keep: BTreeMap<String, Keep>,
    /// How long the record of a refused submission is kept.
    pub keep_refused_ms: u64,
    /// How long a voided id stays unusable; 0 for ever.
    pub keep_voided_ms: u64,
    /// Unfinished jobs that one client may have; 0 for any number.
    pub unfinished_per_client_max: u64,
    /// How long a destination may take before it is served apart from the others.
    pub deliver_timeout_ms: u64,
    /// How often an event is tried before it is given up.
    pub deliver_tries: u32,
    /// The pause after the first try; it doubles with each.
    pub deliver_backoff_ms: u64,
    /// How often the scheduler looks at timers and parked jobs.
    pub sweep_ms: u64,
    /// A first answer `pending` comes when so many messages stand in the line.
    pub pending_above: u32,
}

/// What differs for one type, `[server.keep."order.place"]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// How long the record of a job that succeeded is kept.
    pub succeeded_ms: Option<u64>,
    /// Of one that failed.
    pub failed_ms: Option<u64>,
    /// Of one that was cancelled.
    pub cancelled_ms: Option<u64>,
    /// Of one that expired.
    pub expired_ms: Option<u64>,
}

fn roles<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Role>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        List(Vec<String>),
        Text(String),
    }
    let words: Vec<String> = match Form::deserialize(deserializer)? {
        Form::List(words) => words,
        Form::Text(text) => text.split(',').map(|word| word.trim().to_owned()).collect(),
    };
    words.iter().map(|word| Role::parse(word).map_err(serde::de::Error::custom)).collect()
}

/// A part of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Accepts, refuses, voids, cancels; assigns tickets, dispatches, sends receipts.
    Registrar,
    /// Answers requests.
    Inquiry,
    /// Delivers the outbox.
    Notifier,
    /// Due jobs, expired leases, parked jobs.
    Scheduler,
}

impl Role {
    /// Reads a role's word.
    ///
    /// # Errors
    /// A sentence that says what is allowed.
    pub fn parse(word: &str) -> Result<Self, String> {
        match word {
            "registrar" => Ok(Self::Registrar),
            "inquiry" => Ok(Self::Inquiry),
            "notifier" => Ok(Self::Notifier),
            "scheduler" => Ok(Self::Scheduler),
            _ => Err(format!(
                "server.roles: {word:?} is no role; allowed are registrar, inquiry, notifier, \
                 scheduler"
            )),
        }
    }
}

/// 100 years. Redis refuses an instant that it cannot count, in the middle of a script.
const KEEP_MS_MAX: u64 = 100 * 365 * 86_400_000;

fn at_most(name: &str, ms: u64) -> Result<(), String> {
    if ms <= KEEP_MS_MAX {
        Ok(())
    } else {
        Err(format!("server.{name} is {ms}; allowed is {KEEP_MS_MAX} and less, in milliseconds"))
    }
}

impl Settings {
    pub(crate) fn deliver_timeout(&self) -> Duration {
        Duration::from_millis(self.deliver_timeout_ms)
    }

    /// For how long finished jobs are kept.
    pub(crate) fn retention(&self) -> Retention {
        let by_state = [
            (State::Succeeded, self.keep_succeeded_ms),
            (State::Failed, self.keep_failed_ms),
            (State::Cancelled, self.keep_cancelled_ms),
            (State::Expired, self.keep_expired_ms),
        ];
        let by_type = self.keep.iter().map(|(job_type, keep)| {
            let by_state = [
                (State::Succeeded, keep.succeeded_ms),
                (State::Failed, keep.failed_ms),
                (State::Cancelled, keep.cancelled_ms),
                (State::Expired, keep.expired_ms),
            ];
            let said = by_state.into_iter().filter_map(|(state, ms)| Some((state, ms?)));
            (job_type.clone(), said.collect())
        });
        Retention { by_state: by_state.into(), by_type: by_type.collect() }
    }

    /// The pause before an event is tried again, given how often it was tried.
    pub(crate) fn deliver_backoff_ms(&self, tries: u32) -> u64 {
        const MAX_MS: u64 = 60_000;
        self.deliver_backoff_ms.saturating_mul(1 << tries.min(16)).min(MAX_MS)
    }

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// A sentence that names the key and what is allowed.
    pub fn validate(&self) -> Result<(), String> {
        let at_least = |name: &str, value: u64, min: u64| {
            if value >= min {
                Ok(())
            } else {
                Err(format!("server.{name} is {value}; allowed is {min} and more"))
            }
        };
        if self.roles.is_empty() {
            return Err("server.roles is empty; allowed are registrar, inquiry, notifier, \
                        scheduler"
                .to_owned());
        }
        for (job_type, keep) in &self.keep {
            job::JobType::parse(job_type)
                .map_err(|error| format!("server.keep.{job_type:?}: {error}"))?;
            for ms in [keep.succeeded_ms, keep.failed_ms, keep.cancelled_ms, keep.expired_ms] {
                at_most(&format!("keep.{job_type:?}"), ms.unwrap_or_default())?;
            }
        }
        for (name, ms) in [
            ("parked_ms", self.parked_ms),
            ("horizon_ms", self.horizon_ms),
            ("keep_succeeded_ms", self.keep_succeeded_ms),
            ("keep_failed_ms", self.keep_failed_ms),
            ("keep_cancelled_ms", self.keep_cancelled_ms),
            ("keep_expired_ms", self.keep_expired_ms),
            ("keep_refused_ms", self.keep_refused_ms),
            ("keep_voided_ms", self.keep_voided_ms),
        ] {
            at_most(name, ms)?;
        }
        at_least("horizon_ms", self.horizon_ms, 1)?;
        at_least("payload_bytes_max", self.payload_bytes_max as u64, 1)?;
        at_least("parked_ms", self.parked_ms, 1)?;
        at_least("deliver_timeout_ms", self.deliver_timeout_ms, 10)?;
        at_least("deliver_tries", self.deliver_tries.into(), 1)?;
        at_least("deliver_backoff_ms", self.deliver_backoff_ms, 1)?;
        at_least("sweep_ms", self.sweep_ms, 1)
    }
}
