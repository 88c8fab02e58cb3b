//! What shows that a run has tested something.

use std::collections::BTreeMap;

use serde::Serialize;

/// What was counted.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Counters {
    /// Jobs that were submitted.
    pub jobs: usize,
    /// Handlers that were started.
    pub runs: usize,
    /// Runs that were cut off, or whose process died.
    pub unfinished_runs: usize,
    /// Deaths of a worker by SIGKILL in which a handler ran.
    pub kills_while_running: usize,
    /// Processes that ended at a crash point.
    pub crashes: usize,
    /// Submissions that failed: nothing was on disk, and the caller knew.
    pub not_journaled: usize,
    /// Outcomes that were refused because another attempt had the right.
    pub refused_writes: usize,
    /// Receipts that say `duplicate`.
    pub duplicates: usize,
    /// Submissions that were published again because nobody had confirmed them.
    pub lost_confirms: usize,
    /// Submissions that were published again though they were confirmed.
    pub repeated: usize,
    /// Messages of the broker that say that they were delivered before.
    pub redeliveries: u64,
    /// Events that came more than once.
    pub repeated_events: usize,
    /// Answers to questions.
    pub answers: usize,
    /// Questions without an answer in time.
    pub unanswered: usize,
    /// Jobs whose end the ledger says could not be told.
    pub undeliverable: usize,
    /// Jobs that a roll-back took back after their client had seen their end.
    pub forgotten_by_roll_back: usize,
    /// Answers by their word.
    pub words: BTreeMap<String, usize>,
}

impl Counters {
    /// Answers with a word.
    pub fn word(&self, word: &str) -> usize {
        self.words.get(word).copied().unwrap_or_default()
    }

    /// Adds those of another stage.
    pub fn add(&mut self, other: Self) {
        self.jobs += other.jobs;
        self.runs += other.runs;
        self.unfinished_runs += other.unfinished_runs;
        self.kills_while_running += other.kills_while_running;
        self.crashes += other.crashes;
        self.not_journaled += other.not_journaled;
        self.refused_writes += other.refused_writes;
        self.duplicates += other.duplicates;
        self.lost_confirms += other.lost_confirms;
        self.repeated += other.repeated;
        self.redeliveries += other.redeliveries;
        self.repeated_events += other.repeated_events;
        self.answers += other.answers;
        self.unanswered += other.unanswered;
        self.undeliverable += other.undeliverable;
        self.forgotten_by_roll_back += other.forgotten_by_roll_back;
        for (word, count) in other.words {
            *self.words.entry(word).or_default() += count;
        }
    }
}
