//! What Redis would hold: every key and its value, worked out from the jobs. This is what
//! `docs/REDIS.md` says of sets, lists and counters, as code.

use std::collections::BTreeMap;

use job::{JobType, State, Ticket};
use protocol::HistoryEntry;

use crate::Model;
use crate::retire::retires_at;
use crate::standing::Standing;
use crate::wait::Waits;
use store::JobName;

/// The value of a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A string.
    Text(String),
    /// A hash. Those who wait for a job stand in it as JSON whose fields come in any order.
    Hash(BTreeMap<String, Vec<u8>>),
    /// A sorted set.
    Sorted(BTreeMap<String, i64>),
    /// A list.
    List(Vec<String>),
    /// A stream: its entries in order, and how many of them a notifier has and has not settled.
    Stream(Vec<BTreeMap<String, String>>, usize),
}

/// A key's value, and when the key goes by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// The value.
    pub value: Value,
    /// The instant at which Redis drops the key.
    pub goes_at: Option<i64>,
}

/// Every key, but those of the deployment and its secret, and those whose value would be empty.
pub type Image = BTreeMap<String, Held>;

impl Model {
    /// Everything that Redis would hold. `entry_id` names the outbox entries, by their numbers.
    pub fn image(&self, entry_id: impl Fn(u64) -> String) -> Image {
        let mut image = Image::new();
        for (name, it) in &self.standings {
            self.draw_standing(&mut image, name, it);
        }
        for (name, until) in &self.patience {
            member(&mut image, self.keys.waits(self.keys.slot(name)), name.member(), *until);
        }
        for ((slot, job_type), names) in &self.recent {
            let names = names.iter().map(JobName::member).collect();
            plain(&mut image, self.keys.recent(*slot, job_type), Value::List(names));
        }
        for (taken, again) in &self.put_off {
            let member_of = format!("{}/{}", entry_id(taken.number), taken.tries);
            member(&mut image, self.keys.outbox_later(taken.slot), member_of, *again);
        }
        for slot in self.keys.slots() {
            self.draw_slot(&mut image, slot);
        }
        let served = self.served.iter().map(|(t, q)| (t.to_string(), q.to_string().into_bytes()));
        let served: BTreeMap<_, _> = served.collect();
        if !served.is_empty() {
            plain(&mut image, self.keys.types(), Value::Hash(served));
        }
        image
    }

    fn draw_standing(&self, image: &mut Image, name: &JobName, it: &Standing) {
        let keys = &self.keys;
        let slot = keys.slot(name);
        let mut fields: BTreeMap<String, Vec<u8>> =
            it.fields.iter().map(|(field, value)| (field.to_owned(), value.to_vec())).collect();
        if let Some(waits) = Waits::to_json(&it.waits) {
            fields.insert("waits".to_owned(), waits.into_bytes());
        }
        let held = Held { value: Value::Hash(fields), goes_at: it.goes_at };
        image.insert(keys.job(name), held);
        if let Some(ticket) = it.fields.text("ticket").and_then(Ticket::parse) {
            let held = Held { value: Value::Text(name.member()), goes_at: it.goes_at };
            image.insert(keys.ticket(ticket), held);
        }
        if let Some(timer) = it.timer {
            member(image, keys.due(slot), name.member(), timer);
        }
        if let Some(instant) = retires_at(it) {
            member(image, keys.retire(slot), name.member(), instant);
        }
        if it.is_job() {
            self.draw_job(image, name, it);
        }
    }

    fn draw_job(&self, image: &mut Image, name: &JobName, it: &Standing) {
        let keys = &self.keys;
        let slot = keys.slot(name);
        let timeline = Value::List(it.timeline.iter().map(line).collect());
        plain(image, keys.history(name), timeline);
        let job_type = it.fields.text("type").and_then(|word| JobType::parse(word).ok());
        if let (Some(state), Some(job_type)) = (it.state(), job_type)
            && let Some(set) = keys.state(slot, state, &job_type)
        {
            member(image, set, name.member(), it.since);
        }
        let accepted_at = it.fields.number("accepted_at").unwrap_or_default();
        let job_id = name.job_id.to_string();
        member(image, keys.client_jobs(slot, &name.client), job_id.clone(), accepted_at);
        for tag in it.record().tags() {
            member(image, keys.tag(slot, &name.client, &tag), job_id.clone(), accepted_at);
        }
        if !it.is_finished() {
            count(image, keys.unfinished(slot), name.client.as_str());
        }
    }

    fn draw_slot(&self, image: &mut Image, slot: u16) {
        let keys = &self.keys;
        let entries: Vec<_> = self.outbox.iter().filter(|it| it.slot == slot).collect();
        for entry in &entries {
            count(image, keys.outbox_waiting(slot), entry.message.get("client"));
        }
        if !entries.is_empty() {
            let held = entries.iter().filter(|it| it.is_held).count();
            let entries = entries.iter().map(|it| it.message.fields().clone()).collect();
            plain(image, keys.outbox(slot), Value::Stream(entries, held));
        }
        let Some(retention) = &self.retention else { return };
        let of_state = |(state, ms): (&State, &u64)| (state.to_string(), *ms);
        let mut kept: BTreeMap<String, u64> = retention.by_state.iter().map(of_state).collect();
        for (job_type, by_state) in &retention.by_type {
            kept.extend(by_state.iter().map(|(state, ms)| (format!("{job_type}/{state}"), *ms)));
        }
        let kept = kept.into_iter().map(|(word, ms)| (word, ms.to_string().into_bytes()));
        plain(image, keys.retention(slot), Value::Hash(kept.collect()));
    }
}

fn plain(image: &mut Image, key: String, value: Value) {
    image.insert(key, Held { value, goes_at: None });
}

fn member(image: &mut Image, key: String, member: String, score: i64) {
    let empty = Held { value: Value::Sorted(BTreeMap::new()), goes_at: None };
    if let Value::Sorted(members) = &mut image.entry(key).or_insert(empty).value {
        members.insert(member, score);
    }
}

fn count(image: &mut Image, key: String, field: &str) {
    let empty = Held { value: Value::Hash(BTreeMap::new()), goes_at: None };
    if let Value::Hash(fields) = &mut image.entry(key).or_insert(empty).value {
        let text = fields.get(field).and_then(|bytes| std::str::from_utf8(bytes).ok());
        let counted = text.and_then(|text| text.parse().ok()).unwrap_or(0u64) + 1;
        fields.insert(field.to_owned(), counted.to_string().into_bytes());
    }
}

/// `<revision> <ms> <event> <state> <attempt> <detail>`.
fn line(entry: &HistoryEntry) -> String {
    let HistoryEntry { revision, at, event, state, attempt, detail } = entry;
    let detail = detail.as_deref().unwrap_or_default();
    format!("{revision} {} {event} {state} {attempt} {detail}", at.0)
}
