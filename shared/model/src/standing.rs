//! What stands under an identifier: a job, a refusal, a void, or the tombstone of a job.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use job::State;
use protocol::HistoryEntry;
use store::{Record, RecordKind};

use crate::wait::Waits;

/// The fields of a record. An absent field is absent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fields(BTreeMap<String, Vec<u8>>);

impl Fields {
    pub(crate) fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(Vec::as_slice)
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.bytes(name)?).ok()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(crate) fn number<T: FromStr>(&self, name: &str) -> Option<T> {
        self.text(name)?.parse().ok()
    }

    /// A number that counts from nothing.
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.number(name).unwrap_or(0)
    }

    pub(crate) fn set(&mut self, name: &str, value: impl Display) {
        self.put(name, value.to_string());
    }

    pub(crate) fn put(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// Sets a field that is given; an absent one stays as it is.
    pub(crate) fn set_some(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    pub(crate) fn remove(&mut self, names: &[&str]) {
        for name in names {
            self.0.remove(*name);
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }
}

/// What stands under one identifier.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// The record's fields, without those who wait.
    pub(crate) fields: Fields,
    /// The timeline, oldest first.
    pub(crate) timeline: Vec<HistoryEntry>,
    /// When the job came into its state.
    pub(crate) since: i64,
    /// When the scheduler looks at it.
    pub(crate) timer: Option<i64>,
    /// Those who wait for it.
    pub(crate) waits: Vec<Waits>,
    /// When all of it goes by itself.
    pub(crate) goes_at: Option<i64>,
}

impl Standing {
    pub(crate) fn kind(&self) -> Option<RecordKind> {
        self.fields.text("record")?.parse().ok()
    }

    pub(crate) fn is_job(&self) -> bool {
        self.kind() == Some(RecordKind::Job)
    }

    /// Where the job is; nothing if it is none.
    pub(crate) fn state(&self) -> Option<State> {
        self.fields.number("state")
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.state().is_some_and(State::is_terminal)
    }

    pub(crate) fn is_in(&self, state: State) -> bool {
        self.is_job() && self.state() == Some(state)
    }

    /// The record as readers see it, without the payload.
    pub(crate) fn record(&self) -> Record {
        Record::from_fields(|name| match name {
            "waits" => Waits::to_json(&self.waits),
            name => self.fields.text(name).map(str::to_owned),
        })
    }
}
