//! What clients saw and what is in the stores at the end, held against what was promised.
//!
//! Each job is an object of its own, so one pass over what was seen of it is enough.

mod counters;
mod final_state;
mod histories;
mod job;
mod losses;
mod runs;
mod told;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use serde::Serialize;

pub use counters::Counters;
pub use final_state::{FinalState, Left};
use histories::Histories;
pub use job::Job;
use losses::Losses;

use crate::faults::{Fault, Kind, Lane};
use crate::fleet::{Size, client_name, history};
use crate::history::{Entry, Micros, Seen, read};

macro_rules! invariants {
    ($($name:ident $what:literal)*) => {
        /// What must never be.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        pub enum Invariant {
            $(#[doc = $what] $name,)*
        }

        impl Invariant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// What is promised.
            pub const fn what(self) -> &'static str {
                match self { $(Self::$name => $what,)* }
            }
        }
    };
}

invariants! {
    I1 "A job of which a receipt was seen is recorded."
    I2 "What is journaled, or was confirmed to anybody, is recorded in the end."
    I3 "One identifier has one ticket."
    I4 "What a reader is told never goes back."
    I5 "A job has one end."
    I6 "What is recorded is of the attempt that had the right."
    I7 "Two runs never have the same right, and rights grow; nobody is superseded without a cause."
    I8 "The end is pushed to whoever wanted it, or the ledger says that it could not be."
    I9 "Two events with one identifier are the same."
    I10 "`unknown` is never said of what was confirmed before; what is void stays so."
    I11 "Nobody is told of another client's job."
    I12 "No job ends otherwise than by what it is and was asked, or runs more often than it may."
    I13 "In the end nothing is left over."
    I14 "Every process stays within its memory, and ends only when it is made to."
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

/// Everything that was found.
#[derive(Debug, Default, Serialize)]
pub struct Findings {
    /// What must never be.
    pub violations: Vec<Violation>,
    /// What was tested.
    pub counters: Counters,
    /// From the end of a fault of a kind to the first answer to a question that was sent after it,
    /// in ms.
    pub recovery_ms: BTreeMap<Kind, Vec<u64>>,
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
    let mut histories = Histories::default();
    for number in 0..size.clients {
        let client = client_name(number);
        for entry in read(&history(directory, &client))? {
            synced(&entry, faults, &mut findings);
            histories.add(&client, entry, &mut findings);
        }
    }
    findings.recovery_ms = recovery(&histories.answered, faults);
    let mut jobs = histories.into_jobs();
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
    let losses = Losses::of(faults);
    for (name, job) in &mut jobs {
        job.check(name, end.records.get(name), faults, &losses, &mut findings);
    }
    end.check(&jobs, &losses, faults, &mut findings);
    findings.counters.refused_writes = refused_writes(directory, size)?;
    findings.counters.kills_while_running = kills_while_running(&jobs, faults);
    Ok(findings)
}

/// `strace` has hold of the process by then, and does not let go before.
const UNSYNCED: std::ops::Range<Micros> = 1_000_000..1_900_000;

/// Nothing is said to be on disk while no sync succeeds.
fn synced(entry: &Entry, faults: &[Fault], findings: &mut Findings) {
    let Seen::Journaled { id, .. } = &entry.seen else { return };
    let is_unsynced = |fault: &Fault| {
        fault.kind == Kind::JournalUnsynced
            && fault.effect.pid == Some(entry.pid)
            && UNSYNCED.contains(&entry.at.saturating_sub(fault.from))
    };
    if faults.iter().any(is_unsynced) {
        findings.add(Invariant::I2, id, "journaled while no sync succeeded");
    }
}

fn refused_writes(directory: &Path, size: Size) -> anyhow::Result<usize> {
    let mut count = 0;
    for number in 0..size.workers {
        let log = std::fs::read_to_string(directory.join(format!("worker-{number}.log")))?;
        let refused =
            |line: &&str| line.contains("an outcome was refused") && line.contains("Stale");
        count += log.lines().filter(refused).count();
    }
    Ok(count)
}

/// Deaths by SIGKILL after which a handler that had begun has no end.
fn kills_while_running(jobs: &HashMap<String, Job>, faults: &[Fault]) -> usize {
    let cut_off: HashSet<u32> = jobs.values().flat_map(Job::unfinished_in).collect();
    let killed = faults.iter().filter(|fault| fault.kind == Kind::WorkerKilled);
    killed.filter(|fault| fault.effect.pid.is_some_and(|pid| cut_off.contains(&pid))).count()
}

/// Faults after which it is asked how long it takes until a question is answered that was sent
/// later.
const RECOVERS: [Kind; 4] =
    [Kind::BrokerKilled, Kind::BrokerRestarted, Kind::StoreKilled, Kind::StorePaused];

/// Of questions: when they were sent, and when they were answered. Where a node fails again before
/// that, nothing is measured.
fn recovery(answered: &[(Micros, Micros)], faults: &[Fault]) -> BTreeMap<Kind, Vec<u64>> {
    let mut times: BTreeMap<Kind, Vec<u64>> = BTreeMap::new();
    for fault in faults.iter().filter(|fault| RECOVERS.contains(&fault.kind)) {
        let later = answered.iter().filter(|(asked, _)| *asked >= fault.until);
        let Some(at) = later.map(|(_, at)| *at).min() else { continue };
        let is_another = |other: &Fault| {
            other.kind.lane() == Lane::Nodes && other.from < at && other.until > fault.until
        };
        if !faults.iter().any(is_another) {
            times.entry(fault.kind).or_default().push((at - fault.until) / 1000);
        }
    }
    times
}
