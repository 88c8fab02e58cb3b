//! The rows of the report.

pub mod growth;
pub mod journal;
pub mod latency;
pub mod scale;
pub mod status;
pub mod throughput;
