//! What a delivered work message means: the decision of `claim.lua` as a function. A test holds
//! the two together over every combination of what they look at.

use job::State;
use store::claim::runs_alone;

use crate::store::{Job, Record};

/// Attempts in a row without an outcome after which the next one runs alone.
pub const ALONE_AFTER: u32 = 3;

/// What a worker that holds a message says of itself and of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The number that the message carries.
    pub dispatch: u8,
    /// Whether the broker delivered it before.
    pub redelivered: bool,
    /// The worker process.
    pub owner: u8,
    /// Of this claim, also when it is repeated.
    pub nonce: u8,
    /// Whether nothing else runs in the worker.
    pub idle: bool,
    /// How many attempts the job has.
    pub attempts: u8,
    /// Whether this process was told to attach the message to a run, and has no such run.
    pub not_here: bool,
    /// The store's epoch.
    pub epoch: u8,
}

/// What the message means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Meaning {
    /// There is no record.
    Missing,
    /// It is somebody else's, or done.
    Drop,
    /// This very claim has started the job already.
    Started,
    /// The next attempt begins.
    Start {
        /// Whether the attempt before ended without an outcome.
        supersedes: bool,
        /// Whether it must run alone.
        alone: bool,
    },
    /// This process runs it.
    Attach,
    /// Another process runs it: from now on the scheduler watches its lease.
    Detach,
    /// It must run alone, and something else runs here.
    Wait,
    /// Its worker died after a client had asked it to stop.
    CancelAsked,
    /// Its worker died, and no attempt is left.
    Exhausted,
}

/// Decides what a message means. It changes nothing.
pub fn meaning(record: Option<&Record>, asked: &Asked) -> Meaning {
    match record {
        None => Meaning::Missing,
        Some(Record::Job(job)) if job.state == State::Running => of_running(job, asked),
        Some(Record::Job(job)) if job.state == State::Queued => of_queued(job, asked),
        Some(_) => Meaning::Drop,
    }
}

fn of_running(job: &Job, asked: &Asked) -> Meaning {
    if job.fence.1 == asked.nonce {
        return Meaning::Started;
    }
    // Left by its worker before the store was rolled back, its message is a new one.
    let is_again = asked.redelivered || (!job.leased && job.epoch != asked.epoch);
    if job.detached || job.dispatch != asked.dispatch || !is_again {
        return Meaning::Drop;
    }
    if job.owner == Some(asked.owner) && !asked.not_here {
        return Meaning::Attach;
    }
    if job.leased {
        return Meaning::Detach;
    }
    if job.cancel_asked {
        return Meaning::CancelAsked;
    }
    if job.attempt >= asked.attempts {
        return Meaning::Exhausted;
    }
    start(job, asked, true)
}

fn of_queued(job: &Job, asked: &Asked) -> Meaning {
    if job.dispatch != asked.dispatch {
        return Meaning::Drop;
    }
    if job.cancel_asked {
        return Meaning::CancelAsked;
    }
    start(job, asked, false)
}

/// The next attempt, unless it must run alone and something else runs there.
fn start(job: &Job, asked: &Asked, supersedes: bool) -> Meaning {
    let lost = u32::from(job.lost) + u32::from(supersedes);
    let alone = runs_alone(lost, ALONE_AFTER, job.attempt.into(), asked.attempts.into());
    if alone && !asked.idle { Meaning::Wait } else { Meaning::Start { supersedes, alone } }
}
