//! What a run has seen: how often each script answered in each way. A comparison that never met an
//! answer says nothing of it.

use std::collections::BTreeMap;

/// How often each script gave each answer.
#[derive(Debug, Default)]
pub(super) struct Tally(BTreeMap<(String, String), u64>);

/// Every script and the answers that must be met: those with an effect, then those without.
const EXPECTED: &[(&str, &[&str], &[&str])] = &[
    (
        "accept",
        &["New", "Redispatch"],
        &["Duplicate", "Conflict", "Voided", "Forgotten", "TooOld", "Quota"],
    ),
    ("transition", &["Applied"], &["Repeated", "Illegal", "Stale", "CancelAsked", "Missing"]),
    ("report", &["Held"], &["Same", "Lost", "NotNow"]),
    (
        "claim",
        &["Start", "Detached"],
        &["Drop", "Attach", "Wait", "CancelAsked", "Exhausted", "Missing"],
    ),
    ("beat", &["Held"], &["Lost"]),
    ("due", &["Some"], &["None"]),
    ("redispatch", &["Under", "Watched"], &["Not"]),
    ("dispatched", &["true"], &["false"]),
    ("untimed", &["true"], &["false"]),
    ("refuse", &["true"], &["false"]),
    ("void", &["true"], &["false"]),
    ("retire", &["Tombstone"], &["Early", "Unfinished", "Nothing"]),
    ("wait", &["Waiting"], &["Now", "Full", "Busy"]),
    ("waits_over", &["Some"], &["Nobody"]),
    ("subscribe", &["Stored"], &["Nowhere", "Busy", "NoJob"]),
    ("mint", &["true"], &["false"]),
    ("list", &["Some", "Next"], &["None", "Last"]),
    // These take whatever they are given.
    ("retention", &["true"], &[]),
    ("post", &["true"], &[]),
    ("put_off", &["true"], &["false"]),
    ("link", &["As"], &["NoJob", "Unfinished", "NoPayload", "UsedUp"]),
    ("delivered", &["true"], &["false"]),
    ("put_off_due", &["Some"], &["None"]),
];

impl Tally {
    pub(super) fn add(&mut self, script: &str, word: &str) {
        *self.0.entry((script.to_owned(), word.to_owned())).or_default() += 1;
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (answer, count) in other.0 {
            *self.0.entry(answer).or_default() += count;
        }
    }

    /// Each answer with its number, in lines.
    pub(super) fn table(&self) -> String {
        let answers = EXPECTED.iter().flat_map(|(script, effects, refusals)| {
            effects.iter().chain(*refusals).map(move |word| (script, word))
        });
        let line = |(script, word): (&&str, &&str)| {
            format!("{script:<12} {word:<12} {:>8}", self.count(script, word))
        };
        answers.map(line).collect::<Vec<_>>().join("\n")
    }

    fn count(&self, script: &str, word: &str) -> u64 {
        self.0.get(&(script.to_owned(), word.to_owned())).copied().unwrap_or(0)
    }

    /// Every script that is loaded was met with every effect and every refusal, so often at least.
    pub(super) fn assert_floor(&self, floor: u64) {
        for (file, _) in store::scripts::SOURCES {
            let listed = |(script, ..): &(&str, _, _)| *file == format!("lua/{script}.lua");
            assert!(EXPECTED.iter().any(listed), "{file} is not compared");
        }
        for (script, effects, refusals) in EXPECTED {
            for word in effects.iter().chain(*refusals) {
                let count = self.count(script, word);
                assert!(count >= floor, "{script} {word}: {count}, wanted {floor}");
            }
        }
    }
}
