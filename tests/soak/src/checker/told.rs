//! What clients were told of a job: I1 to I5, and I8 to I10.

use std::collections::{BTreeMap, HashMap, HashSet};

use protocol::Code;
use serde_json::Value;

use super::final_state::Record;
use super::job::Case;
use super::losses::micros;
use super::{Findings, Invariant};
use crate::faults::{Fault, Kind};
use crate::history::{Micros, Seen};
use crate::load::{SPARE, VOID};

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

    /// Whether it says that something may be lost.
    fn says_lost(&self) -> bool {
        self.answer["lost_between"].is_array()
    }
}

impl Case<'_> {
    /// I1, I2.
    pub(super) fn is_recorded(&self, findings: &mut Findings) {
        let kind = self.record.map_or("none", |record| record.kind());
        let journal = self.job.journal.as_deref();
        let last = self.told.iter().rfind(|t| t.is_found() && t.answer["accepted_at"].is_string());
        let is_lost = last.is_some_and(|t| self.losses.hold_accepted(t.answer));
        // Its client has seen the end or the refusal, and will not ask again for what the store
        // forgot.
        let has_end = match journal {
            Some("done") => is_lost && self.job.has_lost_its_end(self.losses),
            Some("refused") => {
                let is_it = |t: &Told<'_>| ["refused", "voided"].contains(&t.text("answer"));
                self.told.iter().any(|t| is_it(t) && self.losses.hold_heard(t.at))
            }
            _ => false,
        };
        if kind == "none" && has_end {
            findings.counters.forgotten_by_roll_back += 1;
            return;
        }
        let receipt = self.told.iter().find(|t| t.kind == "receipt" && t.is_found());
        // To cancel what the store forgot makes its identifier void.
        let is_void = is_lost && kind == "voided";
        if let Some(receipt) = receipt
            && !is_void
            && !["job", "retired"].contains(&kind)
        {
            let seen = format!("receipt {}; record {kind}", receipt.answer);
            findings.add(Invariant::I1, self.name, seen);
        }
        let has = |is: fn(&Seen) -> bool| self.job.seen.iter().any(|entry| is(&entry.seen));
        let was_sent = has(|seen| matches!(seen, Seen::Journaled { .. } | Seen::Confirmed { .. }));
        if (journal.is_some() || was_sent) && kind == "none" {
            let seen = format!("journal {journal:?}; nothing is recorded");
            findings.add(Invariant::I2, self.name, seen);
        }
        let code = self.record.map_or("", |record| record.text("code"));
        let is_wrong = match kind {
            "refused" => code != Code::PayloadTooLarge.as_str(),
            // One that is asked for only to be void is submitted afterwards.
            "voided" => {
                !has(|seen| matches!(seen, Seen::CancelAsked { .. })) && !self.name.contains(VOID)
            }
            _ => false,
        };
        if was_sent && is_wrong {
            let seen = format!("what could be accepted is {kind} {code}");
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
        let mut newest: Vec<(Micros, (u64, u64), bool)> = Vec::new();
        for (order, t) in ordered {
            if let Some(asked) = t.asked {
                let before = newest.partition_point(|(at, ..)| *at < asked);
                if let Some((_, known, is_lost)) = before.checked_sub(1).map(|at| newest[at])
                    && known > order
                    // It says itself that what was told before may be lost, and it may.
                    && !(t.says_lost() && is_lost)
                {
                    let seen = format!("{order:?} was told at {}, after {known:?}", t.at);
                    findings.add(Invariant::I4, self.name, seen);
                }
            }
            let this = (t.at, order, self.losses.hold_told(t.answer));
            let so_far =
                newest.last().map_or(this, |last| if last.1 > order { *last } else { this });
            newest.push((t.at, so_far.1, so_far.2));
        }
    }

    /// I5. An end that was lost is followed by another one, which says of which epoch it is.
    pub(super) fn has_one_end(&self, findings: &mut Findings) {
        let done = self.told.iter().filter(|t| t.answer["done"] == true);
        let mut ends: BTreeMap<Option<(u64, u64)>, (&str, bool)> = BTreeMap::new();
        for t in done {
            let end = (t.text("state"), self.losses.hold_told(t.answer));
            if let Some(known) = ends.insert(t.order(), end)
                && known.0 != end.0
            {
                findings.add(Invariant::I5, self.name, format!("{known:?} and {end:?}"));
            }
        }
        if let Some(record) = self.record.filter(|record| record.is_final()) {
            ends.entry(record.order()).or_insert((record.text("state"), false));
        }
        let Some((last, _)) = ends.last_key_value().map(|(order, end)| (*order, *end)) else {
            return;
        };
        if ends.iter().any(|(order, (_, is_lost))| *order != last && !is_lost) {
            findings.add(Invariant::I5, self.name, format!("{ends:?}"));
        }
        let later = self.told.iter().filter_map(Told::order).find(|order| Some(*order) > last);
        let is_lost = last.and_then(|last| ends.get(&Some(last))).is_some_and(|end| end.1);
        if let Some(later) =
            later.filter(|later| !is_lost || last.is_some_and(|last| later.0 == last.0))
        {
            let seen = format!("{later:?} comes after the end {last:?}");
            findings.add(Invariant::I5, self.name, seen);
        }
    }

    /// I8, I9.
    pub(super) fn is_told(&self, findings: &mut Findings) {
        let mut by_id: HashMap<&str, &Value> = HashMap::new();
        let mut has_end = false;
        for event in self.told.iter().filter(|t| t.kind == "event") {
            has_end |= event.answer["done"] == true
                && self.record.is_some_and(|record| record.order() == event.order());
            let Some(id) = event.message_id else {
                findings.add(Invariant::I9, self.name, format!("no identifier: {}", event.answer));
                continue;
            };
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
        if is_given_up && !self.was_disturbed(to, record) {
            let why = record.text("undeliverable_reason");
            let seen = format!("{to} was there, and took messages, all the time: {why}");
            findings.add(Invariant::I8, self.name, seen);
        }
        let is_silent = record.wants_its_end() && !has_end && !is_given_up;
        if is_silent && !self.went_with_its_queue(record) && !self.had_no_room(record) {
            let state = record.text("state");
            let seen = format!("{state} was never told to {to}; the ledger is clean");
            findings.add(Invariant::I8, self.name, seen);
        }
    }

    /// I10.
    pub(super) fn is_never_unknown(&self, findings: &mut Findings) {
        let confirmed = self.job.seen.iter().find_map(|entry| match entry.seen {
            Seen::Confirmed { .. } | Seen::Sent { .. } => Some(entry.at),
            _ => None,
        });
        let known = self.told.iter().find(|t| ["found", "refused"].contains(&t.text("answer")));
        let since = [confirmed, known.map(|t| t.at)].into_iter().flatten().min();
        let is_kept = self.record.is_some_and(|record| record.kind() == "job");
        // It was retired, and that was lost: the record is back.
        let is_lost = |t: &Told<'_>| self.losses.hold_retired(t.answer, t.at);
        let is_negative = |t: &&Told<'_>| match t.text("answer") {
            "unknown" => true,
            "forgotten" => is_kept && !is_lost(t),
            _ => false,
        };
        for unknown in self.told.iter().filter(is_negative) {
            let asked = unknown.asked.unwrap_or(unknown.at);
            if since.is_some_and(|since| since < asked)
                && !(unknown.says_lost() && self.may_be_lost(asked, confirmed))
            {
                let seen = format!("confirmed or known at {since:?}, asked at {asked}");
                findings.add(Invariant::I10, self.name, seen);
            }
        }
        let void = self.told.iter().find(|t| t.text("answer") == "voided" && t.kind == "status");
        let may_be_lost = |void: &&Told<'_>| {
            let last = void.answer["as_of"].as_str().and_then(micros).unwrap_or(void.at);
            self.losses.touch(void.asked.unwrap_or(last), last)
        };
        if let Some(void) = void.filter(|void| !may_be_lost(void)) {
            let is_accepted = self.told.iter().any(|t| t.is_found() && t.at > void.at);
            if is_accepted || self.record.is_none_or(|record| record.kind() != "voided") {
                findings.add(Invariant::I10, self.name, "accepted after it was void");
            }
        }
    }

    /// Whether the last that was known of it before a question may have been lost; or, of what was
    /// only confirmed, whatever became of it since.
    fn may_be_lost(&self, asked: Micros, confirmed: Option<Micros>) -> bool {
        let before = |t: &&Told<'_>| t.at < asked && t.answer["accepted_at"].is_string();
        match self.told.iter().rfind(before) {
            Some(known) => self.losses.hold_accepted(known.answer),
            // A refusal is said when it is recorded.
            None => {
                let refused =
                    self.told.iter().rfind(|t| t.at < asked && t.text("answer") == "refused");
                let since = refused.map(|t| t.at).or(confirmed);
                since.is_some_and(|since| self.losses.touch(since.saturating_sub(UNDER_WAY), asked))
            }
        }
    }

    /// Whether a queue was deleted or full while a job went on, or its last events were tried.
    fn was_disturbed(&self, queue: &str, record: &Record) -> bool {
        let at = |field: &str| record.text(field).parse::<Micros>().unwrap_or_default() * 1000;
        let (first, last) = (at("accepted_at"), at("finished_at").saturating_add(UNREAD_AFTER));
        let kinds = [Kind::ReplyQueueDeleted, Kind::ReplyQueueFull];
        let is_its = |fault: &Fault| {
            kinds.contains(&fault.kind)
                && fault.effect.queue.as_deref() == Some(queue)
                && fault.from <= last
                && fault.until.saturating_add(UNREAD_AFTER) >= first
        };
        queue.ends_with(SPARE) && self.faults.iter().any(is_its)
    }

    /// Whether the event of its end was in a queue that was deleted, or on its way into it:
    /// RabbitMQ confirms what reaches a queue while it is deleted.
    fn went_with_its_queue(&self, record: &Record) -> bool {
        let is_its_end = |event: &Value| {
            let text = |field: &str| event[field].as_str().unwrap_or_default();
            let order = (event["epoch"].as_u64(), event["revision"].as_u64());
            format!("{}:{}", text("client"), text("job_id")) == *self.name
                && record.order().is_some_and(|known| order == (Some(known.0), Some(known.1)))
        };
        let finished = record.text("finished_at").parse::<Micros>().unwrap_or_default() * 1000;
        let to = record.text("notify_to");
        let came_at_the_moment = |fault: &Fault| {
            fault.kind == Kind::ReplyQueueDeleted
                && !fault.effect.has_missed
                && fault.effect.queue.as_deref() == Some(to)
                && (finished..finished.saturating_add(INTO_QUEUE)).contains(&fault.until)
        };
        self.faults
            .iter()
            .any(|fault| fault.effect.taken.iter().any(is_its_end) || came_at_the_moment(fault))
    }

    /// Whether the event of its end may have been in a queue that was full when the broker started
    /// again. RabbitMQ (3.10.8) then looks at a policy's limit before it looks at what is to happen
    /// beyond it, and drops what there is no room for, though it is to refuse what comes.
    fn had_no_room(&self, record: &Record) -> bool {
        let finished = record.text("finished_at").parse::<Micros>().unwrap_or_default() * 1000;
        let to = record.text("notify_to");
        let is_full = |fault: &&Fault| {
            fault.kind == Kind::ReplyQueueFull
                && !fault.effect.has_missed
                && fault.effect.queue.as_deref() == Some(to)
        };
        let has_started = |fault: &&Fault| {
            [Kind::BrokerKilled, Kind::BrokerRestarted].contains(&fault.kind)
                && finished < fault.until
        };
        self.faults.iter().filter(is_full).any(|full| {
            let mut starts = self.faults.iter().filter(has_started);
            starts.any(|start| full.from < start.until && start.from < full.until)
        })
    }
}

/// An answer may be under way for so long.
const UNDER_WAY: Micros = 10_000_000;
/// An event may take so long from the end of its job into its queue, where nothing is in its way.
const INTO_QUEUE: Micros = 2_000_000;
/// An event may wait so long in the outbox after something that kept it from its queue.
const UNREAD_AFTER: Micros = 30_000_000;
