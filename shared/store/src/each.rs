//! One call of a script for many jobs: what they share (sets, counters) is then written once.

use redis::{Cmd, Pipeline, ToRedisArgs, Value};

use crate::scripts::LuaScript;
use crate::{Error, Store};

/// So many jobs are in one call: Redis does nothing else meanwhile, for about a millisecond.
const TOGETHER_MAX: usize = 32;

/// What a script is to do with one job.
pub(crate) struct JobCall {
    slot: u16,
    keys: Vec<String>,
    /// No command: the arguments alone.
    args: Cmd,
}

impl JobCall {
    /// A job of a slot, with its KEYS.
    pub(crate) fn new(slot: u16, keys: impl Into<Vec<String>>) -> Self {
        Self { slot, keys: keys.into(), args: Cmd::new() }
    }

    /// Adds to its ARGV.
    pub(crate) fn arg<T: ToRedisArgs>(mut self, value: T) -> Self {
        self.args.arg(value);
        self
    }
}

/// Which jobs go in one call: of one slot, in their order.
fn together(slots: &[u16]) -> Vec<Vec<usize>> {
    let mut calls: Vec<Vec<usize>> = Vec::new();
    for (place, slot) in slots.iter().enumerate() {
        let last = calls.iter_mut().rev().find(|call| slots[call[0]] == *slot);
        match last.filter(|call| call.len() < TOGETHER_MAX) {
            Some(call) => call.push(place),
            None => calls.push(vec![place]),
        }
    }
    calls
}

fn call(script: &LuaScript, jobs: &[&JobCall]) -> Cmd {
    let mut cmd = redis::cmd("EVALSHA");
    cmd.arg(script.hash()).arg(jobs.iter().map(|job| job.keys.len()).sum::<usize>());
    for key in jobs.iter().flat_map(|job| &job.keys) {
        cmd.arg(key);
    }
    cmd.arg(jobs.len());
    for job in jobs {
        cmd.arg(job.keys.len()).arg(job.args.args_iter().count());
        for arg in job.args.args_iter() {
            match arg {
                redis::Arg::Simple(bytes) => cmd.arg(bytes),
                // No argument of ours is a cursor.
                _ => cmd.arg(""),
            };
        }
    }
    cmd
}

impl Store {
    /// Calls a script for some jobs of which each is one step; its replies are in the same order.
    ///
    /// # Errors
    /// Nothing is known of any of them: call again with the same.
    pub(crate) async fn each(
        &self,
        script: &LuaScript,
        build: impl Fn(u64) -> Vec<JobCall>,
    ) -> Result<Vec<Value>, Error> {
        let calls = std::sync::OnceLock::new();
        let pipeline = |epoch| {
            let jobs = build(epoch);
            let slots: Vec<u16> = jobs.iter().map(|job| job.slot).collect();
            // The same each time: only the epoch differs.
            let calls = calls.get_or_init(|| together(&slots));
            let mut pipeline = Pipeline::with_capacity(calls.len());
            for places in calls {
                let jobs: Vec<&JobCall> = places.iter().map(|place| &jobs[*place]).collect();
                pipeline.add_command(call(script, &jobs));
            }
            pipeline
        };
        let answers = self.run_in_epoch(pipeline).await?;
        in_order(calls.into_inner().unwrap_or_default(), answers)
    }
}

fn in_order(calls: Vec<Vec<usize>>, answers: Vec<Value>) -> Result<Vec<Value>, Error> {
    let mut replies = vec![Value::Nil; calls.iter().map(Vec::len).sum()];
    for (places, answer) in calls.into_iter().zip(answers) {
        let Value::Array(each) = answer else { return Err(Error::unexpected(answer)) };
        if each.len() != places.len() {
            let said = format!("{} replies for {} jobs", each.len(), places.len());
            return Err(Error::Unexpected(said));
        }
        for (place, reply) in places.into_iter().zip(each) {
            replies[place] = reply;
        }
    }
    Ok(replies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_of_one_slot_go_together_and_their_replies_come_back_in_order() {
        assert_eq!(together(&[1, 2, 1, 1, 2]), [vec![0, 2, 3], vec![1, 4]]);
        let many = together(&[7; TOGETHER_MAX + 1]);
        assert_eq!(many.iter().map(Vec::len).collect::<Vec<_>>(), [TOGETHER_MAX, 1]);
        let of = |numbers: &[i64]| Value::Array(numbers.iter().map(|n| Value::Int(*n)).collect());
        let replies = in_order(together(&[1, 2, 1]), vec![of(&[10, 12]), of(&[21])]).unwrap();
        assert_eq!(Value::Array(replies), of(&[10, 21, 12]));
        assert!(in_order(together(&[1, 1]), vec![of(&[1])]).is_err());
    }
}
