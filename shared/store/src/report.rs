//! What a run, or the outside world after it, says of a job while it lasts: the state stays, the
//! revision grows.

use job::{Event, State, Subscription};
use redis::Pipeline;

use crate::change::{Right, one_line};
use crate::each::JobCall;
use crate::keys::JobName;
use crate::reply::Reply;
use crate::scripts::{self, Call};
use crate::{Error, Store};

/// A report of a running job.
#[derive(Debug, Clone)]
pub enum Report {
    /// A free word for where the processing is.
    Stage(String),
    /// Percent, with a note.
    Progress(u8, String),
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reported {
    /// It is written, or was nothing new.
    Held {
        /// Whether a client has asked the job to stop.
        cancel_requested: bool,
    },
    /// Another attempt has the right now.
    Lost,
    /// The job is in a state in which nothing is reported.
    NotNow,
}

impl Store {
    /// Stores the hash of a run's report token. Whether the run still has the right to.
    ///
    /// # Errors
    /// It is not known whether it is stored: call again.
    pub async fn mint(&self, name: &JobName, fence: &str, hash: &str) -> Result<bool, Error> {
        let mut pipeline = Pipeline::new();
        Call::new(&scripts::MINT, &[&self.keys().job(name)])
            .arg(fence)
            .arg(hash)
            .add_to(&mut pipeline);
        let answer = self.run(&pipeline).await?.pop().unwrap_or_default();
        Ok(Reply::new(answer)?.word() == "1")
    }

    /// Writes a report of a run, or of whoever has its token.
    ///
    /// # Errors
    /// It is not known whether it is written: call again.
    pub async fn report(
        &self,
        name: &JobName,
        right: &Right,
        report: &Report,
    ) -> Result<Reported, Error> {
        let build = |epoch| vec![self.report_call(name, right, report, epoch)];
        let answers = self.each(&scripts::REPORT, build).await?;
        let reply = Reply::new(answers.into_iter().next_back().unwrap_or_default())?;
        match reply.word() {
            "applied" | "same" => {
                Ok(Reported::Held { cancel_requested: reply.optional(1).is_some() })
            }
            "stale" | "none" => Ok(Reported::Lost),
            "not_now" => Ok(Reported::NotNow),
            other => Err(Error::unexpected(other)),
        }
    }

    fn report_call(&self, name: &JobName, right: &Right, report: &Report, epoch: u64) -> JobCall {
        let (field, holder) = right.field();
        let call = JobCall::new(self.keys().slot(name), self.change_keys(name)).arg(holder);
        let outbox_max = self.settings().outbox_per_client_max;
        let event = match report {
            Report::Stage(_) => Event::Staged,
            Report::Progress(..) => Event::Progressed,
        };
        // A run reports while it runs, whoever it has handed over to afterwards.
        let from_outside = matches!(right, Right::Report(_));
        let allowed: Vec<&str> = job::state::steps(event)
            .filter(|(from, _)| (*from == State::HandedOver) == from_outside)
            .map(|(from, _)| from.as_str())
            .collect();
        let allowed = allowed.join(",");
        match report {
            Report::Stage(stage) => call
                .arg(event.as_str())
                .arg(Subscription::STAGE)
                .arg(one_line(stage))
                .arg(outbox_max)
                .arg("")
                .arg(epoch)
                .arg(allowed)
                .arg(field)
                .arg("stage")
                .arg(stage.as_str()),
            Report::Progress(percent, note) => call
                .arg(event.as_str())
                .arg(Subscription::PROGRESS)
                .arg(format!("{percent} {}", one_line(note)).trim_end())
                .arg(outbox_max)
                .arg("1")
                .arg(epoch)
                .arg(allowed)
                .arg(field)
                .arg("progress")
                .arg(percent)
                .arg("progress_note")
                .arg(note.as_str()),
        }
    }
}
