//! The order desk: an order-receiving server of a shop, on Counterfoil's public crates alone.
//!
//! A shop submits `order.place` with an order as JSON; the desk validates, prices, reserves stock
//! and confirms, and reports each step as a stage.

mod catalogue;
mod desk;
mod order;
mod stock;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use serde::Deserialize;
use worker::{Context, Json, Worker};

use crate::catalogue::Catalogue;
use crate::desk::Desk;

/// Receives orders (type order.place, queue orders).
///
/// COUNTERFOIL_AMQP_URL and COUNTERFOIL_REDIS_URL say where RabbitMQ and Redis are.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// A settings file; it need only hold what differs from the defaults
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How long each stage takes, to be watched
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pace_ms: u64,
}

/// The sections beside the worker's.
#[derive(Debug, Deserialize)]
struct Settings {
    log: telemetry::Settings,
}

/// The queue of orders.
const QUEUE: &str = "orders";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let Settings { log } = settings::load(arguments.config.as_deref())?;
    telemetry::start(&log)?;
    let worker: worker::Settings = settings::load(arguments.config.as_deref())?;
    let catalogue = Catalogue::load()?;
    let desk = Arc::new(Desk::new(catalogue, Duration::from_millis(arguments.pace_ms)));
    let place = move |Json(order): Json<order::Order>, job: Context| {
        let desk = Arc::clone(&desk);
        async move { desk.place(order, &job).await }
    };
    Worker::new(worker).handle_on("order.place", QUEUE, None, place)?.run_until_signal().await?;
    Ok(())
}
