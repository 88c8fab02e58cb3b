//! One session after another: everything is built, runs until something fails, and is built anew.
//!
//! ```text
//!   store ─► connections ─► topology ─► roles ──► one fails, or stop ─► roles drain ─► close
//!     ▲                                                      │
//!     └──────────────── a pause, with jitter ◄───────────────┘
//! ```
//!
//! A role drains by itself when the session's token is cancelled: it stops reading, finishes what
//! it has decided, acknowledges that, and closes its channel.

use std::sync::Arc;
use std::time::Duration;

use broker::{Backoff, Retry, chain};
use store::Store;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::hand::Hand;
use crate::links::Links;
use crate::{Error, Role, Settings, dropped, inquiry, notifier, registrar, salvaged, scheduler};

/// How long roles may take to finish what they have decided.
const DRAIN: Duration = Duration::from_secs(20);

/// A server that runs in the background.
#[derive(Debug)]
pub struct Server {
    stop: CancellationToken,
    ready: watch::Receiver<bool>,
    task: JoinHandle<Result<(), Error>>,
}

impl Server {
    /// Starts the roles.
    pub fn start(settings: Settings, amqp: broker::Settings, redis: store::Settings) -> Self {
        let stop = CancellationToken::new();
        let (sender, ready) = watch::channel(false);
        let task = tokio::spawn(run(settings, amqp, redis, stop.clone(), sender));
        Self { stop, ready, task }
    }

    /// Waits until the roles are working.
    ///
    /// # Errors
    /// The server has ended instead; [`Self::stop`] says why.
    pub async fn ready(&mut self) -> Result<(), watch::error::RecvError> {
        self.ready.wait_for(|ready| *ready).await.map(drop)
    }

    /// Stops in an orderly way: finishes and acknowledges what is decided.
    ///
    /// # Errors
    /// What had ended the server before.
    pub async fn stop(self) -> Result<(), Error> {
        self.stop.cancel();
        self.task.await.unwrap_or(Err(Error::Panicked("server")))
    }
}

/// Runs the roles until told to stop, through every failure that may pass.
///
/// # Errors
/// What will not pass by itself: wrong credentials, a store that is not fit.
pub async fn run(
    settings: Settings,
    amqp: broker::Settings,
    redis: store::Settings,
    stop: CancellationToken,
    ready: watch::Sender<bool>,
) -> Result<(), Error> {
    settings.validate().map_err(Error::Settings)?;
    let mut backoff = Backoff::default();
    let mut kept = Kept::default();
    let mut has_worked = false;
    loop {
        let ended = session(&settings, &amqp, &redis, &mut kept, &stop, &ready, &mut backoff).await;
        has_worked |= ready.send_replace(false);
        let error = match ended {
            Ok(()) => return Ok(()),
            // What was right once may be right again: a password that is being changed, a broker
            // that is starting. Wrong from the start is wrong.
            Err(error) if !error.is_transient() && !has_worked => return Err(error),
            Err(error) => error,
        };
        if backoff.failed("server", &error, &stop).await == Retry::Stop {
            return Ok(());
        }
    }
}

/// What outlives a session.
#[derive(Default)]
struct Kept {
    store: Option<Store>,
    hand: Arc<Hand>,
}

async fn session(
    settings: &Settings,
    amqp: &broker::Settings,
    redis: &store::Settings,
    kept: &mut Kept,
    stop: &CancellationToken,
    ready: &watch::Sender<bool>,
    backoff: &mut Backoff,
) -> Result<(), Error> {
    let connecting = async {
        let store = match &kept.store {
            Some(store) => store.clone(),
            None => kept.store.insert(Store::connect(redis.clone()).await?).clone(),
        };
        if let Err(error) = store.keep(&settings.retention()).await {
            tracing::debug!(error = %chain(&error), "retention: written when the store is back");
        }
        let links = Links::open(settings.clone(), amqp, store, stop.child_token()).await?;
        salvaged::salvage(&links, amqp).await?;
        Ok::<_, Error>(links)
    };
    let links = tokio::select! {
        links = connecting => Arc::new(links?),
        () = stop.cancelled() => return Ok(()),
    };
    let mut roles = JoinSet::new();
    spawn_roles(&links, &kept.hand, &mut roles);
    backoff.succeeded("the server works");
    ready.send_replace(true);

    let mut first_error = None;
    let mut drain_until = None;
    loop {
        let ended = tokio::select! {
            ended = roles.join_next() => ended,
            () = links.publish.failed(), if !links.stop.is_cancelled() => {
                first_error.get_or_insert(Error::Broker(broker::Error::Gone));
                links.stop.cancel();
                continue;
            }
            () = links.stop.cancelled(), if drain_until.is_none() => {
                drain_until = Some(tokio::time::Instant::now() + DRAIN);
                continue;
            }
            () = sleep_until(drain_until), if drain_until.is_some() => {
                tracing::warn!("a role did not finish in time and is left behind");
                roles.abort_all();
                drain_until = Some(tokio::time::Instant::now() + DRAIN);
                continue;
            }
        };
        match ended {
            None => break,
            Some(Ok((_, Ok(())))) => {}
            Some(Ok((role, Err(error)))) => {
                tracing::debug!(role, error = %chain(&error), "a role ended");
                first_error.get_or_insert(error);
            }
            Some(Err(error)) if error.is_panic() => {
                first_error.get_or_insert(Error::Panicked("server"));
            }
            Some(Err(_)) => {}
        }
        links.stop.cancel();
    }
    links.close().await;
    first_error.map_or(Ok(()), Err)
}

type RoleEnd = (&'static str, Result<(), Error>);

fn spawn_roles(links: &Arc<Links>, hand: &Arc<Hand>, roles: &mut JoinSet<RoleEnd>) {
    let refresh = Arc::clone(links);
    roles.spawn(async move {
        ("types", refresh.served.keep_fresh(&refresh.store, &refresh.stop).await)
    });
    for role in &links.settings.roles {
        let links = Arc::clone(links);
        match role {
            Role::Registrar => {
                let dropping = Arc::clone(&links);
                roles.spawn(async move { ("dropped", dropped::run(dropping).await) });
                roles.spawn(async move { ("registrar", registrar::run(links).await) })
            }
            Role::Inquiry => roles.spawn(async move { ("inquiry", inquiry::run(links).await) }),
            Role::Notifier => {
                let hand = Arc::clone(hand);
                roles.spawn(async move { ("notifier", notifier::run(links, hand).await) })
            }
            Role::Scheduler => {
                roles.spawn(async move { ("scheduler", scheduler::run(links).await) })
            }
        };
    }
}

async fn sleep_until(instant: Option<tokio::time::Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
