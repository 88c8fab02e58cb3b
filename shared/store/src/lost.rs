//! What becomes of a run that has ended, also of one that ended without a word.

use job::Event;

use crate::change::{Change, Right, Unless};
use crate::record::{Record, number};

/// Fields that no job has while its first run goes on, unless that was detached or asked to stop.
pub(crate) const NOT_OF_A_FIRST_RUN: &[&str] =
    &["detached", "alone", "lost", "cancel_requested", "payload"];
/// Fields that mean something only while somebody runs the job.
pub const LEASE: &[&str] = &["owner", "lease_until", "detached", "alone"];
/// The same, and what goes from run to run until one has an outcome.
pub const OF_THE_RUN: &[&str] =
    &["owner", "lease_until", "detached", "alone", "lost", "cancel_requested", "report_hash"];
/// The same, and what it would take to run it again.
pub const OF_THE_RUN_AND_PAYLOAD: &[&str] = &[
    "owner",
    "lease_until",
    "detached",
    "alone",
    "lost",
    "cancel_requested",
    "report_hash",
    "payload",
    "due_at",
];

/// Completes the change of a run whose lease has ended and for which no message comes: `Cancelled`
/// if that was asked for, `Failed` if no attempt is left, else `Lost`, under a new dispatch number.
/// `change` says which job it is, by its dispatch number or not.
pub fn lost(record: &Record, change: impl Fn(Event) -> Change) -> Change {
    let attempt: u32 = number(&record.attempt).unwrap_or_default();
    let allowed: u32 = number(&record.attempts_allowed).unwrap_or(1);
    let detail = format!("attempt {attempt} ended without an outcome");
    let on = |event, delete| Change {
        right: record.fence.clone().map_or(Right::Server, Right::Fence),
        // Its owner may have been slow only.
        unless: Unless::Unwatched,
        delete,
        detail: detail.clone(),
        ..change(event)
    };
    if record.cancel_requested.is_some() {
        return on(Event::Cancelled, OF_THE_RUN_AND_PAYLOAD);
    }
    if attempt >= allowed {
        let error = format!("{detail}; {allowed} allowed");
        return on(Event::Failed, OF_THE_RUN).with("error", error);
    }
    let times = number(&record.lost).unwrap_or(0u32) + 1;
    let again = Change { redispatch: true, ..on(Event::Lost, LEASE) };
    again.with("lost", times.to_string())
}
