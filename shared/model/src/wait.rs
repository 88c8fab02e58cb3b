//! Waiting for a job on a client's behalf.

use protocol::UnixMillis;
use serde_json::{Value, json};
use store::wait::{WAITS_PER_JOB_MAX, Waiter, Waiting};

use crate::Model;
use crate::due::first_passed;
use crate::outbox::Message;

/// Somebody who waits for a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waits {
    pub(crate) to: String,
    pub(crate) correlation_id: Option<String>,
    pub(crate) history: bool,
    pub(crate) limit_ms: u64,
    pub(crate) until_ms: i64,
    /// The epoch and the revision that are waited past; a final state is waited for if absent.
    pub(crate) past: Option<(u64, u64)>,
}

impl Waits {
    /// As it stands in the record; nothing if nobody waits.
    pub(crate) fn to_json(all: &[Self]) -> Option<String> {
        let one = |it: &Self| {
            let mut object = json!({
                "to": it.to, "limit_ms": it.limit_ms, "until_ms": it.until_ms,
            });
            if let Some(id) = &it.correlation_id {
                object["correlation_id"] = json!(id);
            }
            if it.history {
                object["history"] = json!(true);
            }
            if let Some((epoch, revision)) = it.past {
                object["past_epoch"] = json!(epoch);
                object["past_revision"] = json!(revision);
            }
            object
        };
        let all: Vec<Value> = all.iter().map(one).collect();
        (!all.is_empty()).then(|| Value::Array(all).to_string())
    }

    /// The same request, delivered twice: it can be told only by its correlation id.
    fn is_same(&self, other: &Self) -> bool {
        self.correlation_id.is_some() && *self == Self { until_ms: self.until_ms, ..other.clone() }
    }
}

impl Model {
    /// Has an answer sent when the job is done, or has a newer revision than the given one, or when
    /// the time is up.
    pub fn wait(&mut self, waiter: &Waiter<'_>, at: UnixMillis) -> Waiting {
        self.expire(at);
        let name = waiter.name;
        let waiting = self.outbox_waiting(self.keys.slot(name), name.client.as_str());
        let Some(job) = self.standings.get_mut(name).filter(|it| it.is_job()) else {
            return Waiting::Now;
        };
        let now = (job.fields.count("epoch"), job.fields.count("revision"));
        let past = waiter
            .wait
            .past_revision
            .map(|revision| (waiter.wait.past_epoch.unwrap_or(now.0), revision));
        if job.is_finished() || past.is_some_and(|past| now > past) {
            return Waiting::Now;
        }
        let wait = Waits {
            to: waiter.to.to_owned(),
            correlation_id: waiter.correlation_id.filter(|id| !id.is_empty()).map(str::to_owned),
            history: waiter.history,
            limit_ms: waiter.wait.limit_ms,
            until_ms: at.0.saturating_add_unsigned(waiter.wait.limit_ms),
            past,
        };
        if job.waits.iter().any(|known| known.is_same(&wait)) {
            return Waiting::Waiting;
        }
        if job.waits.len() >= WAITS_PER_JOB_MAX {
            return Waiting::Full;
        }
        if waiting >= self.outbox_per_client_max {
            return Waiting::Busy;
        }
        let until = self.patience.entry(name.clone()).or_insert(wait.until_ms);
        *until = wait.until_ms.min(*until);
        job.waits.push(wait);
        Waiting::Waiting
    }

    /// Answers those who have waited for as long as they wanted to. Returns for how many jobs
    /// somebody's patience had ended, and how many were answered.
    pub fn end_waits(&mut self, slot: u16, most: usize, at: UnixMillis) -> (usize, usize) {
        self.expire(at);
        let in_slot = self.patience.iter().filter(|(name, _)| self.keys.slot(name) == slot);
        let over = first_passed(in_slot.map(|(name, until)| (*until, name)), most, at);
        let mut answered = 0;
        for name in &over {
            self.patience.remove(name);
            let Some(job) = self.standings.get_mut(name) else { continue };
            let waits = std::mem::take(&mut job.waits);
            let (ended, kept): (Vec<_>, Vec<_>) =
                waits.into_iter().partition(|wait| wait.until_ms <= at.0);
            if let Some(next) = kept.iter().map(|wait| wait.until_ms).min() {
                self.patience.insert(name.clone(), next);
            }
            job.waits = kept;
            answered += ended.len();
            for wait in ended {
                self.post(name, Message::answer(name, &wait));
            }
        }
        (over.len(), answered)
    }
}
