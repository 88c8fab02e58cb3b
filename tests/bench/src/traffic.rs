//! The client of a run: submits jobs over AMQP with confirms, and takes what comes back.

use std::collections::VecDeque;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use broker::{Connection, Consumer, Outcome, Publication, topology};
use job::State;
use protocol::batch::TO_CLIENT;
use protocol::{Answer, Batch, HeaderValue, Kind, Properties, UnixMillis, headers};
use tokio::sync::oneshot;

use crate::fleet::{Cpu, Fleet};
use crate::ground::{CLIENT, Ground};
use crate::handlers::NOTHING;

/// Submissions that may wait for their confirms; other job queues are given the same number.
pub const IN_FLIGHT: usize = 512;
/// So many are handed over together.
const TOGETHER: usize = 128;
/// Messages that may be unacknowledged at the client.
const PREFETCH: u16 = 2000;

/// What the client wants to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// Neither receipt nor event, as with other job queues.
    None,
    /// A receipt and the event of the end, each a message.
    Each,
    /// The same, in batches.
    Batched,
}

/// What is submitted.
#[derive(Debug, Clone)]
pub struct Traffic {
    /// What identifiers begin with; different in every run.
    pub prefix: String,
    /// How many jobs.
    pub jobs: usize,
    /// The type.
    pub job_type: &'static str,
    /// Bytes of each body.
    pub bytes: usize,
    /// What is to come back.
    pub answers: Answers,
}

impl Traffic {
    /// Jobs of 200 bytes that do nothing.
    pub fn new(prefix: impl Into<String>, jobs: usize, answers: Answers) -> Self {
        let prefix = prefix.into();
        Self { prefix, jobs, job_type: NOTHING, bytes: 200, answers }
    }

    /// The identifier of a job.
    pub fn job_id(&self, number: usize) -> String {
        format!("{}-{number}", self.prefix)
    }
}

/// What a run took.
#[derive(Debug)]
pub struct Run {
    /// When it began.
    pub began: UnixMillis,
    /// Until the last receipt and event; of no meaning if none was wanted.
    pub answered: f64,
    /// Processor time until then.
    pub cpu: Cpu,
    /// What had been used before.
    pub cpu_before: Cpu,
    /// What came back. It is read when everything is measured: see [`crate::verify`].
    pub heard: Vec<Heard>,
}

/// Submits, and waits for everything that is to come back, each once: a receipt and an event of
/// each job.
///
/// # Errors
/// Something was not confirmed, or came that was not to.
pub async fn run(ground: &Ground, fleet: &Fleet, traffic: &Traffic) -> anyhow::Result<Run> {
    let amqp = ground.amqp(CLIENT);
    let consume = Connection::open(&amqp, "bench").await?;
    let publish = Connection::open(&amqp, "bench").await?;
    let queue = format!("reply.{CLIENT}.{}", traffic.prefix);
    consume.declare_inbox(&queue).await?;
    let consumer = consume.consumer(&queue, PREFETCH).await?;
    let cpu_before = fleet.cpu(ground)?;
    let (began, clock) = (UnixMillis::now(), Instant::now());
    let jobs = traffic.jobs;
    let wants = traffic.answers != Answers::None;
    let received =
        tokio::spawn(
            async move { if wants { receive(consumer, jobs).await } else { Ok(Vec::new()) } },
        );
    submit(&publish, traffic, &queue).await?;
    let heard = received.await??;
    let answered = clock.elapsed().as_secs_f64();
    let cpu = fleet.cpu(ground)?.since(cpu_before);
    publish.close().await;
    consume.close().await;
    Ok(Run { began, answered, cpu, cpu_before, heard })
}

/// Publishes everything, with no more than [`IN_FLIGHT`] unconfirmed.
async fn submit(publish: &Connection, traffic: &Traffic, queue: &str) -> anyhow::Result<()> {
    let publisher = publish.publisher().await?;
    let body = format!("\"{}\"", "x".repeat(traffic.bytes.saturating_sub(2))).into_bytes();
    let mut ahead = VecDeque::new();
    for first in (0..traffic.jobs).step_by(TOGETHER) {
        let batch = (first..(first + TOGETHER).min(traffic.jobs))
            .map(|number| message(traffic, number, queue, &body))
            .collect();
        ahead.push_back(publisher.begin(batch).await?);
        if ahead.len() >= IN_FLIGHT / TOGETHER
            && let Some(oldest) = ahead.pop_front()
        {
            confirmed(&oldest.await?)?;
        }
    }
    for batch in ahead {
        confirmed(&batch.await?)?;
    }
    Ok(())
}

/// What the broker says of some messages, later.
pub type Confirms = oneshot::Receiver<Vec<Outcome>>;

/// That each of them is confirmed.
///
/// # Errors
/// One is not.
pub fn confirmed(outcomes: &[Outcome]) -> anyhow::Result<()> {
    ensure!(outcomes.iter().all(|outcome| *outcome == Outcome::Confirmed), "not confirmed");
    Ok(())
}

/// A submission, of which nobody wants to hear.
pub fn submission(job_type: &str, job_id: String, body: Vec<u8>) -> Publication {
    Publication {
        exchange: topology::SUBMIT,
        routing_key: job_type.to_owned(),
        mandatory: true,
        properties: Properties {
            persistent: true,
            user_id: Some(CLIENT.to_owned()),
            message_id: Some(job_id),
            ..Properties::default()
        },
        body,
    }
}

fn message(traffic: &Traffic, number: usize, queue: &str, body: &[u8]) -> Publication {
    let mut message = submission(traffic.job_type, traffic.job_id(number), body.to_vec());
    let properties = &mut message.properties;
    properties.correlation_id = Some(number.to_string());
    if traffic.answers != Answers::None {
        properties.reply_to = Some(queue.to_owned());
        properties.headers.push_text(headers::NOTIFY, "terminal");
    }
    if traffic.answers == Answers::Batched {
        properties.headers.push(headers::BATCH, HeaderValue::Bool(true));
    }
    message
}

/// Which answers have come.
struct Seen {
    receipts: Vec<bool>,
    events: Vec<bool>,
    missing: usize,
}

impl Seen {
    fn take(&mut self, kind: Option<Kind>, correlation_id: Option<&str>) -> anyhow::Result<()> {
        let number: usize = correlation_id.context("a correlation id")?.parse()?;
        let seen = match kind {
            Some(Kind::Receipt) => &mut self.receipts,
            Some(Kind::Event) => &mut self.events,
            other => anyhow::bail!("{other:?}"),
        };
        // A second copy is allowed.
        if !std::mem::replace(seen.get_mut(number).context("no such job")?, true) {
            self.missing -= 1;
        }
        Ok(())
    }
}

/// A message that came: its correlation id, and its body.
pub type Heard = (Option<String>, Vec<u8>);

/// Everything that came: it is read when the time is taken.
async fn receive(mut consumer: Consumer, jobs: usize) -> anyhow::Result<Vec<Heard>> {
    let mut seen =
        Seen { receipts: vec![false; jobs], events: vec![false; jobs], missing: 2 * jobs };
    let mut heard = Vec::new();
    let acker = consumer.acker();
    while seen.missing > 0 {
        let chunk = harness::within("a receipt or an event", consumer.next_chunk(1000)).await??;
        let last = chunk.last().context("a delivery")?.tag;
        for delivery in chunk {
            let properties = delivery.properties;
            if properties.kind.as_deref() == Some(TO_CLIENT) {
                for message in Batch::read(&delivery.body)?.messages {
                    seen.take(message.kind(), message.correlation_id.as_deref())?;
                    heard.push((message.correlation_id, message.body.get().into()));
                }
            } else {
                seen.take(Kind::of(&properties), properties.correlation_id.as_deref())?;
                heard.push((properties.correlation_id, delivery.body));
            }
        }
        acker.ack_through(last).await?;
    }
    consumer.close().await;
    Ok(heard)
}

/// A receipt or an event is of the job that it says, and an event is of its success.
///
/// # Errors
/// It is of something else.
pub fn check((correlation_id, body): &Heard, traffic: &Traffic) -> anyhow::Result<()> {
    let answer: Answer = serde_json::from_slice(body)?;
    let number: usize = correlation_id.as_deref().context("a correlation id")?.parse()?;
    ensure!(answer.job_id == Some(traffic.job_id(number)), "{number}: {answer:?}");
    check_end(&answer)
}

/// An event is of a success: nothing else was asked for.
///
/// # Errors
/// It is of something else.
pub fn check_end(answer: &Answer) -> anyhow::Result<()> {
    let succeeded = State::Succeeded.as_str();
    ensure!(answer.event.as_deref().is_none_or(|event| event == succeeded), "{answer:?}");
    Ok(())
}
