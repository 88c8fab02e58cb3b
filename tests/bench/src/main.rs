//! See the library.

use bench::{ALL, Peers, Plan, echo, floor, handlers, measure};
use clap::{Parser, Subcommand};

/// What a job costs.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Every row
    Full,
    /// A, B, D, E and Celery, in short runs
    Quick,
    /// Single rows
    Rows {
        /// Letters, e.g. EF; C runs every other job queue too
        rows: String,
        /// Rounds of each comparison
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Seconds of each run, about
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
    },
    /// A worker of ours with handlers that do nothing
    Worker,
    /// The server of the floor
    FloorServer,
    /// The worker of the floor
    FloorWorker,
    /// Sends back what it gets
    Echo,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Full => measure(ALL, &Plan::FULL).await,
        Command::Quick => measure("ABDE", &Plan::QUICK).await,
        Command::Rows { rows, rounds, seconds } => {
            let peers = if rows.contains('C') { Peers::All } else { Peers::None };
            measure(&rows, &Plan { rounds, seconds, peers, ..Plan::FULL }).await
        }
        Command::Worker => handlers::work().await,
        Command::FloorServer => floor::serve().await,
        Command::FloorWorker => floor::work().await,
        Command::Echo => echo::serve().await,
    }
}
