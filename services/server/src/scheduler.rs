//! Acts on timers: jobs that are due, leases of detached runs that ended, deadlines, dispatches
//! that were not confirmed; and releases parked jobs whose type is announced.
//!
//! Any number of schedulers may run: each step is a compare-and-set, and who comes second finds
//! that the job has moved on. A job is taken by giving it a new dispatch number and a later timer,
//! and its payload goes only when the broker has confirmed the dispatch: a scheduler that dies in
//! between leaves a timer behind.

use std::sync::Arc;
use std::time::Duration;

use broker::{Backoff, Publisher, Retry};
use faults::{Point, crash_point};
use job::{Event, QueueName, State};
use protocol::{UnixMillis, WorkMessage};
use store::change::{Change, Changed, Timer};
use store::due::Redispatched;
use store::lost::{OF_THE_RUN_AND_PAYLOAD, lost};
use store::record::number;
use store::{JobName, Record};
use tokio::time::Instant;

use crate::Error;
use crate::dispatch::{DISPATCH_AGAIN_MS, dispatch};
use crate::links::Links;

const CHUNK: usize = 256;
/// Parked jobs are looked at so often.
const PARKED_EVERY: Duration = Duration::from_millis(500);
/// A job that its queue did not take waits a second longer with each dispatch, up to this.
const PARKED_PAUSE_MAX_MS: i64 = 60_000;

const WAITING: &[&str] = &["payload", "due_at"];

pub(crate) async fn run(links: Arc<Links>) -> Result<(), Error> {
    let publisher = links.publisher().await?;
    let sweep = Duration::from_millis(links.settings.sweep_ms);
    let mut parked_at = Instant::now();
    let mut backoff = Backoff::default();
    loop {
        let looks_at_parked = parked_at <= Instant::now();
        if looks_at_parked {
            parked_at = Instant::now() + PARKED_EVERY;
        }
        let found = match sweep_all(&links, &publisher, looks_at_parked).await {
            Ok(found) => {
                backoff.succeeded("the scheduler works");
                found
            }
            // A store that is away ends nothing: the registrar beside us holds the line meanwhile.
            Err(Error::Store(error)) if error.is_transient() => {
                if backoff.failed("scheduler", &error, &links.stop).await == Retry::Stop {
                    return Ok(());
                }
                continue;
            }
            Err(error) => return Err(error),
        };
        // A full chunk means that there is more.
        let pause = if found >= CHUNK { Duration::ZERO } else { sweep };
        tokio::select! {
            () = links.stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn sweep_all(
    links: &Links,
    publisher: &Publisher,
    looks_at_parked: bool,
) -> Result<usize, Error> {
    let (mut found, mut failed) = (0, None);
    for slot in links.store.keys().slots() {
        // What one part stumbles over does not keep the others from their work.
        let mut parts = vec![
            sweep_timers(links, publisher, slot).await,
            retire(links, slot).await,
            links.store.end_waits(slot, CHUNK).await.map_err(Error::from),
        ];
        if looks_at_parked {
            parts.push(release_parked(links, publisher, slot).await);
        }
        for part in parts {
            match part {
                Ok(count) => found += count,
                Err(error) => failed = Some(error),
            }
        }
        if matches!(&failed, Some(Error::Store(error)) if error.is_transient()) {
            break;
        }
    }
    failed.map_or(Ok(found), Err)
}

async fn sweep_timers(links: &Links, publisher: &Publisher, slot: u16) -> Result<usize, Error> {
    let (now, due) = links.store.due(slot, CHUNK).await?;
    let (_, records) = links.store.read_without_results(&due).await?;
    let count = due.len();
    let (mut again, mut failed) = (Vec::new(), None);
    for (name, record) in due.into_iter().zip(records) {
        match act(links, &name, record, now).await {
            Ok(message) => again.extend(message),
            // What was taken until here is sent all the same: its timers are late ones.
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    if !again.is_empty() {
        crash_point(Point::TimerTaken);
    }
    send(links, publisher, again).await?;
    failed.map_or(Ok(count), Err)
}

/// Does what a timer that has run out means, and returns the message that is to be sent for it.
async fn act(
    links: &Links,
    name: &JobName,
    record: Option<Record>,
    now: UnixMillis,
) -> Result<Option<(JobName, WorkMessage)>, Error> {
    match record.as_ref().and_then(|record| step(links, name, record, now)) {
        Some(Step::Change(change)) => {
            let changed = links.store.change(std::slice::from_ref(&change)).await?;
            if let ([Changed::Applied { dispatch, .. }], Some(record)) = (&changed[..], record)
                && change.redispatch
            {
                return work(links, name, &record, *dispatch).await;
            }
        }
        Some(Step::DispatchAgain(seen)) => {
            let taken = links.store.redispatch(name, seen, DISPATCH_AGAIN_MS, None).await?;
            if let (Redispatched::Under(number), Some(record)) = (taken, record) {
                return work(links, name, &record, number).await;
            }
            // Its payload is in a work queue, or it has moved on.
            links.store.untimed(name, now).await?;
        }
        None => links.store.untimed(name, now).await?,
    }
    Ok(None)
}

/// Replaces the records of finished jobs whose time has come by tombstones.
async fn retire(links: &Links, slot: u16) -> Result<usize, Error> {
    let names = links.store.due_to_retire(slot, CHUNK).await?;
    let (_, records) = links.store.read_without_results(&names).await?;
    let jobs: Vec<(JobName, Record)> =
        names.into_iter().zip(records.into_iter().map(Option::unwrap_or_default)).collect();
    links.store.retire(&jobs, links.settings.horizon_ms, false).await?;
    if !jobs.is_empty() {
        crash_point(Point::RecordRetired);
    }
    Ok(jobs.len())
}

enum Step {
    Change(Box<Change>),
    DispatchAgain(u64),
}

/// What a timer that has run out means for a job, by where the job is.
fn step(links: &Links, name: &JobName, record: &Record, now: UnixMillis) -> Option<Step> {
    let (state, job_type) = (record.state()?, record.job_type()?);
    if state.is_terminal() {
        return None;
    }
    let dispatch = number(&record.dispatch);
    // Another scheduler may have been faster: the number says so.
    let on = |event| Change { dispatch, ..Change::new(name.clone(), job_type.clone(), event) };
    let change = |change| Some(Step::Change(Box::new(change)));
    let passed = |field: &Option<String>| Record::instant(field).is_some_and(|at| at <= now);
    if passed(&record.deadline) {
        let (delete, detail) = (OF_THE_RUN_AND_PAYLOAD, "its deadline".to_owned());
        return change(Change { delete, detail, ..on(Event::Expired) });
    }
    // It was due when the timers were read; since then another scheduler may have moved it to where
    // it is now, with another timer.
    let is_due = Record::instant(&record.due_at).is_none_or(|at| at <= now);
    match state {
        State::Scheduled | State::Retrying | State::Parked if !is_due => None,
        State::Scheduled | State::Retrying => match links.served.queue(&job_type) {
            Some(queue) => change(taken(on(Event::Due), queue)),
            None => {
                let reason = format!("no worker has announced the type {job_type}");
                let timer = Timer::After(links.settings.parked_ms);
                change(
                    Change { timer, detail: reason.clone(), ..on(Event::Unserved) }
                        .with("parked_reason", reason),
                )
            }
        },
        State::Parked => {
            let detail = "parked for too long".to_owned();
            change(Change { delete: WAITING, detail, ..on(Event::Expired) })
        }
        State::HandedOver if passed(&record.due_at) => {
            let detail = "nobody reported on it in time".to_owned();
            change(Change { delete: WAITING, detail, ..on(Event::Expired) })
        }
        State::Queued => Some(Step::DispatchAgain(number(&record.dispatch)?)),
        State::Running if is_watched(record) && passed(&record.lease_until) => {
            let lost = lost(record, on);
            let queue = || links.served.queue(&job_type).unwrap_or_default();
            change(if lost.event == Event::Lost { taken(lost, queue()) } else { lost })
        }
        _ => None,
    }
}

/// Whether a run needs no message to come again: the change asks the same of the store once more.
fn is_watched(record: &Record) -> bool {
    record.detached.is_some() || record.cancel_requested.is_some()
}

/// A change that dispatches: a new number, and a timer in case the broker does not confirm it.
fn taken(change: Change, queue: QueueName) -> Change {
    Change { redispatch: true, timer: Timer::After(DISPATCH_AGAIN_MS), ..change }
        .with("queue", queue.as_str())
}

/// The work message of a job that was just taken. A job without a payload here has it in a work
/// queue, so there is nothing to send; the operator sees its age.
async fn work(
    links: &Links,
    name: &JobName,
    record: &Record,
    dispatch: u64,
) -> Result<Option<(JobName, WorkMessage)>, Error> {
    let Some(payload) = links.store.payload(name).await? else {
        tracing::warn!(job = name.member(), "queued for long, and its payload is not in the store");
        return Ok(None);
    };
    let queue = record.job_type().and_then(|t| links.served.queue(&t)).unwrap_or_default();
    let mut record = record.clone();
    record.epoch = Some(links.store.epoch().to_string());
    Ok(record.work_message(queue, dispatch, payload).map(|message| (name.clone(), message)))
}

async fn send(
    links: &Links,
    publisher: &Publisher,
    taken: Vec<(JobName, WorkMessage)>,
) -> Result<(), Error> {
    let numbers: Vec<(JobName, u64)> =
        taken.iter().map(|(name, message)| (name.clone(), message.dispatch)).collect();
    let messages = taken.into_iter().map(|(_, message)| message).collect();
    if let Err(error) = dispatch(links, publisher, messages).await {
        again_soon(links, &numbers).await;
        return Err(error);
    }
    if !numbers.is_empty() {
        crash_point(Point::TimerDispatched);
    }
    links.store.dispatched(&numbers).await?;
    if !numbers.is_empty() {
        crash_point(Point::TimerSettled);
    }
    Ok(())
}

/// Nobody knows what of these the broker has. Whoever sweeps next sends them, with numbers that
/// make what may have arrived worthless; their timers are for a scheduler that dies.
async fn again_soon(links: &Links, numbers: &[(JobName, u64)]) {
    for (name, number) in numbers {
        if let Err(error) = links.store.redispatch(name, *number, 0, None).await {
            tracing::debug!(%error, "jobs that are due are left to their timers");
            return;
        }
    }
}

async fn release_parked(links: &Links, publisher: &Publisher, slot: u16) -> Result<usize, Error> {
    let mut released = 0;
    for job_type in links.served.types() {
        let names = links.store.parked(slot, job_type.as_str(), CHUNK).await?;
        if names.is_empty() {
            continue;
        }
        let (now, records) = links.store.read_without_results(&names).await?;
        let queue = links.served.queue(&job_type).unwrap_or_default();
        let mut ready = Vec::new();
        for (name, record) in names.into_iter().zip(records) {
            let Some(record) = record else { continue };
            let tries: i64 = number(&record.dispatch).unwrap_or(1);
            let pause = ((tries - 1) * 1000).min(PARKED_PAUSE_MAX_MS);
            let since = Record::instant(&record.changed_at).unwrap_or_default();
            if now.0 - since.0 >= pause {
                ready.push((name, record));
            }
        }
        let changes: Vec<Change> = ready
            .iter()
            .map(|(name, _)| {
                let released = Change::new(name.clone(), job_type.clone(), Event::Released);
                Change { delete: &["parked_reason"], ..taken(released, queue.clone()) }
            })
            .collect();
        let changed = links.store.change(&changes).await?;
        let mut sending = Vec::new();
        for ((name, record), changed) in ready.into_iter().zip(changed) {
            if let Changed::Applied { dispatch, .. } = changed {
                sending.extend(work(links, &name, &record, dispatch).await?);
            }
        }
        released += sending.len();
        if !sending.is_empty() {
            crash_point(Point::ParkedReleased);
        }
        send(links, publisher, sending).await?;
    }
    Ok(released)
}
