//! The protocol as a transition system: what may happen next, and what follows.

use client::Standing;
use job::{Event, State as JobState};
use stateright::{Model, Property};

use crate::bounds::{Bounds, Mistake};
use crate::properties;
use crate::state::{Ask, Broken, State};
use crate::store::Record;

/// What is searched.
#[derive(Debug, Clone)]
pub struct Protocol {
    /// How far.
    pub bounds: Bounds,
    /// What is wrong on purpose.
    pub mistake: Option<Mistake>,
    /// What must have been seen somewhere, or the search has shown nothing.
    pub sights: Vec<properties::Sight>,
}

impl Protocol {
    /// The protocol as it is meant to be.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, mistake: None, sights: Vec::new() }
    }

    /// With a mistake in it.
    pub fn with(bounds: Bounds, mistake: Mistake) -> Self {
        Self { mistake: Some(mistake), ..Self::new(bounds) }
    }

    /// And this must be seen.
    #[must_use]
    pub fn shows(self, sights: &[properties::Sight]) -> Self {
        Self { sights: sights.to_vec(), ..self }
    }

    pub(crate) fn makes(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is explained where it is carried out")]
pub enum Action {
    Journal(u8),
    Publish(u8),
    PublishAgain(u8),
    Arrive(u8),
    Drop(u8),
    Ask(u8, Ask),
    Receive(u8, usize),
    ClientDies(u8),
    Inquire { place: usize, again: bool },
    Deliver,
    Decide { former: bool, place: usize, aged: bool },
    Hiccup { former: bool, place: usize, ran: bool },
    Dispatch { former: bool, place: usize },
    Acknowledge { former: bool },
    Send { former: bool },
    RegistrarLeaves { lives: bool },
    FormerEnds,
    Take { worker: usize, place: usize },
    Claim { worker: usize, unheard: bool },
    Record { worker: usize, run: usize, event: Event, unheard: bool },
    Settle { worker: usize },
    Beat { worker: usize, run: usize, detach: bool },
    WorkerLeaves { worker: usize, lives: bool },
    Repeat { place: usize },
    BrokerDrops { place: usize },
    ReadDropped { place: usize, again: bool },
    LeaseEnds { job: u8, owner_lives: bool },
    Look { job: u8 },
    Act,
    SendTimed,
    SettleTimed,
    SchedulerDies,
    Notify { place: usize },
    SettleEvent { place: usize },
    NotifierDies { place: usize },
    Sync,
    Loss,
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(&self.bounds)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_none() {
            state.by_itself(self, actions);
            state.by_chance(self, actions);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        state.step(action, self)?;
        if action != Action::Loss {
            state.observe(last);
        }
        Some(state.normal())
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let sights = self.sights.iter().map(|(name, seen)| Property::sometimes(name, *seen));
        properties::always().into_iter().chain(sights).collect()
    }
}

impl State {
    pub(crate) fn open(&mut self, protocol: &Protocol) {
        let known = if protocol.makes(Mistake::EpochGivenTwice) { 0 } else { self.epoch_known };
        self.store.open(self.run, known, protocol.mistake);
        if self.left.losses > 0 {
            self.epoch_known = self.epoch_known.max(self.store.epoch);
        }
    }

    fn step(&mut self, action: Action, protocol: &Protocol) -> Option<()> {
        match action {
            Action::Journal(client) => {
                self.clients[usize::from(client)].standing = Some(Standing::Journaled);
            }
            Action::Publish(client) => self.publish(client),
            Action::PublishAgain(client) => {
                self.left.copies -= 1;
                self.publish(client);
            }
            Action::Arrive(client) => self.arrive(client),
            Action::Drop(client) => {
                self.left.drops -= 1;
                self.clients[usize::from(client)].flying -= 1;
            }
            Action::Ask(job, ask) => self.ask(job, ask),
            Action::Receive(client, place) => self.receive(client, place),
            Action::ClientDies(client) => {
                self.left.crashes -= 1;
                self.clients[usize::from(client)].inbox.clear();
            }
            Action::Inquire { place, again } => {
                self.left.repeats -= u8::from(again);
                self.inquire(place, again, protocol);
            }
            Action::Deliver => self.deliver(),
            Action::Decide { former, place, aged } => self.decide(former, place, aged, protocol),
            Action::Hiccup { former, place, ran } => {
                self.left.hiccups -= 1;
                self.hiccup(former, place, ran, protocol);
            }
            Action::Dispatch { former, place } => self.dispatch(former, place),
            Action::Acknowledge { former } => self.acknowledge(former),
            Action::Send { former } => self.send(former),
            Action::RegistrarLeaves { lives } => {
                self.pay(lives);
                self.replace_registrar(lives, protocol);
            }
            Action::FormerEnds => self.end_former(protocol),
            Action::Take { worker, place } => self.take(worker, place),
            Action::Claim { worker, unheard } => {
                self.left.hiccups -= u8::from(unheard);
                self.claim(worker, unheard, protocol)?;
            }
            Action::Record { worker, run, event, unheard } => {
                let is_new = self.workers[worker].runs[run].ended.is_none();
                self.left.hiccups -= u8::from(unheard);
                self.left.errors -= u8::from(event == Event::Errored && is_new);
                self.left.give_backs -= u8::from(event == Event::GivenBack && is_new);
                self.record(worker, run, event, unheard, protocol);
            }
            Action::Settle { worker } => self.workers[worker].settling = None,
            Action::Beat { worker, run, detach } => {
                let is_forced = self.workers[worker].runs[run].epoch != self.store.epoch;
                self.left.detaches -= u8::from(detach && !is_forced);
                self.beat(worker, run, detach, protocol);
            }
            Action::WorkerLeaves { worker, lives } => {
                self.pay(lives);
                self.leave(worker, lives);
            }
            Action::Repeat { place } => {
                self.left.repeats -= 1;
                let copy = crate::state::Work { redelivered: false, ..self.work[place] };
                self.work.push(copy);
            }
            Action::BrokerDrops { place } => {
                self.left.dead_letters -= 1;
                let work = self.work.remove(place);
                self.dropped.push(work);
            }
            Action::ReadDropped { place, again } => {
                self.left.crashes -= u8::from(again);
                self.read_dropped(place, again, protocol);
            }
            Action::LeaseEnds { job, owner_lives } => {
                self.left.lapses -= u8::from(owner_lives);
                if let Some(Record::Job(job)) = &mut self.store.records[usize::from(job)] {
                    job.leased = false;
                }
            }
            Action::Look { job } => {
                let seen = self.store.job(job)?.clone();
                self.timed = Some(crate::state::Timed { job, seen, number: None, sent: false });
            }
            Action::Act => self.act(protocol),
            Action::SendTimed => self.send_timed(),
            Action::SettleTimed => self.settle_timed(protocol),
            Action::SchedulerDies => {
                self.left.crashes -= 1;
                self.timed = None;
            }
            Action::Notify { place } => self.notify(place),
            Action::SettleEvent { place } => drop(self.store.outbox.remove(place)),
            Action::NotifierDies { place } => {
                self.left.crashes -= 1;
                if protocol.makes(Mistake::OutboxFirst) {
                    self.store.outbox.remove(place);
                } else {
                    self.store.outbox[place].sent = false;
                }
            }
            Action::Sync => {
                self.left.syncs -= 1;
                self.disk = self.store.clone();
            }
            Action::Loss => {
                self.left.losses -= 1;
                self.store = self.disk.clone();
                self.store.outbox.iter_mut().for_each(|entry| entry.sent = false);
                self.run += 1;
            }
        }
        Some(())
    }

    /// A process dies, or `lives` and loses its connection.
    fn pay(&mut self, lives: bool) {
        if lives {
            self.left.disconnects -= 1;
        } else {
            self.left.crashes -= 1;
        }
    }

    fn ask(&mut self, job: u8, ask: Ask) {
        match ask {
            Ask::Status => self.left.asks -= 1,
            Ask::Void => self.left.voids -= 1,
            Ask::Cancel => self.left.cancels -= 1,
        }
        let is_behind = self.past[usize::from(job)].arrived;
        self.requests.push(crate::state::Question { job, ask, is_behind });
    }

    /// Compares what is recorded with what was, and with all that ever was.
    fn observe(&mut self, last: &Self) {
        let epoch = self.store.epoch;
        for (place, record) in self.store.records.iter().enumerate() {
            let (before, past) = (&last.store.records[place], &mut self.past[place]);
            let job = match (before, record) {
                (None, Some(Record::Voided)) => {
                    past.voided = Some(epoch);
                    continue;
                }
                (Some(Record::Job(before)), Some(Record::Job(job)))
                    if (before.state, before.revision) == (job.state, job.revision)
                        && !(job.revision == 1 && before.fence != job.fence) =>
                {
                    continue;
                }
                (before, Some(Record::Job(job))) => {
                    if job.revision == 1 || !matches!(before, Some(Record::Job(_))) {
                        let is_second = past.accepted == Some(epoch);
                        let is_void = past.voided == Some(epoch);
                        past.accepted = Some(epoch);
                        if is_void || is_second {
                            let broken =
                                if is_void { Broken::VoidedAndAccepted } else { Broken::TwoJobs };
                            self.broken = self.broken.or(Some(broken));
                        }
                    }
                    job
                }
                _ => continue,
            };
            let written = (job.epoch, job.revision);
            if past.ended == Some(job.epoch) {
                self.broken = self.broken.or(Some(Broken::EndedAndWentOn));
            }
            if written <= past.written {
                self.broken = self.broken.or(Some(Broken::OrderLost));
            }
            past.written = past.written.max(written);
            if job.state.is_terminal() {
                past.ended = Some(job.epoch);
            }
        }
    }

    /// Whether the job's claim is held by a run that knows of it.
    pub(crate) fn has_run(&self, job: u8) -> bool {
        let fence = self.store.job(job).map(|job| job.fence);
        let runs = self.workers.iter().flat_map(|worker| &worker.runs);
        runs.into_iter().any(|run| run.job == job && Some(run.fence) == fence)
    }

    pub(crate) fn is_running(&self, job: u8) -> bool {
        self.store.job(job).is_some_and(|job| job.state == JobState::Running)
    }
}
