//! What may become of a job: one table, from which everything else is derived.
//!
//! The typical life:
//!
//! ```text
//!   queued ── started ──► running ── succeeded ──► succeeded
//! ```
//!
//! With more possibilities:
//!
//! ```text
//!            ┌─ deferred ─► scheduled ─ due ─┐   ┌───────── due ───────── retrying
//!  accepted ─┼──────────────────────────────►├───▼                            ▲
//!            └─ unserved ─► parked ─released─┴► queued ─ started ─► running ──┤ errored
//!                                               ▲   ▲                │ │ │    
//!                                               │   └── given back ──┘ │ │    ► succeeded
//!                                               └────── lost ──────────┘ │    ► failed
//!                                                    handed_over ◄───────┘    ► cancelled, expired
//! ```
//!
//! Nobody sets a state. One reports what happened, an [`Event`], and [`TRANSITIONS`] says what
//! follows; the store takes the allowed sources from it, `docs/STATES.md` is printed from it.

use std::fmt;
use std::str::FromStr;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// Every value, in the order of a job's life.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The public word, the same on the wire and in Redis.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;
            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                Self::ALL.iter().copied().find(|v| v.as_str() == word)
                    .ok_or_else(|| UnknownWord(word.to_owned()))
            }
        }
    };
}

/// A word that is no state (or no event) of version 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such word: {0:?}")]
pub struct UnknownWord(String);

words! {
    /// Where a job is. Each says who put it here, who moves it next and what the client may
    /// conclude.
    State {
        /// Accepted with `job-not-before` in the future. The scheduler dispatches it when it is
        /// due.
        Scheduled = "scheduled",
        /// Accepted, and no worker has announced its type, or its work queue takes nothing: kept,
        /// not dropped. Released when a worker announces the type; expires at its deadline.
        Parked = "parked",
        /// In a work queue. The next worker with a free slot starts it.
        Queued = "queued",
        /// A worker holds a lease on it. The worker reports stages, progress and the outcome.
        Running = "running",
        /// The handler left it to the outside world, which finishes it with the report token.
        HandedOver = "handed_over",
        /// An attempt failed and another will be made. The scheduler dispatches it when it is due.
        Retrying = "retrying",
        /// The handler returned a result. Final.
        Succeeded = "succeeded",
        /// The handler gave up, or no attempts are left. Final.
        Failed = "failed",
        /// Somebody with the right to do so cancelled it. Final.
        Cancelled = "cancelled",
        /// Its deadline passed before it was done. Final.
        Expired = "expired",
    }
}

words! {
    /// What happened to a job: a fact, in the past tense.
    Event {
        /// The registrar saw the identifier for the first time, and a worker serves the type.
        Accepted = "accepted",
        /// As accepted, with a time before which it must not run.
        Deferred = "deferred",
        /// No worker has announced the type, or its queue did not take the message.
        Unserved = "unserved",
        /// Its time came.
        Due = "due",
        /// A worker has announced the type.
        Released = "released",
        /// A worker claimed it, or claimed it anew from a worker that died.
        Started = "started",
        /// The handler reported a stage.
        Staged = "staged",
        /// The handler reported progress.
        Progressed = "progressed",
        /// A client asked a running job to stop.
        CancelAsked = "cancel_asked",
        /// A worker that is shutting down returned it unharmed; the attempt is not counted.
        GivenBack = "given_back",
        /// The lease of a run that needs no message ended without an outcome.
        Lost = "lost",
        /// The handler left the job to the outside world.
        HandedOver = "handed_over",
        /// The attempt failed, and attempts are left.
        Errored = "errored",
        /// The handler returned a result.
        Succeeded = "succeeded",
        /// The handler gave up, or no attempts are left.
        Failed = "failed",
        /// It was cancelled.
        Cancelled = "cancelled",
        /// Its deadline passed.
        Expired = "expired",
    }
}

/// One legal step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// The state it starts from; `None` for a job that does not exist yet.
    pub from: Option<State>,
    /// What happened.
    pub event: Event,
    /// The state that follows.
    pub to: State,
}

const fn first(event: Event, to: State) -> Transition {
    Transition { from: None, event, to }
}

const fn on(from: State, event: Event, to: State) -> Transition {
    Transition { from: Some(from), event, to }
}

/// Every legal step. What is not here does not happen.
#[rustfmt::skip]                                              // columns are the point
pub const TRANSITIONS: &[Transition] = &[
    //    from               event               to
    first(                   Event::Accepted,    State::Queued),
    first(                   Event::Deferred,    State::Scheduled),
    first(                   Event::Unserved,    State::Parked),
    on(State::Scheduled,     Event::Due,         State::Queued),
    on(State::Scheduled,     Event::Unserved,    State::Parked),     // due, and nobody serves it
    on(State::Scheduled,     Event::Cancelled,   State::Cancelled),
    on(State::Scheduled,     Event::Expired,     State::Expired),
    on(State::Parked,        Event::Released,    State::Queued),
    on(State::Parked,        Event::Cancelled,   State::Cancelled),
    on(State::Parked,        Event::Expired,     State::Expired),
    on(State::Queued,        Event::Started,     State::Running),
    on(State::Queued,        Event::Unserved,    State::Parked),     // its queue is missing or full
    on(State::Queued,        Event::Cancelled,   State::Cancelled),
    on(State::Queued,        Event::Expired,     State::Expired),
    on(State::Running,       Event::Started,     State::Running),    // its worker died
    on(State::Running,       Event::Staged,      State::Running),
    on(State::Running,       Event::Progressed,  State::Running),
    on(State::Running,       Event::CancelAsked, State::Running),    // the handler decides
    on(State::Running,       Event::GivenBack,   State::Queued),
    on(State::Running,       Event::Lost,        State::Queued),     // the next attempt
    on(State::Running,       Event::HandedOver,  State::HandedOver),
    on(State::Running,       Event::Errored,     State::Retrying),
    on(State::Running,       Event::Succeeded,   State::Succeeded),
    on(State::Running,       Event::Failed,      State::Failed),
    on(State::Running,       Event::Cancelled,   State::Cancelled),
    on(State::Running,       Event::Expired,     State::Expired),
    on(State::HandedOver,    Event::Staged,      State::HandedOver),
    on(State::HandedOver,    Event::Progressed,  State::HandedOver),
    on(State::HandedOver,    Event::Succeeded,   State::Succeeded),
    on(State::HandedOver,    Event::Failed,      State::Failed),
    on(State::HandedOver,    Event::Cancelled,   State::Cancelled),
    on(State::HandedOver,    Event::Expired,     State::Expired),
    on(State::Retrying,      Event::Due,         State::Queued),
    on(State::Retrying,      Event::Unserved,    State::Parked),
    on(State::Retrying,      Event::Cancelled,   State::Cancelled),
    on(State::Retrying,      Event::Expired,     State::Expired),
];

/// A step that [`TRANSITIONS`] does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a job that is {} cannot be {event}", .from.map_or("not known", State::as_str))]
pub struct IllegalTransition {
    /// Where the job is.
    pub from: Option<State>,
    /// What was said to have happened.
    pub event: Event,
}

/// The state that follows.
///
/// # Errors
/// [`IllegalTransition`] when the table has no such step: the event is to be refused.
pub fn next(from: Option<State>, event: Event) -> Result<State, IllegalTransition> {
    TRANSITIONS
        .iter()
        .find(|t| t.from == from && t.event == event)
        .map(|t| t.to)
        .ok_or(IllegalTransition { from, event })
}

/// The steps that an event allows, for the store's compare-and-set.
pub fn steps(event: Event) -> impl Iterator<Item = (State, State)> {
    TRANSITIONS.iter().filter(move |t| t.event == event).filter_map(|t| Some((t.from?, t.to)))
}

impl State {
    /// Whether nothing follows. Derived: no row of the table starts here.
    pub fn is_terminal(self) -> bool {
        !TRANSITIONS.iter().any(|t| t.from == Some(self))
    }

    /// The states from which nothing follows.
    pub fn terminal() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|state| state.is_terminal())
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
