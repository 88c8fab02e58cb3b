//! What a run says of itself while it lasts: the state stays, the revision grows.

use job::{Event, Subscription};
use redis::Pipeline;

use crate::change::one_line;
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
    /// Another attempt has the right now, or the job is done.
    Lost,
}

impl Store {
    /// Writes a report of a run.
    ///
    /// # Errors
    /// It is not known whether it is written: call again.
    pub async fn report(
        &self,
        name: &JobName,
        fence: &str,
        report: &Report,
    ) -> Result<Reported, Error> {
        let keys = self.change_keys(name);
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let call = Call::new(&scripts::REPORT, &keys).arg(fence);
        let outbox_max = self.settings().outbox_per_client_max;
        let epoch = self.epoch();
        let event = match report {
            Report::Stage(_) => Event::Staged,
            Report::Progress(..) => Event::Progressed,
        };
        let allowed: Vec<&str> = job::state::steps(event).map(|(from, _)| from.as_str()).collect();
        let allowed = allowed.join(",");
        let call = match report {
            Report::Stage(stage) => call
                .arg(event.as_str())
                .arg(Subscription::STAGE)
                .arg(one_line(stage))
                .arg(outbox_max)
                .arg("")
                .arg(epoch)
                .arg(allowed)
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
                .arg("progress")
                .arg(percent)
                .arg("progress_note")
                .arg(note.as_str()),
        };
        let mut pipeline = Pipeline::new();
        call.add_to(&mut pipeline);
        let reply = Reply::new(self.run(&pipeline).await?.pop().unwrap_or_default())?;
        match reply.word() {
            "applied" | "same" => {
                Ok(Reported::Held { cancel_requested: reply.optional(1).is_some() })
            }
            "stale" | "none" => Ok(Reported::Lost),
            other => Err(Error::unexpected(other)),
        }
    }
}
