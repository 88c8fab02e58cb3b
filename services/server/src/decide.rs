//! What the registrar decides about deliveries of the line, in their order.
//!
//! # Why negatives are a second phase
//! "Unknown" may be said only when every earlier delivery of the line has been decided: a failed
//! accept in front of the question could still succeed when it is repeated. So deliveries are taken
//! in runs. A run of submissions is decided as a whole, or it stays and everything behind it waits;
//! a run of questions is answered only when nothing stands in front of it.
//!
//! ```text
//!   S S S │ Q Q │ S │ Q        S submission, Q question
//!   ─────   ───   ─   ─
//!   one pipeline each; a failure keeps its run and all behind it, and questions behind it are
//!   answered `unavailable` at once
//! ```

use std::collections::VecDeque;

use broker::{Delivery, dead_letter, topology};
use job::Ticket;
use protocol::reply_to::Purpose;
use protocol::{
    Answer, AnswerWord, Code, Destination, Forwarded, Kind, Limits, Refusal, Rejected, Submission,
    UnixMillis, Verb, WorkMessage,
};
use store::accept::{Accept, Accepted, First};
use store::{JobName, Record, RecordKind};

use crate::answers;
use crate::cancel::cancel;
use crate::courier::Outgoing;
use crate::dispatch::parked_until;
use crate::links::Links;

/// What is to be done before a delivery may be acknowledged, and right after.
#[derive(Default)]
pub(crate) struct Decision {
    /// To be dispatched.
    pub(crate) work: Option<WorkMessage>,
    /// To be kept in the dead-letter queue.
    pub(crate) dead: Option<broker::Publication>,
    /// To be sent once the delivery is acknowledged.
    pub(crate) answer: Option<ToClient>,
}

/// An answer that is not yet a message: a receipt may still learn that its job was parked.
pub(crate) struct ToClient {
    pub(crate) to: Destination,
    pub(crate) correlation_id: Option<String>,
    pub(crate) kind: Kind,
    pub(crate) answer: Answer,
    /// Whose receipt it is; a receipt that does not arrive in time goes to the outbox.
    pub(crate) receipt_of: Option<JobName>,
}

impl ToClient {
    pub(crate) fn message(self) -> Outgoing {
        Outgoing {
            body: self.answer.to_json(),
            properties: self.answer.properties(self.kind, self.correlation_id),
            to: self.to,
        }
    }
}

enum Item {
    /// With the nonce of this delivery, and whether it is a redelivery.
    Submission(Box<Submission>, String, bool),
    Rejected(Box<Rejected>, Delivery),
    Question(Box<Forwarded>),
    Foreign(Delivery),
}

/// The deliveries that are not decided yet, in the order of the line.
pub(crate) struct Line<'a> {
    links: &'a Links,
    items: VecDeque<Item>,
}

impl<'a> Line<'a> {
    pub(crate) fn new(links: &'a Links) -> Self {
        Self { links, items: VecDeque::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn push(&mut self, delivery: Delivery) {
        self.items.push_back(read(delivery, self.links.settings.payload_bytes_max));
    }

    /// Decides everything that is there.
    ///
    /// # Errors
    /// The store failed. What was decided before is in `decisions`; the rest stays, in order.
    pub(crate) async fn decide(
        &mut self,
        decisions: &mut Vec<Decision>,
    ) -> Result<(), store::Error> {
        while let Some(front) = self.items.front() {
            let of_questions = matches!(front, Item::Question(_));
            let run = self
                .items
                .iter()
                .take_while(|item| matches!(item, Item::Question(_)) == of_questions)
                .count();
            let items = &self.items.make_contiguous()[..run];
            let decided = if of_questions {
                self.links.answer_questions(items).await?
            } else {
                self.links.decide_submissions(items).await?
            };
            decisions.extend(decided);
            self.items.drain(..run);
        }
        Ok(())
    }

    /// Takes the questions out while something in front of them is undecided, and answers that
    /// nothing can be said. They are acknowledged with the deliveries around them.
    pub(crate) fn give_up_questions(&mut self) -> Vec<ToClient> {
        let mut answers = Vec::new();
        self.items.retain(|item| {
            let Item::Question(question) = item else { return true };
            let name = question_name(question);
            let why = "an earlier submission in the line is not decided yet";
            answers.extend(reply(question, Kind::Status, answers::unavailable(Some(&name), why)));
            false
        });
        answers
    }
}

/// What a delivery is. It is internal only if the exchange that it came through says so: a client
/// that puts our headers into its own message stays itself.
fn read(delivery: Delivery, payload_bytes_max: usize) -> Item {
    if delivery.exchange == topology::LINE {
        return match Forwarded::read(&delivery.properties, &delivery.body) {
            Some(question) => Item::Question(Box::new(question)),
            None => Item::Foreign(delivery),
        };
    }
    if delivery.exchange != topology::SUBMIT {
        return Item::Foreign(delivery);
    }
    let limits = Limits { payload_bytes_max };
    let body = delivery.body.clone();
    match Submission::read(&delivery.routing_key, &delivery.properties, body, limits) {
        Ok(submission) => {
            let nonce = format!("{:016x}", fastrand::u64(..));
            Item::Submission(Box::new(submission), nonce, delivery.redelivered)
        }
        Err(rejected) => Item::Rejected(rejected, delivery),
    }
}

fn question_name(question: &Forwarded) -> JobName {
    JobName { client: question.client.clone(), job_id: question.job_id.clone() }
}

/// An answer to a question, if it may be sent: the queue's name is checked again, for it has
/// travelled.
fn reply(question: &Forwarded, kind: Kind, answer: Answer) -> Option<ToClient> {
    let name = question.reply_to.as_deref()?;
    let to = Destination::check(Some(&question.client), name, Purpose::Answer).ok()?;
    let correlation_id = question.correlation_id.clone();
    Some(ToClient { to, correlation_id, kind, answer, receipt_of: None })
}

impl Links {
    async fn decide_submissions(&self, items: &[Item]) -> Result<Vec<Decision>, store::Error> {
        let submissions: Vec<(&Submission, &str, bool)> = items
            .iter()
            .filter_map(|item| match item {
                Item::Submission(submission, nonce, redelivered) => {
                    Some((&**submission, nonce.as_str(), *redelivered))
                }
                _ => None,
            })
            .collect();
        let refused: Vec<(JobName, Refusal)> = items
            .iter()
            .filter_map(|item| match item {
                Item::Rejected(rejected, _) => recorded_refusal(rejected),
                _ => None,
            })
            .collect();
        let mut recorded = self.store.refuse(&refused).await?.into_iter();
        self.served.look_again(&self.store, submissions.iter().map(|(s, ..)| &s.job_type)).await?;
        let accepts: Vec<Accept> =
            submissions.iter().map(|(s, nonce, again)| self.accept(s, nonce, *again)).collect();
        let accepted = self.store.accept(&accepts, self.settings.duplicate_redispatch_ms).await?;
        let known = self.records_of_known(&accepts, &accepted).await?;

        let mut accepted = accepts.into_iter().zip(accepted).zip(known);
        Ok(items
            .iter()
            .map(|item| match item {
                Item::Submission(submission, ..) => match accepted.next() {
                    Some(((accept, outcome), record)) => {
                        self.decided(submission, accept, outcome, record)
                    }
                    // One submission, one answer: by construction of the list above.
                    None => Decision::default(),
                },
                Item::Rejected(rejected, delivery) => {
                    let is_recorded =
                        recorded_refusal(rejected).is_some() && recorded.next() == Some(true);
                    turned_away(rejected, delivery, is_recorded)
                }
                Item::Foreign(delivery) => Decision {
                    dead: Some(dead_letter(delivery, "not a message of this server")),
                    ..Decision::default()
                },
                Item::Question(_) => Decision::default(),
            })
            .collect())
    }

    fn accept(&self, submission: &Submission, nonce: &str, redelivered: bool) -> Accept {
        let queue = self.served.queue(&submission.job_type);
        let later = submission.spec.not_before.filter(|at| *at > UnixMillis::now());
        let payload = || submission.body.clone();
        let first = match (&queue, later) {
            (_, Some(at)) => First::Scheduled { payload: payload(), at },
            (Some(_), None) => First::Queued,
            (None, None) => First::Parked {
                payload: payload(),
                until: parked_until(self.settings.parked_ms),
                reason: format!("no worker has announced the type {}", submission.job_type),
            },
        };
        Accept {
            name: JobName { client: submission.client.clone(), job_id: submission.job_id.clone() },
            job_type: submission.job_type.clone(),
            queue: queue.unwrap_or_default(),
            spec: submission.spec.clone(),
            digest: submission.digest.clone(),
            first,
            nonce: nonce.to_owned(),
            redelivered,
            payload_bytes: submission.body.len(),
            dispatch: 1,
        }
    }

    /// The present records of submissions that were recorded before.
    async fn records_of_known(
        &self,
        accepts: &[Accept],
        accepted: &[Accepted],
    ) -> Result<Vec<Option<Record>>, store::Error> {
        let is_known = |outcome: &Accepted| !matches!(outcome, Accepted::New { .. });
        let names: Vec<JobName> = accepts
            .iter()
            .zip(accepted)
            .filter(|(_, outcome)| is_known(outcome))
            .map(|(accept, _)| accept.name.clone())
            .collect();
        if names.is_empty() {
            return Ok(vec![None; accepts.len()]);
        }
        let (_, records) = self.store.read(&names).await?;
        let mut records = records.into_iter();
        Ok(accepted
            .iter()
            .map(|outcome| if is_known(outcome) { records.next().flatten() } else { None })
            .collect())
    }

    fn decided(
        &self,
        submission: &Submission,
        accept: Accept,
        outcome: Accepted,
        record: Option<Record>,
    ) -> Decision {
        let ticket = self.store.ticket(&accept.name);
        let (kind, answer, dispatch) = match outcome {
            Accepted::New { at, state } => {
                let dispatch = matches!(accept.first, First::Queued).then_some(1);
                let answer = self.receipt(submission, &accept, ticket, at, state);
                (Kind::Receipt, answer, dispatch)
            }
            Accepted::Redispatch { dispatch } => {
                (Kind::Receipt, self.second_receipt(record), Some(dispatch))
            }
            Accepted::Duplicate => (Kind::Receipt, self.second_receipt(record), None),
            Accepted::Conflict { digest } => {
                let message = format!(
                    "this id is a job with digest {digest}; this submission has {}",
                    submission.digest
                );
                (Kind::Refusal, refusal(&accept.name, Code::IdConflict, &message), None)
            }
            Accepted::Voided => {
                let message = "the id was made unusable before this submission arrived";
                (Kind::Refusal, refusal(&accept.name, Code::Voided, message), None)
            }
            Accepted::Forgotten => {
                let message = "the id was a job whose record has been retired";
                (Kind::Refusal, refusal(&accept.name, Code::Forgotten, message), None)
            }
        };
        let receipt_of = (kind == Kind::Receipt).then(|| accept.name.clone());
        let answer = submission.reply_to.clone().map(|to| ToClient {
            to,
            correlation_id: submission.spec.correlation_id.clone(),
            kind,
            answer,
            receipt_of,
        });
        let work = dispatch.map(|dispatch| WorkMessage {
            client: accept.name.client,
            job_id: accept.name.job_id,
            ticket,
            job_type: accept.job_type,
            queue: accept.queue,
            dispatch,
            epoch: self.store.epoch(),
            spec: accept.spec,
            body: submission.body.clone(),
        });
        Decision { work, dead: None, answer }
    }

    fn receipt(
        &self,
        submission: &Submission,
        accept: &Accept,
        ticket: Ticket,
        at: UnixMillis,
        state: job::State,
    ) -> Answer {
        let parked_reason = match &accept.first {
            First::Parked { reason, .. } => Some(reason.clone()),
            _ => None,
        };
        Answer {
            job_id: Some(accept.name.job_id.as_str().to_owned()),
            ticket: Some(ticket.to_string()),
            client: Some(accept.name.client.as_str().to_owned()),
            r#type: Some(accept.job_type.as_str().to_owned()),
            queue: Some(accept.queue.as_str().to_owned()),
            state: Some(state.as_str().to_owned()),
            done: Some(false),
            epoch: Some(self.store.epoch()),
            revision: Some(1),
            attempt: Some(0),
            parked_reason,
            origin: accept.spec.origin.clone(),
            accepted_at: Some(at),
            as_of: Some(at),
            duplicate: Some(false),
            ignored: Some(submission.ignored.clone()).filter(|ignored| !ignored.is_empty()),
            ..self.promised()
        }
    }

    /// The receipt for a submission that was recorded before: with the present state.
    fn second_receipt(&self, record: Option<Record>) -> Answer {
        let promised = self.promised();
        let status = match record {
            Some(record) => answers::status(&record, UnixMillis::now()),
            None => Answer::new(AnswerWord::Found),
        };
        Answer {
            duplicate: Some(true),
            durability: promised.durability,
            horizon_ms: promised.horizon_ms,
            ..status
        }
    }

    fn promised(&self) -> Answer {
        Answer {
            durability: Some(self.store.durability().as_str().to_owned()),
            horizon_ms: Some(self.settings.horizon_ms),
            ..Answer::new(AnswerWord::Found)
        }
    }

    async fn answer_questions(&self, items: &[Item]) -> Result<Vec<Decision>, store::Error> {
        let mut decisions = Vec::with_capacity(items.len());
        for item in items {
            let Item::Question(question) = item else { continue };
            let name = question_name(question);
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
            (true, true) => Some(self.store.history(&question_name(question)).await?),
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

fn refusal(name: &JobName, code: Code, message: &str) -> Answer {
    Answer {
        job_id: Some(name.job_id.as_str().to_owned()),
        ..Answer::refused(&Refusal::new(code, message))
    }
}

/// A refusal that names its client and its job leaves a record, so that a question about the id is
/// answered with the reason.
fn recorded_refusal(rejected: &Rejected) -> Option<(JobName, Refusal)> {
    let name = JobName { client: rejected.client.clone()?, job_id: rejected.job_id.clone()? };
    Some((name, rejected.refusal.clone()))
}

/// A refusal that names no job, or of which neither a record nor an answer tells, is kept in the
/// dead-letter queue. Any is answered where it may be.
fn turned_away(rejected: &Rejected, delivery: &Delivery, is_recorded: bool) -> Decision {
    let refusal = &rejected.refusal;
    let names_none = recorded_refusal(rejected).is_none();
    let is_kept = names_none || (!is_recorded && rejected.reply_to.is_none());
    let reason = format!("{}: {}", refusal.code, refusal.message);
    let dead = is_kept.then(|| dead_letter(delivery, &reason));
    Decision { work: None, dead, answer: rejection(rejected) }
}

/// The answer to a message that was refused, where it may be answered.
pub(crate) fn rejection(rejected: &Rejected) -> Option<ToClient> {
    let answer = Answer {
        job_id: rejected.job_id.as_ref().map(|id| id.as_str().to_owned()),
        ..Answer::refused(&rejected.refusal)
    };
    Some(ToClient {
        to: rejected.reply_to.clone()?,
        correlation_id: rejected.correlation_id.clone(),
        kind: Kind::Refusal,
        answer,
        receipt_of: None,
    })
}
