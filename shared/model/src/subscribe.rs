//! Changing what is pushed of a job, and pushing again what was not delivered.

use job::{Event, State};
use protocol::request::Subscribe;
use protocol::{HistoryEntry, UnixMillis};
use store::subscribe::Subscribed;
use store::{JobName, Record};

use crate::Model;
use crate::following::word;
use crate::outbox::Message;

/// The beginning of a reply queue that lives only as long as a connection: no event can go there.
const DIRECT_REPLY: &str = "amq.rabbitmq.reply-to.";

impl Model {
    /// Changes a job's subscription, as [`store::Store::subscribe`].
    pub fn subscribe(
        &mut self,
        name: &JobName,
        subscribe: &Subscribe,
        otherwise_to: &str,
        at: UnixMillis,
    ) -> Subscribed {
        self.expire(at);
        let waiting = self.outbox_waiting(self.keys.slot(name), name.client.as_str());
        let Some(job) = self.standings.get_mut(name).filter(|it| it.is_job()) else {
            return Subscribed::NoJob;
        };
        let fields = &mut job.fields;
        let reply_to = fields.text("reply_to").filter(|to| !to.starts_with(DIRECT_REPLY));
        let present = fields.text("notify_to").or(reply_to).map(str::to_owned);
        let words = subscribe
            .notify
            .clone()
            .unwrap_or_else(|| fields.text("notify").unwrap_or_default().to_owned());
        let wanted = subscribe.notify_to.clone().filter(|to| !to.is_empty());
        let to = wanted.or(present.clone()).unwrap_or_else(|| otherwise_to.to_owned());
        if !words.is_empty() && to.is_empty() {
            return Subscribed::Nowhere;
        }
        if subscribe.redeliver && waiting >= self.outbox_per_client_max {
            return Subscribed::Busy;
        }
        if words.is_empty() {
            fields.remove(&["notify"]);
        } else {
            fields.set("notify", &words);
        }
        if !to.is_empty() && present.as_ref() != Some(&to) {
            fields.set("notify_to", &to);
        }
        if subscribe.redeliver && !words.is_empty() {
            self.push_again(name, &words, &to);
        }
        let record = self.standings.get(name).map_or_else(Record::default, |it| it.record());
        Subscribed::Stored(at, Box::new(record))
    }

    /// Pushes again every wanted change that is not known to be delivered: from the one after the
    /// newest that was, or from the oldest that was given up. What the timeline has left out is a
    /// gap, which the next event states.
    fn push_again(&mut self, name: &JobName, words: &str, to: &str) {
        let Some(job) = self.standings.get_mut(name) else { return };
        let fields = &mut job.fields;
        let after_delivered = fields.count("delivered_revision") + 1;
        let from =
            fields.number("undeliverable_from").unwrap_or(after_delivered).min(after_delivered);
        fields.remove(&["undeliverable", "undeliverable_from", "undeliverable_reason"]);
        if fields.number("gap_from").is_some_and(|gap: u64| gap >= from) {
            fields.remove(&["gap_from"]);
        }
        let mut next = from;
        let mut left_out = None;
        for line in job.timeline.clone() {
            if line.revision < from {
                continue;
            }
            if line.revision > next {
                left_out = left_out.or(Some(next));
            }
            next = line.revision + 1;
            let Some(event) = self.told_again(name, &line, to) else { continue };
            if !words.split(',').any(|word| word == event.get("event")) {
                continue;
            }
            if let (Some(revision), Some(job)) = (left_out.take(), self.standings.get_mut(name))
                && !job.fields.has("gap_from")
            {
                job.fields.set("gap_from", revision);
            }
            self.post_event(name, event);
        }
    }

    /// The event of a line of the timeline: a report says what it said, a final state says how the
    /// job ended.
    fn told_again(&self, name: &JobName, line: &HistoryEntry, to: &str) -> Option<Message> {
        let fields = &self.standings.get(name)?.fields;
        let (happened, state): (Event, State) =
            (line.event.parse().ok()?, line.state.parse().ok()?);
        let detail = line.detail.as_deref().unwrap_or_default();
        let mut event = Message::event(name, to, word(happened, state), state);
        event.set("revision", line.revision);
        event.set("at", line.at.0);
        event.set("attempt", line.attempt);
        match happened {
            Event::Staged => event.set("stage", detail),
            Event::Progressed => {
                let (percent, note) = detail.split_once(' ').unwrap_or((detail, ""));
                event.set("progress", percent);
                event.set_some("progress_note", Some(note).filter(|note| !note.is_empty()));
            }
            _ if state.is_terminal() => {
                for field in ["result", "error"] {
                    event.set_some(field, fields.text(field));
                }
            }
            _ => {}
        }
        Some(event)
    }
}
