//! After a crash: asks for every open identifier, sends again what never arrived.

use faults::{Point, crash_point};
use protocol::{Answer, AnswerWord};

use crate::ask::Subject;
use crate::client::Submitted;
use crate::journal::{JournalEntry, Query, Standing};
use crate::outgoing::Outgoing;
use crate::{Client, Error};

/// What became of one open submission.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// What the journal held, without the body.
    pub entry: JournalEntry,
    /// What the server said.
    pub answer: Answer,
    /// The submission, where it was sent again.
    pub sent_again: Option<Submitted>,
    /// The server does not know it (or refused it for a reason that may pass), and it is older
    /// than one id is one job (`horizon_ms`): it may have run and been forgotten, so it is not
    /// sent again. It stays open. Whoever wants it done submits it under a new id;
    /// [`Client::cancel`] closes this one.
    pub too_old: bool,
}

/// Entries asked for in one question.
const BATCH: usize = 100;

impl Client {
    /// Asks for every submission of the journal that is not known to be done, notes what is learnt,
    /// and sends again what the server does not know, unless it is too old.
    ///
    /// After the store was rolled back one call may not be enough: a job that it has as running is
    /// run again only when the lease of that run has ended. Call again while answers carry
    /// `lost_between`.
    ///
    /// # Errors
    /// [`Error::NoAnswer`] if the server does not answer: what was learnt so far is noted, and the
    /// rest is asked for at the next call.
    pub async fn recover(&self) -> Result<Vec<Recovered>, Error> {
        let mut recovered = Vec::new();
        // Not what others journal in the meantime.
        let until = self.inner.journal.reader()?.last(Standing::OPEN)?;
        let mut query = Query { standings: Standing::OPEN.to_vec(), until, ..Query::page(BATCH) };
        while query.until.is_some() {
            let batch = self.inner.journal.reader()?.page(&query)?;
            let Some(last) = batch.last() else { break };
            query.after = Some(last.cursor());
            let subjects: Vec<Subject> =
                batch.iter().map(|entry| Subject::Id(entry.job_id.clone())).collect();
            let answers = self.status_many(&subjects).await?;
            crash_point(Point::ClientAsked);
            for entry in batch {
                let of_entry = |answer: &&Answer| answer.job_id.as_deref() == Some(&entry.job_id);
                if let Some(answer) = answers.iter().find(of_entry) {
                    recovered.push(self.settle(entry, answer).await?);
                }
            }
        }
        self.inner.journal.flush().await;
        Ok(recovered)
    }

    async fn settle(&self, entry: JournalEntry, answer: &Answer) -> Result<Recovered, Error> {
        self.inner.inbox.learnt(answer);
        let answer = answer.clone();
        // Refused for a reason that may have passed: nothing is recorded of it but that.
        let is_delayed = answer.answer == AnswerWord::Refused && answer.retryable == Some(true);
        let is_lost = answer.answer == AnswerWord::Unknown || is_delayed;
        let too_old = is_lost && self.inner.journal.horizon().is_passed(entry.journaled_at_ms);
        // The store was rolled back, and how the job goes on may be lost with it. The server knows
        // whether it needs the submission.
        let is_left = answer.done == Some(false) && answer.lost_between.is_some();
        let again = (is_lost && !too_old) || is_left;
        let sent_again = if again { self.send_again(&entry).await? } else { None };
        Ok(Recovered { entry, answer, sent_again, too_old })
    }

    async fn send_again(&self, entry: &JournalEntry) -> Result<Option<Submitted>, Error> {
        // Another process may have settled it, and its body is gone then.
        let whole = self.inner.journal.reader()?.entry(&entry.job_id)?;
        let Some(entry) = whole.filter(|entry| Standing::OPEN.contains(&entry.standing)) else {
            return Ok(None);
        };
        let outgoing = Outgoing {
            job_id: entry.job_id,
            journaled_at_ms: entry.journaled_at_ms,
            job_type: entry.job_type,
            body: entry.body,
            options: entry.options,
        };
        Ok(Some(self.send(outgoing).await?))
    }
}
