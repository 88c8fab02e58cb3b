//! The line: clients, inquiry and registrar.

use client::Standing;
use job::{Event, State as JobState};

use crate::bounds::Mistake;
use crate::model::Protocol;
use crate::state::{
    Ask, Broken, Decided, Held, Letter, Question, Registrar, Repeated, Said, State, What, Work,
};
use crate::store::{Accepted, Change, Record, Submission};

impl State {
    /// The client publishes its submission.
    pub fn publish(&mut self, client: u8) {
        self.clients[usize::from(client)].flying += 1;
    }

    /// A submission reaches the end of the line, and is confirmed.
    pub fn arrive(&mut self, client: u8) {
        self.line.push(Letter { what: What::Submission(client), redelivered: false });
        self.past[usize::from(client)].arrived = true;
        let client = &mut self.clients[usize::from(client)];
        client.flying -= 1;
        if client.standing == Some(Standing::Journaled) {
            client.standing = Some(Standing::Confirmed);
        }
    }

    /// Whether anything is under way that the client would hear of.
    pub fn is_under_way(&self, client: u8) -> bool {
        let of = |letter: &Letter| letter.what == What::Submission(client);
        let process = &self.clients[usize::from(client)];
        process.flying > 0
            || !process.inbox.is_empty()
            || self.line.iter().any(of)
            || self.active.held.iter().any(|held| of(&held.letter))
            || self.active.sending.iter().any(|(job, _)| *job == client)
    }

    /// The client reads a message.
    pub fn receive(&mut self, client: u8, place: usize) {
        let process = &mut self.clients[usize::from(client)];
        let said = process.inbox.remove(place);
        let standing = match said {
            Said::Receipt((epoch, revision, state), _)
            | Said::Event((epoch, revision, state))
            | Said::Status((epoch, revision, state)) => {
                process.knows = process.knows.max(Some((epoch, revision)));
                if state.is_terminal() { Standing::Done } else { Standing::Accepted }
            }
            Said::Refused | Said::Voided => Standing::Refused,
            Said::Unknown(_) => {
                let is_open = process.standing.is_some_and(|at| Standing::OPEN.contains(&at));
                // `recover`: what never arrived, or was lost, is sent again.
                if is_open && process.flying == 0 {
                    process.flying = 1;
                }
                return;
            }
            Said::Unavailable => return,
        };
        let rank = |standing| Standing::ALL.iter().position(|known| *known == standing);
        let was_done = process.standing == Some(Standing::Done);
        if rank(standing) > process.standing.and_then(rank) && !was_done {
            process.standing = Some(standing);
        }
    }

    /// An inquiry process reads a request; `again` if it dies before it acknowledges.
    pub fn inquire(&mut self, place: usize, again: bool, protocol: &Protocol) {
        let question = self.requests[place];
        if !again {
            self.requests.remove(place);
        }
        self.open(protocol);
        if let Some(said) = self.found(&question) {
            self.tell(question.job, said);
        } else if protocol.makes(Mistake::LinePassedBy) {
            let said = self.unknown(&question);
            self.tell(question.job, said);
        } else {
            self.line.push(Letter { what: What::Question(question), redelivered: false });
        }
    }

    /// The answer from what is recorded, and what it orders is done.
    fn found(&mut self, question: &Question) -> Option<Said> {
        let state = match self.store.records[usize::from(question.job)].as_ref()? {
            Record::Voided => return Some(Said::Voided),
            Record::Job(job) => job.state,
        };
        if question.ask == Ask::Cancel && !state.is_terminal() {
            let running = state == JobState::Running;
            let asked = self.store.job(question.job).is_some_and(|job| job.cancel_asked);
            let event = if running { Event::CancelAsked } else { Event::Cancelled };
            if !(running && asked) {
                self.change(question.job, &Change::new(event), None);
            }
        }
        let job = self.store.job(question.job)?;
        Some(Said::Status((job.epoch, job.revision, job.state)))
    }

    fn unknown(&mut self, question: &Question) -> Said {
        let is_lost = self.store.epoch > 1;
        if question.is_behind && !is_lost {
            self.broken = Some(Broken::FalseUnknown);
        }
        if self.run > 0 && !is_lost {
            self.broken = Some(Broken::LossUndeclared);
        }
        Said::Unknown(is_lost)
    }

    /// The registrar, or the former one.
    pub fn registrar(&mut self, former: bool) -> Option<&mut Registrar> {
        if former { self.former.as_mut() } else { Some(&mut self.active) }
    }

    /// The broker delivers the first of the line.
    pub fn deliver(&mut self) {
        let letter = self.line.remove(0);
        let nonce = if matches!(letter.what, What::Submission(_)) { self.fresh_nonce() } else { 0 };
        self.active.held.push(Held { letter, nonce, decided: None });
    }

    /// A delivery is decided.
    pub fn decide(&mut self, former: bool, place: usize, aged: bool, protocol: &Protocol) {
        let Some(held) = self.registrar(former).map(|it| it.held[place]) else { return };
        self.open(protocol);
        let (work, answer) = match held.letter.what {
            What::Submission(job) => self.accept(job, &held, aged, protocol),
            What::Question(question) => (None, self.negative(&question)),
        };
        if let Some(registrar) = self.registrar(former) {
            registrar.held[place].decided = Some(Decided { work, answer: Some(answer) });
        }
    }

    fn accept(
        &mut self,
        job: u8,
        held: &Held,
        aged: bool,
        protocol: &Protocol,
    ) -> (Option<u8>, Said) {
        let Held { nonce, letter, .. } = *held;
        let sent = Submission { job, nonce, redelivered: letter.redelivered, aged };
        let accepted = self.store.accept(sent, protocol.mistake);
        let fact = self.store.job(job).map(|job| (job.epoch, job.revision, job.state));
        let receipt =
            |repeated: Repeated| fact.map_or(Said::Refused, |fact| Said::Receipt(fact, repeated));
        match accepted {
            Accepted::New => (Some(1), receipt(false)),
            Accepted::Redispatch(number) => (Some(number), receipt(true)),
            Accepted::Duplicate => (None, receipt(true)),
            Accepted::Voided => (None, Said::Refused),
        }
    }

    /// Nothing stands in front of the question: what is not there now was not submitted before it.
    fn negative(&mut self, question: &Question) -> Said {
        if let Some(said) = self.found(question) {
            return said;
        }
        if question.ask == Ask::Status {
            return self.unknown(question);
        }
        self.store.void(question.job);
        Said::Voided
    }

    /// The store does not answer; `ran` if the script has run all the same. The line is held, and
    /// the questions behind are told so.
    pub fn hiccup(&mut self, former: bool, place: usize, ran: bool, protocol: &Protocol) {
        if ran {
            let Some(held) = self.registrar(former).map(|it| it.held[place]) else { return };
            self.open(protocol);
            if let What::Submission(job) = held.letter.what {
                self.accept(job, &held, false, protocol);
            }
        }
        let Some(registrar) = self.registrar(former) else { return };
        for held in &mut registrar.held[place + 1..] {
            if let (What::Question(question), None) = (held.letter.what, held.decided) {
                held.decided = Some(Decided { work: None, answer: None });
                registrar.sending.push((question.job, Said::Unavailable));
            }
        }
    }

    /// What was decided goes to the work queue.
    pub fn dispatch(&mut self, former: bool, place: usize) {
        let epoch = self.store.epoch;
        let Some(registrar) = self.registrar(former) else { return };
        let held = &mut registrar.held[place];
        let What::Submission(job) = held.letter.what else { return };
        let Some(dispatch) = held.decided.as_mut().and_then(|decided| decided.work.take()) else {
            return;
        };
        self.work.push(Work { job, dispatch, epoch, redelivered: false });
    }

    /// The first deliveries, as far as they are settled, are acknowledged.
    pub fn acknowledge(&mut self, former: bool) {
        let Some(registrar) = self.registrar(former) else { return };
        let count = registrar.settled();
        for held in registrar.held.drain(..count).collect::<Vec<_>>() {
            let (What::Submission(job) | What::Question(Question { job, .. })) = held.letter.what;
            let answer = held.decided.and_then(|decided| decided.answer);
            registrar.sending.extend(answer.map(|answer| (job, answer)));
        }
    }

    /// An answer is sent.
    pub fn send(&mut self, former: bool) {
        let Some(registrar) = self.registrar(former) else { return };
        let (job, said) = registrar.sending.remove(0);
        self.tell(job, said);
    }

    /// What a registrar held comes to the head of the line again.
    pub fn requeue(&mut self, held: &[Held], protocol: &Protocol) {
        if protocol.makes(Mistake::LineAckedFirst) {
            return;
        }
        let letters = held.iter().map(|held| Letter { redelivered: true, ..held.letter });
        let line = letters.chain(self.line.drain(..)).collect();
        self.line = line;
    }

    /// The active registrar gives way to the next; it goes on itself if its process lives.
    pub fn replace_registrar(&mut self, lives: bool, protocol: &Protocol) {
        let former = std::mem::take(&mut self.active);
        let keeps = protocol.makes(Mistake::ConsumerCancelled) && lives;
        if !keeps {
            self.requeue(&former.held, protocol);
        }
        if lives {
            self.former = Some(Registrar { keeps, ..former });
        }
    }

    /// The former registrar finds that its connection is gone.
    pub fn end_former(&mut self, protocol: &Protocol) {
        if let Some(former) = self.former.take()
            && former.keeps
        {
            self.requeue(&former.held, protocol);
        }
    }
}

impl Registrar {
    /// How many of the first deliveries may be acknowledged.
    pub fn settled(&self) -> usize {
        let is_settled = |held: &&Held| held.decided.is_some_and(|decided| decided.work.is_none());
        self.held.iter().take_while(is_settled).count()
    }

    /// The first delivery that is not decided.
    pub fn undecided(&self) -> Option<usize> {
        self.held.iter().position(|held| held.decided.is_none())
    }
}
