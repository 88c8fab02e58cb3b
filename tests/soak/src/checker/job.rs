//! One job: everything that was seen of it, in one pass.

use serde_json::Value;

use super::Findings;
use super::told::Told;
use crate::checker::final_state::Record;
use crate::faults::Fault;
use crate::history::{Entry, Micros, Seen};

/// What was seen of one job, and how its journal has it in the end.
#[derive(Debug, Default)]
pub struct Job {
    /// By its client.
    pub seen: Vec<Entry>,
    /// By workers.
    pub runs: Vec<Entry>,
    /// The standing in the client's journal.
    pub journal: Option<String>,
}

/// A job with everything that it is held against.
pub(super) struct Case<'a> {
    pub(super) name: &'a str,
    pub(super) job: &'a Job,
    pub(super) told: Vec<Told<'a>>,
    pub(super) record: Option<&'a Record>,
    pub(super) faults: &'a [Fault],
    /// The store has said that it lost a stretch of time in which something of it happened.
    pub(super) is_rolled_back: bool,
}

/// A disturbance may show itself a while after it is over: leases end, connections are made anew.
pub(super) const AFTERMATH: Micros = 30_000_000;
/// What was said before a roll-back may arrive so long after it.
pub(super) const UNDER_WAY: Micros = 10_000_000;

impl Job {
    /// Holds everything against what was promised.
    pub(super) fn check(
        &mut self,
        name: &str,
        record: Option<&Record>,
        faults: &[Fault],
        findings: &mut Findings,
    ) {
        self.seen.sort_by_key(|entry| entry.at);
        self.runs.sort_by_key(|entry| entry.at);
        findings.counters.jobs += usize::from(!name.contains(":never-"));
        let is_rolled_back = self.is_in(faults);
        let case = Case { name, job: self, told: self.told(), record, faults, is_rolled_back };
        case.is_recorded(findings);
        case.has_one_ticket(findings);
        case.never_goes_back(findings);
        case.has_one_end(findings);
        case.is_told(findings);
        case.is_never_unknown(findings);
        case.has_one_run_at_a_time(findings);
        case.is_of_its_right(findings);
        case.ended_as_it_is(findings);
    }

    fn is_in(&self, faults: &[Fault]) -> bool {
        let mut lost = faults.iter().filter_map(|fault| fault.effect.lost);
        let at = || self.seen.iter().chain(&self.runs).map(|entry| entry.at);
        let (first, last) = (at().min().unwrap_or_default(), at().max().unwrap_or_default());
        lost.any(|(from, to)| first <= to.saturating_add(UNDER_WAY) && last >= from)
    }

    fn told(&self) -> Vec<Told<'_>> {
        let told = self.seen.iter().filter_map(|entry| match &entry.seen {
            Seen::Told { kind, asked, message_id, answer } => {
                let message_id = message_id.as_deref();
                Some(Told { at: entry.at, asked: *asked, kind, message_id, answer })
            }
            _ => None,
        });
        told.collect()
    }
}

impl Case<'_> {
    /// The result that is recorded of a success.
    pub(super) fn result(&self) -> Option<Value> {
        let record = self.record.filter(|record| record.text("state") == "succeeded")?;
        Some(serde_json::from_str(record.text("result")).unwrap_or_default())
    }
}
