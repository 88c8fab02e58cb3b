//! What the notifier of a server has read and not settled: whose it is, across sessions, and how
//! often it is read again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use store::outbox::Entry;
use tokio::time::Instant;

use crate::notifier::TAKE_OVER_MS;

/// An entry is read again so often, until it could have been taken over. One that the notifier
/// fails over, if that is what it is, then waits like any other.
const AGAIN_MAX: u32 = 3;

/// As whom a server reads the outbox, in every session of it.
pub(crate) struct Hand {
    pub(crate) name: String,
    /// Entries that were read again: since when, and how often.
    again: Mutex<HashMap<String, (Instant, u32)>>,
}

impl Default for Hand {
    fn default() -> Self {
        let name = format!("{}-{}", std::process::id(), uuid::Uuid::new_v4().simple());
        Self { name, again: Mutex::default() }
    }
}

impl Hand {
    /// Those of some entries in hand that were not read again too often.
    pub(crate) fn seldom(&self, mut entries: Vec<Entry>) -> Vec<Entry> {
        let mut again = self.again.lock().unwrap_or_else(PoisonError::into_inner);
        again.retain(|_, (since, _)| since.elapsed() < Duration::from_millis(TAKE_OVER_MS));
        entries.retain(|entry| {
            let (_, times) = again.entry(entry.id.clone()).or_insert((Instant::now(), 0));
            *times += 1;
            *times <= AGAIN_MAX
        });
        entries
    }
}

#[cfg(test)]
mod tests {
    use store::outbox::Fields;

    use super::*;

    #[test]
    fn an_entry_is_read_again_a_few_times_and_others_beside_it() {
        let entry = |id: &str| Entry {
            slot: 0,
            id: id.to_owned(),
            later: None,
            tries: 0,
            fields: Fields::default(),
        };
        let hand = Hand::default();
        for _ in 0..AGAIN_MAX {
            assert_eq!(hand.seldom(vec![entry("1-1")]).len(), 1);
        }
        let left = hand.seldom(vec![entry("1-1"), entry("1-2")]);
        assert_eq!(left.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["1-2"]);
    }
}
