//! Tries a handler without RabbitMQ and Redis: against the model of the store, whose rules are the
//! real ones (the scripts are compared with it), by the code that runs it in a worker.
//!
//! ```
//! use counterfoil_worker::testing::{Happening, Trial};
//! use counterfoil_worker::{Context, Failure, Json};
//!
//! async fn place(Json(quantity): Json<u32>, job: Context) -> Result<u32, Failure> {
//!     job.stage("stock-reserved").await?;
//!     if job.is_cancelled() {
//!         return Err(Failure::Cancelled);
//!     }
//!     if job.attempt() == 1 {
//!         return Err(Failure::retry("the till is busy"));
//!     }
//!     Ok(2 * quantity)
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), counterfoil_worker::Error> {
//! // Attempt by attempt; time goes on to when the next one is due.
//! let mut trial = Trial::new("order.place", place)?.body("21");
//! let seen = trial.attempt().await;
//! assert_eq!(seen.state.as_str(), "retrying");
//! assert!(seen.again_in.is_some());
//! let seen = trial.attempt().await;
//! assert_eq!((seen.state.as_str(), seen.result.as_deref()), ("succeeded", Some("42")));
//! let attempts = ["accepted started staged errored", "due started staged succeeded"];
//! assert_eq!(seen.events().join(" "), attempts.join(" "));
//!
//! // The same, and a client asks it to stop while it runs.
//! let trial = Trial::new("order.place", place)?.body("21");
//! let seen = trial.at_stage("stock-reserved", Happening::CancelAsked).run().await;
//! assert_eq!(seen.state.as_str(), "cancelled");
//! # Ok(())
//! # }
//! ```
//!
//! What is not tried: the broker, more than one job at a time, and the time that things take. A
//! handler that sleeps does sleep.

mod bench;
mod seen;

use std::sync::Arc;
use std::time::Duration;

use job::{ClientName, Digest, Event, JobId, JobType, QueueName, RetryPolicy, State, Subscription};
use protocol::request::ReportToken;
use protocol::work::Spec;
use protocol::{UnixMillis, WorkMessage};
use store::JobName;
use store::accept::{Accept, First, Limits};
use store::change::{Change, Changed, Right, Timer};
use store::claim::{Claim, Claimed};
use store::lost::lost;

use crate::Error;
use crate::execution::{decide, record, retry_policy, run_handler};
use crate::handler::Handler;
use crate::registry::{Entry, Registry};

pub(crate) use bench::Bench;
pub use bench::Happening;
pub use seen::Seen;

/// The defaults of `config/default.toml`.
const TIMEOUT_MS: u64 = 3_600_000;
const LEASE_MS: u64 = 30_000;

/// A handler, and one job of its type.
///
/// What the job is like is said first, up to the first [`Self::attempt`] or [`Self::cancel`], which
/// submits it; [`Self::run`] is all in one.
#[derive(Debug)]
pub struct Trial {
    entry: Entry,
    name: JobName,
    job_type: JobType,
    body: Vec<u8>,
    spec: Spec,
    lives: Option<Duration>,
    bench: Arc<Bench>,
    is_submitted: bool,
    claims: u64,
}

impl Trial {
    /// A job of a type, with an empty body, for a handler with the default retry policy.
    ///
    /// # Errors
    /// [`Error::InvalidId`] if the type is outside its alphabet.
    pub fn new<Arguments>(job_type: &str, handler: impl Handler<Arguments>) -> Result<Self, Error> {
        let mut registry = Registry::default();
        registry.add(job_type, QueueName::DEFAULT, None, handler)?;
        let job_type = JobType::parse(job_type)?;
        let Some(entry) = registry.get(&job_type).cloned() else { return Err(Error::NoHandler) };
        let name = JobName { client: ClientName::parse("shop")?, job_id: JobId::parse("A-1")? };
        Ok(Self {
            entry,
            name,
            job_type,
            body: Vec::new(),
            spec: Spec { reply_to: Some("reply.shop.test".to_owned()), ..Spec::default() },
            lives: None,
            bench: Arc::new(Bench::new()),
            is_submitted: false,
            claims: 0,
        })
    }

    /// The client's body, as it comes.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// MIME type of the body, as the client says.
    #[must_use]
    pub fn content_type(mut self, content_type: &str) -> Self {
        self.spec.content_type = Some(content_type.to_owned());
        self
    }

    /// The handler's own retry policy, as in [`crate::Worker::handle_on`].
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.entry.retry = Some(policy);
        self
    }

    /// Attempts allowed, as the client says; the policy's number if it says nothing.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.spec.max_attempts = Some(attempts);
        self
    }

    /// How long one attempt may take; an hour if nothing is said.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.spec.timeout_ms = Some(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// How long after its submission the job expires; never, if nothing is said.
    #[must_use]
    pub fn deadline(mut self, after: Duration) -> Self {
        self.lives = Some(after);
        self
    }

    /// The client is told of every change: [`Seen::notices`].
    #[must_use]
    pub fn notify_everything(mut self) -> Self {
        self.spec.notify = Subscription::everything().to_string();
        self
    }

    /// Has something happen as soon as the handler has reported a stage; once.
    #[must_use]
    pub fn at_stage(self, stage: &str, happening: Happening) -> Self {
        self.bench.plan(stage, happening);
        self
    }

    /// Makes attempts until the job is finished, or handed over, or another worker's.
    pub async fn run(mut self) -> Seen {
        loop {
            let seen = self.attempt().await;
            let goes_on = matches!(seen.state, State::Retrying | State::Queued);
            if !goes_on && !self.bench.is_left_behind() {
                return seen;
            }
        }
    }

    /// Makes the next attempt, if there is one to make, and says how the job stands then. A job
    /// that is to be tried again later is due at once: time goes on to then.
    pub async fn attempt(&mut self) -> Seen {
        self.submit();
        self.wait_until_due();
        if self.bench.take_up() && self.seen().is_detached() {
            self.lose();
        }
        if let Some((message, attempt, fence)) = self.claim() {
            self.make(message, attempt, fence).await;
        }
        self.seen()
    }

    /// A client cancels the job between two attempts.
    pub fn cancel(&mut self) -> Seen {
        self.submit();
        let cancelled = Change {
            except_from: Some(State::Running),
            delete: &["payload", "due_at"],
            ..self.change(Event::Cancelled)
        };
        self.bench.change(&cancelled);
        self.seen()
    }

    /// Somebody outside reports the outcome of a job that was handed over: its result as JSON, or
    /// why it failed. `None` if nobody awaits a report with this token.
    pub fn report(&mut self, token: &str, outcome: Result<&str, &str>) -> Option<Seen> {
        let right = Right::Report(ReportToken::parse(token)?.hash());
        let (event, field, text) = match outcome {
            Ok(result) => (Event::Succeeded, "result", result),
            Err(error) => (Event::Failed, "error", error),
        };
        let except_from = Some(State::Running);
        let reported = Change { right, except_from, delete: &["due_at"], ..self.change(event) };
        let changed = self.bench.change(&reported.with(field, text));
        matches!(changed, Changed::Applied { .. }).then(|| self.seen())
    }

    fn seen(&self) -> Seen {
        Seen::of(&self.bench, &self.name)
    }

    fn change(&self, event: Event) -> Change {
        Change::new(self.name.clone(), self.job_type.clone(), event)
    }

    fn submit(&mut self) {
        if std::mem::replace(&mut self.is_submitted, true) {
            return;
        }
        let at = self.bench.now();
        self.spec.deadline = self.lives.map(|lives| at.after(lives));
        let accept = Accept {
            name: self.name.clone(),
            job_type: self.job_type.clone(),
            queue: self.entry.queue.clone(),
            spec: self.spec.clone(),
            digest: Digest::over(&[("body", Some(&self.body))]),
            first: First::Queued,
            nonce: "first".to_owned(),
            redelivered: false,
            payload_bytes: self.body.len(),
            dispatch: 1,
            is_too_old: false,
            replay_of: None,
        };
        self.bench.with(|model| model.accept(&accept, Limits::default(), at));
    }

    /// What the scheduler does when the time has come.
    fn wait_until_due(&mut self) {
        let Some(due_at) = self.seen().due_at else { return };
        self.bench.go_on_to(due_at);
        let due = Change { redispatch: true, timer: Timer::None, ..self.change(Event::Due) };
        self.bench.change(&Change { delete: &["due_at"], ..due });
    }

    /// What the scheduler does when the lease of a detached run has ended: no message would.
    fn lose(&self) {
        let record = self.seen().record;
        self.bench.change(&lost(&record, |event| self.change(event)));
    }

    /// Claims the job as a worker does to whom its message is delivered.
    fn claim(&mut self) -> Option<(WorkMessage, u32, String)> {
        let record = self.bench.with(|model| model.read(&self.name))?;
        let dispatch = record.dispatch.as_deref()?.parse().ok()?;
        let queue = self.entry.queue.clone();
        let message = record.work_message(queue, dispatch, self.body.clone())?;
        self.claims += 1;
        let claim = Claim {
            name: self.name.clone(),
            job_type: self.job_type.clone(),
            dispatch,
            redelivered: self.claims > 1,
            owner: format!("worker-{}", self.claims),
            nonce: self.claims.to_string(),
            lease_ms: LEASE_MS,
            idle: true,
            attempts_max: self.policy(&message).attempts_max,
            alone_after: 1,
            not_here: false,
            payload: self.body.clone(),
        };
        let at = self.bench.now();
        match self.bench.with(|model| model.claim(&claim, at)) {
            Claimed::Start { attempt, fence, .. } => Some((message, attempt, fence)),
            Claimed::Exhausted { fence, attempts } => {
                let error =
                    format!("attempt {attempts} ended without an outcome, and was the last");
                let failed = Change { right: Right::Fence(fence), ..self.change(Event::Failed) };
                self.bench.change(&failed.with("error", error));
                None
            }
            Claimed::CancelAsked { fence } => {
                let right = Right::Fence(fence);
                self.bench.change(&Change { right, ..self.change(Event::Cancelled) });
                None
            }
            _ => None,
        }
    }

    fn policy(&self, message: &WorkMessage) -> RetryPolicy {
        retry_policy(RetryPolicy::default(), message, &self.entry)
    }

    async fn make(&self, message: WorkMessage, attempt: u32, fence: String) {
        let run = self.bench.run(&message, attempt, fence);
        let now: UnixMillis = self.bench.now();
        let end = run_handler(&run, &message, &self.entry, TIMEOUT_MS, now).await;
        if let Some(change) = decide(&run, &message, self.policy(&message), end, 0.5) {
            let write = |change: Change| std::future::ready(Some(self.bench.change(&change)));
            record(change, write).await;
        }
        // As in a worker: a task that the handler left behind reports no more.
        run.context.inner.lost.cancel();
    }
}

#[cfg(test)]
mod tests;
