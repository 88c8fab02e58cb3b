use serde::Deserialize;

use crate::topology::QueueType;

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
    /// Whether what is missing of the topology is created, which takes the right to.
    pub declare: bool,
    /// What the queue of requests is, or is to be.
    pub inquiry_queue_type: QueueType,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("heartbeat_s", &self.heartbeat_s).finish_non_exhaustive()
    }
}

impl Settings {
    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// A sentence that names the key and what is allowed.
    pub fn validate(&self) -> Result<(), String> {
        self.user().map_err(|error| error.to_string())?;
        if self.heartbeat_s == 0 || self.connect_timeout_ms == 0 {
            return Err(
                "amqp.heartbeat_s and amqp.connect_timeout_ms: allowed is 1 and more".into()
            );
        }
        Ok(())
    }

    /// The virtual host of the connection.
    ///
    /// # Errors
    /// [`crate::Error::Url`] if the URL is none.
    pub fn vhost(&self) -> Result<String, crate::Error> {
        let uri: lapin::uri::AMQPUri = self.url.parse().map_err(crate::Error::Url)?;
        // A URL that ends after the host names the default one, as in every other client.
        Ok(if uri.vhost.is_empty() { "/".to_owned() } else { uri.vhost })
    }

    /// The user of the connection, which is the name of the client.
    ///
    /// # Errors
    /// [`crate::Error::Url`] if the URL is none.
    pub fn user(&self) -> Result<String, crate::Error> {
        let uri: lapin::uri::AMQPUri = self.url.parse().map_err(crate::Error::Url)?;
        Ok(uri.authority.userinfo.username)
    }
}
