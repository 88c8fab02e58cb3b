//! Submissions by the client library: on disk first.

use std::sync::Arc;
use std::time::Duration;

use client::{Error, Standing, Submission, Submitted};
use protocol::{UnixMillis, headers};

use super::{Shared, attempts, events_queue, spare_queue, task};
use crate::handlers::{TYPE, Task};
use crate::history::{Seen, now};

/// The most jobs in one call.
const BATCH: u64 = 20;
/// Some records are not kept for longer.
const KEEP_MS: u32 = 2000;
/// Larger than any job may be.
const OVERSIZED: usize = 1100 * 1024;

/// Sends again what an earlier incarnation left, as soon as somebody answers.
pub(super) async fn recover(shared: Arc<Shared>) {
    while !shared.is_over() {
        let asked = now();
        let recovering = shared.client.recover();
        let recovered = tokio::select! {
            recovered = recovering => recovered,
            () = shared.stop.cancelled() => return,
        };
        match recovered {
            Ok(recovered) => {
                for one in recovered {
                    shared.told("status", Some(asked), &one.answer);
                    shared.remember(&one.entry.job_id);
                    if let Some(submitted) = one.sent_again {
                        shared.log.write(Seen::Repeated {
                            id: one.entry.job_id,
                            is_lost: one.entry.standing == Standing::Journaled,
                        });
                        tokio::spawn(follow(Arc::clone(&shared), submitted));
                    }
                }
                return;
            }
            Err(error) => {
                tracing::debug!(%error, "recovering");
                shared.pause(Duration::from_millis(500)).await;
            }
        }
    }
}

/// Submits so many jobs, so many a second.
pub(super) async fn submit(shared: Arc<Shared>, jobs: u64, rate: f64) {
    let mut left = jobs;
    let mut number = 0u64;
    while left > 0 && !shared.is_over() {
        let count = fastrand::u64(1..=BATCH).min(left);
        let tasks: Vec<Task> = (0..count).map(|_| task(shared.mix)).collect();
        let batch: Vec<Submission> = tasks
            .iter()
            .map(|task| {
                number += 1;
                submission(&shared, *task, number)
            })
            .collect();
        match shared.client.submit_many(batch).await {
            Ok(submitted) => {
                left -= count;
                for (one, task) in submitted.into_iter().zip(tasks) {
                    shared.log.write(Seen::Journaled { id: one.job_id().to_owned(), task });
                    shared.remember(one.job_id());
                    tokio::spawn(follow(Arc::clone(&shared), one));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "submitting");
                shared.log.write(Seen::NotJournaled { count });
            }
        }
        shared.pause(Duration::from_secs_f64(count as f64 / rate)).await;
    }
}

fn submission(shared: &Shared, task: Task, number: u64) -> Submission {
    let mut body = serde_json::to_vec(&task).unwrap_or_default();
    if shared.mix.once_in(500) {
        body.resize(OVERSIZED, b' ');
    }
    let notify = if fastrand::u32(..5) == 0 { "*" } else { "terminal" };
    let user = shared.client.name();
    let to = if shared.mix.once_in(20) { spare_queue(user) } else { events_queue(user) };
    let submission = Submission::new(TYPE, body)
        .header(headers::MAX_ATTEMPTS, attempts(task))
        .job_id(format!("j-{}-{number}", shared.prefix))
        .notify(notify)
        .notify_to(to);
    let submission = match shared.mix.once_in(50) {
        true => submission.header(headers::KEEP_MS, KEEP_MS.to_string()),
        false => submission,
    };
    if shared.mix.once_in(50) {
        let at = UnixMillis::now().after(Duration::from_millis(fastrand::u64(500..3000)));
        return submission.header(headers::NOT_BEFORE, at.to_string());
    }
    submission
}

/// Writes down the confirm, and the receipt or the refusal.
async fn follow(shared: Arc<Shared>, submitted: Submitted) {
    let confirmed = tokio::select! {
        confirmed = submitted.confirmed() => confirmed,
        () = shared.stop.cancelled() => return,
    };
    if confirmed.is_ok() {
        shared.log.write(Seen::Sent { id: submitted.job_id().to_owned() });
    }
    let accepted = tokio::select! {
        accepted = submitted.accepted() => accepted,
        () = shared.stop.cancelled() => return,
    };
    match accepted {
        Ok(receipt) => shared.told("receipt", None, &receipt),
        Err(Error::Answered(refusal)) => shared.told("refusal", None, &refusal),
        Err(error) => tracing::debug!(%error, job_id = submitted.job_id(), "no receipt"),
    }
}
