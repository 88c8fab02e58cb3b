//! Questions: by either identifier, from any process of the client.

use std::time::Duration;

use protocol::request::SUBJECTS_MAX;
use protocol::{Answer, AnswerWord};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::link::Send;
use crate::{Client, Error};

/// Which job is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// By the client's identifier.
    Id(String),
    /// By the server's.
    Ticket(String),
    /// By both, which must name the same job.
    Both(String, String),
}

impl From<&str> for Subject {
    fn from(id: &str) -> Self {
        Self::Id(id.to_owned())
    }
}

impl Subject {
    /// A ticket if it looks like one, else a job id. (A job id that is a UUID of version 8 has to
    /// be named as [`Subject::Id`].)
    pub fn guess(text: &str) -> Self {
        let ticket = uuid::Uuid::try_parse(text).is_ok_and(|uuid| uuid.get_version_num() == 8);
        if ticket { Self::Ticket(text.to_owned()) } else { Self::Id(text.to_owned()) }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Id(id) => json!({ "job_id": id }),
            Self::Ticket(ticket) => json!({ "ticket": ticket }),
            Self::Both(id, ticket) => json!({ "job_id": id, "ticket": ticket }),
        }
    }
}

/// How often a job is asked for while it is waited for.
const ASK_EVERY: Duration = Duration::from_millis(200);

impl Client {
    /// What has become of a job.
    ///
    /// # Errors
    /// [`Error::NoAnswer`] if none came in time; [`Error::Answered`] with a refusal.
    pub async fn status(&self, subject: impl Into<Subject>) -> Result<Answer, Error> {
        self.ask_one("status", subject.into(), false).await
    }

    /// The same, with the job's timeline.
    ///
    /// # Errors
    /// As [`Self::status`].
    pub async fn history(&self, subject: impl Into<Subject>) -> Result<Answer, Error> {
        self.ask_one("status", subject.into(), true).await
    }

    /// Cancels a job, or asks a running one to stop, or makes an id unusable that never arrived.
    /// The answer says where the job is then.
    ///
    /// # Errors
    /// As [`Self::status`].
    pub async fn cancel(&self, subject: impl Into<Subject>) -> Result<Answer, Error> {
        self.ask_one("cancel", subject.into(), false).await
    }

    /// What has become of many jobs, asked in as few questions as possible; in any order.
    ///
    /// # Errors
    /// [`Error::NoAnswer`] if not all answers came in time.
    pub async fn status_many(&self, subjects: &[Subject]) -> Result<Vec<Answer>, Error> {
        let mut answers = Vec::with_capacity(subjects.len());
        for chunk in subjects.chunks(SUBJECTS_MAX) {
            let jobs: Vec<Value> = chunk.iter().map(Subject::to_json).collect();
            answers.extend(self.ask("status", &json!({ "jobs": jobs }), chunk.len()).await?);
        }
        Ok(answers)
    }

    /// Waits until a job is done, asking again and again; returns what is known when the time is
    /// up, and at once if there is no such job. `changed` is called with each newer revision.
    ///
    /// # Errors
    /// As [`Self::status`].
    pub async fn wait(
        &self,
        subject: impl Into<Subject>,
        limit: Duration,
        mut changed: impl FnMut(&Answer),
    ) -> Result<Answer, Error> {
        let subject = subject.into();
        let until = Instant::now().checked_add(limit);
        let mut seen = None;
        loop {
            let answer = self.ask_one("status", subject.clone(), true).await?;
            let revision = answer.epoch.zip(answer.revision);
            if answer.answer == AnswerWord::Found && revision > seen {
                changed(&answer);
                seen = revision;
            }
            let settled = matches!(
                answer.answer,
                AnswerWord::Unknown
                    | AnswerWord::Voided
                    | AnswerWord::Forgotten
                    | AnswerWord::Refused
            );
            let over = until.is_some_and(|until| Instant::now() >= until);
            if answer.done == Some(true) || settled || over {
                return Ok(answer);
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    async fn ask_one(
        &self,
        verb: &'static str,
        subject: Subject,
        history: bool,
    ) -> Result<Answer, Error> {
        let mut body = subject.to_json();
        if history {
            body["history"] = Value::Bool(true);
        }
        let answer = self.ask(verb, &body, 1).await?.pop().ok_or(Error::Closed)?;
        // A refusal of the question itself; the refusal of a submission is what was asked for.
        let of_submission = answer.as_of.is_some();
        if answer.answer == AnswerWord::Refused && !of_submission {
            return Err(Error::Answered(Box::new(answer)));
        }
        Ok(answer)
    }

    /// Asks, and collects so many final answers.
    async fn ask(
        &self,
        verb: &'static str,
        body: &Value,
        count: usize,
    ) -> Result<Vec<Answer>, Error> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let mut answers = self.inner.inbox.expect_answers(&id);
        // Texts, lists and truth values always have a JSON form.
        let body = serde_json::to_vec(body).unwrap_or_default();
        let question = Send::Question { verb, correlation_id: id.clone(), body };
        let asked = self.inner.sender.send(question).await;
        let collected = match asked {
            Ok(()) => self.collect(&mut answers, count).await,
            Err(_) => Err(Error::Refused(self.refused().unwrap_or_default())),
        };
        self.inner.inbox.forget_question(&id);
        collected
    }

    async fn collect(
        &self,
        answers: &mut tokio::sync::mpsc::UnboundedReceiver<Answer>,
        count: usize,
    ) -> Result<Vec<Answer>, Error> {
        let mut refused = self.inner.refused.clone();
        let until = Instant::now() + self.answer_timeout();
        let mut collected: Vec<Answer> = Vec::with_capacity(count);
        while collected.len() < count {
            let answer = tokio::select! {
                answer = answers.recv() => answer.ok_or(Error::Closed)?,
                why = refused.wait_for(Option::is_some) => {
                    let why = why.map(|why| why.clone().unwrap_or_default());
                    return Err(why.map_or(Error::Closed, Error::Refused));
                }
                () = tokio::time::sleep_until(until) => {
                    return Err(Error::NoAnswer(self.inner.settings.client.answer_timeout_ms));
                }
            };
            // A refusal of the whole question is the only answer there will be.
            let whole = answer.answer == AnswerWord::Refused && answer.job_id.is_none();
            let same = |known: &Answer| {
                known.job_id == answer.job_id && known.ticket == answer.ticket && count > 1
            };
            let repeated = collected.iter().any(same);
            if answer.answer != AnswerWord::Pending && !repeated {
                collected.push(answer);
            }
            if whole {
                break;
            }
        }
        Ok(collected)
    }
}
