//! Every point at which a process can crash, five times each, on a working system.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use faults::Point;
use nodes::Fsync;
use soak::campaign::empty;
use soak::fleet::{Programs, Size};
use soak::load::Mix;
use soak::stage::{self, Stage};

/// Crashes at each point.
const ROUNDS: u32 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_process_crashes_at_whatever_point_nothing_is_lost() -> anyhow::Result<()> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("crash-points");
    empty(&directory)?;
    let setting = |name: &str, value: &str| (format!("COUNTERFOIL_{name}"), value.to_owned());
    let stage = Stage {
        name: "crash points",
        directory,
        programs: Programs::beside(env!("CARGO_BIN_EXE_counterfoil-soak").into())?,
        // A pace that a slow machine keeps up with; it ends with the last crash.
        time: Duration::from_secs(300),
        jobs: 8_000,
        size: Size { servers: 4, workers: 2, clients: 2 },
        faults: Vec::new(),
        pace: 1.0,
        crash_rounds: ROUNDS,
        seed: 1,
        fsync: Fsync::Always,
        mix: Mix { has_bare: true, has_poison: false, is_dense: true },
        environment: vec![
            setting("WORKER_BEAT_MS", "50"),
            setting("WORKER_DETACH_AFTER_MS", "60"),
            setting("WORKER_DRAIN_MS", "20"),
            setting("SERVER_DELIVER_TRIES", "3"),
            setting("SERVER_PARKED_MS", "60000"),
        ],
    };
    let outcome = stage::run(&stage).await?;
    let found = &outcome.findings;
    assert!(found.violations.is_empty(), "{:#?}", found.violations);
    assert_eq!(outcome.open, 0, "journal entries are open");
    assert!(found.counters.jobs > 1000, "{:?}", found.counters);
    let crashed = &outcome.crashed;
    assert!(crashed.missed.is_empty(), "no process came to {:?}", crashed.missed);
    let at: BTreeSet<&str> = crashed.at.keys().copied().collect();
    let of_roll_backs = Point::WorkRebuilt;
    let all: BTreeSet<&str> =
        Point::ALL.iter().filter(|p| **p != of_roll_backs).map(|p| p.as_str()).collect();
    assert_eq!(at, all);
    assert!(at.len() >= 40, "{}", at.len());
    let crashes: u32 = crashed.at.values().sum();
    assert!(crashes >= 200, "{crashes}");
    Ok(())
}
