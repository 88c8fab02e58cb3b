//! A campaign: its stages, one after another, and the report of them all.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use faults::Point;
use nodes::Fsync;

use crate::cuts;
use crate::faults::Kind;
use crate::fleet::{CRASH_AT, Programs, Size};
use crate::load::Mix;
use crate::report::Report;
use crate::stage::{self, Stage};

/// What is asked of a campaign.
#[derive(Debug, Clone)]
pub struct Campaign {
    /// Everything is written here.
    pub directory: PathBuf,
    /// What is run.
    pub programs: Programs,
    /// For how long faults are made, in all.
    pub time: Duration,
    /// Jobs in all.
    pub jobs: u64,
    /// What decides the order of the faults.
    pub seed: u64,
}

/// The fleet of a campaign.
pub const SIZE: Size = Size { servers: 2, workers: 4, clients: 4 };
/// A full campaign: what the numbers of faults and the floors are for.
pub const FULL: Duration = Duration::from_secs(900);
/// Every kind of fault comes once at least, so a short campaign would be nothing but nodes that are
/// away: below a fifth of a full one they come back sooner.
const HURRIES: f64 = 5.0;
const SHORT: f64 = 1.0 / HURRIES;
const PACE_MIN: f64 = 0.2;
/// The share of the time, and of the jobs, that the second stage takes.
const ROLL_BACKS_TIME: f64 = 1.0 / 6.0;
const ROLL_BACKS_JOBS: f64 = 0.1;
/// Of both in a short campaign: a handful of roll-backs may hit no job that runs.
const ROLL_BACKS_SHORT: f64 = 1.0 / 3.0;
/// What else happens while Redis loses what it has acknowledged.
const BESIDE_ROLL_BACKS: &[(Kind, u32)] = &[
    (Kind::RolledBack, 40),
    (Kind::StaleReplica, 10),
    (Kind::WorkerKilled, 30),
    (Kind::ServerKilled, 15),
    (Kind::ClientKilled, 15),
    (Kind::LinkReset, 10),
    (Kind::LinkCut, 10),
];

impl Campaign {
    /// The share of a full campaign that this one is.
    pub fn share(&self) -> f64 {
        self.time.as_secs_f64() / FULL.as_secs_f64()
    }

    fn is_short(&self) -> bool {
        self.share() < SHORT
    }

    fn stages(&self) -> [Stage; 2] {
        let (time, jobs) = if self.is_short() {
            (ROLL_BACKS_SHORT, ROLL_BACKS_SHORT)
        } else {
            (ROLL_BACKS_TIME, ROLL_BACKS_JOBS)
        };
        let faults = Kind::ALL.iter().filter(|(kind, _)| !kind.is_roll_back());
        let nothing_lost = Stage {
            name: "nothing-lost",
            directory: self.directory.join("nothing-lost"),
            programs: self.programs.clone(),
            time: self.time.mul_f64(1.0 - time),
            jobs: (self.jobs as f64 * (1.0 - jobs)) as u64,
            faults: shared_out(faults, self.share()),
            pace: (self.share() * HURRIES).clamp(PACE_MIN, 1.0),
            size: SIZE,
            crash_rounds: 0,
            seed: self.seed,
            fsync: Fsync::Always,
            mix: Mix { has_bare: true, has_poison: true, is_dense: false },
            environment: Vec::new(),
        };
        let rolled_back = Stage {
            name: "rolled-back",
            directory: self.directory.join("rolled-back"),
            time: self.time.mul_f64(time),
            jobs: (self.jobs as f64 * jobs) as u64,
            faults: shared_out(BESIDE_ROLL_BACKS.iter(), self.share() * time / ROLL_BACKS_TIME),
            fsync: Fsync::Everysec,
            // Whoever keeps no journal has nothing to send again what the store has lost.
            mix: Mix { has_bare: false, has_poison: true, is_dense: false },
            environment: vec![(CRASH_AT.to_owned(), self.rebuilds())],
            ..nothing_lost.clone()
        };
        [nothing_lost, rolled_back]
    }

    /// A worker's second record that it rebuilds from its message is its last; in a short campaign,
    /// where few come to a second one, its first.
    fn rebuilds(&self) -> String {
        let nth = if self.is_short() { 1 } else { 2 };
        format!("{}:{nth}", Point::WorkRebuilt.as_str())
    }
}

/// How often each kind comes in such a share of a full campaign: once at least.
fn shared_out<'a>(full: impl Iterator<Item = &'a (Kind, u32)>, share: f64) -> Vec<(Kind, u32)> {
    full.map(|(kind, full)| (*kind, (f64::from(*full) * share).round().max(1.0) as u32)).collect()
}

/// Makes a campaign and returns what was found.
///
/// # Errors
/// It could not be made: a node did not start, a history cannot be read.
pub async fn run(campaign: &Campaign) -> anyhow::Result<Report> {
    empty(&campaign.directory)?;
    fastrand::seed(campaign.seed);
    let mut outcomes = Vec::new();
    for stage in campaign.stages() {
        println!("stage {}: {} s, {} jobs", stage.name, stage.time.as_secs(), stage.jobs);
        let outcome = stage::run(&stage).await.context(stage.name)?;
        let (found, open) = (outcome.findings.violations.len(), outcome.open);
        println!("  {} faults, {found} violations, {open} entries open", outcome.faults.len());
        outcomes.push((stage.name, outcome));
    }
    let mut report = Report::new(campaign, outcomes);
    report.write(&campaign.directory)?;
    println!("cuts, one at a time");
    report.cut_stories = cuts::enumerate(campaign.share()).await.context("cuts")?;
    report.write(&campaign.directory)?;
    Ok(report)
}

/// A folder without anything of an earlier run.
///
/// # Errors
/// It cannot be emptied or made.
pub fn empty(directory: &std::path::Path) -> anyhow::Result<()> {
    if directory.exists() {
        std::fs::remove_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())
}
