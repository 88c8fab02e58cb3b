//! Where the processes of one place are to crash.

use std::collections::{BTreeMap, VecDeque};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use faults::Point;

/// A crash that is to come.
#[derive(Debug, Clone, Copy)]
pub struct Armed {
    /// Where.
    pub point: Point,
    /// The how many-th time that it is passed.
    pub nth: u32,
}

/// What became of them.
#[derive(Debug, Clone, Default)]
pub struct Crashed {
    /// How often, by the name of the point.
    pub at: BTreeMap<&'static str, u32>,
    /// Points that no process came to.
    pub missed: Vec<&'static str>,
    /// How many are still to come.
    pub to_come: usize,
}

/// The crashes of one place.
#[derive(Debug, Default)]
pub(super) struct Crashes {
    to_come: VecDeque<(Armed, u32)>,
    since: Option<Instant>,
    /// When the others were last made to leave it the line.
    nudged: Option<Instant>,
    crashed: Vec<Point>,
    missed: Vec<Point>,
}

/// A process that does not come to its point within so long makes room for the next one.
const COMES_WITHIN: Duration = Duration::from_secs(20);
/// Only one server reads the line: one that is to crash there gets its turn after so long.
const TURN_WITHIN: Duration = Duration::from_secs(3);
/// So often a point is tried.
const TRIES: u32 = 3;
/// A worker that is to crash while it gives its runs back is asked to end after so long.
const ENDS_AFTER: Duration = Duration::from_millis(1500);
/// What says where a process is to crash.
pub const CRASH_AT: &str = "FAULTS_CRASH_AT";
/// What `abort` ends a process with.
const ABORTED: i32 = 6;
const KILLED: i32 = 9;
const TERMINATED: i32 = 15;

/// Whether a process has ended at a crash point.
pub(super) fn is_crash(status: ExitStatus) -> bool {
    status.signal() == Some(ABORTED)
}

/// Whether a process has ended otherwise than in order, by SIGKILL or at a crash point that it was
/// armed with. SIGTERM is for one that was not yet ready to be told.
pub(super) fn is_unexplained(status: ExitStatus, is_armed: bool) -> bool {
    match status.signal() {
        Some(KILLED | TERMINATED) => false,
        Some(ABORTED) => !is_armed,
        _ => !status.success(),
    }
}

impl Crashes {
    pub(super) fn arm(&mut self, points: impl Iterator<Item = Armed>) {
        self.to_come.extend(points.map(|point| (point, 0)));
    }

    /// What a process is started with.
    pub(super) fn environment(&self) -> Option<(&'static str, String)> {
        let (Armed { point, nth }, _) = self.to_come.front()?;
        Some((CRASH_AT, format!("{}:{nth}", point.as_str())))
    }

    /// Whether the process that runs is to crash.
    pub(super) fn is_armed(&self) -> bool {
        self.since.is_some()
    }

    /// A process has ended, and another one is started.
    pub(super) fn ended(&mut self, status: ExitStatus) {
        if is_crash(status)
            && self.is_armed()
            && let Some((armed, _)) = self.to_come.pop_front()
        {
            self.crashed.push(armed.point);
        }
        self.since = self.to_come.front().map(|_| Instant::now());
    }

    /// A process runs.
    pub(super) fn look(&mut self, pid: u32) {
        let (Some(since), Some((armed, tries))) = (self.since, self.to_come.front().copied())
        else {
            return;
        };
        let age = since.elapsed();
        if age > COMES_WITHIN {
            self.to_come.pop_front();
            if tries + 1 < TRIES {
                // It may have been the other one's turn to work.
                self.to_come.push_back((Armed { nth: 1, ..armed }, tries + 1));
            } else {
                self.missed.push(armed.point);
            }
            self.since = None;
            nodes::kill(pid);
        } else if armed.point == Point::WorkGivenBack && age > ENDS_AFTER {
            nodes::terminate(pid);
        }
    }

    /// Whether it is to crash while it reads the line.
    pub(super) fn wants_the_line(&self) -> bool {
        self.to_come
            .front()
            .is_some_and(|(armed, _)| armed.point.as_str().starts_with("registrar."))
    }

    /// Whether it has waited for the line for long; once each time.
    pub(super) fn is_to_get_the_line(&mut self) -> bool {
        let long = |since: Instant| since.elapsed() > TURN_WITHIN;
        let is_due =
            self.wants_the_line() && self.since.is_some_and(long) && self.nudged.is_none_or(long);
        if is_due {
            self.nudged = Some(Instant::now());
        }
        is_due
    }

    pub(super) fn report(&self, crashed: &mut Crashed) {
        for point in &self.crashed {
            *crashed.at.entry(point.as_str()).or_default() += 1;
        }
        crashed.missed.extend(self.missed.iter().map(|point| point.as_str()));
        crashed.to_come += self.to_come.len();
    }
}
