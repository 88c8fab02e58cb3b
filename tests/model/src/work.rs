//! Workers, the scheduler and the notifier.

use job::{Event, State as JobState};

use crate::bounds::Mistake;
use crate::claim::{Asked, Meaning};
use crate::model::Protocol;
use crate::state::{Broken, Claiming, Run, Said, State, Timed, Work, Worker};
use crate::store::{Change, Changed, Job, Record, Submission};

impl State {
    /// A worker reads a message.
    pub fn take(&mut self, worker: usize, place: usize) {
        let nonce = self.fresh_nonce();
        let work = self.work.remove(place);
        let claiming = Claiming { work, nonce, not_here: false, is_held: true };
        self.workers[worker].claiming = Some(claiming);
    }

    /// A worker claims its message; `unheard` if the answer is lost.
    pub fn claim(&mut self, at: usize, unheard: bool, protocol: &Protocol) -> Option<()> {
        let claiming = self.workers[at].claiming?;
        let Claiming { work, nonce, not_here, is_held } = claiming;
        self.open(protocol);
        let asked = Asked {
            dispatch: work.dispatch,
            redelivered: work.redelivered,
            owner: u8::try_from(at).unwrap_or(u8::MAX),
            nonce,
            idle: self.workers[at].runs.is_empty(),
            attempts: protocol.bounds.attempts,
            not_here,
            epoch: self.store.epoch,
        };
        let meaning = self.store.claim(work.job, &asked, protocol.mistake);
        if unheard {
            return matches!(meaning, Meaning::Start { .. }).then_some(());
        }
        let job = self.store.job(work.job).cloned();
        let delivery = is_held.then_some(work);
        match (meaning, job) {
            (Meaning::Wait, _) => return None,
            (Meaning::Missing, _) if work.epoch < self.store.epoch => self.rebuild(work, nonce),
            (Meaning::Missing | Meaning::Drop | Meaning::Detach, _) | (_, None) => {
                self.settle(at, delivery);
            }
            (Meaning::Started | Meaning::Start { .. }, Some(job)) => {
                let delivery = delivery.filter(|_| !protocol.makes(Mistake::WorkAckedFirst));
                let (fence, attempt, job) = (job.fence, job.attempt, work.job);
                let epoch = self.store.epoch;
                let run = Run { job, fence, nonce, attempt, delivery, ended: None, epoch };
                self.workers[at].runs.push(run);
                self.workers[at].runs.sort();
                self.workers[at].claiming = None;
            }
            (Meaning::Attach, Some(job)) => self.attach(at, claiming, &job),
            (Meaning::CancelAsked | Meaning::Exhausted, Some(job)) => {
                let is_cancelled = meaning == Meaning::CancelAsked;
                let event = if is_cancelled { Event::Cancelled } else { Event::Failed };
                let (fence, unless_leased) = (Some(job.fence), true);
                let change = Change { fence, unless_leased, ..Change::new(event) };
                if self.change(work.job, &change, None) == Changed::Refused {
                    self.workers[at].claiming = None;
                    let back = delivery.map(|work| Work { redelivered: true, ..work });
                    self.work.extend(back);
                } else {
                    self.settle(at, delivery);
                }
            }
        }
        Some(())
    }

    fn settle(&mut self, at: usize, delivery: Option<Work>) {
        self.workers[at].claiming = None;
        self.workers[at].settling = delivery;
    }

    /// A message of an older epoch writes its record again, and is claimed then.
    fn rebuild(&mut self, work: Work, nonce: u8) {
        let sent = Submission { job: work.job, nonce, redelivered: false, aged: false };
        self.store.accept(sent, None);
        if let Some(Record::Job(job)) = &mut self.store.records[usize::from(work.job)] {
            job.dispatch = work.dispatch;
        }
    }

    fn attach(&mut self, at: usize, claiming: Claiming, job: &Job) {
        let worker = &mut self.workers[at];
        let run = worker.runs.iter_mut().find(|run| run.fence == job.fence);
        match run {
            Some(run) => {
                run.delivery = claiming.is_held.then_some(claiming.work);
                worker.claiming = None;
            }
            None => worker.claiming = Some(Claiming { not_here: true, ..claiming }),
        }
    }

    /// A run ends and its outcome is recorded; `unheard` if the answer is lost.
    pub fn record(
        &mut self,
        at: usize,
        place: usize,
        event: Event,
        unheard: bool,
        protocol: &Protocol,
    ) {
        let run = self.workers[at].runs[place];
        let attempts_left = run.attempt < protocol.bounds.attempts;
        let event = match event {
            Event::Errored if !attempts_left => Event::Failed,
            event => event,
        };
        self.open(protocol);
        let fence = (!protocol.makes(Mistake::NoFence)).then_some(run.fence);
        let unless_cancelled = event == Event::Errored;
        let is_of_before = run.epoch != self.store.epoch;
        let with_body = event == Event::GivenBack && (run.delivery.is_none() || is_of_before);
        let change = Change { fence, unless_cancelled, with_body, ..Change::new(event) };
        let mut changed = self.change(run.job, &change, Some(run.nonce));
        if changed == Changed::CancelAsked {
            let instead = Change { fence, ..Change::new(Event::Cancelled) };
            changed = self.change(run.job, &instead, Some(run.nonce));
        }
        if unheard {
            self.workers[at].runs[place].ended = Some(event);
            return;
        }
        self.workers[at].runs.remove(place);
        let Some(work) = run.delivery else { return };
        let refused = changed == Changed::Refused;
        if event == Event::GivenBack || (refused && !protocol.makes(Mistake::RefusedAndAcked)) {
            self.work.push(Work { redelivered: true, ..work });
        } else {
            self.workers[at].settling = Some(work);
        }
    }

    /// Writes a change, and finds out whether a superseded run wrote it.
    pub fn change(&mut self, job: u8, change: &Change, by: Option<u8>) -> Changed {
        let changed = self.store.change(job, change);
        if let (Changed::Applied(runner), Some(by)) = (changed, by)
            && runner != by
        {
            self.broken = Some(Broken::StaleWrite);
        }
        changed
    }

    /// A worker renews a lease, or learns that it has none.
    pub fn beat(&mut self, at: usize, place: usize, detach: bool, protocol: &Protocol) {
        let run = self.workers[at].runs[place];
        self.open(protocol);
        let held = self.store.beat(run.job, run.fence, detach);
        if detach || !held {
            let epoch = self.store.epoch;
            let worker = &mut self.workers[at];
            (worker.runs[place].delivery, worker.runs[place].epoch) = (None, epoch);
            if !held {
                worker.runs.remove(place);
            }
            let Some(work) = run.delivery else { return };
            if !held && !protocol.makes(Mistake::RefusedAndAcked) {
                self.work.push(Work { redelivered: true, ..work });
            } else {
                worker.settling = Some(work);
            }
        }
    }

    /// A worker dies, or loses its connection and `lives`: its messages come again.
    pub fn leave(&mut self, at: usize, lives: bool) {
        let worker = &mut self.workers[at];
        let claimed = worker.claiming.filter(|it| it.is_held).map(|it| it.work);
        let settling = worker.settling.take();
        let runs = worker.runs.iter_mut().filter_map(|run| run.delivery.take());
        let back: Vec<Work> = runs.chain(claimed).chain(settling).collect();
        self.work.extend(back.into_iter().map(|work| Work { redelivered: true, ..work }));
        if lives {
            if let Some(claiming) = &mut worker.claiming {
                claiming.is_held = false;
            }
            return;
        }
        *worker = Worker::default();
        let seen = self.timed.as_mut().map(|timed| &mut timed.seen.owner);
        let records = [&mut self.store, &mut self.disk].into_iter().flat_map(|store| {
            store.records.iter_mut().filter_map(|record| match record {
                Some(Record::Job(job)) => Some(&mut job.owner),
                _ => None,
            })
        });
        for owner in records.chain(seen) {
            // No later process has its name.
            if owner.map(usize::from) == Some(at) {
                *owner = Some(u8::MAX);
            }
        }
    }

    /// Whether a timer has run out that the scheduler acts on.
    pub fn is_due(&self, job: u8) -> bool {
        self.store.job(job).is_some_and(|job| {
            job.timer
                && match job.state {
                    JobState::Retrying | JobState::Queued => true,
                    JobState::Running => (job.detached || job.cancel_asked) && !job.leased,
                    _ => false,
                }
        })
    }

    /// The scheduler acts on what it has read.
    pub fn act(&mut self, protocol: &Protocol) {
        let Some(Timed { job, seen, .. }) = self.timed.take() else { return };
        self.open(protocol);
        let dispatch = Some(seen.dispatch);
        let of_lease = |event| {
            let (fence, unless_leased, if_watched) = (Some(seen.fence), true, true);
            Change { dispatch, fence, unless_leased, if_watched, ..Change::new(event) }
        };
        let allowed = protocol.bounds.attempts;
        let change = match seen.state {
            JobState::Queued => {
                let number = self.store.redispatch(job, seen.dispatch);
                if number.is_none()
                    && let Some(Record::Job(job)) = &mut self.store.records[usize::from(job)]
                    && job.state == JobState::Queued
                    && !job.payload
                {
                    job.timer = false;
                }
                return self.taken(job, seen, number, protocol);
            }
            JobState::Retrying => Change { dispatch, ..Change::new(Event::Due) },
            _ if seen.cancel_asked => of_lease(Event::Cancelled),
            _ if seen.attempt >= allowed => of_lease(Event::Failed),
            _ => of_lease(Event::Lost),
        };
        let changed = self.change(job, &change, None);
        let dispatches = matches!(change.event, Event::Due | Event::Lost);
        let number = self.store.job(job).filter(|job| job.payload).map(|job| job.dispatch);
        let is_taken = matches!(changed, Changed::Applied(_)) && dispatches;
        self.taken(job, seen, number.filter(|_| is_taken), protocol);
    }

    fn taken(&mut self, job: u8, seen: Job, number: Option<u8>, protocol: &Protocol) {
        let Some(number) = number else { return };
        if protocol.makes(Mistake::PayloadDroppedFirst) {
            self.store.dispatched(job, number, false);
        }
        self.timed = Some(Timed { job, seen, number: Some(number), sent: false });
    }

    /// A server reads what the broker has dropped; it comes `again` if it dies before it
    /// acknowledges.
    pub fn read_dropped(&mut self, place: usize, again: bool, protocol: &Protocol) {
        let work = self.dropped[place];
        if !again {
            self.dropped.remove(place);
        }
        self.open(protocol);
        let is_watched = !protocol.makes(Mistake::DroppedUnwatched);
        let Some(seen) = self.store.job(work.job).cloned() else { return };
        let number = self.store.gone(work.job, work.dispatch, is_watched);
        self.taken(work.job, seen, number, protocol);
    }

    /// The scheduler's message reaches the work queue.
    pub fn send_timed(&mut self) {
        let epoch = self.store.epoch;
        let Some(timed) = &mut self.timed else { return };
        timed.sent = true;
        let (job, dispatch) = (timed.job, timed.number.unwrap_or_default());
        self.work.push(Work { job, dispatch, epoch, redelivered: false });
    }

    /// The broker has confirmed it.
    pub fn settle_timed(&mut self, protocol: &Protocol) {
        self.open(protocol);
        if let Some(Timed { job, number: Some(number), .. }) = self.timed.take() {
            self.store.dispatched(job, number, !protocol.makes(Mistake::LateConfirm));
        }
    }

    /// A notifier sends an event.
    pub fn notify(&mut self, place: usize) {
        let entry = &mut self.store.outbox[place];
        entry.sent = true;
        let (job, fact) = (entry.job, (entry.epoch, entry.revision, entry.state));
        let past = &mut self.past[usize::from(job)];
        past.told = past.told.max((fact.0, fact.1));
        self.tell(job, Said::Event(fact));
    }
}
