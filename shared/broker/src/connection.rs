//! One connection. It has an operating-system thread and buffers of its own in lapin: few
//! connections, many channels.

use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::options::{ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use lapin::{ConnectionProperties, Event};
use tokio::sync::watch;

use crate::closing::closed;
use crate::declare::{close, short};
use crate::topology::QueueType;
use crate::{Consumer, Error, Publisher, Settings};

/// A connection to the broker, without recovery.
pub struct Connection {
    inner: lapin::Connection,
    failed: watch::Receiver<bool>,
    pub(crate) inquiry: QueueType,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

/// How many messages wait in a queue, and for how many consumers.
#[derive(Debug, Clone, Copy)]
pub struct Depth {
    /// Messages that no consumer holds.
    pub ready: u32,
    /// Consumers.
    pub consumers: u32,
}

impl Connection {
    /// Connects. The name is shown in RabbitMQ's management page.
    ///
    /// # Errors
    /// Transient ones may be tried again; the others name what to mend.
    pub async fn open(settings: &Settings, name: &str) -> Result<Self, Error> {
        let mut uri: AMQPUri = settings.url.parse().map_err(Error::Url)?;
        // A URL that ends after the host names the default virtual host, as in every other client.
        if uri.vhost.is_empty() {
            "/".clone_into(&mut uri.vhost);
        }
        uri.query.heartbeat = Some(settings.heartbeat_s);
        uri.query.connection_timeout = Some(settings.connect_timeout_ms);
        let properties = ConnectionProperties::default()
            .with_connection_name(format!("{name} ({})", std::process::id()).into());
        // A peer that accepts the connection and then says nothing would be waited for.
        let limit = Duration::from_millis(settings.connect_timeout_ms.saturating_mul(2));
        let inner = tokio::time::timeout(limit, lapin::Connection::connect_uri(uri, properties))
            .await
            .map_err(|_| Error::Timeout(settings.connect_timeout_ms))??;
        let (failed_sender, failed) = watch::channel(false);
        let mut events = Box::pin(inner.events_listener());
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                match event {
                    Event::ConnectionBlocked(reason) => {
                        tracing::warn!(%reason, "RabbitMQ takes no messages for now");
                    }
                    Event::ConnectionUnblocked => {
                        tracing::info!("RabbitMQ takes messages again");
                    }
                    Event::Error(_) => break,
                    _ => {}
                }
            }
            // Nobody may be listening any more, and that is fine.
            failed_sender.send_replace(true);
        });
        Ok(Self { inner, failed, inquiry: settings.inquiry_queue_type })
    }

    /// Waits until the connection has failed or was closed.
    pub async fn failed(&self) {
        let mut failed = self.failed.clone();
        while !*failed.borrow_and_update() {
            if failed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whether the connection can still be used.
    pub fn is_usable(&self) -> bool {
        !*self.failed.borrow() && self.inner.status().connected()
    }

    /// Creates a client's inbox: a classic queue that lives as long as this connection.
    ///
    /// # Errors
    /// [`Error::Refused`] if this user may not have a queue of that name.
    pub async fn declare_inbox(&self, name: &str) -> Result<(), Error> {
        let channel = self.inner.create_channel().await?;
        let options = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        channel.queue_declare(short(name)?, options, inbox_arguments()).await?;
        close(&channel).await;
        Ok(())
    }

    /// Creates a queue that outlives its connection and is deleted when nobody has used it for
    /// `expires_ms`.
    ///
    /// # Errors
    /// [`Error::Refused`] if this user may not have a queue of that name.
    pub async fn declare_durable_inbox(&self, name: &str, expires_ms: u32) -> Result<(), Error> {
        let channel = self.inner.create_channel().await?;
        let mut arguments = inbox_arguments();
        arguments.insert("x-expires".into(), AMQPValue::LongUInt(expires_ms));
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(short(name)?, options, arguments).await?;
        close(&channel).await;
        Ok(())
    }

    /// Looks at a queue without touching it.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is none.
    pub async fn depth(&self, queue: &str) -> Result<Depth, Error> {
        let channel = self.inner.create_channel().await?;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let seen = channel.queue_declare(short(queue)?, passive, FieldTable::default()).await;
        let seen = seen.map_err(|error| Error::about(queue, error))?;
        close(&channel).await;
        Ok(Depth { ready: seen.message_count(), consumers: seen.consumer_count() })
    }

    pub(crate) async fn channel(&self) -> Result<lapin::Channel, Error> {
        Ok(self.inner.create_channel().await?)
    }

    /// A publisher on a channel of its own.
    ///
    /// # Errors
    /// The connection has failed.
    pub async fn publisher(&self) -> Result<Publisher, Error> {
        let channel = self.inner.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Publisher::start(channel))
    }

    /// A consumer on a channel of its own.
    ///
    /// # Errors
    /// [`Error::Unavailable`] with 404 if there is no such queue.
    pub async fn consumer(&self, queue: &str, prefetch: u16) -> Result<Consumer, Error> {
        Consumer::start(self.inner.create_channel().await?, queue, prefetch).await
    }

    /// Ends the connection. What was not acknowledged returns to its queue, in order.
    pub async fn close(&self) {
        // A connection that has failed is as good as closed.
        if let Err(error) = closed(self.inner.close(200, "closed".into())).await {
            tracing::debug!(%error, "closing a connection");
        }
    }
}

/// Of every inbox. The type, because a virtual host's default may be quorum, which cannot be
/// exclusive. The overflow, because an operator may bound queues by a policy: without it RabbitMQ
/// drops the oldest without a word, even where the same policy says to refuse the newest, for it
/// takes up the bound first (`process_args_policy` in its `rabbit_amqqueue_process.erl`).
fn inbox_arguments() -> FieldTable {
    let mut arguments = FieldTable::default();
    for (name, value) in [("x-queue-type", "classic"), ("x-overflow", "reject-publish")] {
        arguments.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    arguments
}
