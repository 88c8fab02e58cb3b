//! From candidates to runs: `claim`, the second step of [`crate::execution`], for all candidates
//! that have a slot.
//!
//! # Who may run beside whom
//! A job whose last attempts (`worker.alone_after` of them) ended without an outcome runs alone in
//! its worker, and so does the last attempt after such an end: if it kills the process again no
//! neighbour is charged for it, and if it is innocent no neighbour takes its last chance. Ordinary
//! batches hold a share of a gate; a job that must be alone waits for the whole of it.

use std::sync::Arc;
use std::time::Duration;

use broker::{Backoff, Retry, dead_work_message};
use faults::{Point, crash_point};
use job::Event;
use protocol::WorkMessage;
use store::JobName;
use store::accept::{Accept, First, Limits};
use store::change::{Change, Changed, Right, Unless};
use store::claim::{Claim, Claimed};
use store::lost::{OF_THE_RUN, OF_THE_RUN_AND_PAYLOAD};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Context;
use crate::books::Books;
use crate::candidates::{Candidate, bury};
use crate::execution::{execute, retry_policy};
use crate::runs::Run;
use crate::shared::Shared;

/// For so long nothing else starts here while a job that must run alone waits for the others to
/// end; then others start again, for longer, before it tries once more. So a worker with long jobs
/// works.
const ALONE_WITHIN: Duration = Duration::from_secs(5);
const ALONE_AGAIN_AFTER: Duration = Duration::from_secs(20);
/// The pause before a message is claimed once more.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// A share of the gate, or the whole of it; clones hold it together.
#[derive(Clone)]
pub(crate) struct Gate {
    is_whole: bool,
    _held: Arc<dyn Send + Sync>,
}

impl Gate {
    /// Beside others.
    pub(crate) async fn share(shared: &Shared) -> Self {
        let held = Arc::clone(&shared.gate).read_owned().await;
        Self { is_whole: false, _held: Arc::new(held) }
    }

    /// Beside nobody.
    async fn whole(shared: &Shared) -> Self {
        let held = Arc::clone(&shared.gate).write_owned().await;
        Self { is_whole: true, _held: Arc::new(held) }
    }
}

/// Claims candidates and starts what is to be started. Returns when all are claimed, not when they
/// have run.
pub(crate) async fn claim(
    shared: &Arc<Shared>,
    candidates: Vec<Candidate>,
    gate: Gate,
    stop: &CancellationToken,
) {
    let idle = gate.is_whole;
    let claims: Vec<Claim> =
        candidates.iter().map(|candidate| to_claim(shared, candidate, idle)).collect();
    let mut backoff = Backoff::default();
    let lease = Duration::from_millis(shared.settings.worker.lease_ms);
    let claimed = loop {
        let asked = Instant::now();
        match shared.store.claim(&claims).await {
            // This process may have been stopped, or the answer long on its way: others may have
            // the right by now, and what has begun elsewhere must not begin here as well.
            Ok(_) if asked.elapsed() >= lease => {
                // Unacknowledged, the messages come again.
                if stop.is_cancelled() {
                    return;
                }
                tracing::debug!("claims that took longer than their leases: asked again");
            }
            Ok(claimed) => break claimed,
            // The nonces stay: a claim whose answer was lost is recognised.
            Err(error) => {
                if backoff.failed("claiming jobs", &error, stop).await == Retry::Stop {
                    return;
                }
            }
        }
    };
    backoff.succeeded("jobs are claimed");
    crash_point(Point::WorkClaimed);
    // First what may start, for its lease runs: of the others some wait until the store has written
    // something.
    let (starting, others): (Vec<_>, Vec<_>) = candidates
        .into_iter()
        .zip(claimed)
        .partition(|(_, claimed)| matches!(claimed, Claimed::Start { .. }));
    for (candidate, claimed) in starting.into_iter().chain(others) {
        act(shared, candidate, claimed, &gate, stop).await;
    }
}

fn to_claim(shared: &Shared, candidate: &Candidate, idle: bool) -> Claim {
    let message = &candidate.message;
    Claim {
        name: name(message),
        job_type: message.job_type.clone(),
        dispatch: message.dispatch,
        redelivered: candidate.redelivered,
        owner: shared.owner.clone(),
        nonce: candidate.nonce.clone(),
        lease_ms: shared.settings.worker.lease_ms,
        idle,
        not_here: candidate.not_here,
        attempts_max: retry_policy(shared.settings.worker.retry(), message, &candidate.entry)
            .attempts_max,
        alone_after: shared.settings.worker.alone_after,
        payload: if candidate.redelivered { message.body.clone() } else { Vec::new() },
    }
}

fn name(message: &WorkMessage) -> JobName {
    JobName { client: message.client.clone(), job_id: message.job_id.clone() }
}

/// Does what a claim says.
async fn act(
    shared: &Arc<Shared>,
    candidate: Candidate,
    claimed: Claimed,
    gate: &Gate,
    stop: &CancellationToken,
) {
    match claimed {
        Claimed::Start { attempt, fence, .. } => start(shared, candidate, attempt, fence, gate),
        Claimed::Drop | Claimed::Detached => candidate.receipt.ack(),
        Claimed::Attach { fence } => {
            let job = name(&candidate.message);
            if !shared.runs.attach(&job, &fence, candidate.receipt.clone()) {
                // The run has ended in this very moment, and the next claim finds its outcome; or
                // its claim was never answered, and nobody runs it: then its lease decides.
                again(shared, Candidate { not_here: true, ..candidate }, stop);
            }
        }
        Claimed::Wait => alone(shared, candidate, stop),
        Claimed::CancelAsked { fence } => {
            let change = ended(&candidate, fence, Event::Cancelled);
            finish(shared, candidate, change, stop).await;
        }
        Claimed::Exhausted { fence, attempts } => {
            let error = format!("attempt {attempts} ended without an outcome, and was the last");
            let change =
                Change { detail: error.clone(), ..ended(&candidate, fence, Event::Failed) }
                    .with("error", error)
                    .with("payload", candidate.message.body.clone());
            finish(shared, candidate, change, stop).await;
        }
        Claimed::Missing => rebuild(shared, candidate, stop).await,
    }
}

fn ended(candidate: &Candidate, fence: String, event: Event) -> Change {
    Change {
        right: Right::Fence(fence),
        // Its owner may have been slow only, and may have renewed its lease since.
        unless: Unless::Leased,
        // What has failed can be replayed.
        delete: if event == Event::Failed { OF_THE_RUN } else { OF_THE_RUN_AND_PAYLOAD },
        ..Change::new(name(&candidate.message), candidate.message.job_type.clone(), event)
    }
}

async fn finish(shared: &Shared, candidate: Candidate, change: Change, stop: &CancellationToken) {
    let recorded = tokio::select! {
        recorded = shared.recorder.record(change) => recorded,
        // Unacknowledged, the message comes again.
        () = stop.cancelled() => None,
    };
    match recorded {
        Some(Changed::Applied { .. }) => candidate.receipt.ack(),
        // Somebody else has the right by now: what the message means is to be asked anew.
        Some(_) => candidate.receipt.give_back(),
        None => {}
    }
}

fn start(shared: &Arc<Shared>, candidate: Candidate, attempt: u32, fence: String, gate: &Gate) {
    let Candidate { mut message, entry, receipt, delivered_at, permit, .. } = candidate;
    let context = Context {
        inner: Arc::new(crate::context::Inner {
            books: Books::Store(shared.store.clone()),
            name: name(&message),
            ticket: message.ticket.to_string(),
            job_type: message.job_type.clone(),
            attempt,
            fence,
            deadline: message.spec.deadline,
            content_type: message.spec.content_type.clone(),
            body: std::mem::take(&mut message.body).into(),
            cancelled: CancellationToken::new(),
            lost: CancellationToken::new(),
            report_token: tokio::sync::OnceCell::new(),
        }),
    };
    let run = Arc::new(Run {
        context,
        delivered_at,
        started_at: Instant::now(),
        delivery: std::sync::Mutex::new(Some(receipt)),
        epoch: shared.store.epoch().into(),
        given_back: CancellationToken::new(),
    });
    shared.runs.add(Arc::clone(&run));
    let (shared, gate) = (Arc::clone(shared), gate.clone());
    tokio::spawn(async move {
        execute(shared, run, message, entry).await;
        drop((gate, permit));
    });
}

/// Waits until nothing else runs here, and claims the job then.
fn alone(shared: &Arc<Shared>, candidate: Candidate, stop: &CancellationToken) {
    let (shared, stop) = (Arc::clone(shared), stop.clone());
    tokio::spawn(async move {
        let limit = Duration::from_millis(shared.settings.worker.detach_after_ms);
        let gate = loop {
            tokio::select! {
                gate = Gate::whole(&shared) => break gate,
                () = tokio::time::sleep(ALONE_WITHIN) => {}
                // Unacknowledged, the message returns to its queue.
                () = stop.cancelled() => return,
            }
            // The broker does not wait for ever, and another worker may be idle.
            if candidate.delivered_at.elapsed() >= limit {
                candidate.receipt.give_back();
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(ALONE_AGAIN_AFTER) => {}
                () = stop.cancelled() => return,
            }
        };
        boxed_claim(shared, candidate, gate, stop).await;
    });
}

/// Claims once more, a moment later.
fn again(shared: &Arc<Shared>, candidate: Candidate, stop: &CancellationToken) {
    let (shared, stop) = (Arc::clone(shared), stop.clone());
    tokio::spawn(async move {
        tokio::time::sleep(AGAIN_AFTER).await;
        let gate = Gate::share(&shared).await;
        boxed_claim(shared, candidate, gate, stop).await;
    });
}

/// Boxed, because a claim may lead to a claim.
fn boxed_claim(
    shared: Arc<Shared>,
    candidate: Candidate,
    gate: Gate,
    stop: CancellationToken,
) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move { claim(&shared, vec![candidate], gate, &stop).await })
}

/// There is no record. A message of another epoch, whose seal holds (or it would not have been
/// decoded), says that the store has lost the record, and carries enough to write it again: of an
/// older one, or of a later one if the store has lost that as well. Any other is kept in the
/// dead-letter queue: its job was retired long ago.
async fn rebuild(shared: &Arc<Shared>, candidate: Candidate, stop: &CancellationToken) {
    let message = &candidate.message;
    let job = name(message);
    if message.epoch == shared.store.epoch() {
        let reason = "there is no record of this job";
        let letter = dead_work_message(message, shared.store.ticket_key(), reason);
        bury(candidate.dead, letter, reason, candidate.receipt);
        return;
    }
    let accept = Accept {
        name: job.clone(),
        job_type: message.job_type.clone(),
        queue: message.queue.clone(),
        spec: message.spec.clone(),
        digest: protocol::submission::digest(&message.job_type, &message.spec, &message.body),
        first: First::Queued,
        nonce: candidate.nonce.clone(),
        redelivered: false,
        payload_bytes: message.body.len(),
        dispatch: message.dispatch,
        is_too_old: false,
        replay_of: None,
    };
    let limits = Limits::default();
    match shared.store.accept(&[accept], limits).await {
        Ok(_) => {
            crash_point(Point::WorkRebuilt);
            tracing::warn!(job = job.member(), "rebuilt a record that the store had lost");
            again(shared, candidate, stop);
        }
        Err(error) => {
            tracing::warn!(%error, job = job.member(), "rebuilding a record");
            candidate.receipt.give_back();
        }
    }
}
