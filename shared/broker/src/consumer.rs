//! A consumer on a channel of its own.
//!
//! # Why it is never cancelled
//! `basic.cancel` hands later messages to the next consumer of a single-active queue while this one
//! still holds earlier ones, and lapin sends it when its consumer is dropped before the channel is
//! closed. So [`Consumer::close`] closes the channel first; and a consumer that is dropped without
//! that (a task that was aborted, a panic) leaks lapin's handle instead of dropping it: the
//! connection's end returns everything in order.

use std::mem::ManuallyDrop;

use faults::{Bug, is_seeded};
use futures_util::future::join_all;
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::FieldTable;
use protocol::Properties;

use crate::Error;
use crate::closing::closed;
use crate::convert::from_lapin;
use crate::declare::short;

/// A received message.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Its number on the channel, by which it is acknowledged.
    pub tag: u64,
    /// The exchange that it was published to.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// Its properties.
    pub properties: Properties,
    /// Its body.
    pub body: Vec<u8>,
}

/// Receives from one queue.
pub struct Consumer {
    channel: lapin::Channel,
    stream: ManuallyDrop<lapin::Consumer>,
    queue: String,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").field("queue", &self.queue).finish_non_exhaustive()
    }
}

/// Acknowledges on a consumer's channel.
#[derive(Clone, Debug)]
pub struct Acker {
    channel: lapin::Channel,
}

impl Consumer {
    pub(crate) async fn start(
        channel: lapin::Channel,
        queue: &str,
        prefetch: u16,
    ) -> Result<Self, Error> {
        // Before consuming: lapin buffers deliveries without a bound of its own.
        channel.basic_qos(prefetch, BasicQosOptions { global: false }).await?;
        let options =
            BasicConsumeOptions { no_local: false, no_ack: false, exclusive: false, nowait: false };
        let stream =
            channel.basic_consume(short(queue)?, "".into(), options, FieldTable::default()).await?;
        Ok(Self { channel, stream: ManuallyDrop::new(stream), queue: queue.to_owned() })
    }

    /// Waits for a delivery, and takes with it what is there already, up to `most`.
    ///
    /// # Errors
    /// The consumer has ended: build everything anew. An end without an error is one as well, e.g.
    /// the queue was deleted.
    ///
    /// # Cancel safety
    /// Nothing is lost: a delivery is taken without a pause in between.
    pub async fn next_chunk(&mut self, most: usize) -> Result<Vec<Delivery>, Error> {
        let first = self.stream.next().await;
        if is_seeded(Bug::DeafConsumer) && !matches!(first, Some(Ok(_))) {
            std::future::pending::<()>().await;
        }
        let mut chunk = vec![self.delivery(first)?];
        while chunk.len() < most {
            match self.stream.next().now_or_never() {
                Some(next) => match self.delivery(next) {
                    Ok(delivery) => chunk.push(delivery),
                    // What came before still counts; the next call meets the end again.
                    Err(error) => {
                        tracing::debug!(%error, queue = self.queue, "the consumer has ended");
                        break;
                    }
                },
                None => break,
            }
        }
        Ok(chunk)
    }

    fn delivery(
        &self,
        next: Option<lapin::Result<lapin::message::Delivery>>,
    ) -> Result<Delivery, Error> {
        let delivery = next.ok_or_else(|| Error::Cancelled(self.queue.clone()))??;
        Ok(Delivery {
            tag: delivery.delivery_tag,
            exchange: delivery.exchange.as_str().to_owned(),
            routing_key: delivery.routing_key.as_str().to_owned(),
            redelivered: delivery.redelivered,
            properties: from_lapin(delivery.properties),
            body: delivery.data,
        })
    }

    /// What acknowledges this consumer's deliveries.
    pub fn acker(&self) -> Acker {
        Acker { channel: self.channel.clone() }
    }

    /// Closes the channel, then lets go of the consumer. What was not acknowledged returns to the
    /// queue, in order.
    pub async fn close(self) {
        match closed(self.channel.close(200, "done".into())).await {
            // The channel is closed, so dropping lapin's handle sends no basic.cancel.
            Ok(()) => drop(ManuallyDrop::into_inner(self.stream)),
            Err(error) => tracing::debug!(%error, queue = self.queue, "closing a consumer"),
        }
    }
}

impl Acker {
    /// Acknowledges deliveries, in one write.
    ///
    /// # Errors
    /// The channel has failed: they will be delivered again.
    pub async fn ack(&self, tags: &[u64]) -> Result<(), Error> {
        let acks = tags.iter().map(|tag| self.channel.basic_ack(*tag, BasicAckOptions::default()));
        join_all(acks).await.into_iter().collect::<Result<Vec<()>, _>>()?;
        Ok(())
    }

    /// Acknowledges everything up to a delivery. Each one of them must have been decided.
    ///
    /// # Errors
    /// The channel has failed: they will be delivered again.
    pub async fn ack_through(&self, tag: u64) -> Result<(), Error> {
        Ok(self.channel.basic_ack(tag, BasicAckOptions { multiple: true }).await?)
    }

    /// Returns a delivery to its queue. Never used on the line.
    ///
    /// # Errors
    /// The channel has failed: it returns all the same.
    pub async fn give_back(&self, tag: u64) -> Result<(), Error> {
        Ok(self
            .channel
            .basic_nack(tag, BasicNackOptions { multiple: false, requeue: true })
            .await?)
    }
}
