//! After a crash: asks for every open identifier, sends again what never arrived.

use protocol::{Answer, AnswerWord};

use crate::ask::Subject;
use crate::client::Submitted;
use crate::journal::{JournalEntry, Standing};
use crate::link::Outgoing;
use crate::{Client, Error};

/// What became of one open submission.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// What the journal held.
    pub entry: JournalEntry,
    /// What the server said.
    pub answer: Answer,
    /// The submission, where it was sent again.
    pub sent_again: Option<Submitted>,
}

/// Entries asked for in one question.
const BATCH: usize = 100;

impl Client {
    /// Asks for every submission of the journal that is not known to be done, notes what is learnt,
    /// and sends again what the server does not know.
    ///
    /// # Errors
    /// [`Error::NoAnswer`] if the server does not answer: what was learnt so far is noted, and the
    /// rest is asked for at the next call.
    pub async fn recover(&self) -> Result<Vec<Recovered>, Error> {
        let open = [Standing::Journaled, Standing::Confirmed, Standing::Accepted];
        let entries = self.inner.journal.entries(&open)?;
        let mut recovered = Vec::with_capacity(entries.len());
        for batch in entries.chunks(BATCH) {
            let subjects: Vec<Subject> =
                batch.iter().map(|entry| Subject::Id(entry.job_id.clone())).collect();
            let answers = self.status_many(&subjects).await?;
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

    async fn settle(&self, entry: &JournalEntry, answer: &Answer) -> Result<Recovered, Error> {
        self.inner.inbox.learnt(answer);
        let lost = answer.answer == AnswerWord::Unknown;
        let sent_again = if lost {
            let outgoing = Outgoing {
                job_id: entry.job_id.clone(),
                job_type: entry.job_type.clone(),
                body: entry.body.clone(),
                options: entry.options.clone(),
            };
            Some(self.send(outgoing).await?)
        } else {
            None
        };
        Ok(Recovered { entry: entry.clone(), answer: answer.clone(), sent_again })
    }
}
