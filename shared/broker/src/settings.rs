use serde::Deserialize;

/// The section `[amqp]`; `config/default.toml` is its reference.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `amqp://user:password@host:port/vhost`.
    pub url: String,
    /// Seconds between heartbeats; a silent peer is given up after twice as long.
    pub heartbeat_s: u16,
    /// How long a connection may take to be made.
    pub connect_timeout_ms: u64,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("heartbeat_s", &self.heartbeat_s).finish_non_exhaustive()
    }
}

impl Settings {
    /// The user of the connection, which is the name of the client.
    ///
    /// # Errors
    /// [`crate::Error::Url`] if the URL is none.
    pub fn user(&self) -> Result<String, crate::Error> {
        let uri: lapin::uri::AMQPUri = self.url.parse().map_err(crate::Error::Url)?;
        Ok(uri.authority.userinfo.username)
    }
}
