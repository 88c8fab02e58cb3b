//! The protocol's core as a transition system, searched exhaustively with stateright.
//!
//! # What is in it
//! Clients with a journal, which publish, send again, ask, void and cancel; inquiry; the line, with
//! its single active consumer, and one that is it no longer and does not know; the two-phase chunk
//! of the registrar; the work queue; workers that claim, run, detach, give back and record; the
//! scheduler; outbox and notifier; a store that comes back as it was a while ago. Any process may
//! die and any connection break between any two steps; calls of the store may fail before or after
//! their script has run; messages are delivered again and twice; queues are independent of each
//! other.
//!
//! # What is production's own, and what is spelled out again
//! States, events and transitions (`job::state`), the rule of who runs alone (`store::claim`) and
//! the journal's standings (`client`) are production's. What Lua decides ([`claim`], and `accept`
//! in [`store`]) is a function here, and a test compares it with the script on a real Redis over
//! every combination of what it looks at. The order of steps in [`mod@line`], [`work`] and
//! [`model`] is written after `services/` by hand.
//!
//! # What it leaves out
//! Parked and scheduled jobs, hand-over and reports, deadlines, subscriptions and waits, retention,
//! quotas; receipts that go to the outbox; slots and more than one line; time, but for "the lease
//! has ended" and "that is long ago", which may be true at any moment.
//!
//! # Bounds
//! Time and bytes have none, faults do: see [`Budget`] and [`searches`]. `cargo test` searches 1.3
//! million states; `cargo run --release -p counterfoil-protocol-model` some ten million and more.
//! What they must find is [`Mistake`]; the last four of those are what they found in production.

pub mod actions;
pub mod bounds;
pub mod claim;
pub mod line;
pub mod model;
pub mod properties;
pub mod searches;
pub mod state;
pub mod store;
pub mod work;

pub use bounds::{Bounds, Budget, Mistake};
pub use model::Protocol;
