//! The store: records, outbox, timers; each function is one script, whole or not at all.

use job::state::next;
use job::{Event, State};

use crate::bounds::Mistake;
use crate::claim::{Asked, Meaning, meaning};

/// The right to write: how often the job was started, and the claimer's nonce.
pub type Fence = (u8, u8);

/// What stands under an identifier.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Record {
    /// It was made unusable.
    Voided,
    /// A job.
    Job(Job),
}

/// A job's record, as far as a decision depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Job {
    /// Where it is.
    pub state: State,
    /// Grows with each change.
    pub revision: u8,
    /// The store's epoch at the last change.
    pub epoch: u8,
    /// Starts that count.
    pub attempt: u8,
    /// The number that a claim honours.
    pub dispatch: u8,
    /// The right to write.
    pub fence: Fence,
    /// The nonce of the claim that really runs it; only looked at to find a mistake.
    pub runner: u8,
    /// The worker process.
    pub owner: Option<u8>,
    /// Whether the lease has not ended yet.
    pub leased: bool,
    /// Whether the run no longer depends on its message.
    pub detached: bool,
    /// Whether the body is in the store.
    pub payload: bool,
    /// Whether the scheduler looks at it.
    pub timer: bool,
    /// Whether a later dispatch was sent (`dispatched_at`), and nobody has claimed it yet.
    pub is_sent: bool,
    /// Whether a client has asked the run to stop.
    pub cancel_asked: bool,
    /// Attempts in a row that ended without an outcome.
    pub lost: u8,
    /// Whether the attempt runs alone.
    pub alone: bool,
}

/// An event that is still to be delivered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Entry {
    /// Whose job.
    pub job: u8,
    /// The change's epoch.
    pub epoch: u8,
    /// Its revision.
    pub revision: u8,
    /// The state that followed.
    pub state: State,
    /// Whether a notifier has sent it and not yet taken it out.
    pub sent: bool,
}

/// What Redis holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Store {
    /// Under each client's identifier.
    pub records: Vec<Option<Record>>,
    /// Events to be delivered.
    pub outbox: Vec<Entry>,
    /// Grows when a loss is noticed.
    pub epoch: u8,
    /// The instance of the server that was seen last.
    pub run_seen: u8,
}

/// What the store says to a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// Recorded now, or by this very call before.
    New,
    /// Recorded before, never claimed: to be dispatched again under this number.
    Redispatch(u8),
    /// Recorded before.
    Duplicate,
    /// The identifier is void.
    Voided,
}

/// A submission, as the registrar brings it.
#[derive(Debug, Clone, Copy)]
pub struct Submission {
    /// Whose.
    pub job: u8,
    /// Of this delivery.
    pub nonce: u8,
    /// Whether the broker delivered it before.
    pub redelivered: bool,
    /// Whether what it repeats was dispatched long ago.
    pub aged: bool,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// Written, with the nonce of the run that really had the right.
    Applied(u8),
    /// This event again.
    Repeated,
    /// Another has the right now, or the table has no such step.
    Refused,
    /// It gives way to a cancellation.
    CancelAsked,
}

impl Store {
    /// An empty store for so many clients.
    pub fn new(clients: u8) -> Self {
        let records = vec![None; clients.into()];
        Self { records, outbox: Vec::new(), epoch: 1, run_seen: 0 }
    }

    /// `open.lua`: another run id than before means that something may be lost.
    /// `known` is the highest epoch that whoever opens it has seen.
    pub fn open(&mut self, run: u8, known: u8, mistake: Option<Mistake>) {
        if self.run_seen != run && mistake != Some(Mistake::LossUnnoticed) {
            self.run_seen = run;
            self.epoch = self.epoch.max(known) + 1;
        }
    }

    /// The job under an identifier.
    pub fn job(&self, job: u8) -> Option<&Job> {
        match &self.records[usize::from(job)] {
            Some(Record::Job(job)) => Some(job),
            _ => None,
        }
    }

    fn job_mut(&mut self, job: u8) -> Option<&mut Job> {
        match &mut self.records[usize::from(job)] {
            Some(Record::Job(job)) => Some(job),
            _ => None,
        }
    }

    /// `accept.lua`.
    pub fn accept(&mut self, sent: Submission, mistake: Option<Mistake>) -> Accepted {
        let epoch = self.epoch;
        let place = usize::from(sent.job);
        if mistake == Some(Mistake::NoDuplicates)
            || (mistake == Some(Mistake::VoidForgotten)
                && self.records[place] == Some(Record::Voided))
        {
            self.records[place] = None;
        }
        match &mut self.records[place] {
            Some(Record::Voided) => Accepted::Voided,
            Some(Record::Job(job)) => {
                if job.fence == (0, sent.nonce) && job.state == State::Queued {
                    return Accepted::New;
                }
                let is_older = job.epoch != epoch;
                let again = is_older || (job.attempt == 0 && (sent.redelivered || sent.aged));
                let is_left_out = mistake == Some(Mistake::NotDispatchedAgain);
                if job.state == State::Queued && again && !is_left_out {
                    job.dispatch += u8::from(mistake == Some(Mistake::NumberInVain));
                    job.is_sent = true;
                    if mistake == Some(Mistake::EpochInVain) {
                        job.epoch = epoch;
                    }
                    return Accepted::Redispatch(job.dispatch);
                }
                let is_left = !job.detached && !job.leased;
                if job.state == State::Running && is_older && is_left && !is_left_out {
                    return Accepted::Redispatch(job.dispatch);
                }
                Accepted::Duplicate
            }
            None => {
                let Ok(state) = next(None, Event::Accepted) else { return Accepted::Voided };
                self.records[place] = Some(Record::Job(Job::new(state, epoch, sent.nonce)));
                Accepted::New
            }
        }
    }

    /// `void.lua`.
    pub fn void(&mut self, job: u8) {
        self.records[usize::from(job)].get_or_insert(Record::Voided);
    }

    /// `claim.lua`: decides, and starts what is to be started.
    pub fn claim(&mut self, job: u8, asked: &Asked, mistake: Option<Mistake>) -> Meaning {
        let epoch = self.epoch;
        let current = self.job(job).map_or(asked.dispatch, |job| job.dispatch);
        let any = mistake == Some(Mistake::AnyDispatch);
        let asked = Asked { dispatch: if any { current } else { asked.dispatch }, ..*asked };
        let meaning = meaning(self.records[usize::from(job)].as_ref(), &asked);
        let Some(record) = self.job_mut(job) else { return meaning };
        match meaning {
            Meaning::Detach => {
                (record.detached, record.payload, record.timer) = (true, true, true);
            }
            Meaning::Start { supersedes, alone } => {
                let Ok(state) = next(Some(record.state), Event::Started) else { return meaning };
                let nonce =
                    if mistake == Some(Mistake::FenceWithoutNonce) { 0 } else { asked.nonce };
                record.lost += u8::from(supersedes);
                record.alone = alone;
                record.fence = (record.fence.0 + 1, nonce);
                record.runner = asked.nonce;
                record.attempt += 1;
                record.revision += 1;
                (record.state, record.epoch) = (state, epoch);
                (record.owner, record.leased) = (Some(asked.owner), true);
                (record.detached, record.payload, record.timer) = (false, false, false);
                record.is_sent = false;
            }
            _ => {}
        }
        meaning
    }

    /// `beat.lua`: whether the lease is renewed.
    pub fn beat(&mut self, job: u8, fence: Fence, detach: bool) -> bool {
        let Some(job) = self.job_mut(job) else { return false };
        if job.fence != fence || job.owner.is_none() {
            return false;
        }
        job.leased = true;
        if detach {
            (job.detached, job.payload, job.timer) = (true, true, true);
        }
        true
    }

    /// `redispatch.lua`: the next number for a queued job whose dispatch was not confirmed.
    pub fn redispatch(&mut self, job: u8, seen: u8) -> Option<u8> {
        let job = self.job_mut(job)?;
        if job.state != State::Queued || job.dispatch != seen || !job.payload {
            return None;
        }
        job.dispatch += 1;
        job.is_sent = true;
        Some(job.dispatch)
    }

    /// The same for a job whose message is gone; and if it runs, its lease is watched from now on.
    pub fn gone(&mut self, job: u8, seen: u8, is_watched: bool) -> Option<u8> {
        let record = self.job_mut(job).filter(|record| record.dispatch == seen)?;
        let is_left = record.state == State::Running && is_watched && !record.detached;
        if is_left || record.state == State::Queued {
            (record.payload, record.timer) = (true, true);
        }
        record.detached |= is_left;
        self.redispatch(job, seen)
    }

    /// `dispatched.lua`: the broker has it. With `unclaimed`, only if nobody has claimed it since.
    pub fn dispatched(&mut self, job: u8, number: u8, unclaimed: bool) {
        if let Some(job) = self.job_mut(job)
            && job.state == State::Queued
            && job.dispatch == number
            && (job.is_sent || !unclaimed)
        {
            (job.payload, job.timer) = (false, false);
        }
    }

    /// `transition.lua`: one event, by the table.
    pub fn change(&mut self, job: u8, change: &Change) -> Changed {
        let epoch = self.epoch;
        let Some(record) = self.job_mut(job) else { return Changed::Refused };
        if change.fence.is_some_and(|fence| fence != record.fence)
            || change.dispatch.is_some_and(|number| number != record.dispatch)
            || (change.unless_leased && record.leased)
            || (change.if_watched && !(record.detached || record.cancel_asked))
        {
            return Changed::Refused;
        }
        let Ok(to) = next(Some(record.state), change.event) else {
            let repeats = job::state::steps(change.event).any(|(_, to)| to == record.state);
            let is_repeated = repeats && change.fence.is_some();
            return if is_repeated { Changed::Repeated } else { Changed::Refused };
        };
        if change.unless_cancelled && record.cancel_asked {
            return Changed::CancelAsked;
        }
        record.change(to, epoch, change);
        let runner = record.runner;
        if to.is_terminal() {
            let (epoch, revision) = (record.epoch, record.revision);
            self.outbox.push(Entry { job, epoch, revision, state: to, sent: false });
            self.outbox.sort();
        }
        Changed::Applied(runner)
    }
}

/// One event, and what is written with it.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    /// What happened.
    pub event: Event,
    /// Only with this right.
    pub fence: Option<Fence>,
    /// Only under this number.
    pub dispatch: Option<u8>,
    /// Only once the lease has ended.
    pub unless_leased: bool,
    /// Only of a run that is detached or asked to stop.
    pub if_watched: bool,
    /// It gives way to a cancellation.
    pub unless_cancelled: bool,
    /// The body is written with it, and it is due at once.
    pub with_body: bool,
}

impl Change {
    /// An event without a condition.
    pub fn new(event: Event) -> Self {
        Self {
            event,
            fence: None,
            dispatch: None,
            unless_leased: false,
            if_watched: false,
            unless_cancelled: false,
            with_body: false,
        }
    }
}

impl Job {
    /// A job that was accepted.
    pub fn new(state: State, epoch: u8, nonce: u8) -> Self {
        Self {
            state,
            revision: 1,
            epoch,
            attempt: 0,
            dispatch: 1,
            fence: (0, nonce),
            runner: nonce,
            owner: None,
            leased: false,
            detached: false,
            payload: false,
            timer: false,
            is_sent: false,
            cancel_asked: false,
            lost: 0,
            alone: false,
        }
    }

    fn change(&mut self, to: State, epoch: u8, change: &Change) {
        let was_detached = self.detached;
        self.state = to;
        self.epoch = epoch;
        self.revision += 1;
        if change.event == Event::CancelAsked {
            (self.cancel_asked, self.timer) = (true, true);
            return;
        }
        (self.owner, self.leased, self.detached, self.alone) = (None, false, false, false);
        match change.event {
            Event::GivenBack => {
                self.attempt = self.attempt.saturating_sub(1);
                self.timer = was_detached || change.with_body;
                self.payload |= change.with_body;
            }
            Event::Errored => {
                (self.payload, self.timer, self.lost) = (true, true, 0);
            }
            Event::Lost => {
                self.lost += 1;
                (self.dispatch, self.timer, self.is_sent) = (self.dispatch + 1, true, true);
            }
            Event::Due => {
                (self.dispatch, self.timer, self.is_sent) = (self.dispatch + 1, true, true);
            }
            _ => {
                (self.payload, self.timer, self.lost) = (false, false, 0);
                self.cancel_asked = false;
            }
        }
    }
}
