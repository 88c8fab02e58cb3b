//! The protocol's core, searched exhaustively.

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

pub use bounds::{Bounds, Budget, Gap, Mistake};
pub use model::Protocol;
