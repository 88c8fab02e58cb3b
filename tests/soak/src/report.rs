//! What came of a campaign, as a file and as a table.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::campaign::{Campaign, SIZE};
use crate::checker::{Counters, FinalState, Findings, Invariant, Left, Violation};
use crate::faults::{Fault, Kind, by_kind};
use crate::fleet::{Role, client_name, history};
use crate::history::{Micros, Seen, read};

/// `report.json`.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What the order of the faults came from.
    pub seed: u64,
    /// Jobs that were submitted.
    pub jobs: usize,
    /// For how long faults were made, in seconds.
    pub seconds: f64,
    /// Until everything was settled after the last fault, in seconds.
    pub settled_s: f64,
    /// Journal entries that were not.
    pub open: usize,
    /// Faults, by kind.
    pub faults: BTreeMap<Kind, usize>,
    /// Cuts that fell exactly where they were to.
    pub cuts: u64,
    /// Processes that were started, by role.
    pub starts: Vec<(Role, u32)>,
    /// What must never be, how often.
    pub violations: BTreeMap<Invariant, usize>,
    /// The first of each.
    pub examples: Vec<Violation>,
    /// What shows that something was tested.
    pub counters: Counters,
    /// Outcomes that were refused because another attempt had the right.
    pub refused_writes: usize,
    /// From the end of a fault of a kind to the next thing that a client was told, in ms.
    pub recovery_ms: BTreeMap<Kind, Recovery>,
    /// What was left over.
    pub left: Left,
}

/// How long it took.
#[derive(Debug, Serialize)]
pub struct Recovery {
    /// Half of the times were shorter.
    pub p50: u64,
    /// All but one in a hundred.
    pub p99: u64,
}

/// Examples of each invariant.
const EXAMPLES: usize = 5;

impl Report {
    /// Puts everything together.
    ///
    /// # Errors
    /// A log cannot be read.
    #[expect(clippy::too_many_arguments, reason = "everything that was found, once")]
    pub fn new(
        campaign: &Campaign,
        faults: &[Fault],
        findings: Findings,
        end: &FinalState,
        starts: [(Role, u32); 3],
        cuts: u64,
        (faulty, settling): (Duration, Duration),
        open: usize,
    ) -> anyhow::Result<Self> {
        let mut violations: BTreeMap<Invariant, usize> = BTreeMap::new();
        let mut examples = Vec::new();
        for violation in findings.violations {
            let count = violations.entry(violation.invariant).or_default();
            *count += 1;
            if *count <= EXAMPLES {
                examples.push(violation);
            }
        }
        let left = Left {
            queues: end.left.queues.clone(),
            outbox: end.left.outbox,
            unfinished: end.left.unfinished.clone(),
            memory_kib: end.left.memory_kib.clone(),
        };
        let report = Self {
            seed: campaign.seed,
            jobs: findings.counters.jobs,
            seconds: faulty.as_secs_f64(),
            settled_s: settling.as_secs_f64(),
            open,
            faults: by_kind(faults),
            cuts,
            starts: starts.to_vec(),
            violations,
            examples,
            counters: findings.counters,
            refused_writes: refused_writes(&campaign.directory)?,
            recovery_ms: recovery(&campaign.directory, faults)?,
            left,
        };
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(campaign.directory.join("report.json"), text)?;
        Ok(report)
    }

    /// Whether nothing was found that must not be.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty() && self.open == 0
    }
}

fn refused_writes(directory: &Path) -> anyhow::Result<usize> {
    let mut count = 0;
    for number in 0..SIZE.workers {
        let log = std::fs::read_to_string(directory.join(format!("worker-{number}.log")))?;
        count += log.matches("an outcome was refused").count();
    }
    Ok(count)
}

/// Faults after which it is asked how long it takes until somebody is told something.
const RECOVERS: [Kind; 4] =
    [Kind::BrokerKilled, Kind::BrokerRestarted, Kind::StoreKilled, Kind::StorePaused];

fn recovery(directory: &Path, faults: &[Fault]) -> anyhow::Result<BTreeMap<Kind, Recovery>> {
    let mut told: Vec<Micros> = Vec::new();
    for number in 0..SIZE.clients {
        let entries = read(&history(directory, &client_name(number)))?;
        let is_word = |seen: &Seen| matches!(seen, Seen::Told { kind, .. } if kind == "receipt" || kind == "event");
        told.extend(entries.iter().filter(|entry| is_word(&entry.seen)).map(|entry| entry.at));
    }
    told.sort_unstable();
    let mut times: BTreeMap<Kind, Vec<u64>> = BTreeMap::new();
    for fault in faults.iter().filter(|fault| RECOVERS.contains(&fault.kind)) {
        let next = told.partition_point(|at| *at < fault.until);
        if let Some(at) = told.get(next) {
            times.entry(fault.kind).or_default().push((at - fault.until) / 1000);
        }
    }
    Ok(times
        .into_iter()
        .map(|(kind, mut times)| {
            times.sort_unstable();
            let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
            (kind, Recovery { p50: at(0.5), p99: at(0.99) })
        })
        .collect())
}
