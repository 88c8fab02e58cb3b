//! One job: everything that was seen of it, in one pass.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use super::{Findings, Invariant};
use crate::checker::final_state::Record;
use crate::faults::{Fault, Kind};
use crate::handlers::Task;
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

/// What a client was told once.
struct Told<'a> {
    at: Micros,
    asked: Option<Micros>,
    kind: &'a str,
    message_id: Option<&'a str>,
    answer: &'a Value,
}

impl Told<'_> {
    fn text(&self, field: &str) -> &str {
        self.answer[field].as_str().unwrap_or_default()
    }

    /// Where the job was: later is greater.
    fn order(&self) -> Option<(u64, u64)> {
        Some((self.answer["epoch"].as_u64()?, self.answer["revision"].as_u64()?))
    }
}

/// A disturbance may show itself a while after it is over: leases end, connections are made anew.
const AFTERMATH: Micros = 30_000_000;

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
        let told = self.told();
        self.is_recorded(name, &told, record, findings);
        one_ticket(name, &told, record, findings);
        never_back(name, &told, findings);
        one_end(name, &told, record, findings);
        events(name, &told, record, findings);
        self.unknown(name, &told, record, findings);
        self.rights(name, record, faults, findings);
        ended_as_it_is(name, record, findings);
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

    /// I1, I2.
    fn is_recorded(
        &self,
        name: &str,
        told: &[Told<'_>],
        record: Option<&Record>,
        findings: &mut Findings,
    ) {
        let kind = record.map_or("none", |record| record.kind());
        let receipt = told.iter().find(|t| t.kind == "receipt" && t.text("answer") == "found");
        if let Some(receipt) = receipt
            && !["job", "retired"].contains(&kind)
        {
            let seen = format!("receipt {}; record {kind}", receipt.answer);
            findings.add(Invariant::I1, name, seen);
        }
        let was_sent =
            |entry: &Entry| matches!(entry.seen, Seen::Journaled { .. } | Seen::Confirmed { .. });
        if (self.journal.is_some() || self.seen.iter().any(was_sent)) && kind == "none" {
            let seen = format!("journal {:?}; nothing is recorded", self.journal);
            findings.add(Invariant::I2, name, seen);
        }
        if let Some(standing) = &self.journal
            && !["done", "refused"].contains(&standing.as_str())
        {
            findings.add(Invariant::I2, name, format!("the journal has it {standing}"));
        }
        // Closed by what the server said, and by nothing else.
        if self.journal.as_deref() == Some("done") && told.is_empty() && kind != "job" {
            findings.add(Invariant::I2, name, "closed, though nobody said anything");
        }
    }

    /// I10.
    fn unknown(
        &self,
        name: &str,
        told: &[Told<'_>],
        record: Option<&Record>,
        findings: &mut Findings,
    ) {
        let confirmed = self.seen.iter().find_map(|entry| match entry.seen {
            Seen::Confirmed { .. } => Some(entry.at),
            _ => None,
        });
        let known = told.iter().find(|t| ["found", "refused"].contains(&t.text("answer")));
        let since = [confirmed, known.map(|t| t.at)].into_iter().flatten().min();
        for unknown in told.iter().filter(|t| t.text("answer") == "unknown") {
            let asked = unknown.asked.unwrap_or(unknown.at);
            if since.is_some_and(|since| since < asked) {
                let seen = format!("confirmed or known at {since:?}, asked at {asked}");
                findings.add(Invariant::I10, name, seen);
            }
        }
        let void = told.iter().find(|t| t.text("answer") == "voided" && t.kind == "status");
        if let Some(void) = void {
            let accepted = told.iter().any(|t| t.text("answer") == "found" && t.at > void.at);
            if accepted || record.is_none_or(|record| record.kind() != "voided") {
                findings.add(Invariant::I10, name, "accepted after it was void");
            }
        }
    }

    /// I6, I7.
    fn rights(
        &self,
        name: &str,
        record: Option<&Record>,
        faults: &[Fault],
        findings: &mut Findings,
    ) {
        let mut begun: Vec<(Micros, u32, &str)> = Vec::new();
        let mut over: HashMap<&str, Micros> = HashMap::new();
        for entry in &self.runs {
            match &entry.seen {
                Seen::Began { fence, .. } => begun.push((entry.at, entry.pid, fence)),
                Seen::Ended { fence, .. } | Seen::CutOff { fence, .. } => {
                    over.insert(fence, entry.at);
                }
                _ => {}
            }
        }
        findings.counters.runs += begun.len();
        let mut fences = HashSet::new();
        let mut last = None;
        for (at, pid, fence) in &begun {
            if !fences.insert(*fence) {
                findings.add(Invariant::I7, name, format!("the right {fence} was given twice"));
            }
            let number = number_of(fence);
            if last.is_some_and(|last| number <= last) {
                let seen = format!("the right {fence} came after {last:?}");
                findings.add(Invariant::I7, name, seen);
            }
            last = last.max(Some(number));
            let killed = faults.iter().find(|fault| {
                fault.pid == Some(*pid)
                    && fault.from >= *at
                    && over.get(fence).is_none_or(|end| *end >= fault.from)
            });
            findings.counters.unfinished_runs += usize::from(!over.contains_key(fence));
            let is_kill = killed.is_some_and(|fault| fault.kind == Kind::WorkerKilled);
            findings.counters.killed_while_running += usize::from(is_kill);
        }
        for pair in begun.windows(2) {
            let (first, second) = (pair[0], pair[1]);
            // Without an end its process has died, by itself if by nobody else.
            let overlaps = over.get(first.2).is_some_and(|end| *end > second.0);
            let is_disturbed = faults.iter().any(|fault| {
                fault.from <= second.0 && fault.until.saturating_add(AFTERMATH) >= first.0
            });
            if overlaps && !is_disturbed {
                let seen = format!("{} was superseded by {} for no reason", first.2, second.2);
                findings.add(Invariant::I7, name, seen);
            }
        }
        let Some(record) = record.filter(|record| record.text("state") == "succeeded") else {
            return;
        };
        let result: Value = serde_json::from_str(record.text("result")).unwrap_or_default();
        let (written, right) = (result["fence"].as_str(), record.text("fence"));
        if written != Some(right) {
            let seen = format!("recorded is the result of {written:?}, the right is {right}");
            findings.add(Invariant::I6, name, seen);
        }
        if !fences.contains(right) {
            findings.add(Invariant::I6, name, format!("nobody ran with the right {right}"));
        }
    }
}

fn number_of(fence: &str) -> u64 {
    fence.split('-').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// I3.
fn one_ticket(name: &str, told: &[Told<'_>], record: Option<&Record>, findings: &mut Findings) {
    let mut tickets: HashSet<&str> = told.iter().map(|t| t.text("ticket")).collect();
    tickets.extend(record.map(|record| record.text("ticket")));
    tickets.remove("");
    if tickets.len() > 1 {
        findings.add(Invariant::I3, name, format!("{tickets:?}"));
    }
}

/// I4: whoever asks after somebody was told is told the same, or what came later.
fn never_back(name: &str, told: &[Told<'_>], findings: &mut Findings) {
    let mut states: BTreeMap<(u64, u64), &str> = BTreeMap::new();
    let ordered = told.iter().filter_map(|t| Some((t.order()?, t)));
    for (order, t) in
        ordered.clone().filter(|(_, t)| t.text("answer") == "found" || t.kind == "event")
    {
        let state = t.text("state");
        if let Some(known) = states.insert(order, state)
            && known != state
        {
            let seen = format!("{order:?} is {known} and {state}");
            findings.add(Invariant::I4, name, seen);
        }
    }
    // In the order in which they were told; the questions look back.
    let mut newest: Vec<(Micros, (u64, u64))> = Vec::new();
    for (order, t) in ordered.filter(|(_, t)| t.kind == "status" || t.kind == "receipt") {
        if let Some(asked) = t.asked {
            let before = newest.partition_point(|(at, _)| *at < asked);
            if let Some((_, known)) = before.checked_sub(1).map(|at| newest[at])
                && known > order
            {
                let seen = format!("{order:?} was told at {}, after {known:?}", t.at);
                findings.add(Invariant::I4, name, seen);
            }
        }
        let so_far = newest.last().map_or(order, |(_, newest)| (*newest).max(order));
        newest.push((t.at, so_far));
    }
}

/// I5.
fn one_end(name: &str, told: &[Told<'_>], record: Option<&Record>, findings: &mut Findings) {
    let done = told.iter().filter(|t| t.answer["done"] == true);
    let mut ends: HashSet<(String, Option<(u64, u64)>)> =
        done.map(|t| (t.text("state").to_owned(), t.order())).collect();
    if let Some(record) = record.filter(|record| record.is_final()) {
        ends.insert((record.text("state").to_owned(), record.order()));
    }
    if ends.len() > 1 {
        findings.add(Invariant::I5, name, format!("{ends:?}"));
    }
    let Some((_, Some(end))) = ends.iter().next() else { return };
    let later = told.iter().filter_map(Told::order).find(|order| order > end);
    if let Some(later) = later {
        findings.add(Invariant::I5, name, format!("{later:?} comes after the end {end:?}"));
    }
}

/// I8, I9.
fn events(name: &str, told: &[Told<'_>], record: Option<&Record>, findings: &mut Findings) {
    let mut by_id: HashMap<&str, &Value> = HashMap::new();
    let mut has_end = false;
    for event in told.iter().filter(|t| t.kind == "event") {
        has_end |= event.answer["done"] == true;
        let Some(id) = event.message_id else { continue };
        match by_id.insert(id, event.answer) {
            Some(known) if known != event.answer => {
                findings.add(Invariant::I9, name, format!("{id}: {known} and {}", event.answer));
            }
            Some(_) => findings.counters.repeated_events += 1,
            None => {}
        }
    }
    let Some(record) = record.filter(|record| record.is_final()) else { return };
    if record.wants_its_end() && !has_end && record.text("undeliverable").is_empty() {
        let seen = format!("{} was never told; the ledger is clean", record.text("state"));
        findings.add(Invariant::I8, name, seen);
    }
}

/// I12: only what is to fail fails, only what may be cancelled is.
fn ended_as_it_is(name: &str, record: Option<&Record>, findings: &mut Findings) {
    let Some(record) = record.filter(|record| record.kind() == "job") else { return };
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
        findings.add(Invariant::I12, name, seen);
    }
}
