//! Names of headers.

/// Which changes to push: states, `terminal`, `stage`, `progress`, `*`; comma-separated.
pub const NOTIFY: &str = "job-notify";
/// The queue that the changes are pushed to; the `reply_to` property if absent.
pub const NOTIFY_TO: &str = "job-notify-to";
/// Whether receipt and events may come in one message with others: `true` or `false`.
pub const BATCH: &str = "job-batch";
/// RFC 3339: not to be run before.
pub const NOT_BEFORE: &str = "job-not-before";
/// RFC 3339: expires when it is not done by then.
pub const DEADLINE: &str = "job-deadline";
/// Milliseconds that one attempt may take.
pub const TIMEOUT_MS: &str = "job-timeout-ms";
/// How many attempts, the first one included.
pub const MAX_ATTEMPTS: &str = "job-max-attempts";
/// `low`, `normal` or `high`.
pub const PRIORITY: &str = "job-priority";
/// Milliseconds that the record is kept after the job is done.
pub const KEEP_MS: &str = "job-keep-ms";
/// Comma-separated words to find the job by.
pub const TAGS: &str = "job-tags";
/// The machine or label that made the identifier.
pub const ORIGIN: &str = "job-origin";
/// The protocol's version.
pub const PROTOCOL: &str = "job-protocol";

/// Every header of a submission; any other that begins with [`PREFIX`] is listed as ignored.
pub const SUBMISSION: &[&str] = &[
    NOTIFY,
    NOTIFY_TO,
    BATCH,
    NOT_BEFORE,
    DEADLINE,
    TIMEOUT_MS,
    MAX_ATTEMPTS,
    PRIORITY,
    KEEP_MS,
    TAGS,
    ORIGIN,
    PROTOCOL,
];
/// What the headers of a submission begin with.
pub const PREFIX: &str = "job-";

/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";
/// W3C trace state.
pub const TRACESTATE: &str = "tracestate";

/// Added by the broker to a message that it has dead-lettered: such a message did not come from
/// the client that its properties name, so it is never taken for a submission or a request.
pub const X_DEATH: &str = "x-death";
/// Added by the broker to a message that it has dead-lettered: the queue it was in first.
pub const FIRST_DEATH_QUEUE: &str = "x-first-death-queue";
/// Added by the broker to a message that it has dead-lettered: the exchange it was published to.
pub const FIRST_DEATH_EXCHANGE: &str = "x-first-death-exchange";
/// Set by quorum queues on a redelivery: how often the message has been returned.
pub const DELIVERY_COUNT: &str = "x-delivery-count";

/// The client of a message that the server has sent itself. Believed only on deliveries that came
/// through an exchange which none but the server may write.
pub const CLIENT: &str = "counterfoil-client";
/// On a work message: the job id.
pub const JOB_ID: &str = "counterfoil-job-id";
/// On a work message: the dispatch number, which a claim must match.
pub const DISPATCH: &str = "counterfoil-dispatch";
/// On a work message: the store's epoch when it was dispatched.
pub const EPOCH: &str = "counterfoil-epoch";
/// On a work message: what a worker needs to know of the job, and to rebuild a lost record (JSON).
pub const SPEC: &str = "counterfoil-spec";
/// On a work message: the seal over all of these.
pub const SEAL: &str = "counterfoil-seal";
/// On a work message of several jobs: how many they are.
pub const JOBS: &str = "counterfoil-jobs";
/// On a message in the dead-letter queue: why it is there.
pub const REASON: &str = "counterfoil-reason";
/// On a message in the dead-letter queue: the exchange it was published to.
pub const DEAD_EXCHANGE: &str = "counterfoil-exchange";
/// On a message in the dead-letter queue: the routing key it was published with.
pub const DEAD_ROUTING_KEY: &str = "counterfoil-routing-key";
