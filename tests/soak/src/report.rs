//! What came of a campaign, as a file.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::campaign::Campaign;
use crate::checker::{Counters, Invariant, Left, Violation};
use crate::cuts;
use crate::faults::Kind;
use crate::fleet::Role;
use crate::floors::{Floor, floors};
use crate::stage::Outcome;

/// `report.json`.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What the order of the faults came from.
    pub seed: u64,
    /// Jobs that were submitted.
    pub jobs: usize,
    /// For how long faults were made, in seconds.
    pub seconds: f64,
    /// Until everything was settled after the last fault of each stage, in seconds.
    pub settled_s: BTreeMap<&'static str, f64>,
    /// Journal entries that were not.
    pub open: usize,
    /// Faults in all.
    pub faults_in_all: usize,
    /// Faults, by kind.
    pub faults: BTreeMap<Kind, usize>,
    /// Cuts that fell exactly where they were to, in the stages.
    pub cuts: u64,
    /// The story of one job, cut once in each telling.
    pub cut_stories: cuts::Outcome,
    /// Processes that were started, by role.
    pub starts: BTreeMap<Role, u32>,
    /// What must never be, how often.
    pub violations: BTreeMap<Invariant, usize>,
    /// The first of each.
    pub examples: Vec<Violation>,
    /// What shows that something was tested, and how much of it there must be.
    pub floors: Vec<Floor>,
    /// The same and more, as counted.
    pub counters: Counters,
    /// From the end of a fault of a kind to the next thing that a client was told, in ms.
    pub recovery_ms: BTreeMap<Kind, Recovery>,
    /// What was left over, by stage.
    pub left: BTreeMap<&'static str, Left>,
}

/// How long it took.
#[derive(Debug, Serialize)]
pub struct Recovery {
    /// How often it was measured.
    pub times: usize,
    /// Half of the times were shorter.
    pub p50: u64,
    /// All but one in a hundred.
    pub p99: u64,
}

/// Examples of each invariant.
const EXAMPLES: usize = 5;

impl Report {
    /// Puts everything together.
    pub fn new(campaign: &Campaign, outcomes: Vec<(&'static str, Outcome)>) -> Self {
        let mut report = Self {
            seed: campaign.seed,
            jobs: 0,
            seconds: 0.0,
            settled_s: BTreeMap::new(),
            open: 0,
            faults_in_all: 0,
            faults: BTreeMap::new(),
            cuts: 0,
            cut_stories: cuts::Outcome::default(),
            starts: BTreeMap::new(),
            violations: Invariant::ALL.iter().map(|invariant| (*invariant, 0)).collect(),
            examples: Vec::new(),
            floors: Vec::new(),
            counters: Counters::default(),
            recovery_ms: BTreeMap::new(),
            left: BTreeMap::new(),
        };
        let mut faults = Vec::new();
        let mut recovery: BTreeMap<Kind, Vec<u64>> = BTreeMap::new();
        for (name, outcome) in outcomes {
            report.seconds += outcome.faulty.as_secs_f64();
            report.settled_s.insert(name, outcome.settling.as_secs_f64());
            report.open += outcome.open;
            report.cuts += outcome.cuts;
            for (role, count) in outcome.starts {
                *report.starts.entry(role).or_default() += count;
            }
            for violation in outcome.findings.violations {
                let count = report.violations.entry(violation.invariant).or_default();
                *count += 1;
                if *count <= EXAMPLES {
                    report.examples.push(violation);
                }
            }
            report.counters.add(outcome.findings.counters);
            for (kind, times) in outcome.findings.recovery_ms {
                recovery.entry(kind).or_default().extend(times);
            }
            report.left.insert(name, outcome.left);
            faults.extend(outcome.faults);
        }
        report.jobs = report.counters.jobs;
        report.faults_in_all = faults.len();
        report.faults = crate::faults::by_kind(&faults);
        report.floors = floors(campaign.share(), campaign.jobs, &faults, &report.counters);
        report.recovery_ms = recovery.into_iter().map(|(k, t)| (k, Recovery::of(t))).collect();
        report
    }

    /// Writes it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, directory: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        Ok(std::fs::write(directory.join("report.json"), text)?)
    }

    /// What a person wants to know of it.
    pub fn summary(&self) -> String {
        let mut lines = vec![format!(
            "seed {}: {} jobs, {} faults in {:.0} s, {} cuts of one job's story",
            self.seed, self.jobs, self.faults_in_all, self.seconds, self.cut_stories.fallen,
        )];
        for floor in &self.floors {
            let verdict = if floor.is_met() { "met" } else { "NOT MET" };
            lines.push(format!(
                "{verdict:<8}{} (at least {}): {}",
                floor.of, floor.at_least, floor.seen
            ));
        }
        let broken = self.violations.iter().filter(|(_, count)| **count > 0);
        lines.extend(
            broken.map(|(invariant, count)| format!("VIOLATED {invariant:?}: {count} times")),
        );
        let of_cuts = &self.cut_stories.violations;
        lines.extend(of_cuts.iter().map(|what| format!("VIOLATED by a cut: {what}")));
        if self.open > 0 {
            lines.push(format!("OPEN    {} journal entries", self.open));
        }
        if self.is_clean() {
            lines.push("no violations".to_owned());
        }
        lines.join("\n")
    }

    /// Whether nothing was found that must not be.
    pub fn is_clean(&self) -> bool {
        self.violations.values().all(|count| *count == 0)
            && self.open == 0
            && self.cut_stories.violations.is_empty()
    }

    /// Whether it has tested what it is for.
    pub fn has_tested(&self) -> bool {
        self.cut_stories.has_tested() && self.floors.iter().all(Floor::is_met)
    }
}

impl Recovery {
    fn of(mut times: Vec<u64>) -> Self {
        times.sort_unstable();
        let last = times.len().saturating_sub(1) as f64;
        let at = |share: f64| times.get((last * share).round() as usize).copied();
        Self {
            times: times.len(),
            p50: at(0.5).unwrap_or_default(),
            p99: at(0.99).unwrap_or_default(),
        }
    }
}
