//! The table of interleavings: whole, and held by tests that exist.

use std::collections::BTreeSet;

use harness::workspace;

use crate::documents::read;
use crate::tidy::{files, text};

const HIGHEST: u32 = 35;

/// The cells of each row: its name, what happens, what holds, what shows it.
fn rows(table: &str) -> Vec<Vec<&str>> {
    let rows = table.lines().filter(|line| line.starts_with("| H"));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// `7` of `H7 b`.
fn number(name: &str) -> Option<u32> {
    name.strip_prefix('H')?.split(' ').next()?.parse().ok()
}

/// The names of functions in sources of the product and of its tests.
fn functions() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for folder in ["shared", "services", "tests"] {
        for path in files(&["rs"]).iter().filter(|p| p.starts_with(workspace().join(folder))) {
            let source = text(path);
            let named = source.split("fn ").skip(1);
            names.extend(named.filter_map(|rest| rest.split('(').next().map(str::to_owned)));
        }
    }
    names
}

/// A row without a test says that it does not apply, and why.
#[test]
fn each_interleaving_has_a_row_and_each_row_a_test_that_exists_or_a_reason() {
    let table = read("docs/INTERLEAVINGS.md");
    let rows = rows(&table);
    let functions = functions();
    let numbers: Vec<u32> = rows.iter().filter_map(|row| number(row[0])).collect();
    assert_eq!(numbers.len(), rows.len());
    assert!(numbers.is_sorted(), "{numbers:?}");
    assert_eq!(numbers.iter().copied().collect::<BTreeSet<_>>(), (1..=HIGHEST).collect());
    let mut shown = BTreeSet::new();
    for row in &rows {
        assert_eq!(row.len(), 4, "{row:?}");
        assert!(row.iter().all(|cell| !cell.is_empty()), "{row:?}");
        let tests: Vec<&str> = row[3].split('`').skip(1).step_by(2).collect();
        let reason = row[3].strip_prefix("does not apply: ");
        assert!(!tests.is_empty() || reason.is_some_and(|why| why.len() > 5), "{row:?}");
        for test in tests {
            assert!(functions.contains(test), "{}: there is no {test}", row[0]);
            shown.insert(test);
        }
    }
    let names: BTreeSet<&str> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(names.len(), rows.len(), "a name is there twice");
    let is_numbered = |name: &&String| {
        let digits = name.strip_prefix('h').and_then(|rest| rest.split_once('_'));
        digits.is_some_and(|(digits, _)| digits.parse::<u32>().is_ok())
    };
    for name in functions.iter().filter(is_numbered) {
        assert!(shown.contains(name.as_str()), "{name} is in no row");
    }
}
