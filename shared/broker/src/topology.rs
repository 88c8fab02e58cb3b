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
//! Durable queues, the type explicit: quorum queues, but for what [`QueueType`] allows. Arguments
//! that mean the same on RabbitMQ 3.10 to 4.3.

use job::QueueName;
use serde::Deserialize;

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

/// What the queue of requests is. Everything else is in quorum queues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum QueueType {
    /// Kept by a majority of a cluster's nodes: requests are taken and answered while one is down.
    /// It syncs each message before it hands it over.
    #[default]
    Quorum,
    /// Kept by one node, on disk. Quicker; where there is but one node nothing persistent is
    /// lost by it.
    Classic,
}

impl TryFrom<String> for QueueType {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        let known = [Self::Quorum, Self::Classic].into_iter().find(|it| it.as_str() == word);
        known.ok_or_else(|| format!("{word:?} is no type of queue; allowed are quorum, classic"))
    }
}

impl QueueType {
    /// RabbitMQ's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::Classic => "classic",
        }
    }
}

/// The name of the queue that carries a work queue's jobs.
pub fn work_queue(queue: &QueueName) -> String {
    format!("{WORK}.{queue}")
}

/// How an exchange routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// By patterns of the routing key.
    Topic,
    /// To every queue.
    Fanout,
    /// By the routing key itself.
    Direct,
}

impl Kind {
    /// AMQP's word.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Fanout => "fanout",
            Self::Direct => "direct",
        }
    }
}

struct Exchange {
    name: &'static str,
    kind: Kind,
}

const EXCHANGES: &[Exchange] = &[
    Exchange { name: SUBMIT, kind: Kind::Topic },
    Exchange { name: REQUEST, kind: Kind::Topic },
    Exchange { name: LINE, kind: Kind::Fanout },
    Exchange { name: WORK, kind: Kind::Direct },
    Exchange { name: DROPPED, kind: Kind::Fanout },
    Exchange { name: DEAD, kind: Kind::Fanout },
];

/// What a queue is for.
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

/// An argument of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Argument {
    Text(&'static str),
    Number(i64),
    Flag(bool),
}

/// A queue as it is to be.
#[derive(Debug, Clone)]
pub(crate) struct QueueShape {
    pub(crate) name: String,
    pub(crate) arguments: Vec<(&'static str, Argument)>,
}

/// What routes messages from an exchange into a queue.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) exchange: &'static str,
    pub(crate) queue: String,
    pub(crate) key: String,
}

/// Every exchange.
pub(crate) fn exchanges() -> impl Iterator<Item = (&'static str, Kind)> {
    EXCHANGES.iter().map(|exchange| (exchange.name, exchange.kind))
}

/// Every queue, with those of work queues.
pub(crate) fn queues(work: &[QueueName], inquiry: QueueType) -> Vec<QueueShape> {
    let fixed = QUEUES.iter().map(|(name, role)| ((*name).to_owned(), *role));
    let work = work.iter().map(|queue| (work_queue(queue), Role::Work));
    let shape = |(name, role)| {
        let kind = if name == INQUIRY_QUEUE { inquiry } else { QueueType::Quorum };
        QueueShape { name, arguments: arguments(role, kind) }
    };
    fixed.chain(work).map(shape).collect()
}

/// Every binding, with those of work queues.
pub(crate) fn routes(work: &[QueueName]) -> Vec<Route> {
    let fixed = BINDINGS.iter().map(|(exchange, queue, key)| Route {
        exchange,
        queue: (*queue).to_owned(),
        key: (*key).to_owned(),
    });
    let work = work.iter().map(|queue| Route {
        exchange: WORK,
        queue: work_queue(queue),
        key: queue.as_str().to_owned(),
    });
    fixed.chain(work).collect()
}

fn arguments(role: Role, kind: QueueType) -> Vec<(&'static str, Argument)> {
    let mut arguments = vec![("x-queue-type", Argument::Text(kind.as_str()))];
    let is_quorum = kind == QueueType::Quorum;
    if role != Role::Last {
        arguments.push(("x-overflow", Argument::Text("reject-publish")));
        // What a client lets expire, or what comes back a milliard times, is recorded, not lost.
        arguments.push(("x-dead-letter-exchange", Argument::Text(DROPPED)));
        if is_quorum {
            arguments.push(("x-dead-letter-strategy", Argument::Text("at-least-once")));
        }
        arguments.push(("x-max-length-bytes", Argument::Number(QUEUE_BYTES_MAX)));
    }
    if role == Role::Line {
        // One registrar decides; the others stand by, and RabbitMQ chooses the next.
        arguments.push(("x-single-active-consumer", Argument::Flag(true)));
    }
    if is_quorum {
        arguments.push(("x-delivery-limit", Argument::Number(DELIVERY_LIMIT)));
    }
    arguments
}
