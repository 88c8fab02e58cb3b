//! Submissions: accepted, refused, or turned away.

use broker::{Delivery, dead_letter};
use faults::{Point, crash_point};
use job::Ticket;
use protocol::{
    Answer, AnswerWord, Code, Kind, Refusal, Rejected, Submission, UnixMillis, WorkMessage,
};
use store::accept::{Accept, Accepted, First};
use store::{JobName, Record, RecordKind};

use super::{Decision, Item, ToClient, refusal};
use crate::answers;
use crate::dispatch::parked_until;
use crate::links::Links;

impl Links {
    pub(super) async fn decide_submissions(
        &self,
        items: &[Item],
    ) -> Result<Vec<Decision>, store::Error> {
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
        let mut recorded =
            self.store.refuse(&refused, self.settings.keep_refused_ms).await?.into_iter();
        if !refused.is_empty() {
            crash_point(Point::IntakeRefused);
        }
        self.served.look_again(&self.store, submissions.iter().map(|(s, ..)| &s.job_type)).await?;
        let accepts: Vec<Accept> =
            submissions.iter().map(|(s, nonce, again)| self.accept(s, nonce, *again)).collect();
        let limits = store::accept::Limits {
            duplicate_age_ms: Some(self.settings.duplicate_redispatch_ms),
            unfinished_max: self.settings.unfinished_per_client_max,
        };
        let accepted = self.store.accept(&accepts, limits).await?;
        if !accepts.is_empty() {
            crash_point(Point::IntakeAccepted);
        }
        self.record_turned_down(&accepts, &accepted).await?;
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
            is_too_old: submission.spec.timestamp.is_some_and(|sent| {
                let horizon_s = self.settings.horizon_ms / 1000;
                sent.saturating_add(horizon_s) < UnixMillis::now().0.unsigned_abs() / 1000
            }),
            replay_of: None,
        }
    }

    /// What the store turns down leaves a record of the refusal, as what the protocol turns down
    /// does: it was confirmed, so it is not unknown.
    async fn record_turned_down(
        &self,
        accepts: &[Accept],
        accepted: &[Accepted],
    ) -> Result<(), store::Error> {
        let refused: Vec<(JobName, Refusal)> = accepts
            .iter()
            .zip(accepted)
            .filter_map(|(accept, outcome)| Some((accept.name.clone(), turned_down(outcome)?)))
            .collect();
        self.store.refuse(&refused, self.settings.keep_refused_ms).await.map(drop)
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
        let outcome = as_read(outcome, record.as_ref());
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
            Accepted::TooOld | Accepted::Quota => {
                let answer =
                    turned_down(&outcome).map(|r| refusal(&accept.name, r.code, &r.message));
                (Kind::Refusal, answer.unwrap_or_else(|| Answer::new(AnswerWord::Refused)), None)
            }
        };
        let receipt_of = (kind == Kind::Receipt).then(|| accept.name.clone());
        let answer = submission.reply_to.clone().map(|to| ToClient {
            to,
            correlation_id: submission.spec.correlation_id.clone(),
            kind,
            answer,
            receipt_of,
            batch: submission.spec.batch,
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
            Some(record) => answers::status(&self.store, &record, UnixMillis::now()),
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
}

/// What a submission turned out to be, when its record is read after it was decided: a job may have
/// been retired in between.
fn as_read(outcome: Accepted, record: Option<&Record>) -> Accepted {
    match (outcome, record.and_then(Record::kind)) {
        (Accepted::Duplicate, Some(RecordKind::Retired)) => Accepted::Forgotten,
        (outcome, _) => outcome,
    }
}

/// Why the store takes a submission not, though nothing is recorded under its identifier.
fn turned_down(outcome: &Accepted) -> Option<Refusal> {
    let (code, message) = match outcome {
        Accepted::TooOld => {
            let message = "the timestamp is older than the horizon: a job of this id may have \
                           been forgotten by now";
            (Code::Forgotten, message)
        }
        Accepted::Quota => (Code::Quota, "this client has as many unfinished jobs as it may have"),
        _ => return None,
    };
    Some(Refusal::new(code, message))
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
        batch: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its receipt used to say `found` and `duplicate`, with no state: what is left of a retired
    /// job has none. The campaign's crash points met it.
    #[test]
    fn a_duplicate_of_a_job_that_is_retired_meanwhile_is_forgotten() {
        let record = |kind: &str| Record { record: Some(kind.to_owned()), ..Record::default() };
        let read = |kind| as_read(Accepted::Duplicate, Some(&record(kind)));
        assert_eq!(read("retired"), Accepted::Forgotten);
        assert_eq!(read("job"), Accepted::Duplicate);
        assert_eq!(as_read(Accepted::Duplicate, None), Accepted::Duplicate);
    }
}
