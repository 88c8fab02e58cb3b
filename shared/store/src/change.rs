//! Changes of a recorded job. An event goes in; the table in `job::state` says what follows, and
//! the script compares and sets.

use faults::{Bug, is_seeded};
use job::{Event, JobType, State, Subscription};
use protocol::UnixMillis;

use crate::each::JobCall;
use crate::keys::JobName;
use crate::lost::NOT_OF_A_FIRST_RUN;
use crate::reply::Reply;
use crate::scripts;
use crate::{Error, Store};

/// The longest time that a timer is set for, in milliseconds: a hundred years. Scripts count in
/// floating-point numbers, and an instant is to stay an integer.
pub const AFTER_MS_MAX: u64 = 100 * 366 * 24 * 3600 * 1000;

/// When the scheduler is to look at the job again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Timer {
    /// Not, but for its deadline.
    #[default]
    None,
    /// This many milliseconds after the change, at most [`AFTER_MS_MAX`].
    After(u64),
    /// At an instant.
    At(UnixMillis),
    /// At once, if the run no longer depends on a message; else as [`Self::None`].
    NowIfDetached,
    /// When the lease of the run ends, and so after each renewal.
    LeaseEnd,
}

/// What an event gives way to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unless {
    /// Nothing.
    #[default]
    Nothing,
    /// A cancellation that a client has asked for.
    CancelAsked,
    /// A lease that is renewed.
    Leased,
    /// The same, or a run that is neither detached nor asked to stop: its message brings it back.
    /// The store may have been rolled back since somebody saw otherwise.
    Unwatched,
}

/// The right to change a job.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Right {
    /// The server's own: whatever runs.
    #[default]
    Server,
    /// That of a run: its fence.
    Fence(String),
    /// That of whoever was given the report token of the last run: the token's hash.
    Report(String),
}

impl Right {
    /// The field that holds it, and what must stand there (empty: anything).
    pub(crate) fn field(&self) -> (&'static str, &str) {
        match self {
            Self::Server => ("fence", ""),
            Self::Fence(_) if is_seeded(Bug::NoFence) => ("fence", ""),
            Self::Fence(fence) => ("fence", fence),
            Self::Report(hash) => ("report_hash", hash),
        }
    }
}

/// One event, and what is to be written with it.
#[derive(Debug, Clone)]
pub struct Change {
    /// Whose job, by which identifier.
    pub name: JobName,
    /// Its type, which names the set of parked jobs.
    pub job_type: JobType,
    /// What happened.
    pub event: Event,
    /// Only if whoever says so still holds the right to.
    pub right: Right,
    /// Only if this is still the dispatch number.
    pub dispatch: Option<u64>,
    /// Leave this state out, though the table allows the step from it.
    pub except_from: Option<State>,
    /// What it gives way to.
    pub unless: Unless,
    /// Give it the next dispatch number.
    pub redispatch: bool,
    /// When it is looked at again.
    pub timer: Timer,
    /// Text for the timeline.
    pub detail: String,
    /// Fields to write.
    pub set: Vec<(&'static str, Vec<u8>)>,
    /// Fields to delete.
    pub delete: &'static [&'static str],
}

impl Change {
    /// An event on a job, without anything beside it.
    pub fn new(name: JobName, job_type: JobType, event: Event) -> Self {
        Self {
            name,
            job_type,
            event,
            right: Right::Server,
            dispatch: None,
            except_from: None,
            unless: Unless::Nothing,
            redispatch: false,
            timer: Timer::None,
            detail: String::new(),
            set: Vec::new(),
            delete: &[],
        }
    }

    /// Adds a field.
    #[must_use]
    pub fn with(mut self, field: &'static str, value: impl Into<Vec<u8>>) -> Self {
        self.set.push((field, value.into()));
        self
    }
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// It is written, now or by an earlier call of the same.
    Applied {
        /// The state that followed.
        state: State,
        /// The revision that it made.
        revision: u64,
        /// The dispatch number.
        dispatch: u64,
    },
    /// The table has no such step from where the job is.
    Illegal {
        /// Where it is.
        state: State,
    },
    /// Another attempt, or another dispatch, has the right now.
    Stale,
    /// A client has asked the job to stop, and the event gives way to that.
    CancelAsked,
    /// There is no such job.
    Missing,
}

impl Store {
    /// The keys that every change needs, in the order of `change.lua`.
    pub(crate) fn change_keys(&self, name: &JobName) -> [String; 5] {
        let keys = self.keys();
        let slot = keys.slot(name);
        [
            keys.job(name),
            keys.history(name),
            keys.outbox(slot),
            keys.outbox_waiting(slot),
            keys.due(slot),
        ]
    }

    /// Applies changes, each in one step; the answers are in the same order.
    ///
    /// # Errors
    /// Nothing is known of any of them: call again with the same.
    pub async fn change(&self, changes: &[Change]) -> Result<Vec<Changed>, Error> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let build = |epoch| changes.iter().map(|it| self.change_call(it, epoch)).collect();
        let answers = self.each(&scripts::TRANSITION, build).await?;
        answers.into_iter().map(|value| changed(&Reply::new(value)?)).collect()
    }

    fn change_call(&self, change: &Change, epoch: u64) -> JobCall {
        let slot = self.keys().slot(&change.name);
        let common = self.change_keys(&change.name);
        let mut sets: Vec<String> = Vec::new();
        let mut index_of = |state: State| {
            let Some(set) = self.keys().state(slot, state, &change.job_type) else { return 0 };
            let position = sets.iter().position(|known| *known == set);
            position.unwrap_or_else(|| {
                sets.push(set);
                sets.len() - 1
            }) + 1
        };
        let steps: Vec<_> = job::state::steps(change.event)
            .filter(|(from, _)| Some(*from) != change.except_from)
            .map(|(from, to)| (from, to, index_of(from), index_of(to)))
            .collect();
        let keys = self.keys();
        let at_the_end = [
            keys.retire(slot),
            keys.retention(slot),
            keys.unfinished(slot),
            keys.recent(slot, &change.job_type),
        ];
        let all: Vec<String> = common.into_iter().chain(at_the_end).chain(sets).collect();
        let (right, holder) = change.right.field();
        let word = match change.event {
            Event::Staged => Subscription::STAGE,
            Event::Progressed => Subscription::PROGRESS,
            _ => "",
        };
        let timer = match change.timer {
            Timer::None => String::new(),
            Timer::After(ms) => format!("+{}", ms.min(AFTER_MS_MAX)),
            Timer::At(at) => at.0.to_string(),
            Timer::NowIfDetached => "detached".to_owned(),
            Timer::LeaseEnd => "lease".to_owned(),
        };
        let always = change.delete.iter().filter(|field| !NOT_OF_A_FIRST_RUN.contains(field));
        let not_of_a_first_run =
            change.delete.iter().filter(|field| NOT_OF_A_FIRST_RUN.contains(field));
        let mut call = JobCall::new(slot, all)
            .arg(change.name.member())
            .arg(change.event.as_str())
            .arg(word)
            .arg(holder)
            .arg(change.dispatch.map_or_else(String::new, |number| number.to_string()))
            .arg(timer)
            .arg(one_line(&change.detail))
            .arg(self.settings().outbox_per_client_max)
            .arg(u8::from(change.redispatch))
            .arg(always.clone().count())
            .arg(match change.unless {
                Unless::Nothing => "",
                Unless::CancelAsked => "cancel",
                Unless::Leased => "lease",
                Unless::Unwatched => "watched",
            })
            .arg(right)
            .arg(steps.len());
        for (from, to, leaves, enters) in steps {
            call = call
                .arg(from.as_str())
                .arg(to.as_str())
                .arg(u8::from(to.is_terminal()))
                .arg(leaves)
                .arg(enters);
        }
        call = call.arg(change.set.len() * 2 + 2).arg("epoch").arg(epoch);
        for (field, value) in &change.set {
            call = call.arg(*field).arg(value.as_slice());
        }
        always.chain(not_of_a_first_run).fold(call, |call, field| call.arg(*field))
    }
}

/// A line of the timeline is one line.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}

fn changed(reply: &Reply) -> Result<Changed, Error> {
    Ok(match reply.word() {
        "applied" | "repeated" => Changed::Applied {
            state: reply.parse(1)?,
            revision: reply.parse(2)?,
            dispatch: reply.parse(3)?,
        },
        "illegal" => Changed::Illegal { state: reply.parse(1)? },
        "stale" => Changed::Stale,
        "cancel" => Changed::CancelAsked,
        "none" => Changed::Missing,
        other => return Err(Error::unexpected(other)),
    })
}
