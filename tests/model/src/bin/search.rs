//! The large searches, one after another, with a table of what was searched: some minutes and
//! gigabytes. `cargo run --release -p counterfoil-protocol-model [states]`: a search that has not
//! ended after so many states (10 million) is cut there, and the table says so.

use std::process::ExitCode;
use std::time::Instant;

use counterfoil_protocol_model::searches::{Search, large, small};
use stateright::{Checker, Expectation, HasDiscoveries, Model};

const STATES_MAX: usize = 10_000_000;

fn main() -> ExitCode {
    let most = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(STATES_MAX);
    let (mut states, mut failed) = (0, false);
    for search in small().into_iter().chain(large()) {
        let (count, holds) = one(&search, most);
        states += count;
        failed |= !holds;
    }
    println!("{states:>10} states in all");
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn one(search: &Search, most: usize) -> (usize, bool) {
    let start = Instant::now();
    let checker = search.protocol().checker().threads(2);
    let checker = checker.finish_when(HasDiscoveries::AnyFailures).target_state_count(most);
    let checker = checker.spawn_bfs().join();
    let found = checker.discoveries();
    // `state_count` counts a state once for each way to it.
    let is_cut = checker.state_count() >= most;
    let mut holds = true;
    for property in checker.model().properties() {
        let path = found.get(property.name);
        let is_seen = path.is_some();
        if property.expectation == Expectation::Sometimes {
            holds &= is_seen || is_cut;
        } else if let Some(path) = path {
            holds = false;
            println!("BROKEN: {}\n{:#?}", property.name, path.clone().into_actions());
        }
    }
    let (count, seconds) = (checker.unique_state_count(), start.elapsed().as_secs());
    let (word, cut) = (if holds { "holds" } else { "FAILS" }, if is_cut { ", cut" } else { "" });
    println!("{count:>10} states, {seconds:>3} s, {word}{cut}: {}", search.name);
    (count, holds)
}
