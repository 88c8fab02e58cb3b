use counterfoil_protocol_model::searches::small;
use stateright::{Checker, Model};

/// Each search is exhaustive: it ends because there is no state left, and it must have seen what it
/// is about.
#[test]
fn nothing_is_lost_doubled_or_falsely_denied_in_any_order_of_events() {
    let mut states = 0;
    for search in small() {
        let checker = search.protocol().checker().threads(2).spawn_bfs().join();
        checker.assert_properties();
        let count = checker.unique_state_count();
        states += count;
        println!("{count:>8} {}", search.name);
    }
    assert!(states >= 1_000_000, "{states} states are few");
}
