//! The rules of a job, as values: nothing here reads a clock, a random number or a network.
//!
//! In reading order: how a job is named ([`id`], [`origin`], [`ticket`]), what may become of it
//! ([`state`]), who wants to hear of it ([`subscription`]), when it is tried again ([`retry`]) and
//! what makes two submissions the same ([`digest`]).

pub mod id;
pub mod origin;
pub mod ticket;

pub mod state;

pub mod subscription;

pub mod retry;

pub mod digest;

pub use digest::Digest;
pub use id::{ClientName, InvalidId, JobId, JobType, QueueName};
pub use origin::Origin;
pub use retry::RetryPolicy;
pub use state::{Event, IllegalTransition, State};
pub use subscription::Subscription;
pub use ticket::{Ticket, TicketKey};
