//! Waiting for a job: the server answers when there is something to say.

use std::time::Duration;

use protocol::{Answer, AnswerWord};
use serde_json::json;
use tokio::time::Instant;

use crate::ask::Subject;
use crate::{Client, Error};

/// A question that waits is asked anew after so long: it goes with the connection or the store that
/// it waits in.
const SLICE: Duration = Duration::from_secs(20);
/// The pause before a job is asked for again that nothing can be said of.
const PAUSE: Duration = Duration::from_millis(500);

impl Client {
    /// Waits until a job is done; returns what is known when the time is up, and at once if there
    /// is no such job. `changed` is called with each newer revision; several that come at once may
    /// be one call, whose `history` holds them all. A server, a store or a broker that is away is
    /// waited for; what was said last is what is known then, `as_of` says of when.
    ///
    /// # Errors
    /// As [`Self::status`]; [`Error::NoAnswer`] only if none came in all that time.
    pub async fn wait(
        &self,
        subject: impl Into<Subject>,
        limit: Duration,
        mut changed: impl FnMut(&Answer),
    ) -> Result<Answer, Error> {
        let subject = subject.into();
        let until = Instant::now().checked_add(limit);
        let left = || until.map_or(SLICE, |until| until - Instant::now());
        let (mut known, mut seen): (Option<Answer>, _) = (None, None);
        loop {
            let asked = match (&known, seen) {
                (None, _) => self.history(subject.clone()).await,
                (Some(answer), Some(past)) if answer.answer == AnswerWord::Found => {
                    self.wait_past(&subject, past, left().min(SLICE)).await
                }
                _ => {
                    tokio::time::sleep(PAUSE.min(left())).await;
                    self.history(subject.clone()).await
                }
            };
            match asked {
                Ok(answer) => {
                    let revision = answer.epoch.zip(answer.revision);
                    if answer.answer == AnswerWord::Found && revision > seen {
                        changed(&answer);
                        seen = revision;
                    }
                    if is_settled(&answer) || left().is_zero() {
                        return Ok(answer);
                    }
                    known = Some(answer);
                }
                Err(no_answer @ Error::NoAnswer(_)) if left().is_zero() => {
                    return known.ok_or(no_answer);
                }
                Err(Error::NoAnswer(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The status when it is newer than a revision, or after a while.
    async fn wait_past(
        &self,
        subject: &Subject,
        (epoch, revision): (u64, u64),
        limit: Duration,
    ) -> Result<Answer, Error> {
        let mut body = subject.to_json();
        body["history"] = json!(true);
        body["wait"] = json!({
            "limit_ms": limit.as_millis().max(1).min(u128::from(u64::MAX)) as u64,
            "past_revision": revision,
            "past_epoch": epoch,
        });
        self.ask_with("status", &body, limit).await
    }
}

/// Whether waiting longer brings nothing.
fn is_settled(answer: &Answer) -> bool {
    let word = answer.answer;
    answer.done == Some(true)
        || matches!(
            word,
            AnswerWord::Unknown | AnswerWord::Voided | AnswerWord::Forgotten | AnswerWord::Refused
        )
}
