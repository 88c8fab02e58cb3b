//! What follows from every change of a job: a line of its timeline, its one timer, an answer to
//! those who wait, and an event to its subscriber.

use job::{Event, State, Subscription};
use protocol::{HistoryEntry, UnixMillis};
use store::JobName;

use crate::Model;
use crate::outbox::Message;

/// The timeline keeps this many lines: the first ones, and the last.
const LINES_MAX: usize = 64;
const FIRST_LINES: usize = 16;

/// What is told of a change.
#[derive(Debug, Clone)]
pub(crate) struct Happened {
    pub(crate) event: Event,
    /// Where the job is now.
    pub(crate) state: State,
    /// The attempt that it belongs to.
    pub(crate) attempt: u64,
    pub(crate) detail: String,
    /// It takes the place of a line of the same event before it.
    pub(crate) joins: bool,
}

impl Happened {
    pub(crate) fn new(event: Event, state: State) -> Self {
        Self { event, state, attempt: 0, detail: String::new(), joins: false }
    }
}

/// The word under which a client subscribes to an event: the state that it led to, or the kind of
/// report.
pub(crate) fn word(event: Event, state: State) -> &'static str {
    match event {
        Event::Staged => Subscription::STAGE,
        Event::Progressed => Subscription::PROGRESS,
        _ => state.as_str(),
    }
}

impl Model {
    /// Everything that follows from a change, after the record was changed.
    pub(crate) fn follow(&mut self, name: &JobName, happened: &Happened, at: UnixMillis) {
        let Some(job) = self.standings.get_mut(name) else { return };
        let line = HistoryEntry {
            revision: job.fields.count("revision"),
            at,
            event: happened.event.as_str().to_owned(),
            state: happened.state.as_str().to_owned(),
            attempt: u32::try_from(happened.attempt).unwrap_or(u32::MAX),
            detail: Some(happened.detail.clone()).filter(|detail| !detail.is_empty()),
        };
        let timeline = &mut job.timeline;
        match timeline.last_mut() {
            Some(last) if happened.joins && last.event == line.event => *last = line,
            _ => timeline.push(line),
        }
        if timeline.len() > LINES_MAX {
            timeline.remove(FIRST_LINES);
        }
        self.answer_those_who_waited_for(name, happened.state);
        self.tell_subscriber(name, happened, at);
    }

    fn answer_those_who_waited_for(&mut self, name: &JobName, state: State) {
        let Some(job) = self.standings.get_mut(name) else { return };
        let now = (job.fields.count("epoch"), job.fields.count("revision"));
        let waits = std::mem::take(&mut job.waits);
        let (over, kept): (Vec<_>, Vec<_>) = waits
            .into_iter()
            .partition(|it| state.is_terminal() || it.past.is_some_and(|past| now > past));
        job.waits = kept;
        for wait in over {
            self.post(name, Message::answer(name, &wait));
        }
    }

    fn tell_subscriber(&mut self, name: &JobName, happened: &Happened, at: UnixMillis) {
        let Some(job) = self.standings.get(name) else { return };
        let fields = &job.fields;
        let word = word(happened.event, happened.state);
        if !fields.text("notify").unwrap_or_default().split(',').any(|wanted| wanted == word) {
            return;
        }
        let to = fields.text("notify_to").or(fields.text("reply_to")).unwrap_or_default();
        let mut event = Message::event(name, to, word, happened.state);
        event.set("revision", fields.count("revision"));
        event.set("at", at.0);
        event.set("attempt", happened.attempt);
        let own: &[&str] = &["stage", "progress", "progress_note"];
        let of_the_end: &[&str] =
            if happened.state.is_terminal() { &["result", "error"] } else { &[] };
        for field in own.iter().chain(of_the_end) {
            event.set_some(field, fields.text(field));
        }
        self.post_event(name, event);
    }

    /// Puts an event into the outbox. Where too much waits for its client only a final state is
    /// posted; any other is joined into a gap, which the next event that is posted states.
    pub(crate) fn post_event(&mut self, name: &JobName, mut event: Message) {
        let waiting = self.outbox_waiting(self.keys.slot(name), name.client.as_str());
        let Some(job) = self.standings.get_mut(name) else { return };
        if waiting >= self.outbox_per_client_max && event.get("done") != "1" {
            if !job.fields.has("gap_from") {
                job.fields.set("gap_from", event.get("revision"));
            }
            return;
        }
        for field in ["ticket", "type", "queue", "epoch", "correlation_id", "batch", "gap_from"] {
            event.set_some(field, job.fields.text(field));
        }
        job.fields.remove(&["gap_from"]);
        self.post(name, event);
    }
}

/// The one timer of a job that is not finished: the instant that was asked for or its deadline,
/// whichever comes first.
pub(crate) fn first_of(due: Option<i64>, deadline: Option<i64>) -> Option<i64> {
    due.into_iter().chain(deadline).min()
}
