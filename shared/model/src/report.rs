//! What is said of a job while it lasts: by its run, or by whoever has its report token.

use job::{Event, State};
use protocol::UnixMillis;
use store::JobName;
use store::change::Right;
use store::report::{Report, Reported};

use crate::Model;
use crate::change::{is_held, one_line};
use crate::following::Happened;

impl Model {
    /// Writes a stage or progress. A run reports while it runs, the outside world once the job is
    /// handed over; what is nothing new makes no revision.
    pub fn report(
        &mut self,
        name: &JobName,
        right: &Right,
        report: &Report,
        at: UnixMillis,
    ) -> Reported {
        self.expire(at);
        let epoch = self.epoch;
        let Some(job) = self.standings.get_mut(name).filter(|it| it.is_job()) else {
            return Reported::Lost;
        };
        let when = match right {
            Right::Server => return Reported::Lost,
            Right::Fence(_) => State::Running,
            Right::Report(_) => State::HandedOver,
        };
        if !is_held(job, right) {
            return Reported::Lost;
        }
        if job.state() != Some(when) {
            return Reported::NotNow;
        }
        let (event, said, detail) = match report {
            Report::Stage(stage) => {
                (Event::Staged, vec![("stage", stage.clone())], one_line(stage))
            }
            Report::Progress(percent, note) => {
                let said = vec![("progress", percent.to_string()), ("progress_note", note.clone())];
                let detail = format!("{percent} {}", one_line(note)).trim_end().to_owned();
                (Event::Progressed, said, detail)
            }
        };
        let held = Reported::Held { cancel_requested: job.fields.has("cancel_requested") };
        let is_new = |(field, text): &(&str, String)| {
            job.fields.bytes(field).unwrap_or_default() != text.as_bytes()
        };
        if !said.iter().any(is_new) {
            return held;
        }
        for (field, text) in said {
            if text.is_empty() {
                job.fields.remove(&[field]);
            } else {
                job.fields.put(field, text);
            }
        }
        let revision = job.fields.count("revision") + 1;
        job.fields.set("revision", revision);
        job.fields.set("changed_at", at.0);
        job.fields.set("epoch", epoch);
        let attempt = job.fields.count("attempt");
        let joins = event == Event::Progressed;
        self.follow(name, &Happened { attempt, detail, joins, ..Happened::new(event, when) }, at);
        held
    }
}
