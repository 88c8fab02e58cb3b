//! The protocol's core, searched; and held against the scripts that do the same.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod claims;
mod mistakes;
mod search;
