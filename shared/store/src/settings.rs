//! Settings of the store; `config/default.toml` is their reference.

use serde::Deserialize;

/// The section `[redis]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `redis://user:password@host:port/database`.
    pub url: String,
    /// What every key begins with.
    pub prefix: String,
    /// How many slots jobs are spread over: a power of two, fixed at first use.
    pub slots: u16,
    /// How long a connection may take to be made.
    pub connect_timeout_ms: u64,
    /// How long an answer may take before the connection is given up.
    pub response_timeout_ms: u64,
    /// Events of one client that may wait for delivery before changes are joined into gaps.
    pub outbox_per_client_max: u64,
    /// How long the record of a refused submission is kept.
    pub refused_keep_ms: u64,
    /// The secret that tickets are derived from; made at first use and kept in the store if absent.
    #[serde(default)]
    pub secret: Option<String>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
