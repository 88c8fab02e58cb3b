//! The background task that keeps the connection: sends, sends again, receives.
//!
//! A submission is sent until a receipt or a refusal arrives; the broker's confirm alone does not
//! end that. A question is sent once for each connection, until its asker stops waiting.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use broker::{Backoff, Connection, Outcome, Publisher, Retry, chain};
use faults::{Point, crash_point};
use job::Origin;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::inbox::Inbox;
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

/// The pause before a submission is sent again doubles each time, so often: where the line is long,
/// more of the same makes it longer.
const DOUBLINGS: u32 = 4;

/// When a submission was last sent on this connection, and how often it was in all.
#[derive(Default)]
struct Sent {
    at: Option<Instant>,
    times: u32,
}

impl Sent {
    fn now(&mut self, now: Instant) {
        *self = Self { at: Some(now), times: self.times.saturating_add(1) };
    }

    /// Whether it is to be sent again.
    fn is_due(&self, pause: Duration, now: Instant) -> bool {
        let doublings = self.times.saturating_sub(1).min(DOUBLINGS);
        let pause = pause.saturating_mul(1 << doublings);
        self.at.is_none_or(|at| now.duration_since(at) >= pause)
    }
}

/// What is not settled, across connections.
#[derive(Default)]
struct Open {
    submissions: HashMap<String, (Outgoing, Sent)>,
    questions: HashMap<String, (&'static str, Vec<u8>)>,
}

impl Open {
    fn add(&mut self, outgoing: impl Iterator<Item = Outgoing>, sent_at: Instant) {
        let sent = || Sent { at: Some(sent_at), times: 1 };
        self.submissions.extend(outgoing.map(|it| (it.job_id.clone(), (it, sent()))));
    }
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

        // Everything that is open is sent again: nobody knows what became of it.
        for (_, sent) in open.submissions.values_mut() {
            sent.at = None;
        }
        let sender = self.sender(&queue);
        let ask = |(id, (verb, body)): (&String, &(&'static str, Vec<u8>))| {
            sender.question(id, verb, body.clone()).message
        };
        publisher.begin(open.questions.iter().map(ask).collect::<Vec<_>>()).await?;
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut taken = Vec::with_capacity(CHUNK);
        loop {
            tokio::select! {
                count = self.waiting.recv_many(&mut taken, CHUNK) => {
                    if count == 0 {
                        return Ok(());
                    }
                    self.send(&publisher, &queue, open, &mut taken).await?;
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
                _ = look.tick() => self.send_again(&publisher, &queue, open).await?,
                () = publish.failed() => return Err(broker::Error::Gone),
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    async fn send(
        &self,
        publisher: &Publisher,
        queue: &str,
        open: &mut Open,
        taken: &mut Vec<Send>,
    ) -> Result<(), broker::Error> {
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
        self.publish(publisher, parcels).await
    }

    /// Sends what has waited too long for its receipt, and forgets what is settled.
    async fn send_again(
        &self,
        publisher: &Publisher,
        queue: &str,
        open: &mut Open,
    ) -> Result<(), broker::Error> {
        open.submissions.retain(|job_id, (outgoing, _)| {
            self.inbox.is_open(job_id) && !self.is_too_old(outgoing)
        });
        open.questions.retain(|id, _| self.inbox.is_asking(id));
        let after = Duration::from_millis(self.settings.client.resend_after_ms);
        let (mut waiting, now) = (Vec::new(), Instant::now());
        for (outgoing, sent) in open.submissions.values_mut() {
            if waiting.len() < CHUNK && sent.is_due(after, now) {
                waiting.push(outgoing.clone());
                sent.now(now);
            }
        }
        let parcels = self.sender(queue).submissions(&waiting, self.inbox.goes_alone());
        self.publish(publisher, parcels).await
    }

    /// Whether it is given up: beyond the horizon it could become a second job.
    fn is_too_old(&self, outgoing: &Outgoing) -> bool {
        let is_passed = self.inbox.journal.horizon().is_passed(outgoing.journaled_at_ms);
        if is_passed {
            self.inbox.too_old(&outgoing.job_id);
        }
        is_passed
    }

    /// Publishes, and notes confirms as they come. A message that is refused (a full queue) or lost
    /// stays open and is sent again.
    async fn publish(
        &self,
        publisher: &Publisher,
        parcels: Vec<Parcel>,
    ) -> Result<(), broker::Error> {
        if parcels.is_empty() {
            return Ok(());
        }
        let (messages, ids): (Vec<_>, Vec<_>) =
            parcels.into_iter().map(|parcel| (parcel.message, parcel.job_ids)).unzip();
        crash_point(Point::ClientSending);
        let outcomes = publisher.begin(messages).await?;
        crash_point(Point::ClientSent);
        let inbox = Arc::clone(&self.inbox);
        tokio::spawn(async move {
            let Ok(outcomes) = outcomes.await else { return };
            crash_point(Point::ClientConfirmed);
            for (ids, outcome) in ids.into_iter().zip(outcomes) {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// At the same pace for ever, a line that was once behind by more than one pause filled up with
    /// copies of what stood in it already.
    #[test]
    fn the_pause_before_a_submission_is_sent_again_doubles_up_to_sixteen_times() {
        let (pause, mut sent, mut now) = (Duration::from_secs(10), Sent::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..7 {
            let from = now;
            while !sent.is_due(pause, now) {
                now += Duration::from_secs(1);
            }
            pauses.push((now - from).as_secs());
            sent.now(now);
        }
        assert_eq!(pauses, [0, 10, 20, 40, 80, 160, 160]);
    }
}
