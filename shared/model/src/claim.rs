//! The right to run a job: claimed with a work message, renewed by a beat.

use job::{Event, State};
use protocol::UnixMillis;
use store::JobName;
use store::claim::{Beat, Claim, Claimed, Lease, runs_alone};

use crate::Model;
use crate::following::{Happened, first_of};
use crate::standing::Standing;

/// What an earlier run has left in the record.
const OF_AN_EARLIER_RUN: &[&str] = &[
    "stage",
    "progress",
    "progress_note",
    "error",
    "payload",
    "due_at",
    "dispatched_at",
    "detached",
    "parked_reason",
    "report_hash",
    "alone",
];

/// What a work message means.
enum Meaning {
    Answer(Claimed),
    /// The next run begins, after so many in a row without an outcome.
    Start {
        lost: u64,
    },
}

impl Model {
    /// Decides what a delivered work message means, and starts the job if it is to be started.
    pub fn claim(&mut self, claim: &Claim, at: UnixMillis) -> Claimed {
        self.expire(at);
        let epoch = self.epoch;
        let Some(job) = self.standings.get_mut(&claim.name) else { return Claimed::Missing };
        let meaning = match job.state() {
            Some(State::Queued) if job.is_job() => of_a_queued_job(job, claim, at),
            Some(State::Running) if job.is_job() => of_a_running_job(job, claim, epoch, at),
            // Done, or to be dispatched again under another number, or no job at all.
            _ => Meaning::Answer(Claimed::Drop),
        };
        match meaning {
            Meaning::Answer(answer) => answer,
            Meaning::Start { lost } if must_be_alone(job, lost, claim) && !claim.idle => {
                Claimed::Wait
            }
            Meaning::Start { lost } => self.start(claim, lost, at),
        }
    }

    /// A run begins: the next attempt, with the next fence and a lease, and nothing left of the
    /// run before.
    fn start(&mut self, claim: &Claim, lost: u64, at: UnixMillis) -> Claimed {
        let epoch = self.epoch;
        let Some(job) = self.standings.get_mut(&claim.name) else { return Claimed::Missing };
        if job.state() != Some(State::Running) {
            job.since = at.0;
        }
        let alone = must_be_alone(job, lost, claim);
        let fields = &mut job.fields;
        let attempt = fields.count("attempt") + 1;
        let revision = fields.count("revision") + 1;
        let fence = format!("{}-{}", starts(job) + 1, claim.nonce);
        let fields = &mut job.fields;
        fields.remove(OF_AN_EARLIER_RUN);
        fields.set("state", State::Running);
        fields.set("revision", revision);
        fields.set("epoch", epoch);
        fields.set("changed_at", at.0);
        fields.set("started_at", at.0);
        fields.set("attempt", attempt);
        fields.set("attempts_allowed", claim.attempts_max);
        fields.set("fence", &fence);
        fields.set("owner", &claim.owner);
        fields.set("lease_until", at.0.saturating_add_unsigned(claim.lease_ms));
        if lost > 0 {
            fields.set("lost", lost);
        }
        if alone {
            fields.set("alone", 1);
        }
        job.timer = first_of(None, fields.number("deadline"));
        let happened = Happened { attempt, ..Happened::new(Event::Started, State::Running) };
        self.follow(&claim.name, &happened, at);
        let attempt = u32::try_from(attempt).unwrap_or(u32::MAX);
        Claimed::Start { attempt, fence, revision, alone }
    }

    /// Renews the lease of a run that still has the right; detaches it if its payload is given.
    pub fn beat(&mut self, lease: &Lease, lease_ms: u64, at: UnixMillis) -> Beat {
        self.expire(at);
        let running = |it: &&mut Standing| has_run(it, &lease.fence);
        let Some(job) = self.standings.get_mut(&lease.name).filter(running) else {
            return Beat::Lost;
        };
        let until = at.0.saturating_add_unsigned(lease_ms);
        job.fields.set("lease_until", until);
        if let Some(payload) = &lease.detach {
            job.fields.set("detached", 1);
            job.fields.put("payload", payload.clone());
        }
        if job.fields.has("detached") || job.fields.has("cancel_requested") {
            watch(job, until);
        }
        Beat::Held { cancel_requested: job.fields.has("cancel_requested") }
    }

    /// Stores the hash of the report token of a run that still has the right.
    pub fn mint(&mut self, name: &JobName, fence: &str, hash: &str, at: UnixMillis) -> bool {
        self.expire(at);
        let running = |it: &&mut Standing| has_run(it, fence);
        let Some(job) = self.standings.get_mut(name).filter(running) else { return false };
        job.fields.set("report_hash", hash);
        true
    }
}

/// How many runs there were, counted or not: the number of the fence.
fn starts(job: &Standing) -> u64 {
    let number = |fence: &str| fence.split_once('-')?.0.parse().ok();
    job.fields.text("fence").and_then(number).unwrap_or(0)
}

fn nonce(job: &Standing) -> &str {
    job.fields.text("fence").and_then(|fence| fence.split_once('-')).map_or("", |(_, nonce)| nonce)
}

/// A job that must run alone waits for an idle worker.
fn must_be_alone(job: &Standing, lost: u64, claim: &Claim) -> bool {
    let attempt = job.fields.number("attempt").unwrap_or_default();
    let lost = u32::try_from(lost).unwrap_or(u32::MAX);
    runs_alone(lost, claim.alone_after, attempt, claim.attempts_max)
}

/// A run has the right while it lasts: the fence stays in the record afterwards, its owner does
/// not.
fn has_run(job: &Standing, fence: &str) -> bool {
    job.fields.text("fence") == Some(fence) && job.fields.has("owner")
}

/// The scheduler watches the lease of a run that depends on no message.
fn watch(job: &mut Standing, until: i64) {
    job.timer = first_of(Some(until), job.fields.number("deadline"));
}

/// A message of a queued job starts it if it carries the number that is out, and the deadline has
/// not passed.
fn of_a_queued_job(job: &Standing, claim: &Claim, at: UnixMillis) -> Meaning {
    let fields = &job.fields;
    let deadline_passed = fields.number("deadline").is_some_and(|deadline: i64| deadline <= at.0);
    Meaning::Answer(if fields.count("dispatch") != claim.dispatch || deadline_passed {
        Claimed::Drop
    } else if fields.has("cancel_requested") {
        Claimed::CancelAsked { fence: fields.text("fence").unwrap_or_default().to_owned() }
    } else {
        return Meaning::Start { lost: fields.count("lost") };
    })
}

/// A message of a running job comes again because its run has ended without an outcome, or because
/// only the connection has. The lease tells which.
fn of_a_running_job(job: &mut Standing, claim: &Claim, epoch: u64, at: UnixMillis) -> Meaning {
    let fence = job.fields.text("fence").unwrap_or_default().to_owned();
    let fields = &mut job.fields;
    let attempt: u32 = fields.number("attempt").unwrap_or_default();
    let lease_until: i64 = fields.number("lease_until").unwrap_or(0);
    // The same claim again, whose answer was lost.
    if nonce(job) == claim.nonce {
        let revision = job.fields.count("revision");
        let alone = job.fields.has("alone");
        return Meaning::Answer(Claimed::Start { attempt, fence, revision, alone });
    }
    let fields = &mut job.fields;
    // Left by its worker before the store was rolled back, its message is a new one.
    let is_again = claim.redelivered || (lease_until <= at.0 && fields.count("epoch") != epoch);
    let is_its_message = fields.count("dispatch") == claim.dispatch && is_again;
    if fields.has("detached") || !is_its_message {
        return Meaning::Answer(Claimed::Drop);
    }
    if fields.text("owner") == Some(&claim.owner) && !claim.not_here {
        return Meaning::Answer(Claimed::Attach { fence });
    }
    if lease_until > at.0 {
        fields.set("detached", 1);
        fields.put("payload", claim.payload.clone());
        watch(job, lease_until);
        return Meaning::Answer(Claimed::Detached);
    }
    // Its run has ended without an outcome.
    if fields.has("cancel_requested") {
        return Meaning::Answer(Claimed::CancelAsked { fence });
    }
    if attempt >= claim.attempts_max {
        return Meaning::Answer(Claimed::Exhausted { fence, attempts: attempt });
    }
    Meaning::Start { lost: fields.count("lost") + 1 }
}
