use std::sync::Arc;
use std::time::Duration;

use broker::{Backoff, Retry};
use job::{QueueName, RetryPolicy};
use store::Store;
use tokio::sync::{RwLock, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::handler::Handler;
use crate::recorder::Recorder;
use crate::registry::Registry;
use crate::runs::Runs;
use crate::session::serve;
use crate::shared::Shared;
use crate::{Error, Settings, beat};

/// Handlers, and how they are run.
#[derive(Debug)]
pub struct Worker {
    settings: Settings,
    registry: Registry,
}

/// A worker that runs in the background.
#[derive(Debug)]
pub struct Running {
    stop: CancellationToken,
    ready: watch::Receiver<bool>,
    task: JoinHandle<Result<(), Error>>,
}

impl Worker {
    /// A worker without handlers.
    pub fn new(settings: Settings) -> Self {
        Self { settings, registry: Registry::default() }
    }

    /// Adds a handler for a type, on the default queue, with the worker's retry policy.
    ///
    /// # Errors
    /// [`Error::InvalidId`] if the type is outside its alphabet.
    pub fn handle<Arguments>(
        self,
        job_type: &str,
        handler: impl Handler<Arguments>,
    ) -> Result<Self, Error> {
        self.handle_on(job_type, QueueName::DEFAULT, None, handler)
    }

    /// Adds a handler for a type, on a queue, with a retry policy of its own if there is one.
    ///
    /// # Errors
    /// [`Error::InvalidId`] if the type or the queue is outside its alphabet.
    pub fn handle_on<Arguments>(
        mut self,
        job_type: &str,
        queue: &str,
        retry: Option<RetryPolicy>,
        handler: impl Handler<Arguments>,
    ) -> Result<Self, Error> {
        self.registry.add(job_type, queue, retry, handler)?;
        Ok(self)
    }

    /// Says that the jobs of a type are short: a run takes about a millisecond, no longer than the
    /// message that brings the job. The server then sends up to 16 of them in one message, where it
    /// accepts so many at one moment, which costs everybody less. Each is still a job of its own,
    /// with its own attempts, time limit and outcome. Jobs of more than about 4 KiB, with a
    /// priority, with a later start or in a further attempt come alone as before.
    ///
    /// Do not call a type short whose runs may wait for something slow: the jobs of one message
    /// wait for slots in one worker while others may be idle, and one that is to be given back
    /// comes again only when the last of its neighbours is done or detached.
    ///
    /// To be called after [`Self::handle`]. It holds for all workers of the type: let all of them
    /// say the same, for the last one to start decides.
    ///
    /// # Errors
    /// [`Error::Unhandled`] if the type has no handler yet: give it one first.
    pub fn short(mut self, job_type: &str) -> Result<Self, Error> {
        match self.registry.shorten(job_type) {
            true => Ok(self),
            false => Err(Error::Unhandled(job_type.to_owned())),
        }
    }

    /// Runs until SIGTERM, SIGHUP or Ctrl-C, then drains: running jobs may finish for a while, what
    /// is left is given back uncounted.
    ///
    /// # Errors
    /// What will not pass by itself: wrong credentials, a store that is not fit.
    pub async fn run_until_signal(self) -> Result<(), Error> {
        let stop = CancellationToken::new();
        let told = stop.clone();
        tokio::spawn(async move {
            signal().await;
            tracing::info!("stopping: running jobs may finish");
            told.cancel();
        });
        self.run(stop).await
    }

    /// Runs until told to stop, then drains.
    ///
    /// # Errors
    /// As [`Self::run_until_signal`].
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let (ready, _) = watch::channel(false);
        run(self.settings, self.registry, stop, ready).await
    }

    /// Starts in the background.
    pub fn start(self) -> Running {
        let stop = CancellationToken::new();
        let (sender, ready) = watch::channel(false);
        let task = tokio::spawn(run(self.settings, self.registry, stop.clone(), sender));
        Running { stop, ready, task }
    }
}

impl Running {
    /// Waits until every queue is served.
    ///
    /// # Errors
    /// The worker has ended instead; [`Self::stop`] says why.
    pub async fn ready(&mut self) -> Result<(), watch::error::RecvError> {
        self.ready.wait_for(|ready| *ready).await.map(drop)
    }

    /// Waits until the worker has ended by itself; [`Self::stop`] says why.
    pub async fn ended(&mut self) {
        // The sender goes with the task.
        while self.ready.changed().await.is_ok() {}
    }

    /// Drains and stops.
    ///
    /// # Errors
    /// What had ended the worker before.
    pub async fn stop(self) -> Result<(), Error> {
        self.stop.cancel();
        self.task.await.unwrap_or(Err(Error::Panicked))
    }
}

async fn run(
    settings: Settings,
    registry: Registry,
    stop: CancellationToken,
    ready: watch::Sender<bool>,
) -> Result<(), Error> {
    settings.worker.validate().map_err(Error::Settings)?;
    if registry.is_empty() {
        return Err(Error::NoHandler);
    }
    let mut backoff = Backoff::default();
    let store = loop {
        match Store::connect(settings.redis.clone()).await {
            Ok(store) => break store,
            Err(error) if !error.is_transient() => return Err(error.into()),
            Err(error) => {
                if backoff.failed("worker", &error, &stop).await == Retry::Stop {
                    return Ok(());
                }
            }
        }
    };
    let shared = Arc::new(Shared {
        recorder: Recorder::start(store.clone()),
        runs: Runs::default(),
        slots: Arc::new(Semaphore::new(settings.worker.slots.into())),
        gate: Arc::new(RwLock::new(())),
        owner: format!("{}-{}", std::process::id(), uuid::Uuid::new_v4().simple()),
        settings,
        registry,
        store,
    });
    let beating = tokio::spawn(beat::run(Arc::clone(&shared)));
    let ended = sessions(&shared, &stop, &ready, backoff).await;
    beating.abort();
    ended
}

async fn sessions(
    shared: &Arc<Shared>,
    stop: &CancellationToken,
    ready: &watch::Sender<bool>,
    mut backoff: Backoff,
) -> Result<(), Error> {
    let finished = CancellationToken::new();
    let mut has_worked = false;
    let draining = tokio::spawn(drain(Arc::clone(shared), stop.clone(), finished.clone()));
    loop {
        let served = serve(shared, stop, &finished, || {
            backoff.succeeded("the worker works");
            ready.send_replace(true);
        })
        .await;
        has_worked |= ready.send_replace(false);
        match served {
            Ok(()) => break,
            // What was right once may be right again, e.g. a password that is being changed.
            Err(error) if !error.is_transient() && !has_worked => {
                draining.abort();
                return Err(error);
            }
            Err(error) => {
                if backoff.failed("worker", &error, stop).await == Retry::Stop {
                    // What runs still has its lease; it may record its outcome while it can.
                    finished.cancelled().await;
                    break;
                }
            }
        }
    }
    draining.await.map_err(|_| Error::Panicked)
}

/// ```text
///   stop ─► no more reading ─► running jobs finish ─► the time is up: given back ─► finished
/// ```
async fn drain(shared: Arc<Shared>, stop: CancellationToken, finished: CancellationToken) {
    stop.cancelled().await;
    let limit = Duration::from_millis(shared.settings.worker.drain_ms);
    if tokio::time::timeout(limit, shared.runs.none_left()).await.is_err() {
        for run in shared.runs.all() {
            run.given_back.cancel();
        }
        // Each only has to be recorded; a store that is away is not waited for.
        if tokio::time::timeout(limit, shared.runs.none_left()).await.is_err() {
            tracing::warn!("jobs could not be given back: their leases will end");
        }
    }
    finished.cancel();
}

/// Waits for SIGTERM, SIGHUP (the end of the terminal) or Ctrl-C.
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let both = signal(SignalKind::terminate()).and_then(|t| Ok((t, signal(SignalKind::hangup())?)));
    let (mut terminate, mut hangup) = match both {
        Ok(both) => both,
        Err(error) => {
            tracing::warn!(%error, "SIGTERM cannot be received");
            return std::future::pending().await;
        }
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
