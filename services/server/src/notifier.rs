//! Delivers the outbox. An entry is taken out only when the broker has confirmed it into the queue
//! that the client named, or when it is given up and the ledger says so.
//!
//! Several notifiers share the work as a consumer group. What one of them read and did not settle
//! it reads again when its connections are back; what it leaves behind when it dies is taken over
//! by another.

use std::sync::Arc;
use std::time::Duration;

use broker::{Backoff, Retry};
use faults::{Bug, Point, crash_point, is_seeded};
use protocol::reply_to::Purpose;
use protocol::{Answer, AnswerWord, Destination, Kind, UnixMillis};
use serde_json::value::RawValue;
use store::RecordKind;
use store::outbox::{Entry, Outcome, Reader};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::Error;
use crate::answers;
use crate::courier::{Courier, Delivered, TOO_LARGE};
use crate::hand::Hand;
use crate::links::Links;
use crate::outgoing::Outgoing;

const CHUNK: usize = 256;
/// Chunks that may be between two steps.
const CHUNKS_AHEAD: usize = 1;
/// How long a look into an empty outbox waits.
const WAIT_MS: u64 = 250;
/// Entries that were put off are looked at so often.
const LATER_EVERY: Duration = Duration::from_millis(250);
/// Entries that another notifier left behind are looked for so often, and are those that it has had
/// for longer than `TAKE_OVER_MS`.
const TAKE_OVER_EVERY: Duration = Duration::from_secs(10);
pub(crate) const TAKE_OVER_MS: u64 = 30_000;

pub(crate) async fn run(links: Arc<Links>, hand: Arc<Hand>) -> Result<(), Error> {
    let courier =
        Courier::new(&links.publish, &links.direct, links.settings.deliver_timeout()).await?;
    let mut backoff = Backoff::default();
    loop {
        // A store that is away ends nothing: the registrar beside us holds the line meanwhile.
        match work(&links, &courier, &hand, &mut backoff).await {
            Ok(()) => return Ok(()),
            Err(error) if !error.is_transient() => return Err(error.into()),
            Err(error) => {
                if backoff.failed("notifier", &error, &links.stop).await == Retry::Stop {
                    return Ok(());
                }
            }
        }
    }
}

/// Entries that are read, with the messages that they stand for.
struct Read {
    sending: Vec<(Entry, Outgoing)>,
    /// Those that can be no message.
    settled: Vec<(Entry, Outcome)>,
}

/// Reads, sends and settles, each in its order: while one chunk is on its way to the broker the
/// next one is read and the one before it is settled.
async fn work(
    links: &Links,
    courier: &Courier,
    hand: &Hand,
    backoff: &mut Backoff,
) -> Result<(), store::Error> {
    let (read, to_send) = mpsc::channel(CHUNKS_AHEAD);
    let (sent, to_settle) = mpsc::channel(CHUNKS_AHEAD);
    let reader = links.store.outbox_reader(&hand.name).await?;
    tokio::try_join!(
        look(links, hand, reader, read, backoff),
        send(links, courier, to_send, sent),
        settle(links, to_settle)
    )?;
    Ok(())
}

/// Reads what was in hand when the last connection failed, then what is new, what was put off and
/// is due, and what others have left behind.
async fn look(
    links: &Links,
    hand: &Hand,
    mut reader: Reader,
    read: mpsc::Sender<Read>,
    backoff: &mut Backoff,
) -> Result<(), store::Error> {
    let mut later_at = Instant::now();
    let mut take_over_at = Instant::now();
    // Whether more was put off, and is due, than one look takes.
    let mut has_more = false;
    read_again(links, hand, &mut reader, &read).await?;
    while !links.stop.is_cancelled() {
        let fresh = reader.next(CHUNK, if has_more { 0 } else { WAIT_MS }).await?;
        pass_on(links, fresh, &read).await?;
        backoff.succeeded("the notifier works");
        if has_more || later_at <= Instant::now() {
            later_at = Instant::now() + LATER_EVERY;
            has_more = false;
            for slot in links.store.keys().slots() {
                let due = links.store.put_off_due(slot, CHUNK, TAKE_OVER_MS).await?;
                has_more |= due.len() == CHUNK;
                pass_on(links, due, &read).await?;
            }
        }
        if take_over_at <= Instant::now() {
            let left_behind = reader.take_over(CHUNK, TAKE_OVER_MS).await?;
            // A notifier that died may have had more in hand than one look takes.
            if left_behind.len() < CHUNK {
                take_over_at = Instant::now() + TAKE_OVER_EVERY;
            }
            pass_on(links, left_behind, &read).await?;
        }
    }
    Ok(())
}

/// Page by page: what is in hand may be much, and each page is on its way when the next is read.
async fn read_again(
    links: &Links,
    hand: &Hand,
    reader: &mut Reader,
    read: &mpsc::Sender<Read>,
) -> Result<(), store::Error> {
    for slot in links.store.keys().slots() {
        let mut after = "0".to_owned();
        while !links.stop.is_cancelled() {
            let page = reader.in_hand(slot, &after, CHUNK).await?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.id);
            pass_on(links, hand.seldom(page), read).await?;
        }
    }
    Ok(())
}

async fn pass_on(
    links: &Links,
    entries: Vec<Entry>,
    read: &mpsc::Sender<Read>,
) -> Result<(), store::Error> {
    if entries.is_empty() {
        return Ok(());
    }
    crash_point(Point::NotifierRead);
    let mut chunk = Read { sending: Vec::with_capacity(entries.len()), settled: Vec::new() };
    for entry in entries {
        match message(links, &entry).await? {
            Ok(message) => chunk.sending.push((entry, message)),
            Err(reason) => chunk.settled.push((entry, Outcome::Undeliverable(reason))),
        }
    }
    // The other side has failed, and says why.
    read.send(chunk).await.ok();
    Ok(())
}

async fn send(
    links: &Links,
    courier: &Courier,
    mut to_send: mpsc::Receiver<Read>,
    sent: mpsc::Sender<Vec<(Entry, Outcome)>>,
) -> Result<(), store::Error> {
    while let Some(Read { sending, mut settled }) = to_send.recv().await {
        let (entries, messages): (Vec<Entry>, Vec<Outgoing>) = sending.into_iter().unzip();
        if is_seeded(Bug::OutboxFirst) {
            let gone = entries.iter().map(|entry| (entry.clone(), Outcome::Delivered));
            links.store.settle(&gone.collect::<Vec<_>>()).await?;
        }
        for (entry, delivered) in entries.into_iter().zip(courier.deliver(messages).await) {
            let outcome = outcome(links, &entry, delivered);
            settled.push((entry, outcome));
        }
        crash_point(Point::NotifierSent);
        sent.send(settled).await.ok();
    }
    Ok(())
}

async fn settle(
    links: &Links,
    mut to_settle: mpsc::Receiver<Vec<(Entry, Outcome)>>,
) -> Result<(), store::Error> {
    while let Some(settled) = to_settle.recv().await {
        links.store.settle(&settled).await?;
        crash_point(Point::NotifierSettled);
    }
    Ok(())
}

fn outcome(links: &Links, entry: &Entry, delivered: Delivered) -> Outcome {
    let reason = match delivered {
        Delivered::Confirmed | Delivered::Sent => return Outcome::Delivered,
        Delivered::NoQueue => "there is no such queue",
        Delivered::Full => "the queue is full",
        Delivered::TooLarge => TOO_LARGE,
        Delivered::Slow => "the queue does not confirm",
        Delivered::Lost => "the connection failed",
    };
    let settings = &links.settings;
    if entry.tries + 1 < settings.deliver_tries {
        return Outcome::Later(settings.deliver_backoff_ms(entry.tries));
    }
    let (job, to) = (entry.field("job_id"), entry.field("to"));
    tracing::warn!(client = entry.field("client"), job, to, reason, "undeliverable");
    Outcome::Undeliverable(reason.to_owned())
}

/// The message that an entry stands for, or why there is none.
async fn message(links: &Links, entry: &Entry) -> Result<Result<Outgoing, String>, store::Error> {
    let to = match destination(entry) {
        Ok(to) => to,
        Err(reason) => return Ok(Err(reason)),
    };
    let text =
        |name: &str| entry.fields.get(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let correlation_id = text("correlation_id");
    let (properties, body) = match entry.field("kind") {
        "event" => {
            let event = event(entry);
            (event.properties(Kind::Event, correlation_id), event.to_json())
        }
        "answer" => {
            let (kind, answer) = waited_for(links, entry).await?;
            (answer.properties(kind, correlation_id), answer.to_json())
        }
        _ => {
            let receipt = Answer::new(AnswerWord::Found);
            let body = entry.field("body").as_bytes().to_vec();
            (receipt.properties(Kind::Receipt, correlation_id), body)
        }
    };
    let batch = entry.fields.get("batch").is_some();
    Ok(Ok(Outgoing { to, properties, body, batch }))
}

/// The queue's name is checked again: it has travelled.
fn destination(entry: &Entry) -> Result<Destination, String> {
    let client = job::ClientName::parse(entry.field("client")).map_err(|e| e.to_string())?;
    let is_event = entry.field("kind") == "event";
    let purpose = if is_event { Purpose::Events } else { Purpose::Answer };
    Destination::check(Some(&client), entry.field("to"), purpose).map_err(|r| r.message)
}

/// The answer that somebody waited for: what is recorded now, not when the wait ended.
async fn waited_for(links: &Links, entry: &Entry) -> Result<(Kind, Answer), store::Error> {
    let Some(name) = entry.name() else {
        return Ok((Kind::Status, answers::unavailable(None, "the job has no name")));
    };
    let (as_of, mut records) = links.store.read(std::slice::from_ref(&name)).await?;
    let Some(record) = records.pop().flatten() else {
        let why = "the record is gone; ask again";
        return Ok((Kind::Status, answers::unavailable(Some(&name), why)));
    };
    let history = match (entry.field("history"), record.kind()) {
        ("1", Some(RecordKind::Job)) => Some(links.store.history(&name).await?),
        _ => None,
    };
    Ok(answers::found(&links.store, &record, as_of, history))
}

fn event(entry: &Entry) -> Answer {
    let text = |name: &str| entry.fields.get(name).map(str::to_owned);
    let number = |name: &str| entry.fields.get(name).and_then(|value| value.parse().ok());
    Answer {
        job_id: text("job_id"),
        ticket: text("ticket"),
        client: text("client"),
        r#type: text("type"),
        queue: text("queue"),
        state: text("state"),
        done: Some(entry.field("done") == "1"),
        event: text("event"),
        epoch: number("epoch"),
        revision: number("revision"),
        gap_from: number("gap_from"),
        attempt: number("attempt").and_then(|n| u32::try_from(n).ok()),
        stage: text("stage"),
        progress: number("progress").and_then(|n| u8::try_from(n).ok()),
        progress_note: text("progress_note"),
        result: text("result").and_then(|json| RawValue::from_string(json).ok()),
        error: text("error"),
        changed_at: entry.fields.get("at").and_then(|at| at.parse().ok()).map(UnixMillis),
        ..Answer::new(AnswerWord::Found)
    }
}
