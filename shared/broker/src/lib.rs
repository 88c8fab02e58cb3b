//! Transport and topology: the only crate that sees lapin, and the only one that names a queue or
//! an exchange. It knows no job.
//!
//! In reading order: the names and their arguments ([`topology`]), who may do what with them
//! ([`rights`], [`definitions`], [`management`], [`examine`]), a [`Connection`], the
//! [`Publisher`] and the [`Consumer`] of a channel, and the [`Backoff`] with which all of it is
//! built anew.
//!
//! # What a caller must know
//! lapin's own recovery is off. A connection, a channel or a consumer that has failed is of no use
//! any more: drop everything that came from the connection and open another, after a pause. One
//! task publishes on one channel, because lapin assigns confirm numbers and orders frames under
//! different locks.

pub mod topology;

pub mod definitions;
pub mod examine;
pub mod management;
pub mod rights;

mod backoff;
mod chain;
mod closing;
mod connection;
mod consumer;
mod convert;
mod dead;
mod declare;
mod error;
mod publisher;
mod publishing;
mod salvage;
mod settings;

pub mod wire;

pub use backoff::{Backoff, Retry};
pub use chain::chain;
pub use connection::Connection;
pub use consumer::{Acker, Consumer, Delivery};
pub use dead::{dead_letter, dead_work_message};
pub use error::Error;
pub use publisher::{Outcome, Publication, Publisher};
pub use salvage::{greeting, salvage};
pub use settings::Settings;
