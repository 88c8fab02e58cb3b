//! Questions that joined the line: answered when nothing stands in front of them.

use faults::{Point, crash_point};
use protocol::reply_to::Purpose;
use protocol::{Answer, AnswerWord, Ask, Code, Destination, Forwarded, Kind, Refusal};
use store::{JobName, Record, RecordKind};

use super::{Decision, Item, ToClient};
use crate::answers;
use crate::asked::{Asked, Done};
use crate::links::Links;

pub(super) fn name(question: &Forwarded) -> JobName {
    JobName { client: question.client.clone(), job_id: question.job_id.clone() }
}

/// An answer to a question, if it may be sent: the queue's name is checked again, for it has
/// travelled.
pub(super) fn reply(question: &Forwarded, kind: Kind, answer: Answer) -> Option<ToClient> {
    let name = question.reply_to.as_deref()?;
    let to = Destination::check(Some(&question.client), name, Purpose::Answer).ok()?;
    let correlation_id = question.correlation_id.clone();
    Some(ToClient { to, correlation_id, kind, answer, receipt_of: None, batch: false })
}

impl Links {
    pub(super) async fn answer_questions(
        &self,
        items: &[Item],
    ) -> Result<Vec<Decision>, store::Error> {
        let mut decisions = Vec::with_capacity(items.len());
        for item in items {
            let Item::Question(question) = item else { continue };
            let name = name(question);
            if question.ticket.as_ref().is_some_and(|t| *t != self.store.ticket(&name).to_string())
            {
                let answer = mismatch(&name.job_id);
                let answer = reply(question, Kind::Refusal, answer);
                decisions.push(Decision { answer, ..Decision::default() });
                continue;
            }
            let answer = match self.answer_question(question, &name).await? {
                Done::Answered(kind, answer) => reply(question, kind, *answer),
                Done::Later | Done::Missing => None,
            };
            decisions.push(Decision { answer, ..Decision::default() });
        }
        crash_point(Point::IntakeAnswered);
        Ok(decisions)
    }

    /// Nothing stands in front of it: what is not there now was not submitted before it.
    async fn answer_question(
        &self,
        question: &Forwarded,
        name: &JobName,
    ) -> Result<Done, store::Error> {
        let to = question.reply_to.as_deref();
        let to = to.map(|to| Destination::check(Some(&question.client), to, Purpose::Answer));
        let to = to.and_then(Result::ok);
        let asked = Asked {
            ask: &question.ask,
            name,
            reply_to: to.as_ref(),
            correlation_id: question.correlation_id.as_deref(),
            horizon_ms: self.settings.horizon_ms,
        };
        let (as_of, mut records) = self.store.read(std::slice::from_ref(name)).await?;
        let mut record = records.pop().flatten();
        if self.voids(&question.ask, name, record.as_ref()).await? {
            record = self.store.read_one(name).await?;
        }
        if let Some(record) = record {
            let done = asked.carry_out(&self.store, record, as_of).await?;
            if !matches!(done, Done::Missing) {
                return Ok(done);
            }
        }
        let answer = answers::negative(&self.store, name, AnswerWord::Unknown, as_of);
        Ok(Done::Answered(Kind::Status, Box::new(answer)))
    }

    /// Makes the identifier unusable where the question asks for that and nothing is recorded. A
    /// cancellation means a refused submission too, which might come again, corrected.
    async fn voids(
        &self,
        ask: &Ask,
        name: &JobName,
        record: Option<&Record>,
    ) -> Result<bool, store::Error> {
        let refused = record.and_then(Record::kind) == Some(RecordKind::Refused);
        let voids = match ask {
            Ask::Cancel => record.is_none() || refused,
            Ask::Status(status) => status.void_if_unknown && record.is_none(),
            Ask::Subscribe(_) | Ask::Erase => false,
        };
        if voids {
            let keep_ms = self.settings.keep_voided_ms;
            self.store.void(name, keep_ms, *ask == Ask::Cancel).await?;
        }
        Ok(voids)
    }
}

/// A ticket follows from client and job id, so it is known without a record which one is right.
pub(crate) fn mismatch(job_id: &job::JobId) -> Answer {
    let message = "the job id and the ticket name different jobs";
    Answer {
        job_id: Some(job_id.as_str().to_owned()),
        ..Answer::refused(&Refusal::new(Code::IdMismatch, message))
    }
}
