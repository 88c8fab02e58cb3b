//! `make bench`: what a job costs, against the floor and against other job queues, on private
//! nodes as production has them. Every figure is of jobs whose end was checked.
//!
//! In reading order: the nodes ([`ground`]) and our processes ([`fleet`]), the client of a run
//! ([`traffic`], [`bulk`]) and the check after it ([`verify`]), what is measured against it
//! ([`floor`], [`echo`], [`contest`]), the [`rows`], and the [`report`].

pub mod bulk;
pub mod contest;
pub mod echo;
pub mod fleet;
pub mod floor;
pub mod ground;
pub mod handlers;
pub mod report;
pub mod rows;
pub mod stats;
pub mod traffic;
pub mod usage;
pub mod verify;

use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};

use crate::report::Report;

/// Which other job queues run beside ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peers {
    /// None.
    None,
    /// The one that most people know.
    Celery,
    /// All.
    All,
}

/// What is measured, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Rounds of each comparison.
    pub rounds: usize,
    /// Seconds of each run, about.
    pub seconds: f64,
    /// Which other job queues run.
    pub peers: Peers,
    /// Questions of each measurement.
    pub questions: usize,
    /// So many jobs are queued to see what that costs, one after the other.
    pub queued: &'static [usize],
}

impl Plan {
    /// The whole.
    pub const FULL: Self = Self {
        rounds: 5,
        seconds: 11.0,
        peers: Peers::All,
        questions: 2000,
        queued: &[10_000, 100_000, 1_000_000],
    };
    /// A look.
    pub const QUICK: Self =
        Self { rounds: 2, seconds: 5.0, peers: Peers::Celery, questions: 1000, queued: &[] };
}

/// Everything is written here.
pub(crate) fn directory() -> anyhow::Result<PathBuf> {
    let directory = harness::workspace().canonicalize()?.join("target/bench");
    std::fs::create_dir_all(&directory)?;
    Ok(directory)
}

/// Measures some rows, and writes the report.
///
/// # Errors
/// Something was lost, or a program fails.
pub async fn measure(rows: &str, plan: &Plan) -> anyhow::Result<()> {
    let mut report = Report::default();
    report.machine.extend(usage::machine()?);
    let wants = |some: &str| some.chars().any(|row| rows.contains(row));
    if wants("ABCD") {
        rows::throughput::measure(plan, &mut report).await?;
    }
    if wants("E") {
        rows::status::measure(plan, &mut report).await?;
    }
    if wants("F") {
        rows::latency::measure(plan, &mut report).await?;
    }
    if wants("G") {
        rows::growth::measure(plan, &mut report).await?;
    }
    if wants("H") {
        rows::journal::measure(plan, &mut report).await?;
    }
    if wants("I") {
        rows::scale::measure(plan, &mut report).await?;
    }
    report.finish(&directory()?.join("report.json"))
}

/// Until SIGTERM or Ctrl-C.
pub(crate) async fn until_told() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        pressed = tokio::signal::ctrl_c() => pressed?,
    }
    Ok(())
}
