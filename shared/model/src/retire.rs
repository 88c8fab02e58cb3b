//! What remains of a finished job: its record for a while, then a tombstone, then nothing.

use protocol::UnixMillis;
use store::retire::{Retention, Retired};
use store::{JobName, RecordKind};

use crate::Model;
use crate::standing::{Fields, Standing};

/// What a tombstone keeps of the record.
const KEPT: &[&str] = &[
    "client",
    "job_id",
    "ticket",
    "type",
    "digest",
    "epoch",
    "revision",
    "accepted_at",
    "finished_at",
];
/// The subscription and the ledger, which it keeps if there is a subscription: events may still be
/// on their way.
const KEPT_OF_A_SUBSCRIBER: &[&str] = &[
    "notify",
    "notify_to",
    "reply_to",
    "delivered_revision",
    "undeliverable",
    "undeliverable_from",
    "undeliverable_reason",
];

impl Model {
    /// Says for how long finished jobs are kept. It holds for jobs that finish from now on.
    pub fn keep(&mut self, retention: &Retention) {
        self.retention = Some(retention.clone());
    }

    /// Finished jobs of a slot whose time has come, those that have waited longest first.
    pub fn due_to_retire(&self, slot: u16, most: usize, at: UnixMillis) -> Vec<JobName> {
        self.until(at, most, |name, it| retires_at(it).filter(|_| self.keys.slot(name) == slot))
    }

    /// Replaces the record of a finished job whose time has come (or at once) by its tombstone,
    /// which lives for `horizon_ms`.
    pub fn retire(
        &mut self,
        name: &JobName,
        horizon_ms: u64,
        at_once: bool,
        at: UnixMillis,
    ) -> Retired {
        self.expire(at);
        let Some(job) = self.standings.get(name) else { return Retired::Nothing };
        if !job.is_job() {
            let is_tombstone = job.kind() == Some(RecordKind::Retired);
            return if is_tombstone { Retired::Tombstone } else { Retired::Nothing };
        }
        let Some(outcome) = job.state().filter(|state| state.is_terminal()) else {
            return job.state().map_or(Retired::Nothing, Retired::Unfinished);
        };
        if !at_once && retires_at(job).is_none_or(|instant| instant > at.0) {
            return Retired::Early;
        }
        let ends = at.0.saturating_add_unsigned(horizon_ms);
        let mut fields = Fields::default();
        let kept = if job.fields.has("notify") { KEPT_OF_A_SUBSCRIBER } else { &[] };
        for field in KEPT.iter().chain(kept) {
            if let Some(value) = job.fields.bytes(field) {
                fields.put(field, value);
            }
        }
        fields.set("record", "retired");
        fields.set("outcome", outcome);
        fields.set("retired_at", at.0);
        fields.set("expires_at", ends);
        let tombstone = Standing { fields, goes_at: Some(ends), ..Standing::default() };
        self.standings.insert(name.clone(), tombstone);
        self.expire(at);
        Retired::Tombstone
    }
}

/// When a finished job's record is retired; never, if nobody says.
pub(crate) fn retires_at(job: &Standing) -> Option<i64> {
    job.fields.number("expires_at").filter(|_| job.is_job() && job.is_finished())
}
