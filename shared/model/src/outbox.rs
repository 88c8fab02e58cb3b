//! Messages still to be delivered, in the order in which they were posted, and the ledger of what
//! became of a job's events.

use std::collections::BTreeMap;
use std::fmt::Display;

use job::{ClientName, State};
use protocol::UnixMillis;
use store::outbox::Outcome;
use store::{JobName, RecordKind};

use crate::Model;
use crate::wait::Waits;

/// One message, by its fields.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message(BTreeMap<String, String>);

impl Message {
    fn new(kind: &str, name: &JobName, to: &str) -> Self {
        let mut message = Self::default();
        message.set("kind", kind);
        message.set("to", to);
        message.set("client", &name.client);
        message.set("job_id", &name.job_id);
        message
    }

    pub(crate) fn event(name: &JobName, to: &str, word: &str, state: State) -> Self {
        let mut event = Self::new("event", name, to);
        event.set("event", word);
        event.set("state", state);
        event.set("done", u8::from(state.is_terminal()));
        event
    }

    pub(crate) fn answer(name: &JobName, wait: &Waits) -> Self {
        let mut answer = Self::new("answer", name, &wait.to);
        answer.set("correlation_id", wait.correlation_id.as_deref().unwrap_or_default());
        answer.set("history", if wait.history { "1" } else { "" });
        answer
    }

    /// A field; empty where there is none.
    pub fn get(&self, field: &str) -> &str {
        self.0.get(field).map_or("", String::as_str)
    }

    /// All of them.
    pub fn fields(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    pub(crate) fn set(&mut self, field: &str, value: impl Display) {
        self.0.insert(field.to_owned(), value.to_string());
    }

    pub(crate) fn set_some(&mut self, field: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.set(field, value);
        }
    }
}

/// An entry of the outbox.
#[derive(Debug, Clone)]
pub struct Posted {
    /// Its place in the order of everything that was ever posted, from 1. (Redis names it by the
    /// time.)
    pub number: u64,
    /// The slot it is in.
    pub slot: u16,
    /// What is to be delivered.
    pub message: Message,
    /// Whether a notifier has read it.
    pub is_read: bool,
    /// Whether that notifier still has it: neither settled nor put off.
    pub is_held: bool,
}

/// What a notifier knows of an entry when it says what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Taken {
    /// The entry's number.
    pub number: u64,
    /// Its slot.
    pub slot: u16,
    /// The number of the try under which it was put off; 0 if it was not.
    pub tries: u32,
}

impl Model {
    pub(crate) fn post(&mut self, name: &JobName, message: Message) {
        self.posted += 1;
        let slot = self.keys.slot(name);
        let number = self.posted;
        self.outbox.push(Posted { number, slot, message, is_read: false, is_held: false });
    }

    /// Puts a receipt into the outbox that was not confirmed in time.
    pub fn post_receipt(
        &mut self,
        name: &JobName,
        to: &str,
        correlation_id: Option<&str>,
        ticket: &str,
        body: &str,
    ) {
        let mut receipt = Message::new("receipt", name, to);
        receipt.set("ticket", ticket);
        receipt.set("body", body);
        receipt.set_some("correlation_id", correlation_id);
        self.post(name, receipt);
    }

    /// Everything that waits, oldest first.
    pub fn outbox(&self) -> &[Posted] {
        &self.outbox
    }

    /// How many entries wait for a client, in one slot.
    pub fn outbox_waiting(&self, slot: u16, client: &str) -> u64 {
        let is_one = |it: &&Posted| it.slot == slot && it.message.get("client") == client;
        self.outbox.iter().filter(is_one).count() as u64
    }

    /// Entries that no notifier has read, as many of each slot; they are the reader's from now on.
    pub fn read_outbox(&mut self, most: usize) -> Vec<Posted> {
        let mut found = Vec::new();
        for slot in self.keys.slots() {
            let unread = self.outbox.iter_mut().filter(|it| it.slot == slot && !it.is_read);
            for entry in unread.take(most) {
                (entry.is_read, entry.is_held) = (true, true);
                found.push(entry.clone());
            }
        }
        found
    }

    /// Entries that some notifier has read and not settled.
    pub fn held(&self) -> Vec<Posted> {
        self.outbox.iter().filter(|it| it.is_held).cloned().collect()
    }

    /// Writes down what became of an entry. Whether it was still there.
    pub fn settle(
        &mut self,
        taken: Taken,
        of: &Message,
        outcome: &Outcome,
        at: UnixMillis,
    ) -> bool {
        self.expire(at);
        let found = self.outbox.iter_mut().find(|it| it.number == taken.number);
        let is_there = found.is_some();
        if let Outcome::Later(ms) = outcome {
            if let Some(entry) = found {
                entry.is_held = false;
            }
            self.put_off.remove(&taken);
            let again = at.0.saturating_add_unsigned(*ms);
            self.put_off.insert(Taken { tries: taken.tries + 1, ..taken }, again);
            return is_there;
        }
        if !is_there {
            return false;
        }
        self.outbox.retain(|it| it.number != taken.number);
        self.put_off.remove(&taken);
        self.note(of, outcome);
        true
    }

    /// The ledger of a job, which its tombstone keeps: the newest event that was delivered, and
    /// what was given up. It is of the queue that events go to now.
    fn note(&mut self, of: &Message, outcome: &Outcome) {
        let name = JobName::from_member(&format!("{}:{}", of.get("client"), of.get("job_id")));
        let Some(job) = name.and_then(|name| self.standings.get_mut(&name)) else { return };
        if !matches!(job.kind(), Some(RecordKind::Job | RecordKind::Retired)) {
            return;
        }
        let fields = &mut job.fields;
        let is_event = of.get("kind") == "event";
        let to = fields.text("notify_to").or(fields.text("reply_to")).unwrap_or_default();
        if is_event && of.get("to") != to {
            return;
        }
        let revision: u64 = of.get("revision").parse().unwrap_or(0);
        match outcome {
            Outcome::Undeliverable(reason) if !reason.is_empty() => {
                fields.set("undeliverable", fields.count("undeliverable") + 1);
                fields.set("undeliverable_reason", reason);
                let oldest = fields.number("undeliverable_from").unwrap_or(u64::MAX);
                if is_event && revision < oldest {
                    fields.set("undeliverable_from", revision);
                }
            }
            _ if is_event && revision > fields.count("delivered_revision") => {
                fields.set("delivered_revision", revision);
            }
            _ => {}
        }
    }

    /// Entries of a slot whose time has come again, each held for a while. What is not in the
    /// outbox any more is dropped from those that were put off.
    pub fn put_off_due(&mut self, slot: u16, hold_ms: u64, at: UnixMillis) -> Vec<Taken> {
        let due = |taken: &Taken, again: i64| taken.slot == slot && again <= at.0;
        let due: Vec<Taken> =
            self.put_off.iter().filter(|(it, again)| due(it, **again)).map(|(it, _)| *it).collect();
        let mut found = Vec::new();
        for taken in due {
            if self.outbox.iter().any(|it| it.number == taken.number) {
                self.put_off.insert(taken, at.0.saturating_add_unsigned(hold_ms));
                found.push(taken);
            } else {
                self.put_off.remove(&taken);
            }
        }
        found
    }

    /// How many of a client's jobs in a slot are not finished.
    pub(crate) fn unfinished(&self, slot: u16, client: &ClientName) -> u64 {
        let jobs = self.standings.iter().filter(|(name, it)| {
            name.client == *client && self.keys.slot(name) == slot && it.is_job()
        });
        jobs.filter(|(_, it)| !it.is_finished()).count() as u64
    }
}
