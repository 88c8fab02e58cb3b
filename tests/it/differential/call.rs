//! One call, in the store's own types. How the two sides take it: `on_store.rs`, `on_model.rs`.

use std::cell::Cell;

use job::{ClientName, JobType};
use protocol::request::{List, Subscribe, Wait};
use protocol::{Refusal, UnixMillis};
use store::accept::{Accept, Limits};
use store::change::{Change, Right};
use store::claim::{Claim, Lease};
use store::outbox::Outcome;
use store::report::Report;
use store::wait::Waiter;
use store::{JobName, Retention};

use super::twin::Known;

#[derive(Debug)]
pub(super) struct Waits {
    pub(super) name: JobName,
    pub(super) wait: Wait,
    pub(super) correlation_id: Option<&'static str>,
    pub(super) history: bool,
}

impl Waits {
    pub(super) fn waiter(&self) -> Waiter<'_> {
        let Self { name, wait, correlation_id, history } = self;
        let (correlation_id, history) = (*correlation_id, *history);
        Waiter { name, wait: *wait, to: "reply.shop.w", correlation_id, history }
    }
}

pub(super) enum Call {
    Accept(Box<Accept>, Limits),
    Refuse(JobName, Refusal, u64),
    Void(JobName, u64, bool),
    /// And when the store read the job that is repeated, which it says by when the new one is due.
    Replay(JobName, Cell<Option<UnixMillis>>),
    Claim(Box<Claim>),
    Beat(Lease, u64),
    Mint(JobName, String, String),
    Report(JobName, Right, Report),
    Change(Box<Change>),
    Due(u16, usize),
    Untimed(JobName, UnixMillis),
    Redispatch(JobName, u64, u64, Option<&'static str>),
    Dispatched(JobName, u64),
    Parked(u16, JobType, usize),
    Subscribe(JobName, Subscribe, &'static str),
    Wait(Waits),
    EndWaits(u16, usize),
    Receipt(JobName, Option<&'static str>),
    ReadOutbox(usize),
    TakeOver,
    Settle(Box<Known>, Outcome),
    PutOffDue(u16, u64),
    Keep(Retention),
    Retire(JobName, u64, bool),
    DueToRetire(u16, usize),
    List(ClientName, Box<List>),
    Read(JobName),
    Announce(JobType),
    /// Several of one kind: accepts, claims, beats or changes.
    Together(Vec<Call>),
}

impl Call {
    /// What holds for all jobs of a call holds for this one as for another one.
    pub(super) fn as_for(&mut self, other: &Self) {
        match (self, other) {
            (Self::Accept(_, limits), Self::Accept(_, of_all)) => *limits = *of_all,
            (Self::Beat(_, ms), Self::Beat(_, of_all)) => *ms = *of_all,
            _ => {}
        }
    }

    /// The round trips that decide: before them a call may read, and after them the test does.
    pub(super) fn deciding<'a, T>(&self, spans: &'a [T]) -> &'a [T] {
        match self {
            // Read, payload, accept, link; then what the test asks for.
            Self::Replay(..) => &spans[spans.len().min(2)..spans.len().min(3)],
            Self::Retire(..) => &spans[spans.len().min(1)..],
            _ => spans,
        }
    }
}
