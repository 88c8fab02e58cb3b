//! What clients saw and what is in the stores at the end, held against what was promised.
//!
//! Each job is an object of its own, so one pass over what was seen of it is enough.

mod counters;
mod final_state;
mod job;
mod losses;
mod runs;
mod told;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use serde::Serialize;

pub use counters::Counters;
pub use final_state::{FinalState, Left};
pub use job::Job;
use losses::Losses;

use crate::faults::{Fault, Kind};
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
    /// From the end of a fault of a kind to the first answer to a question that was sent after it, in
    /// ms.
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
    let mut jobs: HashMap<String, Job> = HashMap::new();
    let mut answered = Vec::new();
    let mut by_ticket = Vec::new();
    let mut tickets: HashMap<String, String> = HashMap::new();
    for number in 0..size.clients {
        let client = client_name(number);
        for entry in read(&history(directory, &client))? {
            synced(&entry, faults, &mut findings);
            let counters = &mut findings.counters;
            match &entry.seen {
                Seen::Repeated { is_lost: true, .. } => counters.lost_confirms += 1,
                Seen::Repeated { is_lost: false, .. } => counters.repeated += 1,
                Seen::Unanswered { .. } => counters.unanswered += 1,
                Seen::NotJournaled { .. } => counters.not_journaled += 1,
                Seen::Told { answer, asked, .. } => {
                    counters.answers += usize::from(asked.is_some());
                    let word = answer["answer"].as_str().unwrap_or_default();
                    *counters.words.entry(word.to_owned()).or_default() += 1;
                    counters.duplicates += usize::from(answer["duplicate"] == true);
                    answered.extend(asked.map(|asked| (asked, entry.at)));
                    if answer["client"].as_str().is_some_and(|of| of != client) {
                        findings.add(Invariant::I11, &client, answer.to_string());
                    }
                }
                _ => {}
            }
            let id = match &entry.seen {
                Seen::Journaled { id, .. }
                | Seen::Confirmed { id, .. }
                | Seen::Sent { id }
                | Seen::CancelAsked { id }
                | Seen::Repeated { id, .. } => id,
                Seen::Told { answer, ticket, .. } => match answer["job_id"].as_str() {
                    Some(id) => {
                        let name = format!("{client}:{id}");
                        let (said, by) = (answer["ticket"].as_str(), ticket.as_deref());
                        if said.zip(by).is_some_and(|(said, by)| said != by) {
                            let seen = format!("asked by {by:?}, answered of {said:?}");
                            findings.add(Invariant::I3, &name, seen);
                        }
                        let known = said.or(by);
                        if let Some(known) = known
                            && let Some(other) = tickets.insert(known.to_owned(), name.clone())
                            && other != name
                        {
                            findings.add(Invariant::I3, &name, format!("{known} is {other}'s"));
                        }
                        id
                    }
                    None => {
                        by_ticket.extend(ticket.clone().map(|ticket| (ticket, entry)));
                        continue;
                    }
                },
                _ => continue,
            };
            jobs.entry(format!("{client}:{id}")).or_default().seen.push(entry.clone());
        }
    }
    // Nobody asks by a ticket that was not heard of before.
    for (ticket, entry) in by_ticket {
        if let Some(name) = tickets.get(&ticket) {
            jobs.entry(name.clone()).or_default().seen.push(entry);
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
    let losses = Losses::of(faults);
    for (name, job) in &mut jobs {
        job.check(name, end.records.get(name), faults, &losses, &mut findings);
    }
    end.check(&jobs, &losses, faults, &mut findings);
    findings.counters.refused_writes = refused_writes(directory, size)?;
    findings.counters.kills_while_running = kills_while_running(&jobs, faults);
    findings.recovery_ms = recovery(&answered, faults);
    recovered_in_time(&mut findings);
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

/// Faults after which it is asked how long it takes until a question is answered that was sent after
/// them, and how long it may take, in ms.
const RECOVERS: [(Kind, u64); 4] = [
    (Kind::BrokerKilled, 20_000),
    (Kind::BrokerRestarted, 20_000),
    (Kind::StoreKilled, 10_000),
    (Kind::StorePaused, 20_000),
];

/// Of questions: when they were sent, and when they were answered.
fn recovery(answered: &[(Micros, Micros)], faults: &[Fault]) -> BTreeMap<Kind, Vec<u64>> {
    let mut times: BTreeMap<Kind, Vec<u64>> = BTreeMap::new();
    for fault in faults.iter().filter(|fault| RECOVERS.iter().any(|(of, _)| *of == fault.kind)) {
        let later = answered.iter().filter(|(asked, _)| *asked >= fault.until);
        if let Some(at) = later.map(|(_, at)| *at).min() {
            times.entry(fault.kind).or_default().push((at - fault.until) / 1000);
        }
    }
    times
}

/// I14.
fn recovered_in_time(findings: &mut Findings) {
    for (kind, most) in RECOVERS {
        let times = findings.recovery_ms.get(&kind);
        let worst = times.and_then(|times| times.iter().max()).copied().unwrap_or_default();
        if worst > most {
            let seen = format!("nothing was answered for {worst} ms after {kind:?}");
            findings.add(Invariant::I14, "recovery", seen);
        }
    }
}
