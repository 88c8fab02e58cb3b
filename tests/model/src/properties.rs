//! What must always be true, and what must be seen somewhere, or nothing was shown.

use client::Standing;
use job::State as JobState;
use stateright::{Model, Property};

use crate::model::{Action, Protocol};
use crate::state::{Broken, Said, State, What, Work};
use crate::store::Record;

/// A sight: its name, and whether this state shows it.
pub type Sight = (&'static str, fn(&Protocol, &State) -> bool);

/// The properties that no state may break; numbered as the campaign's invariants are.
pub fn always() -> Vec<Property<Protocol>> {
    vec![
        always_true("I1 a receipt has a record, or a loss is declared", |_, state| {
            state.all_jobs(|job| {
                let client = &state.clients[usize::from(job)];
                let is_told = client.standing == Some(Standing::Accepted);
                !is_told || state.store.job(job).is_some() || state.run > 0
            })
        }),
        always_true("I2 what comes to rest is settled", |protocol, state| {
            let is_whole = state.run == 0 && !state.workers.is_empty();
            !is_whole || state.all_jobs(|job| state.is_settled(job)) || !state.rests(protocol)
        }),
        always_true(
            "I2 what waits or runs has a message, or a timer, or is said to be lost",
            |_, state| state.all_jobs(|job| state.is_carried(job) || state.is_said_lost(job)),
        ),
        always_true("I2 what was confirmed is in the line, or recorded", |_, state| {
            state.run > 0 || state.all_jobs(|job| state.is_kept(job))
        }),
        always_true("I3 one id is one job", |_, state| state.has_not(Broken::TwoJobs)),
        always_true("I4 order never goes back", |_, state| state.has_not(Broken::OrderLost)),
        always_true("I5 an end is an end", |_, state| state.has_not(Broken::EndedAndWentOn)),
        always_true("I6 a superseded attempt writes nothing", |_, state| {
            state.has_not(Broken::StaleWrite)
        }),
        always_true("I7 no two runs have one fence", |_, state| {
            let runs: Vec<_> = state.workers.iter().flat_map(|worker| &worker.runs).collect();
            let is_twin = |place: usize| {
                let one = runs[place];
                runs[..place].iter().any(|two| (one.job, one.fence) == (two.job, two.fence))
            };
            !(0..runs.len()).any(is_twin)
        }),
        always_true("I8 the end is told", |protocol, state| {
            let is_whole = state.run == 0 && !state.workers.is_empty();
            !is_whole || state.all_jobs(|job| state.is_told(job)) || !state.rests(protocol)
        }),
        always_true("I9 a loss is declared", |_, state| state.has_not(Broken::LossUndeclared)),
        always_true("I10 unknown means unknown", |_, state| state.has_not(Broken::FalseUnknown)),
        always_true("I10 what is voided is never accepted", |_, state| {
            state.has_not(Broken::VoidedAndAccepted)
        }),
    ]
}

impl State {
    fn all_jobs(&self, holds: impl Fn(u8) -> bool) -> bool {
        (0..u8::try_from(self.clients.len()).unwrap_or(u8::MAX)).all(holds)
    }

    fn has_not(&self, broken: Broken) -> bool {
        self.broken != Some(broken)
    }

    /// Whether nothing happens any more unless somebody or something interferes.
    fn rests(&self, protocol: &Protocol) -> bool {
        let mut actions = Vec::new();
        self.by_itself(protocol, &mut actions);
        // What cannot be done now (a job that must run alone waits) is no action.
        let may_wait = |action: &Action| matches!(action, Action::Claim { .. });
        !actions
            .into_iter()
            .any(|action| !may_wait(&action) || protocol.next_state(self, action).is_some())
    }

    /// Whether a job has ended or was never to be, and its client can know.
    fn is_settled(&self, job: u8) -> bool {
        match &self.store.records[usize::from(job)] {
            Some(Record::Job(job)) => job.state.is_terminal(),
            Some(Record::Voided) => true,
            None => false,
        }
    }

    fn is_told(&self, job: u8) -> bool {
        let past = &self.past[usize::from(job)];
        self.store.job(job).is_none_or(|job| past.told == (job.epoch, job.revision))
    }

    fn messages(&self) -> impl Iterator<Item = Work> {
        let of_workers = self.workers.iter().flat_map(|worker| {
            let claiming = worker.claiming.filter(|it| it.is_held).map(|it| it.work);
            let runs = worker.runs.iter().filter_map(|run| run.delivery);
            claiming.into_iter().chain(worker.settling).chain(runs)
        });
        self.work.iter().chain(&self.dropped).copied().chain(of_workers)
    }

    fn is_in_the_line(&self, job: u8) -> bool {
        let held = self.active.held.iter().map(|held| held.letter.what);
        let former = self.former.iter().filter(|former| former.keeps);
        let former = former.flat_map(|it| it.held.iter().map(|held| held.letter.what));
        let mut line = self.line.iter().map(|letter| letter.what).chain(held).chain(former);
        line.any(|what| what == What::Submission(job))
    }

    /// Whether somebody will take a job further.
    fn is_carried(&self, job: u8) -> bool {
        let Some(record) = self.store.job(job) else { return true };
        let has_message =
            |number| self.messages().any(|work| work.job == job && work.dispatch == number);
        match record.state {
            JobState::Queued => {
                let is_taken = self.timed.as_ref().is_some_and(|timed| timed.job == job);
                record.timer || is_taken || has_message(record.dispatch) || self.is_in_the_line(job)
            }
            JobState::Running if record.detached || record.cancel_asked => record.timer,
            JobState::Running => has_message(record.dispatch),
            JobState::Retrying => record.timer,
            _ => true,
        }
    }

    /// Whether each answer about a job says that how it goes on may be lost; then its client sends
    /// it again.
    fn is_said_lost(&self, job: u8) -> bool {
        let is_noticed = self.store.run_seen == self.run;
        self.store.job(job).is_none_or(|job| !is_noticed || job.epoch < self.store.epoch)
    }

    /// Whether a confirmed submission is not lost.
    fn is_kept(&self, job: u8) -> bool {
        !self.past[usize::from(job)].arrived
            || self.is_in_the_line(job)
            || self.store.records[usize::from(job)].is_some()
    }

    fn hears(&self, is_it: impl Fn(&Said) -> bool) -> bool {
        self.clients.iter().any(|client| client.inbox.iter().any(&is_it))
    }

    fn any_job(&self, is_it: impl Fn(&crate::store::Job) -> bool) -> bool {
        !self.all_jobs(|job| !self.store.job(job).is_some_and(&is_it))
    }
}

/// What the line shows.
pub const OF_THE_LINE: &[Sight] = &[
    ("a submission is delivered again", |_, state| {
        state.active.held.iter().any(|held| held.letter.redelivered)
    }),
    ("a duplicate is recognised", |_, state| {
        state.hears(|said| matches!(said, Said::Receipt(_, true)))
    }),
    ("a redelivered submission is dispatched once more under its number", |_, state| {
        let of =
            |job| state.work.iter().filter(|work| (work.job, work.dispatch) == (job, 1)).count();
        state.work.iter().any(|work| of(work.job) > 1)
    }),
    ("unknown is said, and is true", |_, state| state.hears(|said| *said == Said::Unknown(false))),
    ("unavailable is said while the line is held", |_, state| {
        state.hears(|said| *said == Said::Unavailable)
    }),
    ("an id is voided", |_, state| state.hears(|said| *said == Said::Voided)),
    ("a voided submission is refused", |_, state| state.hears(|said| *said == Said::Refused)),
    ("a former registrar decides what the next one holds too", |_, state| {
        state.former.as_ref().is_some_and(|former| {
            former.held.iter().any(|held| held.decided.is_some()) && !state.active.held.is_empty()
        })
    }),
];

/// What the work shows.
pub const OF_THE_WORK: &[Sight] = &[
    ("a work message is delivered again", |_, state| state.work.iter().any(|it| it.redelivered)),
    ("a dead worker's job is started again", |_, state| {
        state.any_job(|job| job.lost > 0 && job.state == JobState::Running)
    }),
    ("a superseded attempt has not noticed yet", |_, state| {
        let mut runs = state.workers.iter().flat_map(|worker| &worker.runs);
        runs.any(|run| state.store.job(run.job).is_some_and(|job| job.fence > run.fence))
    }),
    ("two attempts run at once, with two fences", |_, state| {
        let runs: Vec<_> = state.workers.iter().flat_map(|worker| &worker.runs).collect();
        runs.len() > 1 && runs.iter().any(|run| run.fence != runs[0].fence)
    }),
    ("a run is detached on its owner's behalf", |_, state| {
        state.any_job(|job| job.detached) && state.workers.iter().any(|it| it.settling.is_some())
    }),
    ("a detached run is lost, and dispatched again", |_, state| {
        state.any_job(|job| job.state == JobState::Queued && job.lost > 0)
    }),
    ("a run whose message is gone is watched", |protocol, state| {
        let has_dropped = state.left.dead_letters < protocol.bounds.budget.dead_letters;
        let is_watched = state.any_job(|job| job.state == JobState::Running && job.detached);
        has_dropped && is_watched && state.messages().next().is_none()
    }),
    ("attempts are used up", |_, state| state.any_job(|job| job.state == JobState::Failed)),
    ("an event is delivered twice, with one id", |_, state| {
        state.clients.iter().any(|client| {
            client.inbox.windows(2).any(|two| two[0] == two[1] && matches!(two[0], Said::Event(_)))
        })
    }),
    ("a job ends and is told", |_, state| {
        state.clients.iter().any(|client| client.standing == Some(Standing::Done))
    }),
];

/// What a loss of the store shows.
pub const OF_A_LOSS: &[Sight] = &[
    ("a loss is noticed", |_, state| state.store.epoch > 1),
    ("unknown is said, and that something may be lost", |_, state| {
        state.hears(|said| *said == Said::Unknown(true))
    }),
    ("a work message of an older epoch writes its record again", |_, state| {
        state.any_job(|job| job.epoch > 1 && job.revision == 1 && job.fence.0 == 0)
            && state.workers.iter().any(|worker| worker.claiming.is_some())
    }),
    // Known, and said in the promises' limits: only a new submission moves it, if anything does.
    ("a job whose end was lost stands still", |protocol, state| {
        let is_whole = state.run > 0 && !state.workers.is_empty();
        is_whole && !state.all_jobs(|job| state.is_settled(job)) && state.rests(protocol)
    }),
    ("a fence's number is given twice, and the nonce tells them apart", |_, state| {
        let runs: Vec<_> = state.workers.iter().flat_map(|worker| &worker.runs).collect();
        runs.len() > 1 && runs[0].fence.0 == runs[1].fence.0 && runs[0].fence != runs[1].fence
    }),
];

fn always_true(name: &'static str, holds: fn(&Protocol, &State) -> bool) -> Property<Protocol> {
    Property::always(name, holds)
}
