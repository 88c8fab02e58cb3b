//! Delivers to the queues that clients name, so that no destination holds up another.
//!
//! # Why it is not one channel
//! A reply queue that has lost its majority (or hangs) stops *every* confirm on the channel that
//! published to it, for a minute. So a batch that is not confirmed in time gives up its channel: a
//! new one takes its place, and each destination of the batch gets a channel of its own until it
//! has confirmed something there. The culprit then delays only itself.
//!
//! ```text
//!   deliver ─┬─ ordinary destinations ─► main channel ── in time? ── no ─► all of them suspect,
//!            │                                                              a new main channel
//!            ├─ suspect destinations ──► a channel each ── in time? ── yes ─► ordinary again
//!            └─ direct reply-to ───────► a connection apart, once, unconfirmed
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use broker::{Connection, Outcome, Publication, Publisher, topology};
use protocol::Destination;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::outgoing::{Outgoing, together};

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivered {
    /// Confirmed into the queue.
    Confirmed,
    /// Sent by direct reply-to, which nobody can confirm.
    Sent,
    /// There is no such queue.
    NoQueue,
    /// The queue is full.
    Full,
    /// It is longer than the broker takes.
    TooLarge,
    /// Not confirmed in time: it may have arrived or not.
    Slow,
    /// The connection failed: it may have arrived or not.
    Lost,
}

/// Why a message that is longer than the broker takes goes nowhere.
pub(crate) const TOO_LARGE: &str = "it is longer than RabbitMQ takes (max_message_size)";
/// Suspect destinations that may have a channel of their own at a time.
const LANES_MAX: usize = 64;

pub(crate) struct Courier {
    connection: Arc<Connection>,
    direct: Arc<DirectLink>,
    timeout: Duration,
    main: Mutex<Publisher>,
    lanes: Mutex<HashMap<String, Lane>>,
}

/// A suspect destination's own channel.
struct Lane {
    publisher: Publisher,
    waiting: Option<oneshot::Receiver<Vec<Outcome>>>,
}

impl Lane {
    fn is_stuck(&mut self) -> bool {
        self.waiting.as_mut().is_some_and(|waiting| {
            matches!(waiting.try_recv(), Err(oneshot::error::TryRecvError::Empty))
        })
    }
}

impl Courier {
    pub(crate) async fn new(
        connection: &Arc<Connection>,
        direct: &Arc<DirectLink>,
        timeout: Duration,
    ) -> Result<Self, Error> {
        Ok(Self {
            connection: Arc::clone(connection),
            direct: Arc::clone(direct),
            timeout,
            main: Mutex::new(connection.publisher().await?),
            lanes: Mutex::new(HashMap::new()),
        })
    }

    /// Delivers messages and waits, but not for long, for what became of them.
    pub(crate) async fn deliver(&self, messages: Vec<Outgoing>) -> Vec<Delivered> {
        let (messages, places) = together(messages);
        let outcomes = self.deliver_each(messages).await;
        places.into_iter().map(|place| outcomes[place]).collect()
    }

    async fn deliver_each(&self, messages: Vec<Outgoing>) -> Vec<Delivered> {
        let mut outcomes = vec![Delivered::Slow; messages.len()];
        let mut ordinary = (Vec::new(), Vec::new());
        let mut suspect: HashMap<String, (Vec<usize>, Vec<Publication>)> = HashMap::new();
        {
            let lanes = self.lanes.lock().await;
            for (index, message) in messages.into_iter().enumerate() {
                if matches!(message.to, Destination::Direct(_)) {
                    self.direct.send(message);
                    outcomes[index] = Delivered::Sent;
                    continue;
                }
                let name = message.to.name().to_owned();
                let (places, batch) = if lanes.contains_key(&name) {
                    let lane = suspect.entry(name).or_default();
                    (&mut lane.0, &mut lane.1)
                } else {
                    (&mut ordinary.0, &mut ordinary.1)
                };
                places.push(index);
                batch.push(publication(message));
            }
        }
        let apart = suspect.into_iter().map(|(name, (places, batch))| async move {
            (places, self.by_lane(&name, batch).await)
        });
        let (main, apart) =
            tokio::join!(self.by_main(ordinary.1), futures_util::future::join_all(apart));
        for (places, delivered) in apart.into_iter().chain([(ordinary.0, main)]) {
            for (place, outcome) in places.into_iter().zip(delivered) {
                outcomes[place] = outcome;
            }
        }
        outcomes
    }

    async fn by_main(&self, batch: Vec<Publication>) -> Vec<Delivered> {
        if batch.is_empty() {
            return Vec::new();
        }
        let batch = Arc::new(batch);
        let publisher = self.main.lock().await.clone();
        match tokio::time::timeout(self.timeout, publisher.publish_shared(Arc::clone(&batch))).await
        {
            Ok(outcomes) => outcomes.into_iter().map(delivered).collect(),
            Err(_) => {
                self.suspect(batch.iter().map(|m| m.routing_key.clone()).collect()).await;
                self.once_more(&batch).await
            }
        }
    }

    /// What stands behind a destination that hangs is not delivered either: RabbitMQ makes a
    /// channel known to a quorum queue in a call that the whole channel waits for. Who hangs is not
    /// known; so each destination gets its messages again, on the channel that it has now. They may
    /// come twice.
    async fn once_more(&self, batch: &[Publication]) -> Vec<Delivered> {
        let mut outcomes = vec![Delivered::Slow; batch.len()];
        let mut apart: HashMap<String, (Vec<usize>, Vec<Publication>)> = HashMap::new();
        for (place, publication) in batch.iter().enumerate() {
            let lane = apart.entry(publication.routing_key.clone()).or_default();
            lane.0.push(place);
            lane.1.push(publication.clone());
        }
        let sent = apart.into_iter().map(|(name, (places, batch))| async move {
            (places, self.on_lane(&name, &batch).await)
        });
        for (places, delivered) in futures_util::future::join_all(sent).await {
            for (place, outcome) in places.into_iter().zip(delivered.into_iter().flatten()) {
                outcomes[place] = outcome;
            }
        }
        outcomes
    }

    /// Gives up the main channel and serves the destinations apart from now on.
    async fn suspect(&self, names: Vec<String>) {
        let Ok(fresh) = self.connection.publisher().await else { return };
        *self.main.lock().await = fresh;
        let mut lanes = self.lanes.lock().await;
        // Only those that hold something back need a channel of their own for longer.
        lanes.retain(|_, lane| lane.is_stuck());
        for name in names {
            if lanes.len() >= LANES_MAX || lanes.contains_key(&name) {
                continue;
            }
            let Ok(publisher) = self.connection.publisher().await else { return };
            tracing::debug!(queue = name, "served apart: a destination does not confirm");
            lanes.insert(name, Lane { publisher, waiting: None });
        }
    }

    async fn by_lane(&self, name: &str, batch: Vec<Publication>) -> Vec<Delivered> {
        match self.on_lane(name, &batch).await {
            Some(delivered) => delivered,
            // It has proved itself in the meantime, and is ordinary again.
            None => self.by_main(batch).await,
        }
    }

    /// Nothing if the destination has no channel of its own.
    async fn on_lane(&self, name: &str, batch: &[Publication]) -> Option<Vec<Delivered>> {
        let count = batch.len();
        let begun = {
            let mut lanes = self.lanes.lock().await;
            let lane = lanes.get_mut(name)?;
            // What is there already has not been confirmed: more of it helps nobody.
            if lane.is_stuck() {
                return Some(vec![Delivered::Slow; count]);
            }
            lane.publisher.begin(batch.to_vec()).await
        };
        let Ok(mut waiting) = begun else { return Some(vec![Delivered::Lost; count]) };
        Some(match tokio::time::timeout(self.timeout, &mut waiting).await {
            Ok(Ok(outcomes)) => {
                self.lanes.lock().await.remove(name);
                outcomes.into_iter().map(delivered).collect()
            }
            Ok(Err(_)) => vec![Delivered::Lost; count],
            Err(_) => {
                if let Some(lane) = self.lanes.lock().await.get_mut(name) {
                    lane.waiting = Some(waiting);
                }
                vec![Delivered::Slow; count]
            }
        })
    }
}

fn publication(message: Outgoing) -> Publication {
    Publication {
        exchange: topology::DEFAULT,
        routing_key: message.to.name().to_owned(),
        mandatory: true,
        properties: message.properties,
        body: message.body,
    }
}

fn delivered(outcome: Outcome) -> Delivered {
    match outcome {
        Outcome::Confirmed => Delivered::Confirmed,
        Outcome::Returned => Delivered::NoQueue,
        Outcome::Refused => Delivered::Full,
        Outcome::TooLarge => Delivered::TooLarge,
        Outcome::Lost => Delivered::Lost,
    }
}

/// A connection that carries direct reply-to and nothing else: a name that RabbitMQ cannot read
/// closes the whole connection (541), and a live requester's message may come back all the same.
/// So: without `mandatory`, never waited for, never tried again for its own sake.
///
/// Messages that shared the connection with such a name are sent once more, one at a time: then the
/// one that is in flight when the connection closes is the culprit, and is dropped.
pub(crate) struct DirectLink {
    waiting: mpsc::Sender<Outgoing>,
}

/// Direct answers that may wait; beyond it they are dropped, as the broker would.
const DIRECT_WAITING_MAX: usize = 4096;
const DIRECT_CHUNK: usize = 64;

impl DirectLink {
    /// Starts the task that keeps the connection, until `stop`.
    pub(crate) fn start(settings: broker::Settings, stop: CancellationToken) -> Self {
        let (waiting, messages) = mpsc::channel(DIRECT_WAITING_MAX);
        tokio::spawn(async move {
            let task = DirectTask { settings, open: None };
            stop.run_until_cancelled(task.run(messages)).await;
        });
        Self { waiting }
    }

    fn send(&self, message: Outgoing) {
        if self.waiting.try_send(message).is_err() {
            tracing::debug!("direct reply-to: dropped, too many wait");
        }
    }
}

struct DirectTask {
    settings: broker::Settings,
    open: Option<(Connection, Publisher)>,
}

impl DirectTask {
    async fn run(mut self, mut messages: mpsc::Receiver<Outgoing>) {
        let mut chunk = Vec::new();
        while messages.recv_many(&mut chunk, DIRECT_CHUNK).await > 0 {
            let batch: Vec<Publication> = chunk
                .drain(..)
                .map(|message| Publication { mandatory: false, ..publication(message) })
                .collect();
            if self.publish(batch.clone()).await || batch.len() == 1 {
                continue;
            }
            for message in batch {
                let to = message.routing_key.clone();
                if !self.publish(vec![message]).await {
                    tracing::debug!(to, "direct reply-to: dropped");
                }
            }
        }
    }

    /// Publishes on the connection, a new one if need be. Whether it is still there then.
    async fn publish(&mut self, batch: Vec<Publication>) -> bool {
        let publisher = match self.publisher().await {
            Ok(publisher) => publisher,
            Err(error) => {
                tracing::debug!(%error, "direct reply-to");
                return false;
            }
        };
        let arrived = !publisher.publish(batch).await.contains(&Outcome::Lost);
        if !arrived {
            self.open = None;
        }
        arrived
    }

    async fn publisher(&mut self) -> Result<Publisher, broker::Error> {
        if let Some((connection, publisher)) = &self.open
            && connection.is_usable()
        {
            return Ok(publisher.clone());
        }
        let connection = Connection::open(&self.settings, "counterfoil server, direct").await?;
        let publisher = connection.publisher().await?;
        self.open = Some((connection, publisher.clone()));
        Ok(publisher)
    }
}
