//! That the searches can fail: each mistake breaks what it must break.

use std::collections::BTreeSet;

use counterfoil_protocol_model::searches::small;
use counterfoil_protocol_model::{Bounds, Budget, Mistake, Protocol};
use stateright::{Checker, HasDiscoveries, Model};

fn broken(protocol: Protocol) -> BTreeSet<&'static str> {
    let checker = protocol.checker().threads(2).finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.spawn_bfs().join();
    checker.discoveries().into_keys().collect()
}

fn bounds(workers: u8, budget: Budget) -> Bounds {
    Bounds { workers, ..Bounds::of(budget) }
}

/// How far one must look, and the beginning of a property that breaks there.
fn where_it_shows(mistake: Mistake) -> (Bounds, &'static str) {
    let none = Budget::default();
    let (asks, crashes, disconnects) = (1, 1, 1);
    match mistake {
        Mistake::LineAckedFirst => (bounds(1, Budget { crashes, ..none }), "I2 what was confirmed"),
        Mistake::ConsumerCancelled => (bounds(0, Budget { asks, disconnects, ..none }), "I10 unk"),
        Mistake::NegativeTooSoon | Mistake::LinePassedBy => {
            (bounds(0, Budget { asks, ..none }), "I10 unknown")
        }
        Mistake::WorkAckedFirst | Mistake::NotDispatchedAgain => {
            (bounds(1, Budget { crashes, ..none }), "I2 what waits or runs")
        }
        Mistake::FenceWithoutNonce => {
            (bounds(2, Budget { losses: 1, crashes, syncs: 1, ..none }), "I")
        }
        Mistake::NoFence => {
            (bounds(2, Budget { lapses: 1, disconnects, ..none }), "I6 a superseded attempt")
        }
        Mistake::AnyDispatch => (bounds(2, Budget { errors: 1, disconnects, ..none }), "I"),
        Mistake::OutboxFirst => (bounds(1, Budget { crashes, ..none }), "I8 the end is told"),
        Mistake::LossUnnoticed => (bounds(1, Budget { asks, losses: 1, syncs: 1, ..none }), "I"),
        Mistake::VoidForgotten => (bounds(0, Budget { voids: 1, ..none }), "I10 what is voided"),
        Mistake::PayloadDroppedFirst => {
            (bounds(1, Budget { errors: 1, crashes, ..none }), "I2 what waits or runs")
        }
        Mistake::NoDuplicates => (bounds(1, Budget { copies: 1, ..none }), "I3 one id"),
        Mistake::NumberInVain => (bounds(2, Budget { disconnects, ..none }), "I2"),
        Mistake::RefusedAndAcked => {
            (bounds(2, Budget { lapses: 1, disconnects, give_backs: 1, ..none }), "I2")
        }
        Mistake::LateConfirm => {
            (bounds(2, Budget { errors: 1, detaches: 1, give_backs: 1, ..none }), "I2")
        }
        Mistake::EpochInVain => {
            (bounds(1, Budget { losses: 1, syncs: 1, errors: 1, crashes: 2, ..none }), "I2")
        }
        Mistake::DroppedUnwatched => {
            (bounds(2, Budget { dead_letters: 1, crashes, ..none }), "I2 what waits or runs")
        }
        Mistake::EpochGivenTwice => (bounds(2, Budget { losses: 2, syncs: 2, ..none }), "I"),
    }
}

#[test]
fn every_mistake_is_found_and_without_it_the_same_search_finds_nothing() {
    for mistake in Mistake::ALL {
        let (bounds, property) = where_it_shows(*mistake);
        let found = broken(Protocol::with(bounds, *mistake));
        println!("{mistake:?}: {found:?}");
        let is_found = found.iter().any(|name| name.starts_with(property));
        assert!(is_found, "{mistake:?} breaks {found:?}, and is to break {property}");
        // Some of the searches are those of every run.
        if small().iter().all(|search| search.bounds != bounds) {
            assert_eq!(broken(Protocol::new(bounds)), BTreeSet::new(), "{mistake:?}, left out");
        }
    }
}
