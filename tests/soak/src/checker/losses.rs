//! What the campaign itself took away from the store, and so what may be excused by it.

use protocol::UnixMillis;
use serde_json::Value;

use crate::faults::Fault;
use crate::history::Micros;

/// What was said before a roll-back may arrive so long after it.
const UNDER_WAY: Micros = 10_000_000;
/// The store's clock has milliseconds.
const MS: Micros = 1000;

/// The stretches of time of which the store lost what was written.
#[derive(Debug, Default)]
pub(super) struct Losses(Vec<(Micros, Micros)>);

impl Losses {
    pub(super) fn of(faults: &[Fault]) -> Self {
        Self(faults.iter().filter_map(|fault| fault.effect.lost).collect())
    }

    /// Whether there was none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether what was written then may have been lost.
    pub(super) fn hold(&self, at: Micros) -> bool {
        self.0.iter().any(|(from, to)| (from.saturating_sub(MS)..=*to).contains(&at))
    }

    /// Whether what was heard of then may have been written in time to be lost.
    pub(super) fn hold_heard(&self, at: Micros) -> bool {
        self.0.iter().any(|(from, to)| (*from..=to.saturating_add(UNDER_WAY)).contains(&at))
    }

    /// Whether anything that was written between two instants may have been lost.
    pub(super) fn touch(&self, first: Micros, last: Micros) -> bool {
        self.0.iter().any(|(from, to)| first <= *to && last >= *from)
    }

    /// Whether an answer, or the change that an event tells of, may have been lost: by when the job
    /// changed, or else was accepted.
    pub(super) fn hold_told(&self, answer: &Value) -> bool {
        let at = |field: &str| answer[field].as_str().and_then(micros);
        at("changed_at").or_else(|| at("accepted_at")).is_some_and(|at| self.hold(at))
    }

    /// Whether the acceptance that an answer tells of may have been lost.
    pub(super) fn hold_accepted(&self, answer: &Value) -> bool {
        answer["accepted_at"].as_str().and_then(micros).is_some_and(|at| self.hold(at))
    }

    /// Whether the retirement that an answer tells of may have been lost after it was told.
    pub(super) fn hold_retired(&self, answer: &Value, heard: Micros) -> bool {
        let Some(at) = answer["retired_at"].as_str().and_then(micros) else { return false };
        let holds = |(from, to): &(Micros, Micros)| {
            (from.saturating_sub(MS)..=*to).contains(&at) && heard <= to.saturating_add(UNDER_WAY)
        };
        self.0.iter().any(holds)
    }
}

pub(super) fn micros(text: &str) -> Option<Micros> {
    Some(UnixMillis::parse(text)?.0.unsigned_abs() * MS)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_was_written_within_a_lost_stretch_is_excused() {
        let losses = Losses(vec![(2_000_000, 3_000_000)]);
        let told = |at: &str| json!({"changed_at": at, "accepted_at": "1970-01-01T00:00:02.500Z"});
        assert!(losses.hold_told(&told("1970-01-01T00:00:02.000Z")));
        assert!(!losses.hold_told(&told("1970-01-01T00:00:01.900Z")));
        assert!(!losses.hold_told(&told("1970-01-01T00:00:03.001Z")));
        assert!(losses.hold_accepted(&told("1970-01-01T00:00:09.000Z")));
        assert!(losses.hold_heard(3_500_000) && !losses.hold(3_500_000));
        let retired = json!({"retired_at": "1970-01-01T00:00:02.500Z"});
        assert!(losses.hold_retired(&retired, 12_000_000));
        assert!(!losses.hold_retired(&retired, 13_500_000));
        assert!(losses.touch(0, 2_000_000) && !losses.touch(3_000_001, 4_000_000));
    }
}
