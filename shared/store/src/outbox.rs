//! Messages still to be delivered: one stream per slot, read by a consumer group of notifiers.
//!
//! An entry is written in the same step as the change that it tells of, and taken out only when the
//! broker has confirmed it into the queue that was named, or when it is given up and the ledger
//! says so. An entry that is put off stays in the stream; a sorted set says when it is tried again.

use std::collections::BTreeMap;

use job::ClientName;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, Value};

use crate::keys::JobName;
use crate::reply::{Reply, bytes};
use crate::scripts::{self, Call};
use crate::{Error, Store};

/// The consumer group of the notifiers.
const GROUP: &str = "notifiers";
/// So many entries are settled in one call of a script.
const SETTLED_TOGETHER: usize = 64;

/// One message to be delivered.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The slot it is in.
    pub slot: u16,
    /// Its identifier in the stream.
    pub id: String,
    /// Its member in the set of entries that were put off.
    pub later: Option<String>,
    /// How often it was tried before.
    pub tries: u32,
    /// Its fields.
    pub fields: Fields,
}

/// Names and values, in their order. There are few of them.
#[derive(Debug, Clone, Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// The value under a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Name and value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl Entry {
    /// A field; empty where there is none.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).unwrap_or_default()
    }

    /// The job that it is about.
    pub fn name(&self) -> Option<JobName> {
        JobName::from_member(&format!("{}:{}", self.field("client"), self.field("job_id")))
    }
}

/// What became of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The broker has confirmed it into the queue that was named.
    Delivered,
    /// To be tried again after this many milliseconds.
    Later(u64),
    /// Given up; the ledger keeps why.
    Undeliverable(String),
}

/// A reader of the outbox, with a connection of its own, because it waits.
pub struct Reader {
    store: Store,
    connection: MultiplexedConnection,
    consumer: String,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("consumer", &self.consumer).finish_non_exhaustive()
    }
}

impl Store {
    /// Starts to read the outbox as one of the notifiers. Under a name that was used before,
    /// [`Reader::in_hand`] has what was read under it and not settled.
    ///
    /// # Errors
    /// Transient ones may be tried again.
    pub async fn outbox_reader(&self, consumer: &str) -> Result<Reader, Error> {
        let mut connection = self.own_connection().await?;
        for slot in self.keys().slots() {
            let made: Result<(), redis::RedisError> = redis::cmd("XGROUP")
                .arg("CREATE")
                .arg(self.keys().outbox(slot))
                .arg(GROUP)
                .arg("0")
                .arg("MKSTREAM")
                .query_async(&mut connection)
                .await;
            match made {
                Err(error) if error.code() != Some("BUSYGROUP") => return Err(error.into()),
                _ => {}
            }
        }
        Ok(Reader { store: self.clone(), connection, consumer: consumer.to_owned() })
    }

    /// Puts a receipt into the outbox that was not confirmed in time.
    ///
    /// # Errors
    /// It is not known whether it is there: put it there again; a receipt may come twice.
    pub async fn post_receipt(
        &self,
        name: &JobName,
        to: &str,
        correlation_id: Option<&str>,
        ticket: &str,
        body: &[u8],
    ) -> Result<(), Error> {
        let keys = self.keys();
        let slot = keys.slot(name);
        let mut pipeline = Pipeline::new();
        let call = Call::new(&scripts::POST, &[&keys.outbox(slot), &keys.outbox_waiting(slot)])
            .arg(name.client.as_str())
            .arg("kind")
            .arg("receipt")
            .arg("to")
            .arg(to)
            .arg("client")
            .arg(name.client.as_str())
            .arg("job_id")
            .arg(name.job_id.as_str())
            .arg("ticket")
            .arg(ticket)
            .arg("body")
            .arg(body);
        match correlation_id {
            Some(id) => call.arg("correlation_id").arg(id),
            None => call,
        }
        .add_to(&mut pipeline);
        self.run(&pipeline).await.map(drop)
    }

    /// Writes down what became of entries.
    ///
    /// # Errors
    /// Nothing is known of any of them: call again with the same.
    pub async fn settle(&self, settled: &[(Entry, Outcome)]) -> Result<(), Error> {
        let mut pipeline = Pipeline::with_capacity(settled.len());
        // One call for many of them: those of one slot and client, in their order.
        let mut groups: BTreeMap<(u16, &str), Vec<(&Entry, &str)>> = BTreeMap::new();
        for (entry, outcome) in settled {
            let reason = match outcome {
                Outcome::Later(ms) => {
                    self.put_off_call(entry, *ms).add_to(&mut pipeline);
                    continue;
                }
                Outcome::Delivered => "",
                Outcome::Undeliverable(reason) => reason,
            };
            groups.entry((entry.slot, entry.field("client"))).or_default().push((entry, reason));
        }
        for ((slot, client), entries) in groups {
            for entries in entries.chunks(SETTLED_TOGETHER) {
                self.delivered_call(slot, client, entries).add_to(&mut pipeline);
            }
        }
        self.run(&pipeline).await.map(drop)
    }

    fn put_off_call(&self, entry: &Entry, ms: u64) -> Call {
        let keys = self.keys();
        let keys = [keys.outbox(entry.slot), keys.outbox_later(entry.slot)];
        Call::new(&scripts::PUT_OFF, &[&keys[0], &keys[1]])
            .arg(GROUP)
            .arg(&entry.id)
            .arg(ms)
            .arg(entry.later.as_deref().unwrap_or_default())
            .arg(format!("{}/{}", entry.id, entry.tries + 1))
    }

    fn delivered_call(&self, slot: u16, client: &str, entries: &[(&Entry, &str)]) -> Call {
        let keys = self.keys();
        let mut all = vec![keys.outbox(slot), keys.outbox_waiting(slot), keys.outbox_later(slot)];
        // An entry without a readable name has no ledger: any hash of the slot will do.
        let job = |entry: &Entry| {
            entry.name().map_or_else(|| keys.outbox_waiting(slot), |name| keys.job(&name))
        };
        all.extend(entries.iter().map(|(entry, _)| job(entry)));
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let call = Call::new(&scripts::DELIVERED, &all).arg(GROUP).arg(client);
        entries.iter().fold(call, |call, (entry, reason)| {
            call.arg(&entry.id)
                .arg(entry.later.as_deref().unwrap_or_default())
                .arg(u8::from(entry.field("kind") == "event"))
                .arg(entry.fields.get("revision").unwrap_or("0"))
                .arg(*reason)
                .arg(entry.field("to"))
        })
    }

    /// Entries of a slot whose time has come again; held for a while against other notifiers.
    ///
    /// # Errors
    /// Nothing is known; ask again.
    pub async fn put_off_due(
        &self,
        slot: u16,
        most: usize,
        hold_ms: u64,
    ) -> Result<Vec<Entry>, Error> {
        let keys = self.keys();
        let mut pipeline = Pipeline::new();
        Call::new(&scripts::PUT_OFF_DUE, &[&keys.outbox(slot), &keys.outbox_later(slot)])
            .arg(most)
            .arg(hold_ms)
            .add_to(&mut pipeline);
        let Some(Value::Array(parts)) = self.run(&pipeline).await?.pop() else {
            return Ok(Vec::new());
        };
        let mut entries = Vec::new();
        let mut parts = parts.into_iter();
        while let (Some(member), Some(fields)) = (parts.next(), parts.next()) {
            let member = text(member);
            let (id, tries) = member.split_once('/').unwrap_or((&member, "1"));
            entries.push(Entry {
                slot,
                id: id.to_owned(),
                tries: tries.parse().unwrap_or(1),
                fields: pairs(fields),
                later: Some(member.clone()),
            });
        }
        Ok(entries)
    }

    /// How many entries wait for a client, for tests and operators.
    ///
    /// # Errors
    /// Nothing is known; ask again.
    pub async fn outbox_waiting(&self, client: &ClientName) -> Result<u64, Error> {
        let mut waiting = 0;
        for slot in self.keys().slots() {
            let mut pipeline = Pipeline::new();
            pipeline.cmd("HGET").arg(self.keys().outbox_waiting(slot)).arg(client.as_str());
            let reply = Reply::new(self.run(&pipeline).await?.pop().unwrap_or_default())?;
            waiting += reply.text(0).parse().unwrap_or(0);
        }
        Ok(waiting)
    }
}

impl Reader {
    /// Entries that no notifier has seen, waiting up to `wait_ms` for the first one.
    ///
    /// # Errors
    /// The reader is of no use any more: make a new one.
    pub async fn next(&mut self, most: usize, wait_ms: u64) -> Result<Vec<Entry>, Error> {
        let keys: Vec<(u16, String)> =
            self.store.keys().slots().map(|slot| (slot, self.store.keys().outbox(slot))).collect();
        let mut command = redis::cmd("XREADGROUP");
        command.arg("GROUP").arg(GROUP).arg(&self.consumer).arg("COUNT").arg(most);
        if wait_ms > 0 {
            command.arg("BLOCK").arg(wait_ms);
        }
        command.arg("STREAMS");
        for (_, key) in &keys {
            command.arg(key);
        }
        for _ in &keys {
            command.arg(">");
        }
        let answer: Value = self.timed(wait_ms, command).await?;
        let Value::Array(streams) = answer else { return Ok(Vec::new()) };
        let mut entries = Vec::new();
        for stream in streams {
            let Value::Array(mut parts) = stream else { continue };
            let (Some(list), Some(key)) = (parts.pop(), parts.pop()) else { continue };
            let key = text(key);
            let slot = keys.iter().find(|(_, known)| *known == key).map_or(0, |(slot, _)| *slot);
            entries.extend(stream_entries(slot, list));
        }
        Ok(entries)
    }

    /// Entries of a slot that were read under this name before and not settled, in their order,
    /// from the first one behind `after`. They count as read anew: nobody takes them over for a
    /// while.
    ///
    /// # Errors
    /// The reader is of no use any more: make a new one.
    pub async fn in_hand(
        &mut self,
        slot: u16,
        after: &str,
        most: usize,
    ) -> Result<Vec<Entry>, Error> {
        let mut command = redis::cmd("XREADGROUP");
        command.arg("GROUP").arg(GROUP).arg(&self.consumer).arg("COUNT").arg(most);
        // Behind an identifier there is what this name holds, and nothing that is new.
        command.arg("STREAMS").arg(self.store.keys().outbox(slot)).arg(after);
        let Value::Array(streams) = self.timed(0, command).await? else { return Ok(Vec::new()) };
        let Some(Value::Array(mut parts)) = streams.into_iter().next() else {
            return Ok(Vec::new());
        };
        Ok(parts.pop().map(|list| stream_entries(slot, list)).unwrap_or_default())
    }

    /// A peer that vanished without a word would be waited for.
    async fn timed(&mut self, wait_ms: u64, command: redis::Cmd) -> Result<Value, Error> {
        let limit_ms = wait_ms + self.store.settings().response_timeout_ms;
        let answer = command.query_async(&mut self.connection);
        match tokio::time::timeout(std::time::Duration::from_millis(limit_ms), answer).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Error::Unexpected(format!("no answer within {limit_ms} ms"))),
        }
    }

    /// Takes over entries that another notifier read and did not settle for `idle_ms`.
    ///
    /// # Errors
    /// The reader is of no use any more: make a new one.
    pub async fn take_over(&mut self, most: usize, idle_ms: u64) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        for slot in self.store.keys().slots() {
            let mut command = redis::cmd("XAUTOCLAIM");
            command
                .arg(self.store.keys().outbox(slot))
                .arg(GROUP)
                .arg(&self.consumer)
                .arg(idle_ms)
                .arg("0")
                .arg("COUNT")
                .arg(most);
            let answer = self.timed(0, command).await?;
            if let Value::Array(parts) = answer
                && let Some(list) = parts.into_iter().nth(1)
            {
                entries.extend(stream_entries(slot, list));
            }
        }
        Ok(entries)
    }
}

fn stream_entries(slot: u16, list: Value) -> Vec<Entry> {
    let Value::Array(list) = list else { return Vec::new() };
    list.into_iter()
        .filter_map(|entry| {
            let Value::Array(mut parts) = entry else { return None };
            let (fields, id) = (parts.pop()?, parts.pop()?);
            // One that is in somebody's hand and not in the stream any more has none.
            matches!(fields, Value::Array(_)).then_some(())?;
            Some(Entry { slot, id: text(id), later: None, tries: 0, fields: pairs(fields) })
        })
        .collect()
}

fn pairs(fields: Value) -> Fields {
    let Value::Array(fields) = fields else { return Fields::default() };
    let mut pairs = Vec::with_capacity(fields.len() / 2);
    let mut fields = fields.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        pairs.push((text(name), text(value)));
    }
    Fields(pairs)
}

fn text(value: Value) -> String {
    let bytes = bytes(value).unwrap_or_default();
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
