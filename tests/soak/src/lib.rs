//! The crash campaign. A fleet of real processes works while faults are made by the thousand; what
//! clients saw and what is in the stores at the end is then held against what was promised.
//!
//! In reading order: [`history`], what each process saw; the processes themselves ([`load`], a
//! client, and [`handlers`], a worker); [`proxy`], a link that fails on demand.

pub mod campaign;
pub mod checker;
pub mod faults;
pub mod fleet;
pub mod handlers;
pub mod history;
pub mod load;
pub mod proxy;
pub mod report;
pub mod world;
