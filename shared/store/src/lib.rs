//! The record of every job. The only crate that sees Redis, and the only one that names a key.
//!
//! In reading order: the keys ([`keys`]), what stands in a record ([`record`]), the connection and
//! what is checked on it ([`connection`], [`opening`]), who may do what ([`acl`]) and how a store
//! is looked at from outside ([`examine`]), the scripts ([`scripts`]) and how one is called for
//! many jobs at once ([`each`]), and then what can be done with a job: [`accept`], [`change`],
//! [`claim`], [`report`], [`read`], [`list`], [`subscribe`], [`wait`], [`due`], [`outbox`],
//! [`retire`], [`replay`], [`types`]; and when that was done ([`timed`]).
//!
//! # What is authoritative
//! Redis is, for the state of a job; its clock is, for leases and due times. Every change of a job
//! is one step of a Lua script, which validates all and then writes all. Every script may be run
//! again: a time-out says nothing about whether it ran, so callers repeat, and the repetition is
//! recognised (by the digest, the fence, the dispatch number or the state).
//!
//! # Failure
//! [`Error::is_transient`] tells what may be repeated. After a time-out the connection is dropped
//! and made anew, because redis-rs would keep a connection whose peer hangs.

mod keys;
pub mod record;

pub mod acl;
pub mod connection;
pub mod examine;
pub mod opening;

pub mod scripts;

mod each;

pub mod accept;
pub mod change;
pub mod claim;
pub mod due;
pub mod list;
pub mod lost;
pub mod outbox;
pub mod read;
pub mod replay;
pub mod report;
pub mod retire;
pub mod subscribe;
pub mod timed;
pub mod types;
pub mod wait;

mod error;
mod reply;
mod settings;

pub use connection::Store;
pub use error::Error;
pub use keys::{JobName, Keys};
pub use opening::Durability;
pub use record::{Record, RecordKind};
pub use retire::{Retention, Retired};
pub use settings::Settings;
