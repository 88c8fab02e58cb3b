//! Questions that joined the line: answered when nothing stands in front of them.

use protocol::reply_to::Purpose;
use protocol::{Answer, AnswerWord, Code, Destination, Forwarded, Kind, Refusal, UnixMillis, Verb};
use store::{JobName, Record, RecordKind};

use super::{Decision, Item, ToClient};
use crate::answers;
use crate::cancel::cancel;
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
    Some(ToClient { to, correlation_id, kind, answer, receipt_of: None })
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
            let (as_of, mut records) = self.store.read(std::slice::from_ref(&name)).await?;
            let mut record = records.pop().flatten();
            if question.verb == Verb::Cancel && is_a_job(record.as_ref()) {
                record = cancel(&self.store, &name).await?;
            } else if question.verb == Verb::Cancel
                && record.as_ref().is_none_or(|r| r.kind() == Some(RecordKind::Refused))
            {
                self.store.void(&name).await?;
                record = self.store.read_one(&name).await?;
            }
            let (kind, answer) = match &record {
                Some(record) => self.found_in_line(question, record, as_of).await?,
                None => {
                    let word = AnswerWord::Unknown;
                    (Kind::Status, answers::negative(&self.store, &name, word, as_of))
                }
            };
            decisions
                .push(Decision { answer: reply(question, kind, answer), ..Decision::default() });
        }
        Ok(decisions)
    }

    async fn found_in_line(
        &self,
        question: &Forwarded,
        record: &Record,
        as_of: UnixMillis,
    ) -> Result<(Kind, Answer), store::Error> {
        let history = match (question.history, is_a_job(Some(record))) {
            (true, true) => Some(self.store.history(&name(question)).await?),
            _ => None,
        };
        Ok(answers::found(record, as_of, history))
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

fn is_a_job(record: Option<&Record>) -> bool {
    record.and_then(Record::kind) == Some(RecordKind::Job)
}
