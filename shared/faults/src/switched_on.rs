//! What the environment asks for.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::{Bug, Point};

struct Plan {
    crash: Option<(String, u32)>,
    log: Option<std::fs::File>,
    bug: Option<String>,
    passed: Mutex<HashMap<Point, u32>>,
}

#[expect(clippy::disallowed_methods, reason = "no setting: a release does not know these")]
fn plan() -> &'static Plan {
    static PLAN: OnceLock<Plan> = OnceLock::new();
    PLAN.get_or_init(|| {
        let crash = std::env::var("FAULTS_CRASH_AT").ok().map(|at| match at.split_once(':') {
            Some((point, count)) => (point.to_owned(), count.parse().unwrap_or(1)),
            None => (at, 1),
        });
        let log = std::env::var("FAULTS_CRASH_LOG")
            .ok()
            .and_then(|path| std::fs::OpenOptions::new().create(true).append(true).open(path).ok());
        let bug = std::env::var("FAULTS_SEEDED_BUG").ok();
        Plan { crash, log, bug, passed: Mutex::default() }
    })
}

pub(crate) fn pass(point: Point) {
    let plan = plan();
    if let Some(mut log) = plan.log.as_ref() {
        // One write, so that lines of several processes do not mix.
        log.write_all(format!("{}\n", point.as_str()).as_bytes()).ok();
    }
    let Some((_, at)) = plan.crash.as_ref().filter(|(name, _)| name == point.as_str()) else {
        return;
    };
    let mut passed = plan.passed.lock().unwrap_or_else(PoisonError::into_inner);
    let count = passed.entry(point).or_default();
    *count += 1;
    if *count == *at {
        // No destructor, no buffer, no farewell.
        std::process::abort();
    }
}

pub(crate) fn is_seeded(bug: Bug) -> bool {
    plan().bug.as_deref() == Some(bug.as_str())
}
