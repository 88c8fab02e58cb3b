//! From records to answers.

use job::State;
use protocol::answer::Notifications;
use protocol::{Answer, AnswerWord, Code, HistoryEntry, Kind, Refusal, UnixMillis};
use serde_json::value::RawValue;
use store::record::number;
use store::{JobName, Record, RecordKind, Store};

/// The answer that a record gives.
pub(crate) fn found(
    store: &Store,
    record: &Record,
    as_of: UnixMillis,
    history: Option<Vec<HistoryEntry>>,
) -> (Kind, Answer) {
    match record.kind() {
        Some(RecordKind::Job) => (Kind::Status, Answer { history, ..status(store, record, as_of) }),
        Some(RecordKind::Refused) => (Kind::Status, refused(record, as_of)),
        Some(RecordKind::Voided) => (Kind::Status, short(record, AnswerWord::Voided, as_of)),
        _ => (Kind::Status, short(record, AnswerWord::Forgotten, as_of)),
    }
}

/// The status object of a job.
pub(crate) fn status(store: &Store, record: &Record, as_of: UnixMillis) -> Answer {
    let mut status = recorded(record, as_of);
    // Nothing was heard of it since the store was rolled back: how it goes on may be lost.
    if status.done == Some(false) && status.epoch < Some(store.epoch()) {
        status.lost_between = store.lost_between();
    }
    status
}

fn recorded(record: &Record, as_of: UnixMillis) -> Answer {
    let state = record.state();
    let text = |field: &Option<String>| field.clone();
    let tags = record.tags();
    Answer {
        job_id: text(&record.job_id),
        ticket: text(&record.ticket),
        client: text(&record.client),
        r#type: text(&record.r#type),
        queue: text(&record.queue),
        state: text(&record.state),
        done: state.map(State::is_terminal),
        epoch: number(&record.epoch),
        revision: number(&record.revision),
        attempt: number(&record.attempt),
        stage: text(&record.stage),
        progress: number(&record.progress),
        progress_note: text(&record.progress_note),
        result: record.result.clone().and_then(|json| RawValue::from_string(json).ok()),
        error: text(&record.error),
        cancel_requested: record.cancel_requested.as_ref().map(|_| true),
        parked_reason: text(&record.parked_reason).filter(|_| state == Some(State::Parked)),
        origin: text(&record.origin),
        tags: Some(tags).filter(|tags| !tags.is_empty()),
        accepted_at: Record::instant(&record.accepted_at),
        changed_at: Record::instant(&record.changed_at),
        started_at: Record::instant(&record.started_at),
        finished_at: Record::instant(&record.finished_at),
        not_before: Record::instant(&record.not_before),
        deadline: Record::instant(&record.deadline),
        due_at: Record::instant(&record.due_at)
            .filter(|_| matches!(state, Some(State::Scheduled | State::Retrying | State::Parked))),
        as_of: Some(as_of),
        expires_at: Record::instant(&record.expires_at),
        replay_of: text(&record.replay_of),
        replayed_as: text(&record.replayed_as),
        notifications: notifications(record),
        ..Answer::new(AnswerWord::Found)
    }
}

/// The ledger of what is pushed, if anything is.
fn notifications(record: &Record) -> Option<Notifications> {
    let words = record.notify.as_deref().filter(|words| !words.is_empty())?;
    Some(Notifications {
        changes: words.split(',').map(str::to_owned).collect(),
        undeliverable_from: number(&record.undeliverable_from),
        to: record.notify_to.clone().or_else(|| record.reply_to.clone()).unwrap_or_default(),
        delivered_revision: number(&record.delivered_revision),
        undeliverable: number(&record.undeliverable).unwrap_or_default(),
        reason: record.undeliverable_reason.clone(),
    })
}

fn refused(record: &Record, as_of: UnixMillis) -> Answer {
    let code = Code::ALL.iter().find(|code| record.code.as_deref() == Some(code.as_str()));
    let refusal = Refusal::new(
        code.copied().unwrap_or(Code::BadRequest),
        record.message.clone().unwrap_or_default(),
    );
    Answer {
        job_id: record.job_id.clone(),
        client: record.client.clone(),
        as_of: Some(as_of),
        ..Answer::refused(&refusal)
    }
}

fn short(record: &Record, word: AnswerWord, as_of: UnixMillis) -> Answer {
    Answer {
        job_id: record.job_id.clone(),
        client: record.client.clone(),
        ticket: record.ticket.clone(),
        r#type: record.r#type.clone(),
        outcome: record.outcome.clone(),
        accepted_at: Record::instant(&record.accepted_at),
        finished_at: Record::instant(&record.finished_at),
        retired_at: Record::instant(&record.retired_at),
        notifications: notifications(record),
        expires_at: Record::instant(&record.expires_at),
        as_of: Some(as_of),
        ..Answer::new(word)
    }
}

/// `unknown`, `voided` and the like, for an identifier of which nothing is recorded.
pub(crate) fn negative(
    store: &Store,
    name: &JobName,
    word: AnswerWord,
    as_of: UnixMillis,
) -> Answer {
    Answer {
        job_id: Some(name.job_id.as_str().to_owned()),
        client: Some(name.client.as_str().to_owned()),
        as_of: Some(as_of),
        lost_between: store.lost_between(),
        ..Answer::new(word)
    }
}

/// Nothing can be said now.
pub(crate) fn unavailable(name: Option<&JobName>, why: &str) -> Answer {
    const RETRY_AFTER_MS: u64 = 1000;
    let refusal = Refusal::new(Code::Unavailable, why);
    Answer {
        answer: AnswerWord::Unavailable,
        job_id: name.map(|name| name.job_id.as_str().to_owned()),
        as_of: Some(UnixMillis::now()),
        retry_after_ms: Some(RETRY_AFTER_MS),
        ..Answer::refused(&refusal)
    }
}
