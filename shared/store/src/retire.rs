//! From a finished job's record to its tombstone.

use std::collections::BTreeMap;

use job::State;
use redis::Pipeline;

use crate::keys::JobName;
use crate::record::Record;
use crate::reply::Reply;
use crate::scripts::{self, Call};
use crate::{Error, Store};

/// For how long the record of a finished job is kept, in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retention {
    /// By outcome.
    pub by_state: BTreeMap<State, u64>,
    /// By type, and outcome.
    pub by_type: BTreeMap<String, BTreeMap<State, u64>>,
}

/// What became of a record that was to be retired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retired {
    /// A tombstone stands there, now or since before.
    Tombstone,
    /// Its time has not come.
    Early,
    /// The job is not finished.
    Unfinished(State),
    /// Nothing that could be retired is recorded.
    Nothing,
}

impl Store {
    /// Writes down for how long finished jobs are kept, now and on each new connection. It holds for
    /// jobs that finish from now on; the first call of a process counts.
    ///
    /// # Errors
    /// It is written when the store is back.
    pub async fn keep(&self, retention: &Retention) -> Result<(), Error> {
        let mut pipeline = Pipeline::new();
        for slot in self.keys().slots() {
            let mut call = Call::new(&scripts::RETENTION, &[&self.keys().retention(slot)]);
            for (state, ms) in &retention.by_state {
                call = call.arg(state.as_str()).arg(ms);
            }
            for (job_type, by_state) in &retention.by_type {
                for (state, ms) in by_state {
                    call = call.arg(format!("{job_type}/{state}")).arg(ms);
                }
            }
            call.add_to(&mut pipeline);
        }
        let pipeline = self.inner.retention.get_or_init(|| pipeline);
        self.run(pipeline).await.map(drop)
    }

    /// Finished jobs of a slot whose time has come, those that have waited longest first.
    ///
    /// # Errors
    /// Nothing is known; ask again.
    pub async fn due_to_retire(&self, slot: u16, most: usize) -> Result<Vec<JobName>, Error> {
        self.members_until_now(&self.keys().retire(slot), most).await
    }

    /// Replaces records by tombstones, which live for `horizon_ms`: those whose time has come, or
    /// at once.
    ///
    /// # Errors
    /// It is not known of any of them: call again.
    pub async fn retire(
        &self,
        jobs: &[(JobName, Record)],
        horizon_ms: u64,
        at_once: bool,
    ) -> Result<Vec<Retired>, Error> {
        let mut pipeline = Pipeline::with_capacity(jobs.len());
        for (name, record) in jobs {
            self.retire_call(name, record, horizon_ms, at_once).add_to(&mut pipeline);
        }
        let answers = self.run(&pipeline).await?;
        answers.into_iter().map(|value| retired(&Reply::new(value)?)).collect()
    }

    fn retire_call(&self, name: &JobName, record: &Record, horizon_ms: u64, now: bool) -> Call {
        let keys = self.keys();
        let slot = keys.slot(name);
        let tags = record.tags();
        // The record may have been read before the job's last change.
        let sets: Vec<String> =
            State::terminal().filter_map(|state| keys.state_set(slot, state)).collect();
        let fixed = [
            keys.job(name),
            keys.history(name),
            keys.ticket(self.ticket(name)),
            keys.client_jobs(slot, &name.client),
            keys.retire(slot),
        ];
        let tags: Vec<String> = tags.iter().map(|tag| keys.tag(slot, &name.client, tag)).collect();
        let all: Vec<&str> = fixed.iter().chain(&sets).chain(&tags).map(String::as_str).collect();
        Call::new(&scripts::RETIRE, &all)
            .arg(name.member())
            .arg(name.job_id.as_str())
            .arg(final_states())
            .arg(horizon_ms)
            .arg(if now { "1" } else { "" })
            .arg(sets.len())
    }
}

/// The final states, as the scripts take them.
pub(crate) fn final_states() -> String {
    State::terminal().map(State::as_str).collect::<Vec<_>>().join(",")
}

fn retired(reply: &Reply) -> Result<Retired, Error> {
    Ok(match reply.word() {
        "retired" => Retired::Tombstone,
        "early" => Retired::Early,
        "unfinished" => Retired::Unfinished(reply.parse(1)?),
        _ => Retired::Nothing,
    })
}
