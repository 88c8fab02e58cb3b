//! A worker: a handler in a few lines, run at least once, fenced.
//!
//! ```no_run
//! use serde::Deserialize;
//! use counterfoil_worker::{Context, Failure, Json, Worker, Settings};
//!
//! #[derive(Deserialize)]
//! struct Order { sku: String, qty: u32 }
//!
//! async fn place(Json(order): Json<Order>, job: Context) -> Result<String, Failure> {
//!     job.stage("stock-reserved").await?;
//!     Ok(format!("{} × {}", order.qty, order.sku))
//! }
//!
//! # async fn example(settings: Settings) -> Result<(), counterfoil_worker::Error> {
//! Worker::new(settings).handle("order.place", place)?.run_until_signal().await
//! # }
//! ```
//!
//! In reading order: what a handler is ([`handler`], [`extract`], [`Context`], [`Failure`]), what a
//! [`Worker`] is made of ([`registry`], [`Settings`]), and what it does: [`execution`] is the life
//! of one delivery; [`runs`] are those under way, [`beat`] renews their leases, [`recorder`] writes
//! their outcomes, [`settling`] acknowledges, [`session`] builds all of it anew when a connection
//! fails.
//!
//! A handler runs **at least once**: after a crash, or after a lease that could not be renewed, it
//! runs again, and whatever the first run still reports is refused. Use [`Context::fence`] or
//! [`Context::ticket`] to make side effects outside idempotent.
//!
//! [`testing`] tries a handler against the rules of the store, without RabbitMQ or Redis.

pub mod handler;

pub mod extract;

mod context;
mod failure;

pub mod registry;

pub mod demo;

pub mod testing;

mod beat;
mod books;
mod candidates;
mod claims;
mod execution;
mod recorder;
mod runs;
mod session;
mod settling;
mod shared;
mod worker;

mod error;
mod settings;

pub use context::{Context, Lost};
pub use error::Error;
pub use extract::{Bytes, Json};
pub use failure::Failure;
pub use handler::HandOver;
pub use registry::Registry;
pub use settings::{Settings, WorkerSettings};
pub use worker::{Running, Worker};
