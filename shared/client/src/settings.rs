use std::path::PathBuf;

use serde::Deserialize;

/// What a client needs.
#[derive(Debug, Clone, Deserialize)]
pub struct Settings {
    /// How to reach RabbitMQ; the user is the client's name.
    pub amqp: broker::Settings,
    /// Journal and patience.
    pub client: ClientSettings,
}

/// The section `[client]`; `config/default.toml` is its reference.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientSettings {
    /// The journal's file. Several processes of one machine may share it.
    pub journal: PathBuf,
    /// Unfinished submissions that it may hold.
    pub journal_entries_max: u64,
    /// Bytes of all submissions that it may hold.
    pub journal_bytes_max: u64,
    /// How long it keeps finished submissions.
    pub journal_keep_ms: u64,
    /// `ip` (this machine's address, or its name if it has none), or a label.
    pub origin: String,
    /// A submission without a receipt is sent again after so long, then after twice that, and so
    /// on, up to sixteen times.
    pub resend_after_ms: u64,
    /// How long an answer is waited for.
    pub answer_timeout_ms: u64,
}

impl ClientSettings {
    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// A sentence that names the key and what is allowed.
    pub fn validate(&self) -> Result<(), String> {
        crate::origin::find(&self.origin).map_err(|error| format!("client.origin: {error}"))?;
        if self.resend_after_ms == 0 || self.answer_timeout_ms == 0 {
            return Err(
                "client.resend_after_ms and client.answer_timeout_ms: allowed is 1 and more"
                    .to_owned(),
            );
        }
        for (key, value) in [
            ("journal_entries_max", self.journal_entries_max),
            ("journal_bytes_max", self.journal_bytes_max),
            ("journal_keep_ms", self.journal_keep_ms),
        ] {
            if value == 0 {
                return Err(format!("client.{key} is 0; allowed is 1 and more"));
            }
        }
        if self.journal.as_os_str().is_empty() {
            return Err("client.journal is empty; it must name a file".to_owned());
        }
        Ok(())
    }
}
