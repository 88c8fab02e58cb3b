//! The campaign's program: `run` makes it, `client` and `worker` are what it starts.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use faults::Bug;
use serde::Deserialize;
use soak::campaign::Campaign;
use soak::fleet::Programs;
use soak::handlers;
use soak::history::Log;
use soak::load::{self, Load, Mix};
use soak::selftest;
use tokio::signal::unix::SignalKind;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Parser)]
#[command(version, about = "The crash campaign: faults by the thousand, and what was promised")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a campaign
    Run {
        /// For how long faults are made, in seconds
        #[arg(long, env = "SOAK_SECONDS", default_value_t = 900)]
        seconds: u64,
        /// Jobs in all
        #[arg(long, env = "SOAK_JOBS", default_value_t = 30_000)]
        jobs: u64,
        /// What decides the order of the faults
        #[arg(long, env = "SOAK_SEED")]
        seed: Option<u64>,
        /// Where everything is written
        #[arg(long, default_value = "target/soak")]
        directory: PathBuf,
    },
    /// Make every seeded mistake, to see that each is noticed
    Selftest {
        /// Only this one
        #[arg(long, value_parser = bug)]
        bug: Option<Bug>,
        /// Where everything is written
        #[arg(long, default_value = "target/soak-selftest")]
        directory: PathBuf,
    },
    /// A client of the campaign
    Client {
        /// Where it writes down what it sees
        #[arg(long)]
        history: PathBuf,
        /// Jobs in all
        #[arg(long)]
        jobs: u64,
        /// Jobs a second
        #[arg(long)]
        rate: f64,
        /// Also submits without a journal
        #[arg(long)]
        bare: bool,
        /// Some of its jobs kill their worker
        #[arg(long)]
        poison: bool,
        /// What is rare comes twelve times as often
        #[arg(long)]
        dense: bool,
    },
    /// A worker of the campaign
    Worker {
        /// Where it writes down what it sees
        #[arg(long)]
        history: PathBuf,
    },
}

#[derive(Debug, Deserialize)]
struct Settings {
    log: telemetry::Settings,
}

#[tokio::main]
async fn main() -> anyhow::Result<std::process::ExitCode> {
    let arguments = Arguments::parse();
    let Settings { mut log } = settings::load(None)?;
    // A campaign of faults has no end of warnings; those of its processes are in their logs.
    if matches!(arguments.command, Command::Run { .. } | Command::Selftest { .. }) {
        log.filter = "off".to_owned();
    }
    telemetry::start(&log)?;
    match arguments.command {
        Command::Client { history, jobs, rate, bare, poison, dense } => {
            let settings = settings::load(None)?;
            let load = Load {
                history,
                jobs,
                rate,
                mix: Mix { has_bare: bare, has_poison: poison, is_dense: dense },
            };
            load::run(load, settings, until_told()?).await?;
        }
        Command::Worker { history } => {
            let worker = handlers::worker(settings::load(None)?, Log::open(&history)?)?;
            worker.run_until_signal().await?;
        }
        Command::Run { seconds, jobs, seed, directory } => {
            let campaign = Campaign {
                directory: std::path::absolute(directory)?,
                programs: programs()?,
                time: Duration::from_secs(seconds),
                jobs,
                seed: seed.unwrap_or_else(|| fastrand::u64(..)),
            };
            println!("seed {}", campaign.seed);
            let report = unless_told(soak::campaign::run(&campaign)).await?;
            println!("{}", report.summary());
            println!("everything else: {}", campaign.directory.join("report.json").display());
            return Ok(if report.is_clean() && report.has_tested() { 0 } else { 1 }.into());
        }
        Command::Selftest { bug, directory } => {
            let testing = selftest::run(std::path::absolute(directory)?, programs()?, bug);
            let all = unless_told(testing).await?;
            let seeded = all.iter().filter(|caught| caught.bug.is_some());
            let right = seeded.clone().filter(|caught| caught.is_right());
            println!("{} of {} seeded mistakes caught", right.count(), seeded.count());
            let is_right = all.iter().all(selftest::Caught::is_right);
            return Ok(if is_right { 0 } else { 1 }.into());
        }
    }
    Ok(std::process::ExitCode::SUCCESS)
}

/// Dropped halfway, a campaign ends its processes and nodes.
async fn unless_told<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let mut told = Vec::new();
    for kind in kinds.into_iter().filter(|kind| !is_ignored(*kind)) {
        let mut signal = tokio::signal::unix::signal(kind)?;
        told.push(Box::pin(async move { signal.recv().await }));
    }
    tokio::select! {
        done = work => done,
        _ = futures_util::future::select_all(told) => anyhow::bail!("ended before its time"),
    }
}

/// Whether this process was started so that it ignores a signal, as `nohup` does, and shells with
/// what runs in the background.
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (kind.as_raw_value() - 1) & 1 == 1)
}

fn programs() -> anyhow::Result<Programs> {
    Programs::beside(std::env::current_exe()?)
}

/// Ends with SIGTERM.
fn until_told() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let told = stop.clone();
    let mut term = tokio::signal::unix::signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        term.recv().await;
        told.cancel();
    });
    Ok(stop)
}

fn bug(name: &str) -> Result<Bug, String> {
    let named = Bug::ALL.iter().find(|bug| bug.as_str() == name);
    let all = || Bug::ALL.iter().map(|bug| bug.as_str()).collect::<Vec<_>>().join(", ");
    named.copied().ok_or_else(|| format!("one of {}", all()))
}
