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
    /// The secret that tickets are derived from; made at first use and kept in the store if absent.
    #[serde(default)]
    pub secret: Option<String>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// As many as a Redis Cluster has.
const SLOTS_MAX: u16 = 16_384;

impl Settings {
    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// A sentence that names the key and what is allowed.
    pub fn validate(&self) -> Result<(), String> {
        if redis::Client::open(self.url.as_str()).is_err() {
            let form = "redis://user:password@host:port/database";
            return Err(format!("redis.url: not a Redis URL ({form})"));
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if self.prefix.is_empty() || !self.prefix.chars().all(is_plain) {
            return Err("redis.prefix: allowed are letters, digits, _ . and -".to_owned());
        }
        if !self.slots.is_power_of_two() || self.slots > SLOTS_MAX {
            return Err(format!(
                "redis.slots is {}; allowed is a power of two from 1 to {SLOTS_MAX}",
                self.slots
            ));
        }
        if self.connect_timeout_ms == 0 || self.response_timeout_ms == 0 {
            return Err(
                "redis.connect_timeout_ms and redis.response_timeout_ms: allowed is 1 and \
                        more"
                    .to_owned(),
            );
        }
        Ok(())
    }
}
