//! What clients were told of a job: I1 to I5, and I8 to I10.

use std::collections::{BTreeMap, HashMap, HashSet};

use protocol::UnixMillis;
use serde_json::Value;

use super::final_state::Record;
use super::job::{AFTERMATH, Case, UNDER_WAY};
use super::{Findings, Invariant};
use crate::faults::{Fault, Kind};
use crate::history::{Entry, Micros, Seen};
use crate::load::SPARE;

/// What a client was told once.
pub(super) struct Told<'a> {
    pub(super) at: Micros,
    pub(super) asked: Option<Micros>,
    pub(super) kind: &'a str,
    pub(super) message_id: Option<&'a str>,
    pub(super) answer: &'a Value,
}

impl Told<'_> {
    fn text(&self, field: &str) -> &str {
        self.answer[field].as_str().unwrap_or_default()
    }

    /// Where the job was: later is greater.
    fn order(&self) -> Option<(u64, u64)> {
        Some((self.answer["epoch"].as_u64()?, self.answer["revision"].as_u64()?))
    }

    fn is_found(&self) -> bool {
        self.text("answer") == "found"
    }

    /// Whether it says that what was known then may be lost.
    fn is_of_lost(&self, known: Micros) -> bool {
        let until = self.answer["lost_between"][1].as_str().and_then(UnixMillis::parse);
        until.is_some_and(|until| known <= until.0.unsigned_abs() * 1000 + UNDER_WAY)
    }
}

impl Case<'_> {
    /// I1, I2.
    pub(super) fn is_recorded(&self, findings: &mut Findings) {
        let kind = self.record.map_or("none", |record| record.kind());
        let journal = self.job.journal.as_deref();
        // Its client has seen the end or the refusal, and will not ask again for what the store
        // forgot.
        let is_closed = matches!(journal, Some("done" | "refused"));
        if self.is_rolled_back && kind == "none" && is_closed {
            findings.counters.forgotten_by_roll_back += 1;
            return;
        }
        let receipt = self.told.iter().find(|t| t.kind == "receipt" && t.is_found());
        // To cancel what the store forgot makes its identifier void.
        let is_void = self.is_rolled_back && kind == "voided";
        if let Some(receipt) = receipt
            && !is_void
            && !["job", "retired"].contains(&kind)
        {
            let seen = format!("receipt {}; record {kind}", receipt.answer);
            findings.add(Invariant::I1, self.name, seen);
        }
        let was_sent =
            |entry: &Entry| matches!(entry.seen, Seen::Journaled { .. } | Seen::Confirmed { .. });
        if (journal.is_some() || self.job.seen.iter().any(was_sent)) && kind == "none" {
            let seen = format!("journal {journal:?}; nothing is recorded");
            findings.add(Invariant::I2, self.name, seen);
        }
        if let Some(standing) = journal
            && !["done", "refused"].contains(&standing)
        {
            findings.add(Invariant::I2, self.name, format!("the journal has it {standing}"));
        }
        // Closed by what the server said, and by nothing else.
        if journal == Some("done") && self.told.is_empty() && kind != "job" {
            findings.add(Invariant::I2, self.name, "closed, though nobody said anything");
        }
    }

    /// I3.
    pub(super) fn has_one_ticket(&self, findings: &mut Findings) {
        let mut tickets: HashSet<&str> = self.told.iter().map(|t| t.text("ticket")).collect();
        tickets.extend(self.record.map(|record| record.text("ticket")));
        tickets.remove("");
        if tickets.len() > 1 {
            findings.add(Invariant::I3, self.name, format!("{tickets:?}"));
        }
    }

    /// I4: whoever asks after somebody was told is told the same, or what came later.
    pub(super) fn never_goes_back(&self, findings: &mut Findings) {
        let mut states: BTreeMap<(u64, u64), &str> = BTreeMap::new();
        let ordered = self.told.iter().filter_map(|t| Some((t.order()?, t)));
        for (order, t) in ordered.clone().filter(|(_, t)| t.is_found() || t.kind == "event") {
            let state = t.text("state");
            if let Some(known) = states.insert(order, state)
                && known != state
            {
                let seen = format!("{order:?} is {known} and {state}");
                findings.add(Invariant::I4, self.name, seen);
            }
        }
        // In the order in which they were told; the questions look back.
        let mut newest: Vec<(Micros, (u64, u64))> = Vec::new();
        for (order, t) in ordered.filter(|(_, t)| t.kind == "status" || t.kind == "receipt") {
            if let Some(asked) = t.asked {
                let before = newest.partition_point(|(at, _)| *at < asked);
                if let Some((at, known)) = before.checked_sub(1).map(|at| newest[at])
                    && known > order
                    // It says itself that what was told before may be lost.
                    && !t.is_of_lost(at)
                {
                    let seen = format!("{order:?} was told at {}, after {known:?}", t.at);
                    findings.add(Invariant::I4, self.name, seen);
                }
            }
            let so_far = newest.last().map_or(order, |(_, newest)| (*newest).max(order));
            newest.push((t.at, so_far));
        }
    }

    /// I5. An end that was lost is followed by another one, which says of which epoch it is.
    pub(super) fn has_one_end(&self, findings: &mut Findings) {
        let done = self.told.iter().filter(|t| t.answer["done"] == true);
        let mut ends: HashSet<(&str, Option<(u64, u64)>)> =
            done.map(|t| (t.text("state"), t.order())).collect();
        if let Some(record) = self.record.filter(|record| record.is_final()) {
            ends.insert((record.text("state"), record.order()));
        }
        let epochs: HashSet<Option<u64>> =
            ends.iter().map(|(_, order)| order.map(|order| order.0)).collect();
        let allowed = if self.is_rolled_back { epochs.len() } else { 1 };
        if ends.len() > allowed {
            findings.add(Invariant::I5, self.name, format!("{ends:?}"));
        }
        let Some(end) = ends.iter().filter_map(|(_, order)| *order).max() else { return };
        let later = self.told.iter().filter_map(Told::order).find(|order| *order > end);
        if let Some(later) = later.filter(|later| !self.is_rolled_back || later.0 == end.0) {
            let seen = format!("{later:?} comes after the end {end:?}");
            findings.add(Invariant::I5, self.name, seen);
        }
    }

    /// I8, I9.
    pub(super) fn is_told(&self, findings: &mut Findings) {
        let mut by_id: HashMap<&str, &Value> = HashMap::new();
        let mut has_end = false;
        for event in self.told.iter().filter(|t| t.kind == "event") {
            has_end |= event.answer["done"] == true;
            let Some(id) = event.message_id else { continue };
            match by_id.insert(id, event.answer) {
                Some(known) if known != event.answer => {
                    let seen = format!("{id}: {known} and {}", event.answer);
                    findings.add(Invariant::I9, self.name, seen);
                }
                Some(_) => findings.counters.repeated_events += 1,
                None => {}
            }
        }
        let Some(record) = self.record.filter(|record| record.is_final()) else { return };
        let to = record.text("notify_to");
        let is_given_up = !record.text("undeliverable_from").is_empty();
        findings.counters.undeliverable += usize::from(is_given_up);
        if is_given_up && !to.ends_with(SPARE) {
            let why = record.text("undeliverable_reason");
            let seen = format!("{to} was there all the time: {why}");
            findings.add(Invariant::I8, self.name, seen);
        }
        let is_silent = record.wants_its_end() && !has_end && !is_given_up;
        if is_silent && !went_with_its_queue(record, self.faults) {
            let state = record.text("state");
            let seen = format!("{state} was never told to {to}; the ledger is clean");
            findings.add(Invariant::I8, self.name, seen);
        }
    }

    /// I10.
    pub(super) fn is_never_unknown(&self, findings: &mut Findings) {
        let confirmed = self.job.seen.iter().find_map(|entry| match entry.seen {
            Seen::Confirmed { .. } => Some(entry.at),
            _ => None,
        });
        let known = self.told.iter().find(|t| ["found", "refused"].contains(&t.text("answer")));
        let since = [confirmed, known.map(|t| t.at)].into_iter().flatten().min();
        for unknown in self.told.iter().filter(|t| t.text("answer") == "unknown") {
            let asked = unknown.asked.unwrap_or(unknown.at);
            if since.is_some_and(|since| since < asked && !unknown.is_of_lost(since)) {
                let seen = format!("confirmed or known at {since:?}, asked at {asked}");
                findings.add(Invariant::I10, self.name, seen);
            }
        }
        let void = self.told.iter().find(|t| t.text("answer") == "voided" && t.kind == "status");
        if let Some(void) = void.filter(|_| !self.is_rolled_back) {
            let is_accepted = self.told.iter().any(|t| t.is_found() && t.at > void.at);
            if is_accepted || self.record.is_none_or(|record| record.kind() != "voided") {
                findings.add(Invariant::I10, self.name, "accepted after it was void");
            }
        }
    }
}

/// What is in a queue that is deleted before it was read is gone, and nobody can know.
fn went_with_its_queue(record: &Record, faults: &[Fault]) -> bool {
    let Ok(finished_ms) = record.text("finished_at").parse::<Micros>() else { return false };
    let finished = finished_ms * 1000;
    let to = record.text("notify_to");
    let mut deletions = faults.iter().filter(|fault| {
        fault.kind == Kind::ReplyQueueDeleted && fault.effect.queue.as_deref() == Some(to)
    });
    deletions.any(|f| finished < f.until && finished.saturating_add(AFTERMATH) > f.from)
}
