//! The campaign's program: `run` makes it, `client` and `worker` are what it starts.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use serde::Deserialize;
use soak::handlers;
use soak::history::Log;
use soak::load::{self, Load};
use tokio_util::sync::CancellationToken;

#[derive(Debug, Parser)]
#[command(version, about = "The crash campaign: faults by the thousand, and what was promised")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
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
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let Settings { log } = settings::load(None)?;
    telemetry::start(&log)?;
    match arguments.command {
        Command::Client { history, jobs, rate } => {
            let settings = settings::load(None)?;
            load::run(Load { history, jobs, rate }, settings, until_told()?).await
        }
        Command::Worker { history } => {
            let worker = handlers::worker(settings::load(None)?, Log::open(&history)?)?;
            Ok(worker.run_until_signal().await?)
        }
    }
}

/// Ends with SIGTERM.
fn until_told() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let told = stop.clone();
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::spawn(async move {
        term.recv().await;
        told.cancel();
    });
    Ok(stop)
}
