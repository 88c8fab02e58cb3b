//! What the document says of the campaign is what the campaign does.

use std::path::Path;

use faults::Bug;
use serde_json::Value;
use soak::checker::Invariant;
use soak::faults::Kind;
use soak::floors::COUNTED;

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/RELIABILITY.md");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn has(row: &str) {
    assert!(document().contains(&format!("\n{row}\n")), "RELIABILITY.md has no row {row}");
}

#[test]
fn the_document_names_every_fault_with_how_often_it_comes() {
    for (kind, times) in Kind::ALL {
        let name = serde_json::to_value(kind).unwrap_or(Value::Null);
        has(&format!("| `{}` | {times} | {} |", name.as_str().unwrap_or_default(), kind.what()));
    }
}

#[test]
fn the_document_names_what_a_run_must_have_met_with() {
    for (what, at_least, _) in COUNTED {
        has(&format!("| {what} | {at_least} |"));
    }
}

#[test]
fn the_document_names_everything_that_must_hold() {
    for invariant in Invariant::ALL {
        has(&format!("| {invariant:?} | {} |", invariant.what()));
    }
}

#[test]
fn the_document_names_every_mistake_that_is_made_on_purpose() {
    for bug in Bug::ALL {
        has(&format!("| `{}` | {} |", bug.as_str(), bug.what()));
    }
}
