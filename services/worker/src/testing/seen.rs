//! What the store would hold after an attempt.

use std::collections::BTreeMap;
use std::time::Duration;

use job::State;
use protocol::{HistoryEntry, UnixMillis};
use store::record::number;
use store::{JobName, Record};

use super::bench::Bench;

/// How a job stands, and how it came there.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Where the job is.
    pub state: State,
    /// Attempts started and counted.
    pub attempt: u32,
    /// The result of a success, JSON.
    pub result: Option<String>,
    /// Why the last attempt, or the job, failed.
    pub error: Option<String>,
    /// After which pause the next attempt is made, counted from now; nothing if none is planned.
    pub again_in: Option<Duration>,
    /// Whether a client has asked a running job to stop.
    pub cancel_asked: bool,
    /// Every change, oldest first, as a client sees it; the store keeps the first 16 lines and the
    /// last 48.
    pub timeline: Vec<HistoryEntry>,
    /// What the client is told of, field by field as `docs/REDIS.md` says, in order.
    pub notices: Vec<BTreeMap<String, String>>,
    /// Everything else that is recorded.
    pub record: Record,
    pub(super) due_at: Option<UnixMillis>,
}

impl Seen {
    pub(super) fn of(bench: &Bench, name: &JobName) -> Self {
        let now = bench.now();
        bench.with(|model| {
            let record = model.read(name).unwrap_or_default();
            let state = record.state().unwrap_or(State::Queued);
            let due_at = Record::instant(&record.due_at).filter(|_| state == State::Retrying);
            let pause = |due: UnixMillis| (due.0 - now.0).max(0).cast_unsigned();
            Self {
                state,
                attempt: number(&record.attempt).unwrap_or(0),
                result: record.result.clone(),
                error: record.error.clone(),
                again_in: due_at.map(|due| Duration::from_millis(pause(due))),
                cancel_asked: record.cancel_requested.is_some(),
                timeline: model.history(name),
                notices: model.outbox().iter().map(|it| it.message.fields().clone()).collect(),
                record,
                due_at,
            }
        })
    }

    /// What happened, in the words of `docs/STATES.md`.
    pub fn events(&self) -> Vec<&str> {
        self.timeline.iter().map(|line| line.event.as_str()).collect()
    }

    /// The stages that were reported, in order, of all attempts.
    pub fn stages(&self) -> Vec<&str> {
        let staged = self.timeline.iter().filter(|line| line.event == job::Event::Staged.as_str());
        staged.filter_map(|line| line.detail.as_deref()).collect()
    }

    /// Whether the run no longer depends on its message.
    pub fn is_detached(&self) -> bool {
        self.record.detached.is_some()
    }
}
