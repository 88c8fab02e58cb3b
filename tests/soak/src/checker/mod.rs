//! What clients saw and what is in the stores at the end, held against what was promised.
//!
//! Each job is an object of its own, so one pass over what was seen of it is enough.

mod final_state;
mod job;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::Serialize;

pub use final_state::{FinalState, Left};
pub use job::Job;

use crate::faults::Fault;
use crate::fleet::{Size, client_name, history};
use crate::history::{Seen, read};

/// What must never be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Invariant {
    /// A job of which a receipt was seen is recorded.
    I1,
    /// What is journaled, or was confirmed to anybody, is recorded in the end.
    I2,
    /// One identifier has one ticket.
    I3,
    /// What a reader is told never goes back.
    I4,
    /// A job has one end.
    I5,
    /// What is recorded is of the attempt that had the right.
    I6,
    /// Two runs never have the same right, and rights grow; nobody is superseded without a cause.
    I7,
    /// The end is pushed to whoever wanted it, or the ledger says that it could not be.
    I8,
    /// Two events with one identifier are the same.
    I9,
    /// `unknown` is never said of what was confirmed before; what is void stays so.
    I10,
    /// Nobody is told of another client's job.
    I11,
    /// No job ends otherwise than by what it is.
    I12,
    /// In the end nothing is left over.
    I13,
    /// Every process stays within its memory.
    I14,
}

/// One case of what must never be.
#[derive(Debug, Clone, Serialize)]
pub struct Violation {
    /// What.
    pub invariant: Invariant,
    /// Of which job, or of what.
    pub of: String,
    /// What was seen.
    pub seen: String,
}

/// What shows that the run has tested something.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Counters {
    /// Jobs that were submitted.
    pub jobs: usize,
    /// Handlers that were started.
    pub runs: usize,
    /// Runs that were cut off, or whose process died.
    pub unfinished_runs: usize,
    /// Workers that were killed while a handler ran.
    pub killed_while_running: usize,
    /// Submissions that were repeated on purpose, and receipts that say `duplicate`.
    pub duplicates: usize,
    /// Events that came more than once.
    pub repeated_events: usize,
    /// Answers to questions.
    pub answers: usize,
    /// Questions without an answer in time.
    pub unanswered: usize,
    /// Answers by their word.
    pub words: BTreeMap<String, usize>,
}

/// Everything that was found.
#[derive(Debug, Default, Serialize)]
pub struct Findings {
    /// What must never be.
    pub violations: Vec<Violation>,
    /// What was tested.
    pub counters: Counters,
}

impl Findings {
    fn add(&mut self, invariant: Invariant, of: &str, seen: impl Into<String>) {
        self.violations.push(Violation { invariant, of: of.to_owned(), seen: seen.into() });
    }
}

/// Reads all histories and compares them with the final state.
///
/// # Errors
/// A history cannot be read.
pub fn check(
    directory: &Path,
    size: Size,
    end: &FinalState,
    faults: &[Fault],
) -> anyhow::Result<Findings> {
    let mut findings = Findings::default();
    let mut jobs: HashMap<String, Job> = HashMap::new();
    for number in 0..size.clients {
        let client = client_name(number);
        for entry in read(&history(directory, &client))? {
            let counters = &mut findings.counters;
            match &entry.seen {
                Seen::Repeated { .. } => counters.duplicates += 1,
                Seen::Unanswered { .. } => counters.unanswered += 1,
                Seen::Told { answer, asked, .. } => {
                    counters.answers += usize::from(asked.is_some());
                    let word = answer["answer"].as_str().unwrap_or_default();
                    *counters.words.entry(word.to_owned()).or_default() += 1;
                    counters.duplicates += usize::from(answer["duplicate"] == true);
                    if answer["client"].as_str().is_some_and(|of| of != client) {
                        findings.add(Invariant::I11, &client, answer.to_string());
                    }
                }
                _ => {}
            }
            let id = match &entry.seen {
                Seen::Journaled { id } | Seen::Confirmed { id } | Seen::Repeated { id } => id,
                Seen::Told { answer, .. } => match answer["job_id"].as_str() {
                    Some(id) => id,
                    None => continue,
                },
                _ => continue,
            };
            jobs.entry(format!("{client}:{id}")).or_default().seen.push(entry.clone());
        }
    }
    for (client, entries) in &end.journals {
        for (id, standing) in entries {
            let job = jobs.entry(format!("{client}:{id}")).or_default();
            job.journal = Some(standing.clone());
        }
    }
    for number in 0..size.workers {
        for entry in read(&history(directory, &format!("worker-{number}")))? {
            let name = match &entry.seen {
                Seen::Began { job, .. } | Seen::Ended { job, .. } | Seen::CutOff { job, .. } => job,
                _ => continue,
            };
            jobs.entry(name.clone()).or_default().runs.push(entry);
        }
    }
    for (name, job) in &mut jobs {
        job.check(name, end.records.get(name), faults, &mut findings);
    }
    end.check(&mut findings);
    Ok(findings)
}
