//! The life of one run, from the claim to the acknowledgement:
//!
//! `decode → claim → run → decide → record → acknowledge`
//!
//! `decode` works on all deliveries that are there ([`crate::candidates`]), `claim` on all jobs
//! that have a slot ([`crate::claims`]); from `run` on each job goes its own way, here. A message
//! of several jobs is acknowledged with the last of them.
//!
//! | if the process dies after | the next delivery of the message sees |
//! |---|---|
//! | decode | `queued`: the job starts |
//! | claim | `running`, and the lease of a dead process: when it ends, the next attempt |
//! | run, decide | the same; what the handler did elsewhere has happened |
//! | record | a final state, `retrying` or `queued`: dropped, the scheduler has what is left |
//! | acknowledge | nothing; or, if another job of the message was not done, the final state |

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use faults::{Point, crash_point};
use futures_util::FutureExt as _;
use job::{Event, RetryPolicy};
use protocol::{UnixMillis, WorkMessage};
use store::change::{Change, Changed, Right, Timer, Unless};
use store::lost::{LEASE, OF_THE_RUN, OF_THE_RUN_AND_PAYLOAD};

use crate::Failure;
use crate::handler::{HandOver, Outcome, Returned};
use crate::registry::Entry;
use crate::runs::Run;
use crate::shared::Shared;

/// How a run ended.
pub(crate) enum End {
    /// The handler returned, was cut off at its time limit, or panicked.
    Returned(Outcome),
    /// The job's deadline passed.
    Expired,
    /// Another attempt has the right now.
    Lost,
    /// The worker shuts down. The run may be all that knows of the job: then its body goes into the
    /// store with it.
    GivenBack {
        /// Whether it may.
        with_body: bool,
    },
}

/// A cancellation that was asked for stays to be seen: the handler has decided otherwise.
const HANDED_OVER: &[&str] = &["owner", "lease_until", "detached", "alone", "lost"];

/// Runs a claimed job to its end.
pub(crate) async fn execute(
    shared: Arc<Shared>,
    run: Arc<Run>,
    message: WorkMessage,
    entry: Entry,
) {
    let settings = &shared.settings.worker;
    let retry = retry_policy(settings.retry(), &message, &entry);
    crash_point(Point::WorkStarted);
    let end = run_handler(&run, &message, &entry, settings.timeout_ms, UnixMillis::now()).await;
    crash_point(Point::WorkRan);
    let end = match end {
        // The store may have lost that the run is detached.
        End::GivenBack { .. } => End::GivenBack {
            with_body: run.is_detached() || run.is_of_before(shared.store.epoch()),
        },
        end => end,
    };
    let change = decide(&run, &message, retry, end, fastrand::f64());
    let given_back = change.as_ref().is_some_and(|change| change.event == Event::GivenBack);
    let recorded = match change {
        Some(change) => record(change, |change| shared.recorder.record(change)).await,
        None => Recorded::Refused,
    };
    // A task that the handler left behind reports no more.
    run.context.inner.lost.cancel();
    shared.runs.remove(&run);
    if recorded != Recorded::Unknown {
        crash_point(if given_back { Point::WorkGivenBack } else { Point::WorkRecorded });
        // Whoever has the right now may have taken it with a delivery that was lost since: then
        // this one is all that brings the job to somebody's notice if it dies.
        acknowledge(&run, given_back || recorded == Recorded::Refused);
    }
}

/// What became of an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// It is written.
    Written,
    /// It is not this run's to write.
    Refused,
    /// Nothing is known.
    Unknown,
}

/// The job's own number of attempts, or the handler's, or the worker's.
pub(crate) fn retry_policy(
    of_the_worker: RetryPolicy,
    message: &WorkMessage,
    entry: &Entry,
) -> RetryPolicy {
    let policy = entry.retry.unwrap_or(of_the_worker);
    RetryPolicy { attempts_max: message.spec.max_attempts.unwrap_or(policy.attempts_max), ..policy }
}

/// Runs the handler until it returns, or must not go on.
pub(crate) async fn run_handler(
    run: &Run,
    message: &WorkMessage,
    entry: &Entry,
    timeout_ms: u64,
    now: UnixMillis,
) -> End {
    let limit_ms = message.spec.timeout_ms.unwrap_or(timeout_ms);
    let until_deadline = message.spec.deadline.map_or(Duration::MAX, |deadline| {
        Duration::from_millis((deadline.0 - now.0).max(0).cast_unsigned())
    });
    let context = run.context.clone();
    let handler = AssertUnwindSafe(async { (entry.run)(context).await }).catch_unwind();
    tokio::select! {
        biased;
        () = run.context.inner.lost.cancelled() => End::Lost,
        () = run.given_back.cancelled() => End::GivenBack { with_body: false },
        returned = handler => End::Returned(returned.unwrap_or_else(|panic| {
            Err(Failure::retry(format!("the handler panicked: {}", panic_text(&*panic))))
        })),
        () = sleep(until_deadline) => End::Expired,
        () = sleep(Duration::from_millis(limit_ms)) => {
            End::Returned(Err(Failure::retry(format!("not done within {limit_ms} ms"))))
        }
    }
}

async fn sleep(pause: Duration) {
    if pause == Duration::MAX {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(pause).await;
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}

/// What is to be recorded; nothing for a run that has lost its right.
pub(crate) fn decide(
    run: &Run,
    message: &WorkMessage,
    retry: RetryPolicy,
    end: End,
    random: f64,
) -> Option<Change> {
    let attempt = run.context.attempt();
    let on = |event, delete| Change {
        right: Right::Fence(run.context.fence().to_owned()),
        delete,
        ..Change::new(run.context.inner.name.clone(), message.job_type.clone(), event)
    };
    let body = || run.context.body().to_vec();
    let failed = |reason: String| {
        let reason = capped(reason);
        let detail = reason.clone();
        Change { detail, ..on(Event::Failed, OF_THE_RUN) }
            .with("error", reason)
            .with("payload", body())
    };
    Some(match end {
        End::Lost => return None,
        End::Returned(Ok(Returned::Result(result))) => {
            on(Event::Succeeded, OF_THE_RUN_AND_PAYLOAD).with("result", result)
        }
        End::Returned(Ok(Returned::HandedOver(_))) if !run.context.has_report_token() => {
            failed("handed over, and nobody was given a report token".to_owned())
        }
        End::Returned(Ok(Returned::HandedOver(HandOver { within }))) => {
            let timer = within.map_or(Timer::None, |limit| {
                Timer::After(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))
            });
            Change { timer, ..on(Event::HandedOver, HANDED_OVER) }.with("payload", body())
        }
        End::Returned(Err(Failure::Cancelled)) => on(Event::Cancelled, OF_THE_RUN_AND_PAYLOAD),
        // Whatever a handler says when it was asked to stop, another attempt is not wanted.
        End::Returned(Err(Failure::Retry { reason, .. })) if run.context.is_cancelled() => {
            Change { detail: reason, ..on(Event::Cancelled, OF_THE_RUN_AND_PAYLOAD) }
        }
        End::Returned(Err(Failure::Retry { reason, after })) if retry.has_another(attempt) => {
            let reason = capped(reason);
            let pause = after.unwrap_or_else(|| retry.backoff(attempt, random));
            let timer = Timer::After(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
            let unless = Unless::CancelAsked;
            Change { timer, unless, detail: reason.clone(), ..on(Event::Errored, OF_THE_RUN) }
                .with("error", reason)
                .with("payload", body())
        }
        End::Returned(Err(Failure::Retry { reason, .. } | Failure::Fail { reason })) => {
            failed(reason)
        }
        End::Expired => {
            let detail = "its deadline passed while it ran".to_owned();
            Change { detail, ..on(Event::Expired, OF_THE_RUN_AND_PAYLOAD) }
        }
        // The attempt is not counted. A run that was detached, by whomever, has no message to
        // return: the scheduler, which finds its payload, dispatches it again at once.
        End::GivenBack { with_body } => {
            let timer = if with_body { Timer::After(0) } else { Timer::NowIfDetached };
            let back = Change { timer, ..on(Event::GivenBack, LEASE) }
                .with("attempt", attempt.saturating_sub(1).to_string());
            if with_body { back.with("payload", body()) } else { back }
        }
    })
}

/// An error's text travels in events, which must fit into a message.
fn capped(mut reason: String) -> String {
    const BYTES_MAX: usize = 16 * 1024;
    reason.truncate(reason.floor_char_boundary(BYTES_MAX));
    reason
}

/// Writes an outcome, or that the job was cancelled where that was asked for meanwhile.
pub(crate) async fn record<Writing>(change: Change, write: impl Fn(Change) -> Writing) -> Recorded
where
    Writing: Future<Output = Option<Changed>>,
{
    let (name, event) = (change.name.member(), change.event);
    // Another attempt is not wanted any more if a client has asked the job to stop meanwhile.
    let cancelled = Change {
        event: Event::Cancelled,
        timer: Timer::None,
        unless: Unless::Nothing,
        set: Vec::new(),
        delete: OF_THE_RUN_AND_PAYLOAD,
        ..change.clone()
    };
    let recorded = match write(change).await {
        Some(Changed::CancelAsked) => write(cancelled).await,
        recorded => recorded,
    };
    match recorded {
        Some(Changed::Applied { .. }) => Recorded::Written,
        Some(refused) => {
            tracing::info!(job = name, %event, ?refused, "an outcome was refused");
            Recorded::Refused
        }
        None => Recorded::Unknown,
    }
}

fn acknowledge(run: &Run, given_back: bool) {
    match run.take_delivery() {
        Some(delivery) if given_back => delivery.give_back(),
        Some(delivery) => delivery.ack(),
        None => {}
    }
}
