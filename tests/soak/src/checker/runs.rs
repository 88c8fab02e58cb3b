//! What workers did with a job: I6, I7 and I12.

use std::collections::{HashMap, HashSet};

use super::job::{AFTERMATH, Case, Job};
use super::{Findings, Invariant};
use crate::handlers::Task;
use crate::history::{Micros, Seen};

impl Job {
    /// The processes in which a run of it began and came to no end.
    pub(super) fn unfinished_in(&self) -> Vec<u32> {
        let mut begun: HashMap<&str, u32> = HashMap::new();
        for entry in &self.runs {
            match &entry.seen {
                Seen::Began { fence, .. } => {
                    begun.insert(fence, entry.pid);
                }
                Seen::Ended { fence, .. } | Seen::CutOff { fence, .. } => {
                    begun.remove(fence.as_str());
                }
                _ => {}
            }
        }
        begun.into_values().collect()
    }
}

impl Case<'_> {
    /// When each run began, with its right.
    fn begun(&self) -> Vec<(Micros, &str)> {
        let begun = self.job.runs.iter().filter_map(|entry| match &entry.seen {
            Seen::Began { fence, .. } => Some((entry.at, fence.as_str())),
            _ => None,
        });
        begun.collect()
    }

    /// When runs ended, by their right.
    fn over(&self) -> HashMap<&str, Micros> {
        let over = self.job.runs.iter().filter_map(|entry| match &entry.seen {
            Seen::Ended { fence, .. } | Seen::CutOff { fence, .. } => {
                Some((fence.as_str(), entry.at))
            }
            _ => None,
        });
        over.collect()
    }

    /// I7.
    pub(super) fn has_one_run_at_a_time(&self, findings: &mut Findings) {
        let (begun, over) = (self.begun(), self.over());
        findings.counters.runs += begun.len();
        let mut fences = HashSet::new();
        let mut last = None;
        for (_, fence) in &begun {
            if !fences.insert(*fence) {
                let seen = format!("the right {fence} was given twice");
                findings.add(Invariant::I7, self.name, seen);
            }
            let number = number_of(fence);
            // A number may be lost; with its nonce it is another right all the same.
            if last.is_some_and(|last| number <= last) && !self.is_rolled_back {
                let seen = format!("the right {fence} came after {last:?}");
                findings.add(Invariant::I7, self.name, seen);
            }
            last = last.max(Some(number));
            findings.counters.unfinished_runs += usize::from(!over.contains_key(fence));
        }
        for pair in begun.windows(2) {
            let (first, second) = (pair[0], pair[1]);
            // Without an end its process has died, by itself if by nobody else.
            let overlaps = over.get(first.1).is_some_and(|end| *end > second.0);
            let is_disturbed = self.faults.iter().any(|fault| {
                fault.from <= second.0 && fault.until.saturating_add(AFTERMATH) >= first.0
            });
            if overlaps && !is_disturbed {
                let seen = format!("{} was superseded by {} for no reason", first.1, second.1);
                findings.add(Invariant::I7, self.name, seen);
            }
        }
    }

    /// I6.
    pub(super) fn is_of_its_right(&self, findings: &mut Findings) {
        let (Some(record), Some(result)) = (self.record, self.result()) else { return };
        let (written, right) = (result["fence"].as_str(), record.text("fence"));
        if written != Some(right) {
            let seen = format!("recorded is the result of {written:?}, the right is {right}");
            findings.add(Invariant::I6, self.name, seen);
        }
        if !self.begun().iter().any(|(_, fence)| *fence == right) {
            findings.add(Invariant::I6, self.name, format!("nobody ran with the right {right}"));
        }
    }

    /// I12: only what is to fail fails, only what may be cancelled is.
    pub(super) fn ended_as_it_is(&self, findings: &mut Findings) {
        let Some(record) = self.record.filter(|record| record.is_final()) else { return };
        let task: Option<Task> = serde_json::from_str(&record.task()).ok();
        let state = record.text("state");
        let is_right = match (state, task) {
            ("cancelled", _) => true,
            ("failed", Some(Task::Fail | Task::Poison)) => true,
            ("succeeded", Some(Task::Fail | Task::Poison)) => false,
            // The body of what has succeeded is gone.
            ("succeeded", _) => true,
            _ => false,
        };
        if !is_right {
            let seen = format!("{state} {:?}: {}", task, record.text("error"));
            findings.add(Invariant::I12, self.name, seen);
        }
    }
}

fn number_of(fence: &str) -> u64 {
    fence.split('-').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}
