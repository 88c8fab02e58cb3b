//! The model that a trial runs on, and what happens to the run meanwhile.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use job::{Event, JobType};
use model::Model;
use protocol::{UnixMillis, WorkMessage};
use store::change::{Change, Changed, Right};
use store::claim::{Claim, Lease};
use store::report::{Report, Reported};
use store::{JobName, Keys};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::LEASE_MS;
use crate::Context;
use crate::books::Books;
use crate::context::Inner;
use crate::runs::Run;

/// What may happen to a job while its handler runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// A client asks it to stop. The handler is told, and decides.
    CancelAsked,
    /// It has run for so long that it no longer depends on its message: `worker.detach_after_ms`.
    Detached,
    /// Its lease has ended unnoticed, and another worker makes the next attempt: what this one
    /// still reports is refused ([`crate::Lost`]). If none is left, nobody takes over.
    TakenOver,
    /// The worker shuts down, and its time to drain is over: the handler gets no further, and the
    /// attempt is not counted.
    ShutDown,
    /// The worker dies: the handler gets no further, and the attempt has no outcome.
    Died,
}

/// One run as the bench sees it.
#[derive(Debug, Clone)]
struct Current {
    name: JobName,
    job_type: JobType,
    dispatch: u64,
    fence: String,
    body: Vec<u8>,
    given_back: CancellationToken,
    died: CancellationToken,
}

#[derive(Debug)]
struct State {
    model: Model,
    planned: Vec<(String, Happening)>,
    current: Option<Current>,
    /// How far this clock is ahead of the machine's.
    ahead: Duration,
    is_left_behind: bool,
}

/// A model, a clock that can go on by leaps, and what is planned.
#[derive(Debug)]
pub(crate) struct Bench {
    state: Mutex<State>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let model = Model::new(Keys::new("trial", 1), b"a trial", u64::MAX);
        let state = State {
            model,
            planned: Vec::new(),
            current: None,
            ahead: Duration::ZERO,
            is_left_behind: false,
        };
        Self { state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn with<T>(&self, use_it: impl FnOnce(&mut Model) -> T) -> T {
        use_it(&mut self.lock().model)
    }

    pub(crate) fn now(&self) -> UnixMillis {
        self.lock().now()
    }

    pub(crate) fn go_on_to(&self, instant: UnixMillis) {
        let mut state = self.lock();
        let pause = instant.0.saturating_sub(state.now().0).max(0);
        state.ahead += Duration::from_millis(pause.cast_unsigned());
    }

    pub(crate) fn change(&self, change: &Change) -> Changed {
        let mut state = self.lock();
        let at = state.now();
        state.model.change(change, at)
    }

    pub(crate) fn plan(&self, stage: &str, happening: Happening) {
        self.lock().planned.push((stage.to_owned(), happening));
    }

    /// Whether the last run's worker died, so that its message is delivered again.
    pub(crate) fn is_left_behind(&self) -> bool {
        self.lock().is_left_behind
    }

    /// The same, and that somebody takes it up now.
    pub(crate) fn take_up(&self) -> bool {
        std::mem::take(&mut self.lock().is_left_behind)
    }

    /// A run that writes here.
    pub(crate) fn run(self: &Arc<Self>, message: &WorkMessage, attempt: u32, fence: String) -> Run {
        let name = JobName { client: message.client.clone(), job_id: message.job_id.clone() };
        let (given_back, died) = (CancellationToken::new(), CancellationToken::new());
        let mut state = self.lock();
        state.current = Some(Current {
            name: name.clone(),
            job_type: message.job_type.clone(),
            dispatch: message.dispatch,
            fence: fence.clone(),
            body: message.body.clone(),
            given_back: given_back.clone(),
            died: died.clone(),
        });
        let inner = Inner {
            books: Books::Model(Arc::clone(self)),
            name,
            ticket: message.ticket.to_string(),
            job_type: message.job_type.clone(),
            attempt,
            fence,
            deadline: message.spec.deadline,
            content_type: message.spec.content_type.clone(),
            body: message.body.clone().into(),
            cancelled: CancellationToken::new(),
            // A dead worker writes as little as one that has lost its right.
            lost: died,
            report_token: tokio::sync::OnceCell::new(),
        };
        let now = Instant::now();
        Run {
            context: Context { inner: Arc::new(inner) },
            delivered_at: now,
            started_at: now,
            delivery: Mutex::new(None),
            epoch: 1.into(),
            given_back,
        }
    }

    pub(crate) fn mint(&self, name: &JobName, fence: &str, hash: &str) -> bool {
        let mut state = self.lock();
        let at = state.now();
        state.model.mint(name, fence, hash, at)
    }

    /// Writes a report, and then lets happen what is planned for its stage. Does not return where
    /// the handler gets no further.
    pub(crate) async fn report(&self, name: &JobName, right: &Right, report: &Report) -> Reported {
        let reported = {
            let mut state = self.lock();
            let at = state.now();
            let reported = state.model.report(name, right, report, at);
            match (reported, report) {
                (Reported::Held { .. }, Report::Stage(stage)) => state.happen(stage, reported),
                (reported, _) => Some(reported),
            }
        };
        match reported {
            Some(reported) => reported,
            None => std::future::pending().await,
        }
    }
}

impl State {
    fn now(&self) -> UnixMillis {
        UnixMillis::now().after(self.ahead)
    }

    /// What is planned for a stage; `None` if the handler gets no further.
    fn happen(&mut self, stage: &str, mut reported: Reported) -> Option<Reported> {
        let Some(run) = self.current.clone() else { return Some(reported) };
        while let Some(place) = self.planned.iter().position(|(planned, _)| planned == stage) {
            let (_, happening) = self.planned.remove(place);
            match happening {
                Happening::CancelAsked => {
                    let asked =
                        Change::new(run.name.clone(), run.job_type.clone(), Event::CancelAsked);
                    let at = self.now();
                    self.model.change(&asked.with("cancel_requested", "1"), at);
                    reported = Reported::Held { cancel_requested: true };
                }
                Happening::Detached => self.beat(&run, LEASE_MS, Some(run.body.clone())),
                Happening::TakenOver => self.take_over(&run),
                Happening::ShutDown => {
                    run.given_back.cancel();
                    return None;
                }
                Happening::Died => {
                    self.beat(&run, 0, None);
                    self.is_left_behind = true;
                    run.died.cancel();
                    return None;
                }
            }
        }
        Some(reported)
    }

    fn beat(&mut self, run: &Current, lease_ms: u64, detach: Option<Vec<u8>>) {
        let lease = Lease { name: run.name.clone(), fence: run.fence.clone(), detach };
        let at = self.now();
        self.model.beat(&lease, lease_ms, at);
    }

    /// The lease ends, and the message comes to another worker.
    fn take_over(&mut self, run: &Current) {
        self.beat(run, 0, None);
        let record = self.model.read(&run.name);
        let allowed = record.and_then(|it| it.attempts_allowed).and_then(|it| it.parse().ok());
        let claim = Claim {
            name: run.name.clone(),
            job_type: run.job_type.clone(),
            dispatch: run.dispatch,
            redelivered: true,
            owner: "another-worker".to_owned(),
            nonce: "another".to_owned(),
            lease_ms: LEASE_MS,
            idle: true,
            attempts_max: allowed.unwrap_or(1),
            alone_after: 1,
            not_here: false,
            payload: run.body.clone(),
        };
        let at = self.now();
        self.model.claim(&claim, at);
    }
}
