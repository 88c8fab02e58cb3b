//! The background task that keeps the connection: sends, sends again, receives.
//!
//! A submission is sent until a receipt or a refusal arrives; the broker's confirm alone does not
//! end that. A question is sent once for each connection, until its asker stops waiting.

use std::sync::Arc;
use std::time::Duration;

use broker::{Backoff, Connection, Outcome, Publisher, Retry, chain};
use faults::{Point, crash_point};
use job::Origin;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::inbox::Inbox;
use crate::open::Open;
use crate::outgoing::{Outgoing, Parcel, Sender};

/// Messages handed to the publisher together.
const CHUNK: usize = 256;
/// Deliveries that may be unacknowledged.
const PREFETCH: u16 = 1000;
/// Submissions are looked through for those without a receipt so often.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What is to be sent.
#[derive(Debug)]
pub(crate) enum Send {
    Submission(Box<Outgoing>),
    Question { verb: &'static str, correlation_id: String, body: Vec<u8> },
}

pub(crate) struct Link {
    pub(crate) settings: crate::Settings,
    pub(crate) client: String,
    pub(crate) origin: Origin,
    /// The reply queue's name.
    pub(crate) queue: String,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) waiting: mpsc::Receiver<Send>,
    /// Why no connection will ever be made.
    pub(crate) refused: watch::Sender<Option<String>>,
    pub(crate) stop: CancellationToken,
    pub(crate) has_worked: bool,
}

impl Link {
    pub(crate) async fn run(mut self) {
        let mut open = Open::default();
        let mut backoff = Backoff::default();
        let stop = self.stop.clone();
        loop {
            if stop.is_cancelled() {
                return;
            }
            let error = match self.session(&mut open, &mut backoff).await {
                Ok(()) => return,
                Err(error) => error,
            };
            // What was right once may be right again, e.g. a password that is being changed.
            if !error.is_transient() && !self.has_worked {
                let said = chain(&error);
                self.refused.send_replace(Some(said));
                return;
            }
            if backoff.failed("the client's connection", &error, &stop).await == Retry::Stop {
                return;
            }
        }
    }

    /// One connection: ends well when no client is left.
    async fn session(
        &mut self,
        open: &mut Open,
        backoff: &mut Backoff,
    ) -> Result<(), broker::Error> {
        let amqp = &self.settings.amqp;
        let stop = self.stop.clone();
        let opening = Connection::open(amqp, "counterfoil client");
        let consume = tokio::select! {
            consume = opening => consume?,
            () = stop.cancelled() => return Ok(()),
        };
        let served = match Connection::open(amqp, "counterfoil client, publishing").await {
            Ok(publish) => {
                let served = self.serve(open, backoff, &consume, &publish).await;
                publish.close().await;
                served
            }
            Err(error) => Err(error),
        };
        // Whatever came of it: the next session could not have the queue of a connection that is
        // left behind.
        consume.close().await;
        served
    }

    async fn serve(
        &mut self,
        open: &mut Open,
        backoff: &mut Backoff,
        consume: &Connection,
        publish: &Connection,
    ) -> Result<(), broker::Error> {
        let stop = self.stop.clone();
        // The same name for as long as the client lives, so that events find it after a reconnect.
        let queue = self.queue.clone();
        consume.declare_inbox(&queue).await?;
        let mut consumer = consume.consumer(&queue, PREFETCH).await?;
        let acker = consumer.acker();
        let publisher = publish.publisher().await?;
        backoff.succeeded("the client is connected");
        self.has_worked = true;

        open.nobody_knows();
        let sender = self.sender(&queue);
        let ask = |(id, (verb, body)): (&String, &(&'static str, Vec<u8>))| {
            sender.question(id, verb, body.clone()).message
        };
        publisher.begin(open.questions.iter().map(ask).collect::<Vec<_>>()).await?;
        let (not_taken, mut refusals) = mpsc::unbounded_channel();
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut taken = Vec::with_capacity(CHUNK);
        loop {
            tokio::select! {
                count = self.waiting.recv_many(&mut taken, CHUNK) => {
                    if count == 0 {
                        return Ok(());
                    }
                    let parcels = self.parcels(&queue, open, &mut taken);
                    self.publish(&publisher, parcels, &not_taken).await?;
                }
                chunk = consumer.next_chunk(CHUNK) => {
                    let chunk = chunk?;
                    crash_point(Point::ClientReceived);
                    let tags: Vec<u64> = chunk.iter().map(|delivery| delivery.tag).collect();
                    for delivery in &chunk {
                        self.inbox.receive(delivery);
                    }
                    crash_point(Point::ClientRecorded);
                    acker.ack(&tags).await?;
                }
                Some(job_ids) = refusals.recv() => open.not_taken(&job_ids),
                _ = look.tick() => {
                    let parcels = self.due(&queue, open);
                    self.publish(&publisher, parcels, &not_taken).await?;
                }
                () = publish.failed() => return Err(broker::Error::Gone),
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    /// What was taken from those who wait, as messages.
    fn parcels(&self, queue: &str, open: &mut Open, taken: &mut Vec<Send>) -> Vec<Parcel> {
        let sender = self.sender(queue);
        let mut parcels = Vec::with_capacity(taken.len());
        let mut waiting = Vec::new();
        let now = Instant::now();
        for send in taken.drain(..) {
            match send {
                Send::Submission(outgoing) if self.is_too_old(&outgoing) => {}
                Send::Submission(outgoing) => waiting.push(*outgoing),
                Send::Question { verb, correlation_id, body } => {
                    // A question must not pass the submission that it is about.
                    parcels.extend(sender.submissions(&waiting, self.inbox.goes_alone()));
                    open.add(waiting.drain(..), now);
                    parcels.push(sender.question(&correlation_id, verb, body.clone()));
                    open.questions.insert(correlation_id, (verb, body));
                }
            }
        }
        parcels.extend(sender.submissions(&waiting, self.inbox.goes_alone()));
        open.add(waiting.into_iter(), now);
        parcels
    }

    /// What has waited too long for its receipt, to be sent again; forgets what is settled.
    fn due(&self, queue: &str, open: &mut Open) -> Vec<Parcel> {
        open.submissions.retain(|job_id, (outgoing, _)| {
            self.inbox.is_open(job_id) && !self.is_too_old(outgoing)
        });
        open.questions.retain(|id, _| self.inbox.is_asking(id));
        let after = Duration::from_millis(self.settings.client.resend_after_ms);
        let waiting = open.take_due(after, CHUNK, Instant::now());
        self.sender(queue).submissions(&waiting, self.inbox.goes_alone())
    }

    /// Whether it is given up: beyond the horizon it could become a second job.
    fn is_too_old(&self, outgoing: &Outgoing) -> bool {
        let is_passed = self.inbox.journal.horizon().is_passed(outgoing.journaled_at_ms);
        if is_passed {
            self.inbox.too_old(&outgoing.job_id);
        }
        is_passed
    }

    /// Publishes, and notes confirms as they come. A message that no queue took, or that was lost,
    /// stays open and is sent again.
    async fn publish(
        &self,
        publisher: &Publisher,
        parcels: Vec<Parcel>,
        not_taken: &mpsc::UnboundedSender<Vec<String>>,
    ) -> Result<(), broker::Error> {
        if parcels.is_empty() {
            return Ok(());
        }
        let (messages, ids): (Vec<_>, Vec<_>) =
            parcels.into_iter().map(|parcel| (parcel.message, parcel.job_ids)).unzip();
        crash_point(Point::ClientSending);
        let outcomes = publisher.begin(messages).await?;
        crash_point(Point::ClientSent);
        let (inbox, not_taken) = (Arc::clone(&self.inbox), not_taken.clone());
        tokio::spawn(async move {
            let Ok(outcomes) = outcomes.await else { return };
            crash_point(Point::ClientConfirmed);
            for (ids, outcome) in ids.into_iter().zip(outcomes) {
                if matches!(outcome, Outcome::Refused | Outcome::Returned) {
                    tracing::debug!(?ids, ?outcome, "not taken");
                    // The connection may be over, and with it who wanted to know.
                    not_taken.send(ids).ok();
                    continue;
                }
                match (outcome, ids.as_slice()) {
                    (Outcome::Confirmed, ids) => ids.iter().for_each(|id| inbox.confirmed(id)),
                    (Outcome::TooLarge, [id]) => inbox.too_large(id),
                    // A broker that takes much less than others: which of them it would take is
                    // seen when they are sent again.
                    (Outcome::TooLarge, _) => inbox.send_alone(),
                    (outcome, ids) => tracing::debug!(?ids, ?outcome, "not confirmed"),
                }
            }
        });
        Ok(())
    }

    fn sender<'a>(&'a self, queue: &'a str) -> Sender<'a> {
        Sender { client: &self.client, origin: &self.origin, queue }
    }
}
