//! What is in the stores when everything has come to rest.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use client::journal::{Query, Reader};
use job::State;
use redis::aio::MultiplexedConnection;
use serde::Serialize;

use super::losses::Losses;
use super::{Findings, Invariant, Job};
use crate::faults::{Fault, Kind};
use crate::fleet::{Size, Unexplained, client_name, journal};
use crate::world::{PREFIX, SLOT, keys};

/// Keys looked for in one go, and records read in one.
const CHUNK: usize = 1000;

/// A job's hash.
#[derive(Debug, Default)]
pub struct Record(HashMap<String, String>);

impl Record {
    /// A field; empty where there is none.
    pub fn text(&self, field: &str) -> &str {
        self.0.get(field).map(String::as_str).unwrap_or_default()
    }

    /// What the key stands for.
    pub fn kind(&self) -> &str {
        self.text("record")
    }

    /// Whether the job is done.
    pub fn is_final(&self) -> bool {
        self.text("state").parse().is_ok_and(job::State::is_terminal)
    }

    /// Where the job is: later is greater.
    pub fn order(&self) -> Option<(u64, u64)> {
        Some((self.text("epoch").parse().ok()?, self.text("revision").parse().ok()?))
    }

    /// Whether the state that it is in is one that is pushed.
    pub fn wants_its_end(&self) -> bool {
        self.text("notify").split(',').any(|word| word == self.text("state"))
    }

    /// The body, where it is kept.
    pub fn task(&self) -> String {
        self.text("payload").trim().to_owned()
    }
}

/// What should be gone.
#[derive(Debug, Default, Serialize)]
pub struct Left {
    /// Messages, by queue.
    pub queues: BTreeMap<String, u32>,
    /// Messages in the dead-letter queue: some clients send what is no submission.
    pub dead_letters: u32,
    /// Entries of the outbox.
    pub outbox: u64,
    /// Entries of what should be empty.
    pub behind: BTreeMap<&'static str, u64>,
    /// Jobs that are not done, by state.
    pub unfinished: BTreeMap<String, usize>,
    /// The most memory that a process of a role had, in KiB.
    pub memory_kib: BTreeMap<String, u64>,
}

/// Everything that is there in the end.
#[derive(Debug, Default)]
pub struct FinalState {
    /// By `<client>:<id>`.
    pub records: HashMap<String, Record>,
    /// By client: identifiers and how the journal has them.
    pub journals: BTreeMap<String, Vec<(String, String)>>,
    /// What should be gone.
    pub left: Left,
    /// How often the store was rolled back, and one.
    pub epoch: u64,
    /// Jobs that are not done, as the store counts them for quotas, by client.
    pub counted: BTreeMap<String, u64>,
    /// Ends of processes that nobody made, and panics.
    pub unexplained: Vec<Unexplained>,
}

/// The bound of a process's memory under a flood of faults.
const MEMORY_KIB_MAX: u64 = 256 * 1024;
/// Servers, workers, clients.
const ROLES: usize = 3;

impl FinalState {
    /// Reads records and journals.
    ///
    /// # Errors
    /// Redis or a journal cannot be read.
    pub async fn read(
        root: &mut MultiplexedConnection,
        directory: &Path,
        size: Size,
    ) -> anyhow::Result<Self> {
        let mut state = Self { records: records(root).await?, ..Self::default() };
        for record in state.records.values().filter(|r| r.kind() == "job" && !r.is_final()) {
            *state.left.unfinished.entry(record.text("state").to_owned()).or_default() += 1;
        }
        let key = keys().deployment();
        state.epoch = redis::cmd("HGET").arg(key).arg("epoch").query_async(root).await?;
        state.left.outbox = redis::cmd("XLEN").arg(keys().outbox(SLOT)).query_async(root).await?;
        state.left.behind = behind(root).await?;
        state.counted =
            redis::cmd("HGETALL").arg(keys().unfinished(SLOT)).query_async(root).await?;
        for number in 0..size.clients {
            let client = client_name(number);
            let entries = standings(&journal(directory, &client), &client)?;
            state.journals.insert(client, entries);
        }
        Ok(state)
    }

    pub(super) fn check(
        &self,
        jobs: &HashMap<String, Job>,
        losses: &Losses,
        faults: &[Fault],
        findings: &mut Findings,
    ) {
        for (queue, count) in self.left.queues.iter().filter(|(_, count)| **count > 0) {
            findings.add(Invariant::I13, queue, format!("{count} messages"));
        }
        if self.left.outbox > 0 {
            findings.add(Invariant::I13, "outbox", format!("{} entries", self.left.outbox));
        }
        for (what, count) in &self.left.behind {
            // A roll-back brings back what its clients do not ask for any more.
            let of_messages = [PUT_OFF, NOT_DELIVERED, NOT_SETTLED].contains(what);
            let is_excused = !losses.is_empty() && !of_messages;
            if *count > 0 && !is_excused {
                findings.add(Invariant::I13, what, format!("{count} entries"));
            }
        }
        let mut unfinished: BTreeMap<&str, u64> = BTreeMap::new();
        for (name, record) in &self.records {
            if record.kind() != "job" || record.is_final() {
                continue;
            }
            *unfinished.entry(name.split(':').next().unwrap_or_default()).or_default() += 1;
            // Its client has seen its end, which the store has lost since: nobody asks for more.
            let is_over = jobs.get(name).is_some_and(|job| {
                job.journal.as_deref() == Some("done") && job.has_lost_its_end(losses)
            });
            if !is_over {
                findings.add(Invariant::I13, name, format!("{:?}", record.0));
            }
        }
        let counted: BTreeMap<&str, u64> =
            self.counted.iter().map(|(client, count)| (client.as_str(), *count)).collect();
        if counted != unfinished {
            let seen = format!("counted are {counted:?}, recorded {unfinished:?}");
            findings.add(Invariant::I13, "unfinished jobs", seen);
        }
        if losses.is_empty() && self.epoch > 1 {
            let seen = format!("epoch {}: a loss was declared that was none", self.epoch);
            findings.add(Invariant::I10, "deployment", seen);
        }
        if self.left.memory_kib.len() < ROLES {
            findings.add(Invariant::I14, "memory", "not measured of every role");
        }
        for (role, memory) in &self.left.memory_kib {
            if *memory > MEMORY_KIB_MAX {
                findings.add(Invariant::I14, role, format!("{memory} KiB"));
            }
        }
        for ended in &self.unexplained {
            if could_not_open_its_journal(ended, faults) {
                continue;
            }
            findings.add(Invariant::I14, "a process", ended.seen.clone());
        }
    }
}

/// A client whose disk failed when it was about to open its journal has ended as it should.
fn could_not_open_its_journal(ended: &Unexplained, faults: &[Fault]) -> bool {
    let is_of_its_disk = |fault: &Fault| {
        matches!(fault.kind, Kind::JournalFull | Kind::JournalUnsynced)
            && fault.effect.pid == ended.pid
    };
    ended.has_given_up && ended.pid.is_some() && faults.iter().any(is_of_its_disk)
}

/// What is behind of jobs, and of messages.
const TIMERS: &str = "timers";
const PUT_OFF: &str = "messages that are put off";
const NOT_DELIVERED: &str = "clients with messages that are not delivered";
const NOT_SETTLED: &str = "messages that were taken and not settled";

/// What should be empty when everything is done.
async fn behind(root: &mut MultiplexedConnection) -> anyhow::Result<BTreeMap<&'static str, u64>> {
    let keys = keys();
    let mut empty = vec![
        (TIMERS, "ZCARD", keys.due(SLOT)),
        (PUT_OFF, "ZCARD", keys.outbox_later(SLOT)),
        (NOT_DELIVERED, "HLEN", keys.outbox_waiting(SLOT)),
    ];
    for state in State::ALL.iter().filter(|state| !state.is_terminal()) {
        empty.extend(keys.state_set(SLOT, *state).map(|key| (state.as_str(), "ZCARD", key)));
    }
    let mut behind = BTreeMap::new();
    for (what, count, key) in empty {
        behind.insert(what, redis::cmd(count).arg(key).query_async(root).await?);
    }
    let outbox = keys.outbox(SLOT);
    let groups: Vec<HashMap<String, redis::Value>> =
        redis::cmd("XINFO").arg("GROUPS").arg(outbox).query_async(root).await?;
    let pending = groups.iter().filter_map(|group| group.get("pending"));
    let pending = pending.filter_map(|count| redis::from_redis_value_ref::<u64>(count).ok());
    behind.insert(NOT_SETTLED, pending.sum());
    Ok(behind)
}

async fn records(root: &mut MultiplexedConnection) -> anyhow::Result<HashMap<String, Record>> {
    let prefix = format!("{PREFIX}:{{0}}:job:");
    let (mut cursor, mut records) = (0u64, HashMap::new());
    loop {
        let (next, keys): (u64, Vec<String>) = redis::cmd("SCAN")
            .arg(cursor)
            .arg("MATCH")
            .arg(format!("{}*", prefix.replace('{', "\\{").replace('}', "\\}")))
            .arg("COUNT")
            .arg(CHUNK)
            .query_async(root)
            .await?;
        let mut pipeline = redis::pipe();
        for key in &keys {
            pipeline.cmd("HGETALL").arg(key);
        }
        // A page of a scan may be empty.
        let hashes: Vec<HashMap<String, Vec<u8>>> =
            if keys.is_empty() { Vec::new() } else { pipeline.query_async(root).await? };
        for (key, hash) in keys.iter().zip(hashes) {
            let text = |(field, value): (String, Vec<u8>)| {
                (field, String::from_utf8_lossy(&value).into_owned())
            };
            let name = key.strip_prefix(&prefix).unwrap_or(key).to_owned();
            records.insert(name, Record(hash.into_iter().map(text).collect()));
        }
        cursor = next;
        if cursor == 0 {
            return Ok(records);
        }
    }
}

fn standings(path: &Path, client: &str) -> anyhow::Result<Vec<(String, String)>> {
    let Some(reader) = Reader::open(path, client)? else { return Ok(Vec::new()) };
    let (mut entries, mut query) = (Vec::new(), Query::page(CHUNK));
    loop {
        let page = reader.page(&query)?;
        let Some(last) = page.last() else { return Ok(entries) };
        query.after = Some(last.cursor());
        entries.extend(page.iter().map(|e| (e.job_id.clone(), e.standing.as_str().to_owned())));
    }
}
