//! The first record of a submission; refusals and voided identifiers.

use faults::{Bug, is_seeded};
use job::{Digest, Event, JobId, JobType, QueueName, State, Ticket};
use protocol::work::Spec;
use protocol::{Refusal, UnixMillis};
use redis::Pipeline;

use crate::each::JobCall;
use crate::keys::JobName;
use crate::record::spec_fields;
use crate::reply::Reply;
use crate::scripts::{self, Call};
use crate::{Error, Store};

/// A submission to be recorded.
#[derive(Debug, Clone)]
pub struct Accept {
    /// Whose job, by which identifier.
    pub name: JobName,
    /// What is to be done.
    pub job_type: JobType,
    /// The queue that serves the type.
    pub queue: QueueName,
    /// What else was asked for.
    pub spec: Spec,
    /// What makes another submission the same.
    pub digest: Digest,
    /// How it begins.
    pub first: First,
    /// Random, and the same when this call is repeated because its answer was lost.
    pub nonce: String,
    /// Whether the broker delivered this submission before.
    pub redelivered: bool,
    /// Size of the body.
    pub payload_bytes: usize,
    /// The dispatch number: 1, unless a record is rebuilt from a work message.
    pub dispatch: u64,
    /// Whether it was sent before the horizon, so that its tombstone may be gone.
    pub is_too_old: bool,
    /// The job that this one repeats.
    pub replay_of: Option<JobId>,
}

/// What the store is to hold to when it accepts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// A duplicate of a job that has been queued for so long, or that was queued or left by its
    /// worker in an older epoch, is to be dispatched again; never, if absent.
    pub duplicate_age_ms: Option<u64>,
    /// Unfinished jobs that one client may have; 0 for any number. Counted in each slot.
    pub unfinished_max: u64,
}

/// The first state of a job, with what it needs.
#[derive(Debug, Clone)]
pub enum First {
    /// To be dispatched at once; the body goes with the dispatch and is not kept here.
    Queued,
    /// To be dispatched when it is due.
    Scheduled {
        /// The body.
        payload: Vec<u8>,
        /// When.
        at: UnixMillis,
    },
    /// Kept until a worker announces the type.
    Parked {
        /// The body.
        payload: Vec<u8>,
        /// When it expires.
        until: UnixMillis,
        /// Why, in words.
        reason: String,
    },
}

impl First {
    /// The state that the table gives for it.
    pub fn event(&self) -> Event {
        match self {
            Self::Queued => Event::Accepted,
            Self::Scheduled { .. } => Event::Deferred,
            Self::Parked { .. } => Event::Unserved,
        }
    }
}

/// What the store says to a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// Recorded now.
    New {
        /// The store's time.
        at: UnixMillis,
        /// The first state.
        state: State,
    },
    /// Recorded before, never claimed, and to be dispatched again under this number.
    Redispatch {
        /// The dispatch number.
        dispatch: u64,
    },
    /// Recorded before.
    Duplicate,
    /// Recorded before, as another job.
    Conflict {
        /// The digest of the first one.
        digest: String,
    },
    /// The identifier was made unusable.
    Voided,
    /// The identifier was a job's, whose record has been retired.
    Forgotten,
    /// Nothing is recorded, and something that is forgotten by now may have been.
    TooOld,
    /// The client has as many unfinished jobs as it may.
    Quota,
}

impl Store {
    /// The ticket of a job.
    pub fn ticket(&self, name: &JobName) -> Ticket {
        self.ticket_key().ticket(&name.client, &name.job_id, self.keys().slot(name))
    }

    /// Records submissions, each in one step; the answers are in the same order.
    ///
    /// # Errors
    /// Nothing is known of any of them: call again with the same.
    pub async fn accept(
        &self,
        submissions: &[Accept],
        limits: Limits,
    ) -> Result<Vec<Accepted>, Error> {
        if submissions.is_empty() {
            return Ok(Vec::new());
        }
        let states = submissions
            .iter()
            .map(|submission| job::state::next(None, submission.first.event()))
            .collect::<Result<Vec<State>, _>>()
            .map_err(|e| Error::Unexpected(e.to_string()))?;
        if is_seeded(Bug::NoDuplicates) {
            let mut pipeline = Pipeline::new();
            for submission in submissions {
                pipeline.cmd("DEL").arg(self.keys().job(&submission.name)).ignore();
            }
            self.run(&pipeline).await?;
        }
        let build = |epoch| {
            let each = submissions.iter().zip(&states);
            each.map(|(it, state)| self.accept_call(it, *state, limits, epoch)).collect()
        };
        let answers = self.each(&scripts::ACCEPT, build).await?;
        answers
            .into_iter()
            .zip(states)
            .map(|(value, state)| accepted(&Reply::new(value)?, state))
            .collect()
    }

    fn accept_call(
        &self,
        submission: &Accept,
        state: State,
        limits: Limits,
        epoch: u64,
    ) -> JobCall {
        let keys = self.keys();
        let name = &submission.name;
        let slot = keys.slot(name);
        let ticket = self.ticket(name);
        let mut all: Vec<String> = self.change_keys(name).into();
        let set = keys.state(slot, state, &submission.job_type);
        let has_set = set.is_some();
        all.extend([
            keys.ticket(ticket),
            keys.client_jobs(slot, &name.client),
            keys.unfinished(slot),
        ]);
        all.extend(set);
        let tags = &submission.spec.tags;
        all.extend(tags.iter().map(|tag| keys.tag(slot, &name.client, tag)));
        let timer = match &submission.first {
            First::Queued => None,
            First::Scheduled { at, .. } => Some(at.0),
            First::Parked { until, .. } => Some(until.0),
        };
        let is_pushed = submission.spec.notify.split(',').any(|word| word == state.as_str());
        let absent = String::new;
        let mut call = JobCall::new(slot, all)
            .arg(name.member())
            .arg(submission.digest.as_str())
            .arg(submission.first.event().as_str())
            .arg(state.as_str())
            .arg(u8::from(submission.redelivered))
            .arg(limits.duplicate_age_ms.map_or_else(absent, |ms| ms.to_string()))
            .arg(State::Queued.as_str())
            .arg(State::Running.as_str())
            .arg(timer.map_or_else(absent, |ms| ms.to_string()))
            .arg(submission.spec.deadline.map_or_else(absent, |t| t.0.to_string()))
            .arg(self.settings().outbox_per_client_max)
            .arg(epoch)
            .arg(submission.nonce.as_str())
            .arg(u8::from(has_set))
            .arg(limits.unfinished_max)
            .arg(u8::from(submission.is_too_old))
            .arg(name.client.as_str())
            .arg(name.job_id.as_str())
            .arg(u8::from(is_pushed))
            // What each change looks for comes first, as in the script.
            .arg("dispatch")
            .arg(submission.dispatch)
            .arg("type")
            .arg(submission.job_type.as_str());
        for (field, value) in spec_fields(&submission.spec) {
            call = call.arg(field).arg(value);
        }
        call = call
            .arg("ticket")
            .arg(ticket.to_string())
            .arg("queue")
            .arg(submission.queue.as_str())
            .arg("payload_bytes")
            .arg(submission.payload_bytes);
        if let Some(replayed) = &submission.replay_of {
            call = call.arg("replay_of").arg(replayed.as_str());
        }
        match &submission.first {
            First::Queued => call,
            First::Scheduled { payload, at } => {
                call.arg("payload").arg(payload.as_slice()).arg("due_at").arg(at.0)
            }
            First::Parked { payload, until, reason } => call
                .arg("payload")
                .arg(payload.as_slice())
                .arg("due_at")
                .arg(until.0)
                .arg("parked_reason")
                .arg(reason.as_str()),
        }
    }

    /// Leaves records of refused submissions; `false` where the identifier is a job's, or void, and
    /// stays it.
    ///
    /// # Errors
    /// Nothing is known of any of them: call again with the same.
    pub async fn refuse(
        &self,
        refused: &[(JobName, Refusal)],
        keep_ms: u64,
    ) -> Result<Vec<bool>, Error> {
        let mut pipeline = Pipeline::with_capacity(refused.len());
        for (name, refusal) in refused {
            Call::new(&scripts::REFUSE, &[&self.keys().job(name)])
                .arg(keep_ms)
                .arg("client")
                .arg(name.client.as_str())
                .arg("job_id")
                .arg(name.job_id.as_str())
                .arg("code")
                .arg(refusal.code.as_str())
                .arg("message")
                .arg(refusal.message.as_str())
                .add_to(&mut pipeline);
        }
        let written = self.run(&pipeline).await?;
        written.into_iter().map(|value| Ok(Reply::new(value)?.word() == "1")).collect()
    }

    /// Makes an identifier unusable for so long (0: for ever), unless it is a job's; with
    /// `though_refused`, also one whose submission was refused. Returns whether it is unusable now.
    ///
    /// # Errors
    /// It is not known whether it is: call again.
    pub async fn void(
        &self,
        name: &JobName,
        keep_ms: u64,
        though_refused: bool,
    ) -> Result<bool, Error> {
        let mut pipeline = Pipeline::new();
        Call::new(&scripts::VOID, &[&self.keys().job(name)])
            .arg(name.client.as_str())
            .arg(name.job_id.as_str())
            .arg(keep_ms)
            .arg(u8::from(though_refused))
            .add_to(&mut pipeline);
        let answer = self.run(&pipeline).await?.pop().unwrap_or_default();
        Ok(Reply::new(answer)?.word() == "voided")
    }
}

fn accepted(reply: &Reply, state: State) -> Result<Accepted, Error> {
    Ok(match reply.word() {
        "accepted" => Accepted::New { at: UnixMillis(reply.parse(1)?), state },
        "redispatch" => Accepted::Redispatch { dispatch: reply.parse(1)? },
        "duplicate" => Accepted::Duplicate,
        "conflict" => Accepted::Conflict { digest: reply.text(1).to_owned() },
        "voided" => Accepted::Voided,
        "forgotten" => Accepted::Forgotten,
        "too_old" => Accepted::TooOld,
        "quota" => Accepted::Quota,
        other => return Err(Error::unexpected(other)),
    })
}
