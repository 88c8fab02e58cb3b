//! The crash campaign. A fleet of real processes works while faults are made by the thousand; what
//! clients saw and what is in the stores at the end is then held against what was promised.
//!
//! In reading order: [`history`], what each process saw; the processes themselves ([`load`], a
//! client, and [`handlers`], a worker) and the [`fleet`] of them; the [`world`] of nodes and of
//! links ([`proxy`]) that fail on demand; the [`faults`]; a [`stage`] with its [`checker`]; the
//! [`campaign`] with its [`floors`] and [`report`].

pub mod campaign;
pub mod checker;
pub mod cuts;
pub mod faults;
pub mod fleet;
pub mod floors;
pub mod handlers;
pub mod history;
pub mod load;
pub mod proxy;
pub mod report;
pub mod selftest;
pub mod stage;
pub mod world;

mod memory;
mod points;
