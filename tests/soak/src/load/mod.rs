//! A client of the campaign, as a process: submits with a journal and without one, asks, listens,
//! and writes down everything that it is told.

mod bare;
mod events;
mod questions;
mod settle;
mod submissions;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::Client;
use tokio_util::sync::CancellationToken;

use crate::handlers::Task;
use crate::history::{Log, Seen, read};
pub use settle::settle;

/// What kinds of things a client does beside what it always does.
#[derive(Debug, Clone, Copy)]
pub struct Mix {
    /// It also submits without a journal.
    pub has_bare: bool,
    /// Some of its jobs kill their worker.
    pub has_poison: bool,
    /// What is rare comes twelve times as often.
    pub is_dense: bool,
}

impl Mix {
    /// The arguments that say so to a client's process.
    pub fn arguments(self) -> impl Iterator<Item = &'static str> {
        let has =
            [(self.has_bare, "--bare"), (self.has_poison, "--poison"), (self.is_dense, "--dense")];
        has.into_iter().filter(|(has, _)| *has).map(|(_, argument)| argument)
    }
}

impl Mix {
    /// Whether it is time for what comes once in so many times.
    fn once_in(self, times: u32) -> bool {
        let times = if self.is_dense { times / 12 } else { times };
        fastrand::u32(..times.max(2)) == 0
    }
}

/// What a client of the campaign is to do.
#[derive(Debug, Clone)]
pub struct Load {
    /// Where its history is.
    pub history: PathBuf,
    /// How many jobs it submits in all, over all of its incarnations.
    pub jobs: u64,
    /// How many of them a second.
    pub rate: f64,
    /// What else.
    pub mix: Mix,
}

/// What the parts of one client share.
struct Shared {
    client: Client,
    amqp: broker::Settings,
    log: Log,
    stop: CancellationToken,
    /// What begins the identifiers of this incarnation.
    prefix: String,
    mix: Mix,
    known: Mutex<Known>,
}

/// Identifiers that may be asked for.
#[derive(Default)]
struct Known {
    ids: Vec<String>,
    newest: Option<String>,
    tickets: Vec<String>,
}

/// Attempts of a job that kills its worker.
pub const POISON_ATTEMPTS_MAX: usize = 2;
/// The attempts that any other job has: more than faults can take away.
const ATTEMPTS: usize = 1000;
/// The end of the name of a queue that is deleted and filled.
pub const SPARE: &str = ".spare";
/// What the identifiers begin with that are made void before they are submitted.
pub const VOID: &str = "void-";
/// As many as are worth asking for.
const KNOWN_MAX: usize = 2000;

/// The queue for events: it outlives the process.
pub fn events_queue(user: &str) -> String {
    format!("reply.{user}.events")
}

/// Another one, which is deleted and filled.
pub fn spare_queue(user: &str) -> String {
    format!("reply.{user}{SPARE}")
}

/// Works until it is told to stop.
///
/// # Errors
/// The journal or the history cannot be opened.
pub async fn run(
    load: Load,
    settings: client::Settings,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let before = if load.history.exists() { read(&load.history)? } else { Vec::new() };
    let is_job = |seen: &Seen| matches!(seen, Seen::Journaled { .. } | Seen::Confirmed { .. });
    let done = before.iter().filter(|entry| is_job(&entry.seen)).count() as u64;
    let shared = share(&load, settings, stop.clone())?;
    let mut tasks = vec![
        tokio::spawn(submissions::recover(Arc::clone(&shared))),
        tokio::spawn(submissions::submit(
            Arc::clone(&shared),
            load.jobs.saturating_sub(done),
            load.rate,
        )),
        tokio::spawn(questions::ask(Arc::clone(&shared))),
        tokio::spawn(questions::wait(Arc::clone(&shared))),
        tokio::spawn(events::listen(Arc::clone(&shared), events_queue)),
        tokio::spawn(events::listen(Arc::clone(&shared), spare_queue)),
    ];
    if load.mix.has_bare {
        tasks.push(tokio::spawn(bare::produce(Arc::clone(&shared), load.rate)));
    }
    stop.cancelled().await;
    // Each looks at the same token; what hangs is of no use any more.
    let ended = futures_util::future::join_all(tasks);
    tokio::time::timeout(Duration::from_secs(5), ended).await.ok();
    shared.client.close().await;
    Ok(())
}

fn share(
    load: &Load,
    settings: client::Settings,
    stop: CancellationToken,
) -> anyhow::Result<Arc<Shared>> {
    let amqp = settings.amqp.clone();
    Ok(Arc::new(Shared {
        client: Client::open(settings)?,
        amqp,
        log: Log::open(&load.history)?,
        stop,
        prefix: format!("{:x}", crate::history::now()),
        mix: load.mix,
        known: Mutex::default(),
    }))
}

impl Shared {
    /// Waits, but not beyond the end.
    async fn pause(&self, pause: Duration) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.stop.cancelled() => {}
        }
    }

    fn is_over(&self) -> bool {
        self.stop.is_cancelled()
    }

    fn told(&self, kind: &str, asked: Option<u64>, answer: &client::Answer) {
        self.told_of(kind, asked, None, answer);
    }

    /// The same of a question that was asked by a ticket.
    fn told_of(&self, kind: &str, asked: Option<u64>, by: Option<String>, answer: &client::Answer) {
        if let Some(ticket) = &answer.ticket {
            remember(
                &mut self.known.lock().unwrap_or_else(PoisonError::into_inner).tickets,
                ticket,
            );
        }
        let answer = serde_json::to_value(answer).unwrap_or_default();
        let kind = kind.to_owned();
        self.log.write(Seen::Told { kind, asked, ticket: by, message_id: None, answer });
    }

    fn remember(&self, id: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.newest = Some(id.to_owned());
        remember(&mut known.ids, id);
    }

    /// The identifier that was submitted last: its job is hardly done yet.
    fn newest(&self) -> Option<String> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).newest.clone()
    }

    /// Any identifier that was submitted, or any ticket that was heard of.
    fn any(&self, ticket: bool) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let of = if ticket { &known.tickets } else { &known.ids };
        fastrand::choice(of).cloned()
    }
}

fn remember(known: &mut Vec<String>, what: &str) {
    if known.len() < KNOWN_MAX {
        known.push(what.to_owned());
    } else {
        known[fastrand::usize(..KNOWN_MAX)] = what.to_owned();
    }
}

/// The header with the attempts of a job.
fn attempts(task: Task) -> String {
    if task == Task::Poison { POISON_ATTEMPTS_MAX } else { ATTEMPTS }.to_string()
}

/// A job of the mix: most are short; some linger, fail, or kill their worker.
fn task(mix: Mix) -> Task {
    match fastrand::u32(..1000) {
        0..5 if mix.has_poison => Task::Poison,
        5..10 => Task::Fail,
        10..20 => Task::Retry(fastrand::u32(1..3)),
        20..23 if !mix.is_dense => Task::Work(fastrand::u64(5_000..15_000)),
        23..130 => Task::Staged(fastrand::u64(1..200)),
        _ => Task::Work(fastrand::u64(1..200)),
    }
}
