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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub enum Peers {
    /// None.
    None,
    /// The one that most people know.
    Celery,
    /// All.
    All,
}

/// What is measured, and for how long.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Plan {
    /// Rounds of each comparison.
    pub rounds: usize,
    /// Seconds of each run, about.
    pub seconds: f64,
    /// Which other job queues run.
    pub peers: Peers,
    /// Questions of each measurement.
    pub questions: usize,
    /// So many jobs are queued to see what that costs: the fewest first, and after each other one.
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

/// Every row.
pub const ALL: &str = "ABCDEFGHI";

/// Everything is written here.
pub(crate) fn directory() -> anyhow::Result<PathBuf> {
    let directory = harness::workspace().canonicalize()?.join("target/bench");
    std::fs::create_dir_all(&directory)?;
    Ok(directory)
}

/// Measures some rows, and writes the report: each set of rows a file of its own, so that a look at
/// one of them takes nothing of a whole run away.
///
/// # Errors
/// Something was lost, or a program fails.
pub async fn measure(rows: &str, plan: &Plan) -> anyhow::Result<()> {
    let mut report = Report { rows: rows.to_owned(), plan: Some(*plan), ..Report::default() };
    report.machine.extend(usage::machine()?);
    let name = match rows {
        ALL => "report.json".to_owned(),
        rows => format!("report-{rows}.json"),
    };
    let path = directory()?.join(name);
    for some in ["ABCD", "E", "F", "G", "H", "I"] {
        if !some.chars().any(|row| rows.contains(row)) {
            continue;
        }
        match some {
            "E" => rows::status::measure(plan, &mut report).await?,
            "F" => rows::latency::measure(plan, &mut report).await?,
            "G" => rows::growth::measure(plan, &mut report).await?,
            "H" => rows::journal::measure(plan, &mut report).await?,
            "I" => rows::scale::measure(plan, &mut report).await?,
            _ => rows::throughput::measure(plan, &mut report).await?,
        }
        // What fails later takes nothing of it away.
        report.write(&path)?;
    }
    report.finish(&path)
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
