//! Whether the campaign can fail at all: every seeded mistake must be noticed, and the same stage
//! without one must be clean.

use std::path::PathBuf;
use std::time::Duration;

use faults::{Bug, Point};
use nodes::Fsync;

use crate::campaign::{SIZE, empty};
use crate::checker::Invariant;
use crate::faults::Kind;
use crate::fleet::{CRASH_AT, DidNotEnd, Programs, Size};
use crate::load::Mix;
use crate::stage::{self, Outcome, Stage};

/// So often it is tried to catch a mistake.
const TRIES: usize = 3;
/// For so long faults are made in each try.
const TIME: Duration = Duration::from_secs(25);
const JOBS: u64 = 1500;
/// A process crashes when it comes to its point for this time: about once in a second or two.
const CRASHES_AT_NTH: u32 = 15;

/// Faults under which mistakes show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ground {
    /// Servers die.
    Servers,
    /// Workers stop for longer than their leases last.
    Pauses,
    /// Links and connections fail.
    Links,
    /// Redis fails.
    Store,
    /// Redis loses what it has acknowledged.
    RollBacks,
    /// Queues to which changes are pushed are deleted and full.
    Queues,
    /// The clients' disks fail.
    Disks,
    /// Nothing fails, but jobs take long.
    Quiet,
}

impl Ground {
    const ALL: [Self; 8] = [
        Self::Servers,
        Self::Pauses,
        Self::Links,
        Self::Store,
        Self::RollBacks,
        Self::Queues,
        Self::Disks,
        Self::Quiet,
    ];

    /// Where a mistake shows.
    fn of(bug: Bug) -> Self {
        match bug {
            Bug::AckBeforeRecord | Bug::OutboxFirst | Bug::NoDuplicates => Self::Servers,
            Bug::LossUnnoticed | Bug::ClearedByConfirm => Self::RollBacks,
            Bug::NoFence => Self::Pauses,
            Bug::OwnClock => Self::Quiet,
            Bug::NoSync => Self::Disks,
            Bug::AnyConfirm | Bug::ReturnByPosition => Self::Queues,
            Bug::DeafConsumer => Self::Links,
            Bug::GuessedUnknown => Self::Store,
        }
    }

    /// Where its processes crash besides. What a server does wrong between two steps is noticed if
    /// it dies there, and a signal seldom comes at that moment.
    fn crash_points(self) -> Vec<(String, String)> {
        let point = match self {
            Self::Servers => Point::IntakeRead,
            _ => return Vec::new(),
        };
        vec![(CRASH_AT.to_owned(), format!("{}:{CRASHES_AT_NTH}", point.as_str()))]
    }

    fn faults(self) -> &'static [(Kind, u32)] {
        match self {
            Self::Servers => &[(Kind::ServerKilled, 40)],
            Self::Pauses => &[(Kind::WorkerPaused, 3)],
            // A cut ends one connection of a process, and leaves it the others.
            Self::Links => &[(Kind::ConnectionsClosed, 3), (Kind::LinkCut, 60)],
            Self::Store => &[(Kind::StoreKilled, 3), (Kind::StorePaused, 3)],
            Self::RollBacks => &[(Kind::RolledBack, 4)],
            // A server that was away finds many changes to push at once, to queues of all kinds.
            Self::Queues => {
                &[(Kind::ReplyQueueDeleted, 8), (Kind::ReplyQueueFull, 2), (Kind::ServerKilled, 15)]
            }
            Self::Disks => &[(Kind::JournalUnsynced, 8)],
            Self::Quiet => &[],
        }
    }
}

/// What came of one mistake.
#[derive(Debug)]
pub struct Caught {
    /// The mistake; none: the ground without one.
    pub bug: Option<Bug>,
    /// Where.
    pub ground: String,
    /// At which try it was noticed.
    pub at_try: Option<usize>,
    /// By what.
    pub by: Vec<String>,
}

impl Caught {
    /// Whether it is as it should be.
    pub fn is_right(&self) -> bool {
        self.bug.is_some() == self.at_try.is_some()
    }
}

/// Makes every mistake, or one, and every ground that is needed without it.
///
/// # Errors
/// A stage could not be made.
pub async fn run(
    directory: PathBuf,
    programs: Programs,
    only: Option<Bug>,
) -> anyhow::Result<Vec<Caught>> {
    empty(&directory)?;
    let bugs: Vec<Bug> =
        Bug::ALL.iter().copied().filter(|b| only.is_none_or(|o| o == *b)).collect();
    let mut all = Vec::new();
    for ground in Ground::ALL.into_iter().filter(|g| bugs.iter().any(|b| Ground::of(*b) == *g)) {
        let stage = Stage {
            name: "ground",
            directory: directory.join(format!("{ground:?}").to_lowercase()),
            programs: programs.clone(),
            time: TIME,
            jobs: match ground {
                // A mistake about many publications at once needs many at once.
                Ground::Queues => 4 * JOBS,
                // Whoever has something in hand notices that its connection is gone.
                Ground::Links => JOBS / 5,
                _ => JOBS,
            },
            pace: 1.0,
            // What one server does not hear, or leaves undone, another one would do.
            size: match ground {
                Ground::Links | Ground::Queues => Size { servers: 1, ..SIZE },
                _ => SIZE,
            },
            crash_rounds: 0,
            faults: ground.faults().to_vec(),
            seed: fastrand::u64(..),
            fsync: if ground == Ground::RollBacks { Fsync::Everysec } else { Fsync::Always },
            mix: Mix {
                has_bare: ground != Ground::RollBacks,
                has_poison: false,
                // Many changes are to be pushed to the queues that fail.
                is_dense: ground == Ground::Queues,
            },
            environment: ground.crash_points(),
        };
        all.push(said(None, ground, &[noticed(&stage::run(&stage).await?, None)]));
        for bug in bugs.iter().copied().filter(|bug| Ground::of(*bug) == ground) {
            let mut tries = Vec::new();
            while tries.len() < TRIES && tries.last().is_none_or(Vec::is_empty) {
                let name = format!("{}-{}", bug.as_str(), tries.len() + 1);
                let mut seeded = Stage { directory: directory.join(name), ..stage.clone() };
                let switch = ("FAULTS_SEEDED_BUG".to_owned(), bug.as_str().to_owned());
                seeded.environment.push(switch);
                tries.push(match stage::run(&seeded).await {
                    Ok(outcome) => noticed(&outcome, Some(bug)),
                    // Who is deaf may not even end. Of any other mistake that says nothing, nor
                    // does whatever else keeps a stage from being made.
                    Err(error) if error.is::<DidNotEnd>() => match bug {
                        Bug::DeafConsumer => vec![format!("{error:#}")],
                        _ => Vec::new(),
                    },
                    Err(error) => return Err(error),
                });
            }
            all.push(said(Some(bug), ground, &tries));
        }
    }
    Ok(all)
}

fn said(bug: Option<Bug>, ground: Ground, tries: &[Vec<String>]) -> Caught {
    let at = tries.iter().position(|by| !by.is_empty());
    let caught = Caught {
        bug,
        ground: format!("{ground:?}").to_lowercase(),
        at_try: at.map(|at| at + 1),
        by: at.map(|at| tries[at].clone()).unwrap_or_default(),
    };
    let name = bug.map_or("(no mistake)", |bug| bug.as_str());
    let verdict = match (caught.is_right(), bug) {
        (true, Some(_)) => "caught",
        (true, None) => "clean",
        (false, Some(_)) => "NOT CAUGHT",
        (false, None) => "NOT CLEAN",
    };
    println!("{name:<20} {:<10} {verdict}: {}", caught.ground, caught.by.join(", "));
    caught
}

/// What would have made a campaign fail; of a mistake, only if it is what the mistake does.
fn noticed(outcome: &Outcome, bug: Option<Bug>) -> Vec<String> {
    let violations = &outcome.findings.violations;
    let count =
        |invariant: Invariant| violations.iter().filter(|v| v.invariant == invariant).count();
    let found = Invariant::ALL.iter().map(|invariant| (*invariant, count(*invariant)));
    let found: Vec<(Invariant, usize)> = found.filter(|(_, count)| *count > 0).collect();
    let mut by: Vec<String> =
        found.iter().map(|(invariant, count)| format!("{invariant:?} {count} times")).collect();
    if outcome.open > 0 {
        by.push(format!("{} journal entries open", outcome.open));
    }
    // Without a mistake it is the campaign that has found something.
    if let (None, Some(first)) = (bug, violations.first()) {
        by.push(format!("the first of {}: {}", first.of, first.seen));
    }
    let unnoticed = outcome.faults.iter().filter(|fault| fault.effect.noticed == Some(false));
    if unnoticed.count() > 0 {
        by.push("a roll-back that nobody noticed".to_owned());
    }
    let is_it = bug.is_none_or(|bug| found.iter().any(|(seen, _)| shows_in(bug).contains(seen)));
    if is_it { by } else { Vec::new() }
}

/// What a mistake breaks first.
fn shows_in(bug: Bug) -> &'static [Invariant] {
    match bug {
        Bug::AckBeforeRecord | Bug::ClearedByConfirm | Bug::NoSync => {
            &[Invariant::I1, Invariant::I2]
        }
        Bug::NoDuplicates => &[Invariant::I4, Invariant::I9],
        Bug::OutboxFirst | Bug::AnyConfirm | Bug::ReturnByPosition => &[Invariant::I8],
        Bug::LossUnnoticed | Bug::GuessedUnknown => &[Invariant::I10],
        Bug::NoFence => &[Invariant::I6],
        Bug::OwnClock => &[Invariant::I7],
        Bug::DeafConsumer => &[Invariant::I2, Invariant::I13],
    }
}
