//! Exchanges and queues, each with the reason for its arguments.
//!
//! ```text
//!  clients ─► counterfoil.submit (topic) ──#──┐
//!                                             ├─► counterfoil.intake ─► the registrar
//!  inquiry ─► counterfoil.line (fanout) ──────┘        │ dropped by the broker
//!  clients ─► counterfoil.request (topic) ─#─► counterfoil.inquiry    ▼
//!  server  ─► counterfoil.work (direct) ─queue─► counterfoil.work.<queue> ─► counterfoil.dropped
//!  server  ─► counterfoil.dead (fanout) ─► counterfoil.dead   (kept for people)
//! ```
//!
//! Durable quorum queues, the type explicit; arguments that mean the same on RabbitMQ 3.10 to 4.3.

use job::QueueName;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};

use crate::Error;

/// Where clients publish submissions; the routing key is the type.
pub const SUBMIT: &str = "counterfoil.submit";
/// Where clients publish requests; the routing key is the request.
pub const REQUEST: &str = "counterfoil.request";
/// Where an inquiry process publishes a question that joins the line. None but the server may
/// write.
pub const LINE: &str = "counterfoil.line";
/// Where jobs are dispatched; the routing key is the queue. None but the server may write.
pub const WORK: &str = "counterfoil.work";
/// Where the broker puts what it drops. None but the server may write.
pub const DROPPED: &str = "counterfoil.dropped";
/// Where the server puts what cannot be processed. None but the server may write.
pub const DEAD: &str = "counterfoil.dead";
/// The default exchange: the routing key is a queue's name.
pub const DEFAULT: &str = "";

/// The line: submissions and unanswered questions, in the order in which they were confirmed.
pub const INTAKE_QUEUE: &str = "counterfoil.intake";
/// Requests.
pub const INQUIRY_QUEUE: &str = "counterfoil.inquiry";
/// What the broker dropped; read by the server, which records it.
pub const DROPPED_QUEUE: &str = DROPPED;
/// What could not be processed, with its reason; read by people.
pub const DEAD_QUEUE: &str = DEAD;

/// How many deliveries of the line may be undecided. A constant of the topology: were it different
/// in two registrars, the one that takes over would get the line out of order.
pub const LINE_PREFETCH: u16 = 1000;

/// RabbitMQ 4 deletes a message after 20 returns unless a limit is set, and 3.10 puts returned
/// messages at the back of the queue unless one is set. So there is one, and it is never reached:
/// attempts are counted in the store. (-1 would mean "unlimited" only from 4.0 on.)
const DELIVERY_LIMIT: i64 = 1_000_000_000;
/// A queue that grows without bound stops the whole broker. Well below a node's memory and disk
/// marks, and refused to the publisher (`reject-publish`) instead of dropping the oldest.
const QUEUE_BYTES_MAX: i64 = 2 * 1024 * 1024 * 1024;

/// The name of the queue that carries a work queue's jobs.
pub fn work_queue(queue: &QueueName) -> String {
    format!("{WORK}.{queue}")
}

struct Exchange {
    name: &'static str,
    kind: ExchangeKind,
}

const EXCHANGES: &[Exchange] = &[
    Exchange { name: SUBMIT, kind: ExchangeKind::Topic },
    Exchange { name: REQUEST, kind: ExchangeKind::Topic },
    Exchange { name: LINE, kind: ExchangeKind::Fanout },
    Exchange { name: WORK, kind: ExchangeKind::Direct },
    Exchange { name: DROPPED, kind: ExchangeKind::Fanout },
    Exchange { name: DEAD, kind: ExchangeKind::Fanout },
];

/// What a queue is, beside durable and of type quorum.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// One consumer at a time, in order.
    Line,
    /// Competing consumers.
    Work,
    /// The end of the road.
    Last,
}

const QUEUES: &[(&str, Role)] = &[
    (INTAKE_QUEUE, Role::Line),
    (INQUIRY_QUEUE, Role::Work),
    (DROPPED_QUEUE, Role::Last),
    (DEAD_QUEUE, Role::Last),
];

const BINDINGS: &[(&str, &str, &str)] = &[
    // exchange, queue, routing key. Everything is routed, so nothing is unroutable.
    (SUBMIT, INTAKE_QUEUE, "#"),
    (LINE, INTAKE_QUEUE, ""),
    (REQUEST, INQUIRY_QUEUE, "#"),
    (DROPPED, DROPPED_QUEUE, ""),
    (DEAD, DEAD_QUEUE, ""),
];

/// Declares everything but the work queues.
pub(crate) async fn declare(channel: &Channel) -> Result<(), Error> {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    for exchange in EXCHANGES {
        let kind = exchange.kind.clone();
        channel
            .exchange_declare(exchange.name.into(), kind, durable, FieldTable::default())
            .await?;
    }
    for (name, role) in QUEUES {
        declare_queue(channel, name, *role).await?;
    }
    for (exchange, queue, key) in BINDINGS {
        bind(channel, exchange, queue, key).await?;
    }
    Ok(())
}

/// Declares the queue of a work queue's jobs.
pub(crate) async fn declare_work(channel: &Channel, queue: &QueueName) -> Result<(), Error> {
    let name = work_queue(queue);
    declare_queue(channel, &name, Role::Work).await?;
    bind(channel, WORK, &name, queue.as_str()).await
}

async fn declare_queue(channel: &Channel, name: &str, role: Role) -> Result<(), Error> {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(short(name)?, options, arguments(role)).await?;
    Ok(())
}

async fn bind(channel: &Channel, exchange: &str, queue: &str, key: &str) -> Result<(), Error> {
    channel
        .queue_bind(
            short(queue)?,
            short(exchange)?,
            short(key)?,
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await?;
    Ok(())
}

fn arguments(role: Role) -> FieldTable {
    let mut arguments = FieldTable::default();
    let mut text = |name: &'static str, value: &'static str| {
        arguments.insert(name.into(), AMQPValue::LongString(value.into()));
    };
    text("x-queue-type", "quorum");
    if role != Role::Last {
        text("x-overflow", "reject-publish");
        // What a client lets expire, or what comes back a milliard times, is recorded, not lost.
        text("x-dead-letter-exchange", DROPPED);
        text("x-dead-letter-strategy", "at-least-once");
        arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(QUEUE_BYTES_MAX));
    }
    if role == Role::Line {
        // One registrar decides; the others stand by, and RabbitMQ chooses the next.
        arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    }
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(DELIVERY_LIMIT));
    arguments
}

pub(crate) fn short(text: &str) -> Result<ShortString, Error> {
    ShortString::try_new(text).map_err(|_| Error::TooLong(text.chars().take(80).collect()))
}
