//! What the two sides answer, in a form in which it can be compared.

use model::outbox::{Posted, Taken};
use store::outbox::Entry;
use store::subscribe::Subscribed;

use super::look::Difference;

/// What the store answered.
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) entries: Vec<Entry>,
}

impl Answer {
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// What the model answers, and what that shows of the scripts.
#[derive(Clone, Default)]
pub(super) struct Expected {
    pub(super) text: String,
    pub(super) entries: Vec<(Taken, Posted)>,
    pub(super) tallies: Vec<(&'static str, String)>,
}

impl Expected {
    /// Of one after another; an answer a line.
    pub(super) fn and(mut self, next: Self) -> Self {
        self.text.push_str(&next.text);
        self.text.push('\n');
        self.entries.extend(next.entries);
        self.tallies.extend(next.tallies);
        self
    }

    pub(super) fn compare(&self, answer: &Answer) -> Result<(), Difference> {
        let number = (self.entries.len(), answer.entries.len());
        if self.text == answer.text && number.0 == number.1 {
            return Ok(());
        }
        let told = |text: &str, entries: usize| format!("{text}, {entries} entries");
        Err(Difference::of("the answer", told(&answer.text, number.1), told(&self.text, number.0)))
    }
}

/// The entries of both sides, which come in the same order, or are known by their try.
pub(super) fn pairs(
    expected: Vec<(Taken, Posted)>,
    entries: Vec<Entry>,
) -> Vec<(Taken, Posted, Entry)> {
    expected.into_iter().zip(entries).map(|((taken, posted), it)| (taken, posted, it)).collect()
}

/// Where a list goes on is a place, so it is compared too.
pub(super) fn page(records: &[store::Record], next: Option<&store::list::Cursor>) -> String {
    format!("{:?} {next:?}", records.iter().map(comparable).collect::<Vec<_>>())
}

/// A record; those who wait come as JSON whose fields stand in any order.
pub(super) fn comparable(record: &store::Record) -> store::Record {
    let waits = record.waits.as_deref().map(super::look::ordered);
    store::Record { waits, ..record.clone() }
}

pub(super) fn subscribed(subscribed: &Subscribed) -> String {
    match subscribed {
        Subscribed::Stored(at, record) => format!("Stored {} {:?}", at.0, comparable(record)),
        other => format!("{other:?}"),
    }
}

pub(super) fn told(entries: &[(Taken, Posted)]) -> String {
    let all = entries.iter().map(|(_, posted)| format!("{:?}", posted.message.fields()));
    all.collect::<Vec<_>>().join("; ")
}

pub(super) fn told_by_store(entries: &[Entry]) -> String {
    let all = entries.iter().map(|entry| {
        let fields: std::collections::BTreeMap<&str, &str> = entry.fields.iter().collect();
        format!("{fields:?}")
    });
    all.collect::<Vec<_>>().join("; ")
}

/// The first word of an answer: what is counted.
pub(super) fn word(text: &str) -> String {
    text.trim_start_matches('[').chars().take_while(char::is_ascii_alphanumeric).collect()
}

pub(super) fn some<T>(found: &[T]) -> String {
    if found.is_empty() { "None".to_owned() } else { "Some".to_owned() }
}
