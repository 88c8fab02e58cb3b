//! The single active consumer of the line.
//!
//! # The way of a chunk
//! ```text
//!   read ─► decide (store) ─► publish work ─► confirmed ─► acknowledge ─► answer
//!   └─ this task ──────────┘  └─ a second ─┘  └─ a third ──────────────────────┘
//! ```
//! Each takes one chunk at a time, in the order of the line. So the store works on one chunk while
//! the broker works on those before it.
//!
//! | if the process dies after | the next registrar sees |
//! |---|---|
//! | read | the deliveries again, in order |
//! | decide | submissions that are recorded and redelivered: dispatched again, under their number |
//! | dispatch | the same; of two work messages with one number the second claim is refused |
//! | acknowledge | nothing; the client that has no receipt asks or submits again |
//!
//! # What it never does
//! It never cancels its consumer and never returns a delivery: either would let a later message of
//! the line pass an earlier one. To stop, it reads no more, acknowledges what is decided, and
//! closes the channel. When the store is away it holds the line: it does not exit.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use broker::{Acker, Backoff, Delivery, Outcome, Publisher, Retry, dead_letter, topology};
use faults::{Bug, Point, crash_point, is_seeded};
use futures_util::FutureExt as _;
use job::State;
use protocol::{Code, Refusal, request};
use store::JobName;
use tokio::sync::{mpsc, oneshot};

use crate::Error;
use crate::courier::{Courier, Delivered};
use crate::dispatch::{Dispatched, Underway};
use crate::line::parts::{apart, is_suspect};
use crate::line::{self, Decision, Line, ToClient};
use crate::links::Links;

/// Deliveries decided in one go: enough to share a pipeline, few enough to answer soon.
const CHUNK: usize = 256;
/// The same while nothing can be decided: few, for each may be a list of hundreds.
const HELD_CHUNK: usize = 8;
/// Chunks that may be between two tasks.
const CHUNKS_AHEAD: usize = 2;
/// Answers that may wait to be sent before the line slows down.
const ANSWERS_WAITING_MAX: usize = 4096;

/// Decided deliveries, in order, up to a tag.
struct Decided {
    through: u64,
    decisions: Vec<Decision>,
}

/// The same, published and not confirmed.
struct Sent {
    through: u64,
    decisions: Vec<Decision>,
    /// Which of them the work messages are of.
    places: Vec<usize>,
    work: Underway,
    letters: oneshot::Receiver<Vec<Outcome>>,
}

pub(crate) async fn run(links: Arc<Links>) -> Result<(), Error> {
    let (answers, answering) = mpsc::channel(ANSWERS_WAITING_MAX);
    let courier =
        Courier::new(&links.publish, &links.direct, links.settings.deliver_timeout()).await?;
    let sender = tokio::spawn(send_answers(Arc::clone(&links), courier, answering));

    let mut consumer =
        links.consume.consumer(topology::INTAKE_QUEUE, topology::LINE_PREFETCH).await?;
    let (decided, to_send) = mpsc::channel(CHUNKS_AHEAD);
    let (sent, to_finish) = mpsc::channel(CHUNKS_AHEAD);
    let sending = send(Arc::clone(&links), links.publisher().await?, to_send, sent);
    let sending = tokio::spawn(or_stop(Arc::clone(&links), sending));
    let finishing = finish(Arc::clone(&links), consumer.acker(), to_finish, answers.clone());
    let finishing = tokio::spawn(or_stop(Arc::clone(&links), finishing));
    let ended = read_line(&links, &mut consumer, &decided, &answers).await;
    drop((decided, answers));
    let sent = sending.await.unwrap_or(Err(Error::Panicked("registrar")));
    let finished = finishing.await.unwrap_or(Err(Error::Panicked("registrar")));
    consumer.close().await;
    sender.await.map_err(|_| Error::Panicked("registrar"))?;
    ended.and(sent).and(finished)
}

/// A task whose failure stops the others: nothing behind the chunk that it failed over may be
/// acknowledged.
async fn or_stop(
    links: Arc<Links>,
    task: impl Future<Output = Result<(), Error>>,
) -> Result<(), Error> {
    let ended = task.await;
    if ended.is_err() {
        links.stop.cancel();
    }
    ended
}

/// Reads and decides until the session ends.
async fn read_line(
    links: &Links,
    consumer: &mut broker::Consumer,
    decided: &mpsc::Sender<Decided>,
    answers: &mpsc::Sender<ToClient>,
) -> Result<(), Error> {
    loop {
        let chunk = tokio::select! {
            biased;
            () = links.stop.cancelled() => return Ok(()),
            chunk = consumer.next_chunk(CHUNK) => chunk?,
        };
        if is_seeded(Bug::AckBeforeRecord)
            && let Some(last) = chunk.last()
        {
            consumer.acker().ack_through(last.tag).await?;
        }
        crash_point(Point::IntakeRead);
        let mut parts = apart(chunk).into_iter().peekable();
        while let Some(part) = parts.next() {
            // What comes later may join only the last part: no acknowledgement passes an undecided
            // delivery.
            let is_last = parts.peek().is_none();
            let decision = decide(links, consumer, part, is_last, answers).await?;
            let Some(chunk) = decision else { return Ok(()) };
            crash_point(Point::IntakeDecided);
            if decided.send(chunk).await.is_err() {
                // The second task has failed, and says why.
                return Ok(());
            }
        }
    }
}

/// Decides a chunk, however long the store takes. `None` if the session ends first: nothing of what
/// is left undecided is acknowledged.
async fn decide(
    links: &Links,
    consumer: &mut broker::Consumer,
    chunk: Vec<Delivery>,
    is_last: bool,
    answers: &mpsc::Sender<ToClient>,
) -> Result<Option<Decided>, Error> {
    let suspect = match chunk.as_slice() {
        [only] if is_suspect(only) => Some(only.clone()),
        _ => None,
    };
    let mut through = chunk.last().map_or(0, |delivery| delivery.tag);
    let mut line = Line::new(links);
    let mut decisions = Vec::with_capacity(chunk.len());
    let mut unread = Some(chunk);
    let mut backoff = Backoff::default();
    loop {
        let step = async {
            unread.take().into_iter().flatten().for_each(|delivery| line.push(delivery));
            line.decide(&mut decisions).await
        };
        let outcome = match &suspect {
            None => step.await,
            Some(delivery) => match AssertUnwindSafe(step).catch_unwind().await {
                Ok(outcome) => outcome,
                Err(_) => {
                    let poison = poison(links, delivery).await?;
                    return Ok(Some(Decided { through, decisions: vec![poison] }));
                }
            },
        };
        let error = match outcome {
            Ok(()) => {
                backoff.succeeded("the line moves");
                return Ok(Some(Decided { through, decisions }));
            }
            Err(error) if !error.is_transient() => return Err(error.into()),
            Err(error) => error,
        };
        // The line is held. Whoever asks meanwhile is told so, and not kept waiting.
        for answer in line.give_up_questions() {
            send_or_drop(answers, answer).await;
        }
        if line.is_empty() {
            return Ok(Some(Decided { through, decisions }));
        }
        let pause = backoff.failed("the line is held: the store", &error, &links.stop);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                retry = &mut pause => match retry {
                    Retry::Again => break,
                    Retry::Stop => return Ok(None),
                },
                more = consumer.next_chunk(HELD_CHUNK),
                    if suspect.is_none() && is_last && line.has_room() =>
                {
                    for delivery in more? {
                        through = delivery.tag;
                        line.push(delivery);
                    }
                    for answer in line.give_up_questions() {
                        send_or_drop(answers, answer).await;
                    }
                }
            }
        }
    }
}

/// A message that makes this program fail is recorded as refused and kept for people.
async fn poison(links: &Links, delivery: &Delivery) -> Result<Decision, Error> {
    let reason = "processing this message fails unexpectedly";
    tracing::error!(message_id = ?delivery.properties.message_id, reason);
    // It may be the reading that fails.
    let job_ids = std::panic::catch_unwind(|| line::job_ids(delivery)).unwrap_or_default();
    if let Ok(client) = request::sender(&delivery.properties) {
        let refusal = Refusal::new(Code::BadRequest, reason);
        links.refuse_all(&client, job_ids, &refusal).await?;
    }
    Ok(Decision { dead: Some(dead_letter(delivery, reason)), ..Decision::default() })
}

async fn send_or_drop(answers: &mpsc::Sender<ToClient>, answer: ToClient) {
    if answers.send(answer).await.is_err() {
        tracing::debug!("an answer was not sent: the session ends");
    }
}

/// Publishes what was decided, chunk by chunk, in the order in which it was; one chunk does not
/// wait for the confirms of the one before it.
async fn send(
    links: Arc<Links>,
    publisher: Publisher,
    mut decided: mpsc::Receiver<Decided>,
    sent: mpsc::Sender<Sent>,
) -> Result<(), Error> {
    while let Some(chunk) = decided.recv().await {
        let chunk = send_chunk(&links, &publisher, chunk).await?;
        if sent.send(chunk).await.is_err() {
            // The next task has failed, and says why.
            return Ok(());
        }
    }
    Ok(())
}

async fn send_chunk(links: &Links, publisher: &Publisher, chunk: Decided) -> Result<Sent, Error> {
    let Decided { through, mut decisions } = chunk;
    let letters = decisions.iter_mut().filter_map(|decision| decision.dead.take()).collect();
    let (places, work): (Vec<usize>, Vec<_>) = decisions
        .iter_mut()
        .enumerate()
        .filter_map(|(place, decision)| Some((place, decision.work.take()?)))
        .unzip();
    crash_point(Point::IntakeDispatching);
    let letters = publisher.begin(letters).await?;
    let work = Underway::begin(links, publisher, work).await?;
    Ok(Sent { through, decisions, places, work, letters })
}

/// Acknowledges and answers what the broker has confirmed: chunk by chunk, in the order in which
/// they were decided, so that no acknowledgement passes an undecided delivery.
async fn finish(
    links: Arc<Links>,
    acker: Acker,
    mut sent: mpsc::Receiver<Sent>,
    answers: mpsc::Sender<ToClient>,
) -> Result<(), Error> {
    while let Some(chunk) = sent.recv().await {
        let decisions = finish_chunk(&links, &acker, chunk).await?;
        for answer in decisions.into_iter().filter_map(|decision| decision.answer) {
            send_or_drop(&answers, answer).await;
        }
    }
    Ok(())
}

async fn finish_chunk(links: &Links, acker: &Acker, chunk: Sent) -> Result<Vec<Decision>, Error> {
    let Sent { through, mut decisions, places, work, letters } = chunk;
    let dispatched = work.outcomes(links).await?;
    let kept = letters.await.map_err(|_| broker::Error::Gone)?;
    if kept.iter().any(|outcome| *outcome != Outcome::Confirmed) {
        // What cannot be kept must not be acknowledged.
        return Err(broker::Error::Gone.into());
    }
    for (place, outcome) in places.into_iter().zip(dispatched) {
        if let (Dispatched::Parked(reason), Some(to_client)) =
            (outcome, &mut decisions[place].answer)
        {
            to_client.answer.state = Some(State::Parked.as_str().to_owned());
            to_client.answer.revision = to_client.answer.revision.map(|revision| revision + 1);
            to_client.answer.parked_reason = Some(reason);
        }
    }
    crash_point(Point::IntakeDispatched);
    if !is_seeded(Bug::AckBeforeRecord) {
        acker.ack_through(through).await?;
    }
    crash_point(Point::IntakeAcknowledged);
    Ok(decisions)
}

/// Sends answers on channels of their own. A receipt that is not confirmed in time becomes an entry
/// of the outbox; any other answer can be had by asking again.
async fn send_answers(links: Arc<Links>, courier: Courier, mut waiting: mpsc::Receiver<ToClient>) {
    let mut answers: Vec<ToClient> = Vec::new();
    while waiting.recv_many(&mut answers, 2 * CHUNK).await > 0 {
        crash_point(Point::ReceiptSending);
        let delivered = courier.deliver(answers.iter().map(ToClient::message).collect()).await;
        crash_point(Point::ReceiptSent);
        for (answer, outcome) in answers.drain(..).zip(delivered) {
            if matches!(outcome, Delivered::Confirmed | Delivered::Sent) {
                continue;
            }
            // Who has sent it again will ask, or send it again: from another queue by then.
            let is_for_nobody =
                outcome == Delivered::NoQueue && answer.answer.duplicate == Some(true);
            match &answer.receipt_of {
                Some(name) if !is_for_nobody => post_receipt(&links, name, &answer.message()).await,
                _ => {
                    let queue = answer.to.name();
                    tracing::debug!(queue, ?outcome, "an answer was not delivered");
                }
            }
        }
    }
}

async fn post_receipt(links: &Links, name: &JobName, message: &crate::outgoing::Outgoing) {
    let ticket = links.store.ticket(name).to_string();
    let correlation_id = message.properties.correlation_id.as_deref();
    let mut pause = Duration::from_millis(100);
    // The job is recorded and its submission acknowledged: the client that gets no receipt asks,
    // so this is worth a few tries and no more.
    for _ in 0..5 {
        let posted = links
            .store
            .post_receipt(name, message.to.name(), correlation_id, &ticket, &message.body)
            .await;
        match posted {
            Ok(()) => return,
            Err(error) => tracing::debug!(%error, "a receipt for the outbox"),
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    tracing::warn!(job = name.member(), "a receipt was not delivered, and not kept for later");
}
