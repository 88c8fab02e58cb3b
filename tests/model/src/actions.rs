//! What may happen next: what must at some time, and what only may.

use client::Standing;
use job::Event;

use crate::bounds::Mistake;
use crate::model::{Action, Protocol};
use crate::state::{Ask, Registrar, State, What};

fn ids(count: usize) -> impl Iterator<Item = u8> {
    (0..u8::try_from(count).unwrap_or(u8::MAX)).take(count)
}

impl State {
    /// What goes on by itself: if nothing of it is possible, the system has come to rest.
    pub fn by_itself(&self, protocol: &Protocol, to: &mut Vec<Action>) {
        self.clients_act(to);
        let questions = 0..self.requests.len();
        to.extend(questions.map(|place| Action::Inquire { place, again: false }));
        if !self.line.is_empty() && self.active.held.len() < protocol.bounds.prefetch {
            to.push(Action::Deliver);
        }
        self.registrar_acts(false, &self.active, protocol, to);
        if let Some(former) = &self.former {
            self.registrar_acts(true, former, protocol, to);
            to.push(Action::FormerEnds);
        }
        for worker in 0..self.workers.len() {
            self.worker_acts(worker, to);
        }
        for job in ids(self.store.records.len()) {
            let has_lease = self.store.job(job).is_some_and(|job| job.leased);
            if self.is_running(job) && has_lease && !self.has_run(job) {
                to.push(Action::LeaseEnds { job, owner_lives: false });
            }
            if self.timed.is_none() && self.is_due(job) {
                to.push(Action::Look { job });
            }
        }
        self.dropped_is_read(false, to);
        match &self.timed {
            Some(timed) if timed.number.is_none() => to.push(Action::Act),
            Some(timed) if !timed.sent => to.push(Action::SendTimed),
            Some(_) => to.push(Action::SettleTimed),
            None => {}
        }
        for (place, entry) in self.store.outbox.iter().enumerate() {
            let action =
                if entry.sent { Action::SettleEvent { place } } else { Action::Notify { place } };
            to.push(action);
        }
    }

    /// What it takes it sends as the scheduler does, who may be at another job meanwhile.
    fn dropped_is_read(&self, again: bool, to: &mut Vec<Action>) {
        for (place, work) in self.dropped.iter().enumerate() {
            if self.timed.is_none() || self.is_running(work.job) {
                to.push(Action::ReadDropped { place, again });
            }
        }
    }

    fn clients_act(&self, to: &mut Vec<Action>) {
        for (id, client) in ids(self.clients.len()).zip(&self.clients) {
            match client.standing {
                None => to.push(Action::Journal(id)),
                Some(Standing::Journaled | Standing::Confirmed) if !self.is_under_way(id) => {
                    to.push(Action::Publish(id));
                }
                _ => {}
            }
            if client.flying > 0 {
                to.push(Action::Arrive(id));
            }
            let mut last = None;
            for (place, said) in client.inbox.iter().enumerate() {
                if last != Some(said) {
                    to.push(Action::Receive(id, place));
                }
                last = Some(said);
            }
        }
    }

    fn registrar_acts(
        &self,
        former: bool,
        registrar: &Registrar,
        protocol: &Protocol,
        to: &mut Vec<Action>,
    ) {
        let undecided = registrar.undecided();
        for (place, held) in registrar.held.iter().enumerate() {
            let is_question = matches!(held.letter.what, What::Question(_));
            let too_soon = is_question && protocol.makes(Mistake::NegativeTooSoon);
            if held.decided.is_none() && (undecided == Some(place) || too_soon) {
                to.push(Action::Decide { former, place, aged: false });
                if self.may_be_aged(held.letter.what) {
                    to.push(Action::Decide { former, place, aged: true });
                }
            }
        }
        let to_dispatch = registrar
            .held
            .iter()
            .position(|held| held.decided.is_some_and(|decided| decided.work.is_some()));
        to.extend(to_dispatch.map(|place| Action::Dispatch { former, place }));
        if registrar.settled() > 0 {
            to.push(Action::Acknowledge { former });
        }
        if !registrar.sending.is_empty() {
            to.push(Action::Send { former });
        }
    }

    /// Whether a submission repeats one that could have been dispatched long ago.
    fn may_be_aged(&self, what: What) -> bool {
        let What::Submission(job) = what else { return false };
        let queued = |job: &crate::store::Job| job.state == job::State::Queued && job.attempt == 0;
        self.store.job(job).is_some_and(queued)
    }

    fn worker_acts(&self, worker: usize, to: &mut Vec<Action>) {
        let process = &self.workers[worker];
        let has_delivery = process.runs.iter().any(|run| run.delivery.is_some());
        let is_free = process.claiming.is_none() && process.settling.is_none();
        if is_free && !has_delivery && process.runs.len() < 2 {
            let mut last = None;
            for (place, work) in self.work.iter().enumerate() {
                if last != Some(work) {
                    to.push(Action::Take { worker, place });
                }
                last = Some(work);
            }
        }
        if process.claiming.is_some() {
            to.push(Action::Claim { worker, unheard: false });
        }
        if process.settling.is_some() {
            to.push(Action::Settle { worker });
            return;
        }
        for (place, run) in process.runs.iter().enumerate() {
            let event = run.ended.unwrap_or(Event::Succeeded);
            to.push(Action::Record { worker, run: place, event, unheard: false });
            let holds = self.store.job(run.job).is_some_and(|job| job.fence == run.fence);
            let is_leased = self.store.job(run.job).is_some_and(|job| job.leased);
            if (!holds || !is_leased) && run.ended.is_none() {
                to.push(Action::Beat { worker, run: place, detach: false });
            }
        }
    }

    /// What need not happen.
    pub fn by_chance(&self, protocol: &Protocol, to: &mut Vec<Action>) {
        let left = &self.left;
        for (id, client) in ids(self.clients.len()).zip(&self.clients) {
            let waits = matches!(client.standing, Some(Standing::Journaled | Standing::Confirmed));
            if left.copies > 0 && waits && client.flying < 2 {
                to.push(Action::PublishAgain(id));
            }
            if left.drops > 0 && client.flying > 0 {
                to.push(Action::Drop(id));
            }
            if client.standing.is_some() {
                let asks = [
                    (left.asks, Ask::Status),
                    (left.voids, Ask::Void),
                    (left.cancels, Ask::Cancel),
                ];
                to.extend(
                    asks.iter().filter(|(left, _)| *left > 0).map(|(_, ask)| Action::Ask(id, *ask)),
                );
            }
            if left.crashes > 0 && !client.inbox.is_empty() {
                to.push(Action::ClientDies(id));
            }
        }
        if left.repeats > 0 {
            let questions = 0..self.requests.len();
            to.extend(questions.map(|place| Action::Inquire { place, again: true }));
            to.extend((0..self.work.len()).map(|place| Action::Repeat { place }));
        }
        if left.dead_letters > 0 {
            to.extend((0..self.work.len()).map(|place| Action::BrokerDrops { place }));
        }
        self.registrar_fails(to);
        for worker in 0..self.workers.len() {
            self.worker_fails(worker, to);
        }
        for job in ids(self.store.records.len()) {
            let is_leased = self.store.job(job).is_some_and(|job| job.leased);
            if left.lapses > 0 && self.is_running(job) && is_leased && self.has_run(job) {
                to.push(Action::LeaseEnds { job, owner_lives: true });
            }
        }
        if left.crashes > 0 {
            self.dropped_is_read(true, to);
            if self.timed.is_some() {
                to.push(Action::SchedulerDies);
            }
            for (place, entry) in self.store.outbox.iter().enumerate() {
                if entry.sent || protocol.makes(Mistake::OutboxFirst) {
                    to.push(Action::NotifierDies { place });
                }
            }
        }
        if left.losses > 0 {
            if left.syncs > 0 && self.disk != self.store {
                to.push(Action::Sync);
            }
            to.push(Action::Loss);
        }
    }

    fn registrar_fails(&self, to: &mut Vec<Action>) {
        let left = &self.left;
        for former in [false, true] {
            let registrar = if former { self.former.as_ref() } else { Some(&self.active) };
            let Some(registrar) = registrar else { continue };
            let Some(place) = registrar.undecided() else { continue };
            if left.hiccups > 0 && matches!(registrar.held[place].letter.what, What::Submission(_))
            {
                to.push(Action::Hiccup { former, place, ran: false });
                to.push(Action::Hiccup { former, place, ran: true });
            }
        }
        let is_busy = !self.active.held.is_empty() || !self.active.sending.is_empty();
        if left.crashes > 0 && is_busy {
            to.push(Action::RegistrarLeaves { lives: false });
        }
        if left.disconnects > 0 && is_busy && self.former.is_none() {
            to.push(Action::RegistrarLeaves { lives: true });
        }
    }

    fn worker_fails(&self, worker: usize, to: &mut Vec<Action>) {
        let (left, process) = (&self.left, &self.workers[worker]);
        if process.claiming.is_some() && left.hiccups > 0 {
            to.push(Action::Claim { worker, unheard: true });
        }
        for (run, at) in process.runs.iter().enumerate() {
            if process.settling.is_some() || at.ended.is_some() {
                continue;
            }
            let mut events = vec![(true, Event::Succeeded)];
            events.push((left.errors > 0, Event::Errored));
            events.push((left.give_backs > 0, Event::GivenBack));
            for (_, event) in events.into_iter().filter(|(may, _)| *may) {
                if event != Event::Succeeded {
                    to.push(Action::Record { worker, run, event, unheard: false });
                }
                if left.hiccups > 0 {
                    to.push(Action::Record { worker, run, event, unheard: true });
                }
            }
            // It beats on its own account, and sooner or later in any case.
            let is_of_before = at.epoch != self.store.epoch && self.store.run_seen == self.run;
            if is_of_before || (left.detaches > 0 && at.delivery.is_some()) {
                to.push(Action::Beat { worker, run, detach: true });
            }
        }
        let is_busy =
            process.claiming.is_some() || process.settling.is_some() || !process.runs.is_empty();
        if left.crashes > 0 && is_busy {
            to.push(Action::WorkerLeaves { worker, lives: false });
        }
        if left.disconnects > 0 && is_busy {
            to.push(Action::WorkerLeaves { worker, lives: true });
        }
    }
}
