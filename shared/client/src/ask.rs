//! Questions: by either identifier, from any process of the client.

use std::time::Duration;

use protocol::request::SUBJECTS_MAX;
pub use protocol::request::Subscribe;
use protocol::{Answer, AnswerWord};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::link::Send;
use crate::{Client, Error};

/// Which jobs [`Client::list`] lists. What is absent does not restrict.
#[derive(Debug, Clone, Default, Serialize)]
pub struct List {
    /// In one of these states.
    #[serde(rename = "state", skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<String>,
    /// Of this type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub job_type: Option<String>,
    /// With this tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Accepted at or after this instant, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Accepted before this instant, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// How many at most, 1 to 500; 50 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `next_page` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<String>,
}

fn with(mut body: Value, option: &str, value: bool) -> Value {
    if value {
        body[option] = Value::Bool(true);
    }
    body
}

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

    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Id(id) => json!({ "job_id": id }),
            Self::Ticket(ticket) => json!({ "ticket": ticket }),
            Self::Both(id, ticket) => json!({ "job_id": id, "ticket": ticket }),
        }
    }
}

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
            answers.extend(
                self.ask("status", &json!({ "jobs": jobs }), chunk.len(), Duration::ZERO).await?,
            );
        }
        Ok(answers)
    }

    /// What has become of a job; if nothing is known of the identifier, it becomes unusable in the
    /// same step, and the answer is `voided`: not accepted, and never will be.
    ///
    /// # Errors
    /// As [`Self::status`].
    pub async fn status_or_void(&self, subject: impl Into<Subject>) -> Result<Answer, Error> {
        let body = with(subject.into().to_json(), "void_if_unknown", true);
        self.ask_with("status", &body, Duration::ZERO).await
    }

    /// Changes what is pushed of a job and where; the answer is its status in the same instant, and
    /// what comes later is pushed. A job that is done pushes nothing more: the answer says it all.
    ///
    /// # Errors
    /// As [`Self::status`].
    pub async fn subscribe(
        &self,
        subject: impl Into<Subject>,
        subscribe: &Subscribe,
    ) -> Result<Answer, Error> {
        let mut body = subject.into().to_json();
        // Texts and truth values always have a JSON form.
        let options = serde_json::to_value(subscribe).unwrap_or_default();
        if let (Some(body), Value::Object(options)) = (body.as_object_mut(), options) {
            body.extend(options);
        }
        self.ask_with("subscribe", &body, Duration::ZERO).await
    }

    /// Removes body, result and timeline of a finished job at once; the identifier stays used up.
    ///
    /// # Errors
    /// As [`Self::status`]; [`Error::Answered`] with `not_permitted` while the job is not finished.
    pub async fn erase(&self, subject: impl Into<Subject>) -> Result<Answer, Error> {
        self.ask_one("erase", subject.into(), false).await
    }

    /// A page of this client's jobs, newest first: `jobs`, and `next_page` if it goes on. What
    /// still stands in the line is not listed.
    ///
    /// # Errors
    /// As [`Self::status`].
    pub async fn list(&self, list: &List) -> Result<Answer, Error> {
        let body = serde_json::to_value(list).unwrap_or_default();
        self.ask_with("list", &body, Duration::ZERO).await
    }

    /// Reports on a job that was handed over, with the token that its handler gave away.
    ///
    /// # Errors
    /// As [`Self::status`]; [`Error::Answered`] with `bad_report`.
    pub async fn report(&self, report: &Value) -> Result<Answer, Error> {
        self.ask_with("report", report, Duration::ZERO).await
    }

    async fn ask_one(
        &self,
        verb: &'static str,
        subject: Subject,
        history: bool,
    ) -> Result<Answer, Error> {
        let body = with(subject.to_json(), "history", history);
        self.ask_with(verb, &body, Duration::ZERO).await
    }

    /// Asks for one answer, which may take so much longer than another.
    pub(crate) async fn ask_with(
        &self,
        verb: &'static str,
        body: &Value,
        longer: Duration,
    ) -> Result<Answer, Error> {
        let answer = self.ask(verb, body, 1, longer).await?.pop().ok_or(Error::Closed)?;
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
        longer: Duration,
    ) -> Result<Vec<Answer>, Error> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let mut answers = self.inner.inbox.expect_answers(&id);
        // Texts, lists and truth values always have a JSON form.
        let body = serde_json::to_vec(body).unwrap_or_default();
        let question = Send::Question { verb, correlation_id: id.clone(), body };
        let until = Instant::now() + self.answer_timeout() + longer;
        let asked = self.inner.sender.send(question).await;
        let collected = match asked {
            Ok(()) => self.collect(&mut answers, count, until).await,
            Err(_) => Err(Error::Refused(self.refused().unwrap_or_default())),
        };
        self.inner.inbox.forget_question(&id);
        collected
    }

    async fn collect(
        &self,
        answers: &mut tokio::sync::mpsc::UnboundedReceiver<Answer>,
        count: usize,
        until: Instant,
    ) -> Result<Vec<Answer>, Error> {
        let mut refused = self.inner.refused.clone();
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
