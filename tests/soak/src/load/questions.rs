//! Questions: about what is known, about what never was, and such as void.

use std::sync::Arc;
use std::time::Duration;

use client::ask::Subject;
use client::{AnswerWord, Submission};

use super::{Shared, VOID};
use crate::handlers::{TYPE, Task};
use crate::history::{Seen, now};

/// The pause between two questions.
const PAUSE: Duration = Duration::from_millis(150);
/// For so long a job is waited for.
const WAITS_MS: std::ops::Range<u64> = 20..5000;
/// Not for long, where what is rare is to come often.
const WAITS_DENSE_MS: std::ops::Range<u64> = 5..100;

/// Asks until the end.
pub(super) async fn ask(shared: Arc<Shared>) {
    let mut number = 0u64;
    while !shared.is_over() {
        number += 1;
        let never = || Some(format!("never-{}-{number}", shared.prefix));
        let kind = fastrand::u32(if shared.mix.is_dense { 50 } else { 0 }..100);
        match kind {
            0..60 => status(&shared, shared.any(false).map(Subject::Id)).await,
            60..80 => status(&shared, shared.any(true).map(Subject::Ticket)).await,
            80..90 => status(&shared, never().map(Subject::Id)).await,
            90..95 => cancel(&shared).await,
            _ => void(&shared, &format!("{VOID}{}-{number}", shared.prefix)).await,
        }
        let times = if shared.mix.is_dense { 3 } else { 1 };
        shared.pause(PAUSE / times).await;
    }
}

/// Waits for jobs to be done, one after another.
pub(super) async fn wait(shared: Arc<Shared>) {
    while !shared.is_over() {
        let id = if fastrand::bool() { shared.newest() } else { shared.any(false) };
        if let Some(id) = id {
            let asked = now();
            let limit_ms = if shared.mix.is_dense { WAITS_DENSE_MS } else { WAITS_MS };
            let limit = Duration::from_millis(fastrand::u64(limit_ms));
            let waited = shared.client.wait(Subject::Id(id), limit, |_| {});
            tokio::select! {
                waited = waited => written(&shared, asked, waited),
                () = shared.stop.cancelled() => return,
            }
        }
        shared.pause(PAUSE).await;
    }
}

async fn status(shared: &Shared, subject: Option<Subject>) {
    let Some(subject) = subject else { return };
    let asked = now();
    let ticket = match &subject {
        Subject::Ticket(ticket) => Some(ticket.clone()),
        _ => None,
    };
    match shared.client.status(subject).await {
        Ok(answer) => shared.told_of("status", Some(asked), ticket, &answer),
        answer => written(shared, asked, answer),
    }
}

async fn cancel(shared: &Shared) {
    let Some(id) = shared.any(false) else { return };
    let asked = now();
    shared.log.write(Seen::CancelAsked { id: id.clone() });
    written(shared, asked, shared.client.cancel(Subject::Id(id)).await);
}

/// An identifier that is void stays so, whatever is submitted under it.
async fn void(shared: &Arc<Shared>, id: &str) {
    let asked = now();
    let answer = shared.client.status_or_void(Subject::Id(id.to_owned())).await;
    let is_void = answer.as_ref().is_ok_and(|answer| answer.answer == AnswerWord::Voided);
    written(shared, asked, answer);
    if !is_void {
        return;
    }
    let task = Task::Work(1);
    let body = serde_json::to_vec(&task).unwrap_or_default();
    match shared.client.submit(Submission::new(TYPE, body).job_id(id)).await {
        Ok(submitted) => {
            shared.log.write(Seen::Journaled { id: id.to_owned(), task });
            let refused = tokio::time::timeout(Duration::from_secs(20), submitted.accepted()).await;
            match refused {
                Ok(Ok(receipt)) => shared.told("receipt", None, &receipt),
                Ok(Err(client::Error::Answered(refusal))) => shared.told("refusal", None, &refusal),
                Ok(Err(_)) | Err(_) => {}
            }
        }
        Err(error) => tracing::warn!(%error, "submitting"),
    }
}

fn written(shared: &Shared, asked: u64, answer: Result<client::Answer, client::Error>) {
    match answer {
        Ok(answer) => shared.told("status", Some(asked), &answer),
        Err(client::Error::Answered(refusal)) => shared.told("refusal", Some(asked), &refusal),
        Err(_) => shared.log.write(Seen::Unanswered { asked }),
    }
}
