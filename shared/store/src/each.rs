//! One call of a script for many jobs: what they share (sets, counters) is then written once.

use redis::{Cmd, Pipeline, ToRedisArgs, Value};

use crate::scripts::LuaScript;
use crate::{Error, Store};

/// So many jobs are in one call: Redis does nothing else meanwhile, for about a millisecond.
const TOGETHER_MAX: usize = 32;
/// So many arguments, and so many bytes of them, a job has without growing; most have fewer.
const ARGS: usize = 64;
const BYTES: usize = 512;

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
        Self { slot, keys: keys.into(), args: Cmd::with_capacity(ARGS, BYTES) }
    }

    /// Adds to its ARGV.
    pub(crate) fn arg<T: ToRedisArgs>(mut self, value: T) -> Self {
        self.args.arg(value);
        self
    }
}

/// What jobs of one call have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    slot: u16,
    keys: usize,
    args: usize,
}

impl JobCall {
    fn shape(&self) -> Shape {
        let args = self.args.args_iter().count();
        Shape { slot: self.slot, keys: self.keys.len(), args }
    }

    /// Its ARGV. None of ours is a cursor.
    fn arguments(&self) -> Vec<&[u8]> {
        self.args
            .args_iter()
            .map(|arg| match arg {
                redis::Arg::Simple(bytes) => bytes,
                _ => &[],
            })
            .collect()
    }
}

/// Which jobs go in one call: of one shape. Jobs of a slot keep their order, whatever their shapes:
/// the line is decided in order, and a quota is for those who came first.
fn together(shapes: &[Shape]) -> Vec<Vec<usize>> {
    let mut calls: Vec<Vec<usize>> = Vec::new();
    for (place, shape) in shapes.iter().enumerate() {
        let last = calls.iter_mut().rev().find(|call| shapes[call[0]].slot == shape.slot);
        match last.filter(|call| call.len() < TOGETHER_MAX && shapes[call[0]] == *shape) {
            Some(call) => call.push(place),
            None => calls.push(vec![place]),
        }
    }
    calls
}

/// At which places the lists are not all the same.
fn differing<T: PartialEq>(lists: &[Vec<T>]) -> Vec<usize> {
    let Some((first, others)) = lists.split_first() else { return Vec::new() };
    let differs = |place: &usize| others.iter().any(|list| list[*place] != first[*place]);
    (0..first.len()).filter(differs).collect()
}

/// One call for jobs of one shape, as each.lua reads it: the first one whole, and of the others
/// what differs.
fn call(script: &LuaScript, jobs: &[&JobCall]) -> Cmd {
    let keys: Vec<Vec<&[u8]>> =
        jobs.iter().map(|job| job.keys.iter().map(String::as_bytes).collect()).collect();
    let args: Vec<Vec<&[u8]>> = jobs.iter().map(|job| job.arguments()).collect();
    let (own_keys, own_args) = (differing(&keys), differing(&args));
    let (first_keys, first_args) = (keys[0].len(), args[0].len());
    let mut cmd = redis::cmd("EVALSHA");
    cmd.arg(script.hash()).arg(first_keys + own_keys.len() * (jobs.len() - 1));
    add(&mut cmd, &keys, &own_keys);
    cmd.arg(jobs.len()).arg(first_keys).arg(first_args);
    for places in [&own_keys, &own_args] {
        // Lua counts from 1.
        let places: Vec<usize> = places.iter().map(|place| place + 1).collect();
        cmd.arg(places.len()).arg(places);
    }
    add(&mut cmd, &args, &own_args);
    cmd
}

/// The first list, and of each other one what stands at some places.
fn add(cmd: &mut Cmd, lists: &[Vec<&[u8]>], places: &[usize]) {
    cmd.arg(&lists[0]);
    for list in &lists[1..] {
        for place in places {
            cmd.arg(list[*place]);
        }
    }
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
            // The same each time: only the epoch differs.
            let calls = calls
                .get_or_init(|| together(&jobs.iter().map(JobCall::shape).collect::<Vec<_>>()));
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

    fn shapes(each: &[(u16, usize)]) -> Vec<Shape> {
        each.iter().map(|(slot, args)| Shape { slot: *slot, keys: 1, args: *args }).collect()
    }

    #[test]
    fn jobs_of_one_shape_go_together_and_their_replies_come_back_in_order() {
        let two_slots = shapes(&[(1, 1), (2, 1), (1, 1), (2, 1)]);
        assert_eq!(together(&two_slots), [vec![0, 2], vec![1, 3]]);
        let many = together(&shapes(&[(7, 1); TOGETHER_MAX + 1]));
        assert_eq!(many.iter().map(Vec::len).collect::<Vec<_>>(), [TOGETHER_MAX, 1]);
        let of = |numbers: &[i64]| Value::Array(numbers.iter().map(|n| Value::Int(*n)).collect());
        let replies = in_order(vec![vec![0, 2], vec![1]], vec![of(&[10, 12]), of(&[21])]).unwrap();
        assert_eq!(Value::Array(replies), of(&[10, 21, 12]));
        assert!(in_order(vec![vec![0, 1]], vec![of(&[1])]).is_err());
    }

    /// The third one used to be decided with the first: where a quota had room for two, the second
    /// was refused, which stood before it in the line.
    #[test]
    fn jobs_of_one_slot_keep_their_order_whatever_their_shapes() {
        let alternating = shapes(&[(1, 1), (1, 2), (1, 1), (1, 1)]);
        assert_eq!(together(&alternating), [vec![0], vec![1], vec![2, 3]]);
    }

    #[test]
    fn of_what_all_jobs_have_in_common_there_is_one() {
        let of = |texts: [&'static str; 3]| texts.to_vec();
        let lists = [of(["a", "x", "1"]), of(["a", "y", "1"]), of(["a", "x", "2"])];
        assert_eq!(differing(&lists), [1, 2]);
        assert!(differing(&lists[..1]).is_empty());
    }
}
