//! One job: everything that was seen of it, in one pass.

use serde_json::Value;

use super::Findings;
use super::losses::Losses;
use super::told::Told;
use crate::checker::final_state::Record;
use crate::faults::Fault;
use crate::history::{Entry, Seen};

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
    pub(super) losses: &'a Losses,
}

impl Job {
    /// Holds everything against what was promised.
    pub(super) fn check(
        &mut self,
        name: &str,
        record: Option<&Record>,
        faults: &[Fault],
        losses: &Losses,
        findings: &mut Findings,
    ) {
        self.seen.sort_by_key(|entry| entry.at);
        self.runs.sort_by_key(|entry| entry.at);
        findings.counters.jobs += usize::from(!name.contains(":never-"));
        let case = Case { name, job: self, told: self.told(), record, faults, losses };
        case.is_recorded(findings);
        case.has_one_ticket(findings);
        case.never_goes_back(findings);
        case.has_one_end(findings);
        case.is_told(findings);
        case.is_never_unknown(findings);
        case.has_one_run_at_a_time(findings);
        case.is_of_its_right(findings);
        case.ended_as_it_is(findings);
        case.had_its_attempts(findings);
    }

    /// Whether its client was told of an end that the store has lost since.
    pub(super) fn has_lost_its_end(&self, losses: &Losses) -> bool {
        let told = self.told();
        let mut ends = told.iter().filter(|told| told.answer["done"] == true);
        ends.any(|told| losses.hold_told(told.answer))
    }

    fn told(&self) -> Vec<Told<'_>> {
        let told = self.seen.iter().filter_map(|entry| match &entry.seen {
            Seen::Told { kind, asked, message_id, answer, .. } => {
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
