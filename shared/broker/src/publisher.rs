//! One task that publishes on one channel, with confirms.
//!
//! # Joined writes
//! What waits is taken together and published in one go: lapin writes to the socket once for frames
//! that are handed over together, which more than doubles the rate.
//!
//! # Which message came back
//! lapin attaches a returned message to whichever confirm completes next, not to its own. So
//! returns are collected by routing key and message id, and a batch is decided only when it and
//! every batch before it are confirmed: then every return of theirs has been seen.
//!
//! ```text
//!   batches  ──►  publish, joined  ──►  confirms, in any order  ──►  decide the oldest batch
//! ```
//!
//! # Failure
//! When the channel fails, what was not decided is [`Outcome::Lost`]: it may have arrived or not.

use std::sync::Arc;

use protocol::Properties;
use tokio::sync::{mpsc, oneshot};

use crate::Error;
use crate::publishing::{Batch, Task};

/// A message to be published.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The exchange.
    pub exchange: &'static str,
    /// The routing key.
    pub routing_key: String,
    /// Whether it is to come back if no queue takes it.
    pub mandatory: bool,
    /// Its properties.
    pub properties: Properties,
    /// Its body.
    pub body: Vec<u8>,
}

/// What became of a published message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every queue that takes it has it.
    Confirmed,
    /// No queue takes it.
    Returned,
    /// A queue refused it: it is full.
    Refused,
    /// Its body is longer than this broker takes (`max_message_size`). The channel has failed over
    /// it: what else was in flight is [`Outcome::Lost`].
    TooLarge,
    /// The channel failed: it may have arrived or not.
    Lost,
}

/// A handle on the publishing task; clones share the channel.
#[derive(Debug, Clone)]
pub struct Publisher {
    batches: mpsc::Sender<Batch>,
}

/// Batches that may wait to be taken.
const WAITING_MAX: usize = 256;

impl Publisher {
    pub(crate) fn start(channel: lapin::Channel) -> Self {
        let (batches, waiting) = mpsc::channel(WAITING_MAX);
        tokio::spawn(Task::new(channel).run(waiting));
        Self { batches }
    }

    /// Publishes messages in their order and waits for what became of them.
    ///
    /// # Cancel safety
    /// What was handed over is published all the same.
    pub async fn publish(&self, messages: Vec<Publication>) -> Vec<Outcome> {
        self.publish_shared(Arc::new(messages)).await
    }

    /// The same with messages that somebody else may need as well.
    ///
    /// # Cancel safety
    /// As [`Self::publish`].
    pub async fn publish_shared(&self, messages: Arc<Vec<Publication>>) -> Vec<Outcome> {
        let count = messages.len();
        match self.hand_over(messages).await {
            Ok(outcomes) => outcomes.await.unwrap_or_else(|_| vec![Outcome::Lost; count]),
            Err(_) => vec![Outcome::Lost; count],
        }
    }

    /// Hands messages over, and returns what will tell what became of them: another batch may be
    /// handed over in the meantime, and is published after this one.
    ///
    /// # Errors
    /// [`Error::Gone`]: the channel has failed and nothing was published.
    pub async fn begin(
        &self,
        messages: Vec<Publication>,
    ) -> Result<oneshot::Receiver<Vec<Outcome>>, Error> {
        self.hand_over(Arc::new(messages)).await
    }

    async fn hand_over(
        &self,
        messages: Arc<Vec<Publication>>,
    ) -> Result<oneshot::Receiver<Vec<Outcome>>, Error> {
        let (reply, outcomes) = oneshot::channel();
        if messages.is_empty() {
            // Nobody else holds the other end.
            reply.send(Vec::new()).ok();
            return Ok(outcomes);
        }
        self.batches.send(Batch { messages, reply }).await.map_err(|_| Error::Gone)?;
        Ok(outcomes)
    }
}
