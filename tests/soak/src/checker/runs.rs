//! What workers did with a job: I6, I7 and I12.

use std::collections::{HashMap, HashSet};

use super::job::{Case, Job};
use super::{Findings, Invariant};
use crate::faults::Kind;
use crate::handlers::Task;
use crate::history::{Entry, Micros, Seen};
use crate::load::POISON_ATTEMPTS_MAX;
use crate::world::Link;

/// A handler begins so soon after its claim.
const CLAIMED_WITHIN: Micros = 2_000_000;
/// Twice the lease of the campaign: a fault shows for so long.
const DISTURBS_FOR: Micros = 6_000_000;

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
        let mut last: Option<(u64, Micros)> = None;
        for (at, fence) in &begun {
            if !fences.insert(*fence) {
                let seen = format!("the right {fence} was given twice");
                findings.add(Invariant::I7, self.name, seen);
            }
            let number = number_of(fence);
            // A number may be lost; with its nonce it is another right all the same.
            if let Some((known, _)) = last.filter(|(known, began)| {
                number <= *known
                    && !self.claim_may_be_lost(*began)
                    && !self.was_stopped_over(fence, *began, *at)
            }) {
                let seen = format!("the right {fence} came after {known}");
                findings.add(Invariant::I7, self.name, seen);
            }
            last = last.max(Some((number, *at)));
            findings.counters.unfinished_runs += usize::from(!over.contains_key(fence));
        }
        for pair in begun.windows(2) {
            let (first, second) = (pair[0], pair[1]);
            // Without an end its process has died, by itself if by nobody else.
            let overlaps = over.get(first.1).is_some_and(|end| *end > second.0);
            if overlaps && !self.was_disturbed_between(first, second.0) {
                let seen = format!("{} was superseded by {} for no reason", first.1, second.1);
                findings.add(Invariant::I7, self.name, seen);
            }
        }
    }

    /// Whether the process of a run was stopped between its claim and its beginning, and the later
    /// right came meanwhile.
    fn was_stopped_over(&self, fence: &str, later_began: Micros, began: Micros) -> bool {
        let is_of = |seen: &Seen| matches!(seen, Seen::Began { fence: of, .. } if of == fence);
        let pid = self.job.runs.iter().find(|entry| is_of(&entry.seen)).map(|entry| entry.pid);
        self.faults.iter().any(|fault| {
            fault.kind == Kind::WorkerPaused
                && fault.effect.pid == pid
                && (fault.from..=fault.until).contains(&later_began)
                && began <= fault.until.saturating_add(CLAIMED_WITHIN)
        })
    }

    /// Whether the claim may be lost of a run that began then.
    fn claim_may_be_lost(&self, began: Micros) -> bool {
        self.losses.touch(began.saturating_sub(CLAIMED_WITHIN), began)
    }

    /// Whether something kept a run from renewing its lease, or from being there.
    fn was_disturbed_between(&self, (began, fence): (Micros, &str), until: Micros) -> bool {
        let is_of = |seen: &Seen| matches!(seen, Seen::Began { fence: of, .. } if of == fence);
        let pid = self.job.runs.iter().find(|entry| is_of(&entry.seen)).map(|entry| entry.pid);
        self.faults.iter().any(|fault| {
            let is_near = fault.from <= until && fault.until.saturating_add(DISTURBS_FOR) >= began;
            let is_its = match fault.kind {
                Kind::WorkerKilled | Kind::WorkerPaused => fault.effect.pid == pid,
                Kind::RollingRestart
                | Kind::StoreKilled
                | Kind::StorePaused
                | Kind::StoreFull
                | Kind::StoreReadOnly
                | Kind::RolledBack
                | Kind::StaleReplica => true,
                // Whoever notices connects again, long before the lease ends.
                Kind::LinkReset | Kind::LinkCut => false,
                _ => fault.effect.link == Some(Link::WorkerRedis),
            };
            is_near && is_its
        })
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

    /// What it was to do, as its client wrote it down before anything was sent.
    fn task(&self) -> Option<Task> {
        self.job.seen.iter().find_map(|entry| match entry.seen {
            Seen::Journaled { task, .. } | Seen::Confirmed { task, .. } => Some(task),
            _ => None,
        })
    }

    /// I12: only what is to fail fails, only what was to be cancelled is.
    pub(super) fn ended_as_it_is(&self, findings: &mut Findings) {
        let Some(record) = self.record.filter(|record| record.is_final()) else { return };
        // A process that dies between a submission and its history leaves the body, if anything.
        let task = self.task().or_else(|| serde_json::from_str(&record.task()).ok());
        let was_asked = || {
            let asked = |entry: &Entry| matches!(entry.seen, Seen::CancelAsked { .. });
            self.job.seen.iter().any(asked)
        };
        let state = record.text("state");
        let is_right = match (state, task) {
            ("cancelled", _) => was_asked(),
            ("failed", Some(Task::Fail | Task::Poison)) => true,
            ("succeeded", Some(Task::Fail | Task::Poison)) => false,
            ("succeeded", _) => true,
            _ => false,
        };
        if !is_right {
            let seen = format!("{state} {:?}: {}", task, record.text("error"));
            findings.add(Invariant::I12, self.name, seen);
        }
    }
}

impl Case<'_> {
    /// I12: no attempt beyond those that the job has. A roll-back gives back what it forgets.
    pub(super) fn had_its_attempts(&self, findings: &mut Findings) {
        if !self.losses.is_empty() {
            return;
        }
        let begun = self.begun().len();
        if self.task() == Some(Task::Poison) && begun > POISON_ATTEMPTS_MAX {
            let seen = format!("{begun} runs of what may kill {POISON_ATTEMPTS_MAX} workers");
            findings.add(Invariant::I12, self.name, seen);
        }
    }
}

fn number_of(fence: &str) -> u64 {
    fence.split('-').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}
