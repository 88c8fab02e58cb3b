//! Requests about given jobs. What is found is answered; what is not found joins the line.

use std::collections::HashMap;
use std::time::Instant;

use broker::{Publication, topology};
use job::Ticket;
use protocol::{Answer, AnswerWord, Ask, Forwarded, Kind, Request, Subject, UnixMillis, What};
use store::{JobName, Record, RecordKind};

use super::{Inquiry, LINE_SEEN, Onward, to_client};
use crate::answers;
use crate::asked::{Asked, Done};
use crate::line::{ToClient, mismatch};

/// One subject of one request.
struct Part<'a> {
    request: &'a Request,
    ask: &'a Ask,
    subject: &'a Subject,
    name: Option<JobName>,
    /// The ticket is of a job of another client's, which is nobody's business.
    is_foreign: bool,
}

impl Inquiry {
    /// Answers what can be answered; what must join the line is added to `onward`.
    pub(super) async fn carry_out_on_jobs(
        &self,
        requests: &[Request],
        onward: &mut Vec<Onward>,
    ) -> Result<Vec<ToClient>, store::Error> {
        let parts = self.resolve(requests).await?;
        let names: Vec<JobName> = parts.iter().filter_map(|part| part.name.clone()).collect();
        let (as_of, records) = self.store.read(&names).await?;
        let mut records = records.into_iter();
        // All at once: what changes a job, or reads its timeline, takes a round trip of its own.
        let deciding = parts.iter().map(|part| {
            let record = part.name.as_ref().and_then(|_| records.next().flatten());
            self.decide(part, record, as_of)
        });
        let decided = futures_util::future::try_join_all(deciding).await?;
        let mut replies = Vec::new();
        let mut forwards = Vec::new();
        for (part, done) in parts.iter().zip(decided) {
            match (done, &part.name) {
                (Done::Answered(kind, answer), _) => {
                    replies.extend(to_client(part.request, kind, *answer));
                }
                (Done::Missing, Some(name)) => forwards.push((part, name)),
                (Done::Missing, None) | (Done::Later, _) => {}
            }
        }
        let long = !forwards.is_empty() && self.line_is_long().await;
        for (part, name) in forwards {
            if long {
                let word = AnswerWord::Pending;
                let answer = answers::negative(&self.store, name, word, as_of);
                replies.extend(to_client(part.request, Kind::Status, answer));
            }
            let full = answers::unavailable(Some(name), "the line is full");
            let asker = to_client(part.request, Kind::Status, full).map(Box::new);
            onward.push((forward(part, name), asker));
        }
        Ok(replies)
    }

    async fn decide(
        &self,
        part: &Part<'_>,
        record: Option<Record>,
        as_of: UnixMillis,
    ) -> Result<Done, store::Error> {
        match (&part.name, record) {
            (Some(name), _) if self.is_mismatch(part.subject, name) => {
                Ok(Done::Answered(Kind::Refusal, Box::new(mismatch(&name.job_id))))
            }
            (Some(name), Some(record)) => self.known(part, name, record, as_of).await,
            (Some(_), None) if part.subject.job_id().is_some() => Ok(Done::Missing),
            _ => Ok(Done::Answered(Kind::Status, Box::new(self.no_such_ticket(part, as_of)))),
        }
    }

    fn is_mismatch(&self, subject: &Subject, name: &JobName) -> bool {
        subject.job_id().is_some()
            && subject.ticket().is_some_and(|ticket| self.store.ticket(name) != ticket)
    }

    /// By ticket alone. A ticket exists only after its record: there is no line to wait in. One
    /// that was issued and has no record was lost or retired.
    fn no_such_ticket(&self, part: &Part<'_>, as_of: UnixMillis) -> Answer {
        let mut answer = Answer::new(AnswerWord::Unknown);
        let key = self.store.ticket_key();
        if !part.is_foreign && part.subject.ticket().is_some_and(|t| key.is_genuine(t)) {
            answer.answer = AnswerWord::Forgotten;
            answer.lost_between = self.store.lost_between();
        }
        answer.as_of = Some(as_of);
        name_subject(&mut answer, part.subject);
        answer
    }

    /// Finds out which job each subject means. A ticket of another client's job means none.
    async fn resolve<'a>(&self, requests: &'a [Request]) -> Result<Vec<Part<'a>>, store::Error> {
        let about_jobs = || {
            requests.iter().filter_map(|request| match &request.what {
                What::Jobs(ask, subjects) => Some((request, ask, subjects)),
                _ => None,
            })
        };
        let mut tickets: Vec<Ticket> = Vec::new();
        for subject in about_jobs().flat_map(|(_, _, subjects)| subjects) {
            tickets.extend(subject.ticket().filter(|_| subject.job_id().is_none()));
        }
        let found = self.store.resolve(&tickets).await?;
        let by_ticket: HashMap<Ticket, Option<JobName>> = tickets.into_iter().zip(found).collect();
        let mut parts = Vec::new();
        for (request, ask, subjects) in about_jobs() {
            for subject in subjects {
                let found = match (subject.job_id(), subject.ticket()) {
                    (Some(job_id), _) => {
                        Some(JobName { client: request.client.clone(), job_id: job_id.clone() })
                    }
                    (None, Some(ticket)) => by_ticket.get(&ticket).cloned().flatten(),
                    (None, None) => None,
                };
                let is_foreign = found.as_ref().is_some_and(|name| name.client != request.client);
                let name = found.filter(|_| !is_foreign);
                parts.push(Part { request, ask, subject, name, is_foreign });
            }
        }
        Ok(parts)
    }

    async fn known(
        &self,
        part: &Part<'_>,
        name: &JobName,
        record: Record,
        as_of: UnixMillis,
    ) -> Result<Done, store::Error> {
        // A corrected submission may stand in the line behind the refused one.
        if record.kind() == Some(RecordKind::Refused) {
            return Ok(Done::Missing);
        }
        let asked = Asked {
            ask: part.ask,
            name,
            reply_to: part.request.reply_to.as_ref(),
            correlation_id: part.request.correlation_id.as_deref(),
            horizon_ms: self.links.settings.horizon_ms,
        };
        asked.carry_out(&self.store, record, as_of).await
    }

    /// Whether the line holds more than about a second of work, or nobody works on it.
    async fn line_is_long(&self) -> bool {
        let mut seen = self.line.lock().await;
        if let Some((at, long)) = *seen
            && at.elapsed() < LINE_SEEN
        {
            return long;
        }
        let long = match self.links.consume.depth(topology::INTAKE_QUEUE).await {
            Ok(depth) => depth.consumers == 0 || depth.ready > self.links.settings.pending_above,
            Err(error) => {
                tracing::debug!(%error, "the length of the line");
                false
            }
        };
        *seen = Some((Instant::now(), long));
        long
    }
}

fn forward(part: &Part<'_>, name: &JobName) -> Publication {
    let request = part.request;
    let question = Forwarded {
        client: name.client.clone(),
        job_id: name.job_id.clone(),
        ask: part.ask.clone(),
        ticket: part.subject.ticket().map(|ticket| ticket.to_string()),
        reply_to: request.reply_to.as_ref().map(|to| to.name().to_owned()),
        correlation_id: request.correlation_id.clone(),
    };
    let (properties, body) = question.message();
    Publication {
        exchange: topology::LINE,
        routing_key: String::new(),
        mandatory: true,
        properties,
        body,
    }
}

pub(super) fn name_subject(answer: &mut Answer, subject: &Subject) {
    answer.job_id = subject.job_id().map(|id| id.as_str().to_owned());
    answer.ticket = subject.ticket().map(|ticket| ticket.to_string());
}
