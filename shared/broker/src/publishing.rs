//! The task behind a [`Publisher`](crate::Publisher).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use faults::{Bug, is_seeded};
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Confirmation, PublisherConfirm};
use tokio::sync::{mpsc, oneshot};

use crate::closing::closed;
use crate::convert::to_lapin;
use crate::declare::short;
use crate::{Error, Outcome, Publication};

/// Messages that are published together, and who wants to know what became of them.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) messages: Arc<Vec<Publication>>,
    pub(crate) reply: oneshot::Sender<Vec<Outcome>>,
}

/// Batches taken in one go.
const TAKEN_MAX: usize = 64;
/// Messages that may wait for their confirms; beyond it nothing more is taken.
const UNCONFIRMED_MAX: usize = 4096;

/// A batch whose confirms are awaited.
struct InFlight {
    messages: Arc<Vec<Publication>>,
    /// Identifiers of messages that have none of their own.
    given: Vec<(usize, String)>,
    /// What is known already, in the order of the messages.
    outcomes: Vec<Option<Outcome>>,
    /// Those that are not there yet, with their places, in the order in which they were published.
    confirms: VecDeque<(usize, PublisherConfirm)>,
    reply: oneshot::Sender<Vec<Outcome>>,
}

impl InFlight {
    fn name(&self, index: usize) -> (&str, &str) {
        let Publication { routing_key, properties, .. } = &self.messages[index];
        let given = || {
            let given = self.given.iter().find(|(place, _)| *place == index);
            given.map_or("", |(_, id)| id.as_str())
        };
        (routing_key, properties.message_id.as_deref().unwrap_or_else(given))
    }
}

/// A message as lapin wants it, and its place in its batch.
struct Prepared {
    batch: usize,
    index: usize,
    exchange: &'static str,
    key: lapin::types::ShortString,
    options: BasicPublishOptions,
    properties: BasicProperties,
}

pub(crate) struct Task {
    channel: lapin::Channel,
    /// Oldest first. A batch is decided when all before it are, so only the oldest is waited for.
    in_flight: VecDeque<InFlight>,
    unconfirmed: usize,
    /// By routing key and identifier; seldom any.
    returned: HashMap<(String, String), usize>,
    next_message: u64,
}

impl Task {
    pub(crate) fn new(channel: lapin::Channel) -> Self {
        Self {
            channel,
            in_flight: VecDeque::new(),
            unconfirmed: 0,
            returned: HashMap::new(),
            next_message: 0,
        }
    }

    pub(crate) async fn run(mut self, mut waiting: mpsc::Receiver<Batch>) {
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
                confirm = oldest(&mut self.in_flight), if !self.in_flight.is_empty() => {
                    if !self.settle(confirm) {
                        return;
                    }
                }
            }
        }
        // No handle is left; what is in flight is still awaited by whoever handed it over.
        while !self.in_flight.is_empty() {
            let confirm = oldest(&mut self.in_flight).await;
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
        let first = self.in_flight.len();
        let mut prepared = Vec::new();
        for (batch, Batch { messages, reply }) in (first..).zip(taken.drain(..)) {
            let mut in_flight = InFlight {
                outcomes: vec![None; messages.len()],
                confirms: VecDeque::with_capacity(messages.len()),
                given: Vec::new(),
                messages,
                reply,
            };
            for index in 0..in_flight.messages.len() {
                match self.prepare(&mut in_flight, batch, index) {
                    Ok(message) => prepared.push(message),
                    // A name that no queue can have: nobody takes the message.
                    Err(_) => in_flight.outcomes[index] = Some(Outcome::Returned),
                }
            }
            self.in_flight.push_back(in_flight);
        }
        self.unconfirmed += prepared.len();
        let (channel, in_flight) = (&self.channel, &self.in_flight);
        let publishes = prepared.into_iter().map(|message| async move {
            let Prepared { batch, index, exchange, key, options, properties } = message;
            let body = &in_flight[batch].messages[index].body;
            let sent = channel.basic_publish(exchange.into(), key, options, body, properties).await;
            (batch, index, sent)
        });
        for (batch, index, sent) in join_all(publishes).await {
            match sent {
                Ok(confirm) => self.in_flight[batch].confirms.push_back((index, confirm)),
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

    fn prepare(
        &mut self,
        in_flight: &mut InFlight,
        batch: usize,
        index: usize,
    ) -> Result<Prepared, Error> {
        let message = &in_flight.messages[index];
        let key = short(&message.routing_key)?;
        let mut properties = to_lapin(&message.properties)?;
        if message.properties.message_id.is_none() {
            self.next_message += 1;
            let id = self.next_message.to_string();
            properties = properties.with_message_id(short(&id)?);
            in_flight.given.push((index, id));
        }
        let options = BasicPublishOptions { mandatory: message.mandatory, immediate: false };
        Ok(Prepared { batch, index, exchange: message.exchange, key, options, properties })
    }

    /// Takes one confirm, and every other that is there.
    fn settle(&mut self, confirm: lapin::Result<Confirmation>) -> bool {
        let mut next = Some(confirm);
        while let Some(confirmation) = next {
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
            if let Some(batch) = self.in_flight.front_mut()
                && let Some((index, _)) = batch.confirms.pop_front()
            {
                batch.outcomes[index] = Some(outcome);
                self.unconfirmed -= 1;
            }
            self.decide();
            next = match self.in_flight.is_empty() {
                false => oldest(&mut self.in_flight).now_or_never(),
                true => None,
            };
        }
        true
    }

    /// The channel has failed. If a message was too large for the broker, the reason says how
    /// large it was, and so which one: sent again, it would close the next channel too.
    fn fail(&mut self, error: &lapin::Error) {
        let mut size = too_large(error);
        let confirms = self.in_flight.iter_mut().flat_map(|batch| &mut batch.confirms);
        for (_, confirm) in confirms {
            if size.is_some() {
                break;
            }
            size = confirm.now_or_never().and_then(Result::err).as_ref().and_then(too_large);
        }
        let Some(size) = size else { return };
        for batch in self.in_flight.drain(..) {
            // A confirm that came already may be of a message that no queue took.
            let of = |message: &Publication| match message.body.len() == size {
                true => Outcome::TooLarge,
                false => Outcome::Lost,
            };
            // Whoever asked may have gone.
            batch.reply.send(batch.messages.iter().map(of).collect()).ok();
        }
    }

    /// Answers for every batch that is confirmed with all batches before it.
    fn decide(&mut self) {
        while self.in_flight.front().is_some_and(|batch| batch.confirms.is_empty()) {
            let Some(mut batch) = self.in_flight.pop_front() else { return };
            if !self.returned.is_empty() {
                for index in 0..batch.outcomes.len() {
                    if batch.outcomes[index] == Some(Outcome::Confirmed) {
                        let (key, id) = batch.name(index);
                        if self.came_back(key, id) {
                            batch.outcomes[index] = Some(Outcome::Returned);
                        }
                    }
                }
            }
            let outcomes = batch.outcomes.into_iter().map(|it| it.unwrap_or(Outcome::Lost));
            // Whoever asked may have gone.
            batch.reply.send(outcomes.collect()).ok();
        }
    }

    fn came_back(&mut self, key: &str, id: &str) -> bool {
        let name = (key.to_owned(), id.to_owned());
        let Some(count) = self.returned.get_mut(&name) else { return false };
        *count -= 1;
        if *count == 0 {
            self.returned.remove(&name);
        }
        true
    }
}

/// The next confirm of the oldest batch; it stays there until it is settled.
async fn oldest(in_flight: &mut VecDeque<InFlight>) -> lapin::Result<Confirmation> {
    match in_flight.front_mut().and_then(|batch| batch.confirms.front_mut()) {
        Some((_, confirm)) => confirm.await,
        // Decided batches do not stay.
        None => std::future::pending().await,
    }
}

/// RabbitMQ's words for a body that is too long: "message size 3000000 is larger than …".
fn too_large(error: &lapin::Error) -> Option<usize> {
    let lapin::ErrorKind::ProtocolError(error) = error.kind() else { return None };
    let (_, rest) = error.get_message().as_str().split_once("message size ")?;
    let (size, rest) = rest.split_once(' ')?;
    rest.starts_with("is larger than").then(|| size.parse().ok())?
}
