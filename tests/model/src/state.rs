//! Everything that there is at one moment: processes, queues, the store and its disk.

use client::Standing;
use job::State as JobState;

use crate::bounds::{Bounds, Budget};
use crate::store::{Fence, Job, Record, Store};

/// What a message to a client says of its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Said {
    /// The job is recorded.
    Receipt(Fact, Repeated),
    /// It has changed.
    Event(Fact),
    /// Where it is.
    Status(Fact),
    /// Nothing is known of it; with whether the store may have lost it.
    Unknown(bool),
    /// It is unusable now.
    Voided,
    /// The submission came too late.
    Refused,
    /// Nothing can be said now.
    Unavailable,
}

/// Whether a receipt is for a submission that was recorded before.
pub type Repeated = bool;

/// Epoch, revision and the state that they stand for.
pub type Fact = (u8, u8, JobState);

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ask {
    /// `status`.
    Status,
    /// `status` with `void_if_unknown`.
    Void,
    /// `cancel`.
    Cancel,
}

/// A question on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Question {
    /// About whose job.
    pub job: u8,
    /// What.
    pub ask: Ask,
    /// Whether a submission of this id was in the line before it was published.
    pub is_behind: bool,
}

/// What stands in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum What {
    /// A submission of a client's job.
    Submission(u8),
    /// A question of which nothing was found.
    Question(Question),
}

/// A message of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Letter {
    /// What it is.
    pub what: What,
    /// Whether it was delivered before.
    pub redelivered: bool,
}

/// A delivery that a registrar holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Held {
    /// The message.
    pub letter: Letter,
    /// Of this delivery.
    pub nonce: u8,
    /// What was decided, if anything was.
    pub decided: Option<Decided>,
}

/// What follows from a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Decided {
    /// Still to be dispatched, under this number.
    pub work: Option<u8>,
    /// To be said once it is acknowledged.
    pub answer: Option<Said>,
}

/// A registrar.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Registrar {
    /// Its deliveries, in order.
    pub held: Vec<Held>,
    /// To whom it will say what.
    pub sending: Vec<(u8, Said)>,
    /// Of one whose connection is gone: whether the broker believes all the same that it holds
    /// them.
    pub keeps: bool,
}

/// A work message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Work {
    /// Whose job.
    pub job: u8,
    /// The dispatch number.
    pub dispatch: u8,
    /// The store's epoch when it was sent.
    pub epoch: u8,
    /// Whether it was delivered before.
    pub redelivered: bool,
}

/// A message that a worker is about to claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Claiming {
    /// The message.
    pub work: Work,
    /// Of this claim.
    pub nonce: u8,
    /// It was told to attach it to a run, and has no such run.
    pub not_here: bool,
    /// Whether the broker still counts on this process for it.
    pub is_held: bool,
}

/// A run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Run {
    /// Of which job.
    pub job: u8,
    /// The right to write.
    pub fence: Fence,
    /// The nonce of its claim.
    pub nonce: u8,
    /// Which attempt.
    pub attempt: u8,
    /// Its message, unless that is settled or gone.
    pub delivery: Option<Work>,
    /// How it ended; it is being recorded.
    pub ended: Option<job::Event>,
    /// The epoch in which the store was last told that it runs, or that it is detached.
    pub epoch: u8,
}

/// A worker process.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Worker {
    /// What runs.
    pub runs: Vec<Run>,
    /// What is to be claimed.
    pub claiming: Option<Claiming>,
    /// What is to be acknowledged.
    pub settling: Option<Work>,
}

/// What the scheduler is at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Timed {
    /// Whose job.
    pub job: u8,
    /// What it read.
    pub seen: Job,
    /// The number that it took.
    pub number: Option<u8>,
    /// Whether the broker has the message.
    pub sent: bool,
}

/// A client process, with its journal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Client {
    /// What the journal holds; nothing yet at first.
    pub standing: Option<Standing>,
    /// Submissions that are neither in the line nor lost.
    pub flying: u8,
    /// What has come for it and was not read.
    pub inbox: Vec<Said>,
    /// The newest that it knows.
    pub knows: Option<(u8, u8)>,
}

/// What has been true; looked at to find a mistake, and by nobody that is modelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Past {
    /// The highest epoch and revision that were ever written.
    pub written: (u8, u8),
    /// The epoch in which it ended.
    pub ended: Option<u8>,
    /// The epoch in which it was accepted.
    pub accepted: Option<u8>,
    /// The epoch in which the id was voided.
    pub voided: Option<u8>,
    /// Whether a submission has stood in the line.
    pub arrived: bool,
    /// The newest event that reached the client's queue.
    pub told: (u8, u8),
}

/// What must never happen, and has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Broken {
    /// `unknown` of an id whose submission stood in the line before the question.
    FalseUnknown,
    /// An id became a second job.
    TwoJobs,
    /// A voided id became a job.
    VoidedAndAccepted,
    /// Epoch and revision did not grow with a change.
    OrderLost,
    /// A job that had ended went on.
    EndedAndWentOn,
    /// `unknown` was said after a loss, and not that there was one.
    LossUndeclared,
    /// A superseded attempt has written.
    StaleWrite,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// What Redis answers.
    pub store: Store,
    /// What it would come back with.
    pub disk: Store,
    /// Grows when it comes back.
    pub run: u8,
    /// The highest epoch that a process has seen which lives.
    pub epoch_known: u8,
    /// Each with its job.
    pub clients: Vec<Client>,
    /// Questions that no inquiry process has read; in no order.
    pub requests: Vec<Question>,
    /// The line, but for what is delivered.
    pub line: Vec<Letter>,
    /// The single active consumer of the line.
    pub active: Registrar,
    /// One that was it, and does not know that it is no longer.
    pub former: Option<Registrar>,
    /// The work queue; in no order.
    pub work: Vec<Work>,
    /// What the broker has dropped of it, until a server has read it.
    pub dropped: Vec<Work>,
    /// The workers; in no order.
    pub workers: Vec<Worker>,
    /// The scheduler.
    pub timed: Option<Timed>,
    /// What may still happen that need not.
    pub left: Budget,
    /// For each job.
    pub past: Vec<Past>,
    /// What must never be.
    pub broken: Option<Broken>,
}

impl State {
    /// Nothing has happened yet.
    pub fn new(bounds: &Bounds) -> Self {
        let store = Store::new(bounds.clients);
        let client = Client { standing: None, flying: 0, inbox: Vec::new(), knows: None };
        Self {
            disk: store.clone(),
            store,
            run: 0,
            epoch_known: 1,
            clients: vec![client; bounds.clients.into()],
            requests: Vec::new(),
            line: Vec::new(),
            active: Registrar::default(),
            former: None,
            work: Vec::new(),
            dropped: Vec::new(),
            workers: vec![Worker::default(); bounds.workers.into()],
            timed: None,
            left: bounds.budget,
            past: vec![Past::default(); bounds.clients.into()],
            broken: None,
        }
    }

    /// Puts a message into a client's queue.
    pub fn tell(&mut self, job: u8, said: Said) {
        let inbox = &mut self.clients[usize::from(job)].inbox;
        inbox.push(said);
        inbox.sort();
    }

    /// A number that nobody uses.
    pub fn fresh_nonce(&self) -> u8 {
        let stores = [&self.store, &self.disk].into_iter().flat_map(|store| &store.records);
        let of_records = stores.filter_map(|record| match record {
            Some(Record::Job(job)) => Some(job.fence.1.max(job.runner)),
            _ => None,
        });
        let registrars = [Some(&self.active), self.former.as_ref()].into_iter().flatten();
        let of_the_line = registrars.flat_map(|it| it.held.iter().map(|held| held.nonce));
        let of_the_work = self.workers.iter().flat_map(|worker| {
            let runs = worker.runs.iter().map(|run| run.fence.1.max(run.nonce));
            runs.chain(worker.claiming.iter().map(|claiming| claiming.nonce))
        });
        let timed = self.timed.iter().map(|timed| timed.seen.fence.1.max(timed.seen.runner));
        let all = of_records.chain(of_the_line).chain(of_the_work).chain(timed);
        all.max().unwrap_or_default() + 1
    }

    fn each_nonce(&mut self, with: &mut impl FnMut(&mut u8)) {
        for store in [&mut self.store, &mut self.disk] {
            for record in &mut store.records {
                let Some(Record::Job(job)) = record else { continue };
                with(&mut job.fence.1);
                with(&mut job.runner);
            }
        }
        for registrar in [Some(&mut self.active), self.former.as_mut()].into_iter().flatten() {
            registrar.held.iter_mut().for_each(|held| with(&mut held.nonce));
        }
        for worker in &mut self.workers {
            worker.claiming.iter_mut().for_each(|claiming| with(&mut claiming.nonce));
            for run in &mut worker.runs {
                with(&mut run.fence.1);
                with(&mut run.nonce);
            }
        }
        if let Some(timed) = &mut self.timed {
            with(&mut timed.seen.fence.1);
            with(&mut timed.seen.runner);
        }
    }

    /// One of the states that differ in names only: of workers, and of nonces.
    pub fn normal(mut self) -> Self {
        self.work.sort();
        self.dropped.sort();
        self.requests.sort();
        let is_owner = |store: &Store, worker: usize| -> Vec<bool> {
            let owner = |job: u8| store.job(job).and_then(|job| job.owner);
            (0..store.records.len())
                .map(|job| {
                    owner(u8::try_from(job).unwrap_or(u8::MAX)).map(usize::from) == Some(worker)
                })
                .collect()
        };
        // The nonces of workers that differ in nothing else would decide: they come last.
        let mut order: Vec<usize> = (0..self.workers.len()).collect();
        order.sort_by_cached_key(|at| {
            let worker = &self.workers[*at];
            (worker.clone(), is_owner(&self.store, *at), is_owner(&self.disk, *at))
        });
        if order.windows(2).any(|pair| pair[0] > pair[1]) {
            let workers = order.iter().map(|at| self.workers[*at].clone()).collect();
            self.workers = workers;
            let seen = self.timed.as_mut().map(|timed| &mut timed.seen.owner);
            let records = [&mut self.store, &mut self.disk].into_iter().flat_map(|store| {
                store.records.iter_mut().filter_map(|record| match record {
                    Some(Record::Job(job)) => Some(&mut job.owner),
                    _ => None,
                })
            });
            for owner in records.chain(seen).flatten() {
                let now = order.iter().position(|at| *at == usize::from(*owner));
                *owner = now.and_then(|now| u8::try_from(now).ok()).unwrap_or(*owner);
            }
        }
        let mut known: Vec<u8> = vec![0];
        self.each_nonce(&mut |nonce| {
            let place = known.iter().position(|old| old == nonce).unwrap_or_else(|| {
                known.push(*nonce);
                known.len() - 1
            });
            *nonce = u8::try_from(place).unwrap_or(u8::MAX);
        });
        self
    }
}
