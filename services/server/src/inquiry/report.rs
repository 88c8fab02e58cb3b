//! What the outside world says of a job that was handed over to it. Whoever has the token may say
//! it; it learns where the job is, and nothing else.

use job::{Event, State};
use protocol::request::{Report, ReportToken, Reported};
use protocol::{Answer, AnswerWord, Code, Kind, Refusal, UnixMillis};
use store::change::{Change, Changed, Right};
use store::record::number;
use store::report::Report as Said;
use store::{JobName, Record, Store, report};

use crate::answers;

/// What means something only while a job is handed over.
const OF_THE_HAND_OVER: &[&str] = &["due_at", "payload"];
/// A failed job's body stays, for its replay.
const DUE: &[&str] = &["due_at"];
/// As for a handler's: it travels in events, which must fit into a message.
const ERROR_BYTES_MAX: usize = 16 * 1024;

pub(super) async fn report(store: &Store, report: &Report) -> Result<(Kind, Answer), store::Error> {
    let token = &report.token;
    let Some(name) = store.resolve(&[token.ticket()]).await?.pop().flatten() else {
        return Ok(refused("no job awaits a report with this token"));
    };
    let Some(record) = store.read_one(&name).await? else {
        return Ok(refused("no job awaits a report with this token"));
    };
    if record.report_hash != Some(token.hash()) {
        return Ok(refused("no job awaits a report with this token"));
    }
    match &report.what {
        Reported::Outcome { event, result, error } => {
            let change = outcome(&name, &record, token, *event);
            let Some(mut change) = change else { return Ok(refused("the job has no type")) };
            if let Some(result) = result {
                change = change.with("result", result.get());
            }
            if let Some(error) = error.clone() {
                let end = error.floor_char_boundary(ERROR_BYTES_MAX);
                change.detail = error[..end].to_owned();
                change = change.with("error", &error[..end]);
            }
            let changed = store.change(&[change]).await?.pop();
            done(store, &name, changed, *event).await
        }
        Reported::Ongoing { stage, progress } => {
            let stage = stage.clone().map(Said::Stage);
            let progress = progress.clone().map(|(percent, note)| Said::Progress(percent, note));
            for said in stage.into_iter().chain(progress) {
                let right = Right::Report(token.hash());
                match store.report(&name, &right, &said).await? {
                    report::Reported::Held { .. } => {}
                    report::Reported::NotNow => {
                        return Ok(not_now(record.state(), Event::Staged));
                    }
                    report::Reported::Lost => {
                        return Ok(refused("no job awaits a report with this token"));
                    }
                }
            }
            present(store, &name).await
        }
    }
}

fn outcome(name: &JobName, record: &Record, token: &ReportToken, event: Event) -> Option<Change> {
    let delete = if event == Event::Failed { DUE } else { OF_THE_HAND_OVER };
    Some(Change {
        right: Right::Report(token.hash()),
        // While the handler still runs, it is the handler's to say.
        except_from: Some(State::Running),
        delete,
        ..Change::new(name.clone(), record.job_type()?, event)
    })
}

async fn done(
    store: &Store,
    name: &JobName,
    changed: Option<Changed>,
    event: Event,
) -> Result<(Kind, Answer), store::Error> {
    match changed {
        Some(Changed::Applied { .. }) => present(store, name).await,
        Some(Changed::Illegal { state }) => Ok(not_now(Some(state), event)),
        Some(Changed::Stale | Changed::Missing) => {
            Ok(refused("no job awaits a report with this token"))
        }
        other => Err(store::Error::Unexpected(format!("{other:?}"))),
    }
}

/// Where the job is, without anything that is its owner's.
async fn present(store: &Store, name: &JobName) -> Result<(Kind, Answer), store::Error> {
    let record = store.read_one(name).await?.unwrap_or_default();
    let answer = Answer {
        ticket: record.ticket.clone(),
        state: record.state.clone(),
        done: record.state().map(State::is_terminal),
        epoch: number(&record.epoch),
        revision: number(&record.revision),
        as_of: Some(UnixMillis::now()),
        ..Answer::new(AnswerWord::Found)
    };
    Ok((Kind::Status, answer))
}

/// A job that its handler has not handed over yet, or that is done.
fn not_now(state: Option<State>, event: Event) -> (Kind, Answer) {
    match state {
        Some(state) if state.is_terminal() => {
            refused(&format!("the job is {state} already, so it cannot be {event}"))
        }
        _ => {
            let why = "the handler has not handed the job over yet";
            (Kind::Status, answers::unavailable(None, why))
        }
    }
}

fn refused(message: &str) -> (Kind, Answer) {
    (Kind::Refusal, Answer::refused(&Refusal::new(Code::BadReport, message)))
}
