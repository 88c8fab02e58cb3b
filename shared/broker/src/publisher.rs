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

use std::collections::{HashMap, VecDeque};

use faults::{Bug, is_seeded};
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::Confirmation;
use lapin::options::BasicPublishOptions;
use protocol::Properties;
use tokio::sync::{mpsc, oneshot};

use crate::Error;
use crate::closing::closed;
use crate::convert::to_lapin;
use crate::declare::short;

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

#[derive(Debug)]
struct Batch {
    messages: Vec<Publication>,
    reply: oneshot::Sender<Vec<Outcome>>,
}

/// Batches that may wait to be taken.
const WAITING_MAX: usize = 256;
/// Batches taken in one go.
const TAKEN_MAX: usize = 64;
/// Messages that may wait for their confirms; beyond it nothing more is taken.
const UNCONFIRMED_MAX: usize = 4096;

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
        let count = messages.len();
        match self.begin(messages).await {
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

/// A batch whose confirms are awaited.
struct InFlight {
    names: Vec<(String, String)>,
    /// Bytes of the bodies.
    sizes: Vec<usize>,
    outcomes: Vec<Option<Outcome>>,
    open: usize,
    reply: oneshot::Sender<Vec<Outcome>>,
}

type ConfirmFuture =
    futures_util::future::BoxFuture<'static, (u64, usize, lapin::Result<Confirmation>)>;

struct Task {
    channel: lapin::Channel,
    in_flight: VecDeque<InFlight>,
    /// The number of the oldest batch in flight.
    oldest: u64,
    unconfirmed: usize,
    confirms: FuturesUnordered<ConfirmFuture>,
    returned: HashMap<(String, String), usize>,
    next_message: u64,
}

impl Task {
    fn new(channel: lapin::Channel) -> Self {
        Self {
            channel,
            in_flight: VecDeque::new(),
            oldest: 0,
            unconfirmed: 0,
            confirms: FuturesUnordered::new(),
            returned: HashMap::new(),
            next_message: 0,
        }
    }

    async fn run(mut self, mut waiting: mpsc::Receiver<Batch>) {
        let mut taken = Vec::with_capacity(TAKEN_MAX);
        loop {
            tokio::select! {
                count = waiting.recv_many(&mut taken, TAKEN_MAX),
                    if self.unconfirmed < UNCONFIRMED_MAX =>
                {
                    if count == 0 {
                        break;
                    }
                    if !self.publish(&mut taken).await {
                        return;
                    }
                }
                Some(confirm) = self.confirms.next() => {
                    if !self.settle(confirm) {
                        return;
                    }
                }
            }
        }
        // No handle is left; what is in flight is still awaited by whoever handed it over.
        while let Some(confirm) = self.confirms.next().await {
            if !self.settle(confirm) {
                return;
            }
        }
        if let Err(error) = closed(self.channel.close(200, "done".into())).await {
            tracing::debug!(%error, "closing a publisher");
        }
    }

    /// Publishes batches, all of their frames handed over together. Returns whether the channel
    /// still works; dropping the task answers [`Outcome::Lost`] to whoever waits.
    async fn publish(&mut self, taken: &mut Vec<Batch>) -> bool {
        let first = self.oldest + self.in_flight.len() as u64;
        let mut prepared = Vec::new();
        for (number, batch) in (first..).zip(taken.drain(..)) {
            let mut names = Vec::with_capacity(batch.messages.len());
            let sizes = batch.messages.iter().map(|message| message.body.len()).collect();
            let mut outcomes = vec![None; batch.messages.len()];
            let mut open = 0;
            for (index, mut message) in batch.messages.into_iter().enumerate() {
                let id = message.properties.message_id.get_or_insert_with(|| {
                    self.next_message += 1;
                    self.next_message.to_string()
                });
                names.push((message.routing_key.clone(), id.clone()));
                let parts = short(&message.routing_key)
                    .and_then(|key| Ok((key, to_lapin(message.properties)?)));
                match parts {
                    Ok((key, properties)) => {
                        open += 1;
                        let options =
                            BasicPublishOptions { mandatory: message.mandatory, immediate: false };
                        prepared.push((
                            (number, index),
                            message.exchange,
                            key,
                            options,
                            message.body,
                            properties,
                        ));
                    }
                    // A name that no queue can have: nobody takes the message.
                    Err(_) => outcomes[index] = Some(Outcome::Returned),
                }
            }
            self.unconfirmed += open;
            self.in_flight.push_back(InFlight { names, sizes, outcomes, open, reply: batch.reply });
        }
        let channel = &self.channel;
        let publishes =
            prepared.iter_mut().map(|(place, exchange, key, options, body, properties)| {
                let properties = std::mem::take(properties);
                async move {
                    let sent = channel
                        .basic_publish((*exchange).into(), key.clone(), *options, body, properties)
                        .await;
                    (*place, sent)
                }
            });
        for ((number, index), sent) in join_all(publishes).await {
            match sent {
                Ok(confirm) => {
                    self.confirms.push(confirm.map(move |c| (number, index, c)).boxed());
                }
                Err(error) => {
                    tracing::debug!(%error, "publishing");
                    self.fail(&error);
                    return false;
                }
            }
        }
        self.decide();
        true
    }

    /// Takes one confirm, and every other that is there.
    fn settle(&mut self, confirm: (u64, usize, lapin::Result<Confirmation>)) -> bool {
        let mut next = Some(confirm);
        while let Some((number, index, confirmation)) = next {
            let (outcome, returned) = match confirmation {
                Ok(Confirmation::Ack(returned)) => (Outcome::Confirmed, returned),
                Ok(Confirmation::Nack(returned)) if is_seeded(Bug::AnyConfirm) => {
                    (Outcome::Confirmed, returned)
                }
                Ok(Confirmation::Nack(returned)) => (Outcome::Refused, returned),
                // Confirms are on for every channel of ours: this one is not what it should be.
                Ok(Confirmation::NotRequested) => (Outcome::Lost, None),
                Err(error) => {
                    tracing::debug!(%error, "waiting for a confirm");
                    self.fail(&error);
                    return false;
                }
            };
            let is_own = returned.is_some() && is_seeded(Bug::ReturnByPosition);
            let outcome = if is_own { Outcome::Returned } else { outcome };
            if let Some(message) = returned.filter(|_| !is_own) {
                let id = message.delivery.properties.message_id();
                let id = id.as_ref().map_or("", |id| id.as_str()).to_owned();
                let key = message.delivery.routing_key.as_str().to_owned();
                *self.returned.entry((key, id)).or_default() += 1;
            }
            let position = usize::try_from(number - self.oldest).unwrap_or(usize::MAX);
            if let Some(batch) = self.in_flight.get_mut(position) {
                batch.outcomes[index] = Some(outcome);
                batch.open -= 1;
                self.unconfirmed -= 1;
            }
            next = self.confirms.next().now_or_never().flatten();
        }
        self.decide();
        true
    }

    /// The channel has failed. If a message was too large for the broker, the reason says how
    /// large it was, and so which one: sent again, it would close the next channel too.
    fn fail(&mut self, error: &lapin::Error) {
        let mut size = too_large(error);
        while size.is_none()
            && let Some(Some((_, _, confirmation))) = self.confirms.next().now_or_never()
        {
            size = confirmation.err().as_ref().and_then(too_large);
        }
        let Some(size) = size else { return };
        for batch in self.in_flight.drain(..) {
            // A confirm that came already may be of a message that no queue took.
            let outcomes = batch
                .sizes
                .into_iter()
                .map(|of| if of == size { Outcome::TooLarge } else { Outcome::Lost });
            // Whoever asked may have gone.
            batch.reply.send(outcomes.collect()).ok();
        }
    }

    /// Answers for every batch that is confirmed with all batches before it.
    fn decide(&mut self) {
        while self.in_flight.front().is_some_and(|batch| batch.open == 0) {
            let Some(batch) = self.in_flight.pop_front() else { return };
            self.oldest += 1;
            let outcomes = batch.names.into_iter().zip(batch.outcomes).map(|(name, outcome)| {
                if outcome == Some(Outcome::Confirmed)
                    && !self.returned.is_empty()
                    && let Some(count) = self.returned.get_mut(&name)
                {
                    *count -= 1;
                    if *count == 0 {
                        self.returned.remove(&name);
                    }
                    return Outcome::Returned;
                }
                outcome.unwrap_or(Outcome::Lost)
            });
            // Whoever asked may have gone.
            batch.reply.send(outcomes.collect()).ok();
        }
    }
}

/// RabbitMQ's words for a body that is too long: "message size 3000000 is larger than …".
fn too_large(error: &lapin::Error) -> Option<usize> {
    let lapin::ErrorKind::ProtocolError(error) = error.kind() else { return None };
    let (_, rest) = error.get_message().as_str().split_once("message size ")?;
    let (size, rest) = rest.split_once(' ')?;
    rest.starts_with("is larger than").then(|| size.parse().ok())?
}
