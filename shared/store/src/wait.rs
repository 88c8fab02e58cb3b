//! Waiting for a change on a client's behalf: a one-shot subscription with a time limit, kept with
//! the job. Whoever waits holds up nobody, and whoever dies while waiting loses nothing.

use faults::{Point, crash_point};
use protocol::request::Wait;
use redis::Pipeline;

use crate::each::JobCall;
use crate::keys::JobName;
use crate::reply::Reply;
use crate::retire::final_states;
use crate::scripts::{self, Call};
use crate::{Error, Store};

/// How many may wait for one job at a time.
pub const WAITS_PER_JOB_MAX: usize = 100;

/// Somebody who wants to wait.
#[derive(Debug, Clone)]
pub struct Waiter<'a> {
    /// For which job.
    pub name: &'a JobName,
    /// For what, and how long.
    pub wait: Wait,
    /// Where the answer goes.
    pub to: &'a str,
    /// Echoed in it.
    pub correlation_id: Option<&'a str>,
    /// Whether the timeline is wanted.
    pub history: bool,
}

/// What became of a wish to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// The answer will come by the outbox.
    Waiting,
    /// What was waited for is there already.
    Now,
    /// Too many wait for this job.
    Full,
    /// Too much waits to be delivered to this client.
    Busy,
}

impl Store {
    /// Has an answer sent later.
    ///
    /// # Errors
    /// It is not known whether it will come: call again with the same.
    pub async fn wait(&self, waiter: &Waiter<'_>) -> Result<Waiting, Error> {
        let keys = self.keys();
        let Waiter { name, wait, to, correlation_id, history } = waiter;
        let number = |number: Option<u64>| number.map_or_else(String::new, |n| n.to_string());
        let mut pipeline = Pipeline::new();
        let slot = keys.slot(name);
        let all = [&*keys.job(name), &keys.waits(slot), &keys.outbox_waiting(slot)];
        Call::new(&scripts::WAIT, &all)
            .arg(name.member())
            .arg(final_states())
            .arg(wait.limit_ms)
            .arg(WAITS_PER_JOB_MAX)
            .arg(number(wait.past_revision))
            .arg(number(wait.past_epoch))
            .arg(to)
            .arg(correlation_id.unwrap_or_default())
            .arg(u8::from(*history))
            .arg(name.client.as_str())
            .arg(self.settings().outbox_per_client_max)
            .add_to(&mut pipeline);
        let reply = Reply::new(self.run(&pipeline).await?.pop().unwrap_or_default())?;
        match reply.word() {
            "waiting" => Ok(Waiting::Waiting),
            "now" => Ok(Waiting::Now),
            "full" => Ok(Waiting::Full),
            "busy" => Ok(Waiting::Busy),
            other => Err(Error::unexpected(other)),
        }
    }

    /// Has those answered who have waited for as long as they wanted to.
    ///
    /// # Errors
    /// Nothing is known; the next look will tell.
    pub async fn end_waits(&self, slot: u16, most: usize) -> Result<usize, Error> {
        let waits = self.keys().waits(slot);
        let over = self.members_until_now(&waits, most).await?;
        let call = |name: &JobName| {
            let mut all: Vec<String> = self.change_keys(name).into();
            all.push(waits.clone());
            JobCall::new(slot, all).arg(name.member())
        };
        self.each(&scripts::WAITS_OVER, |_| over.iter().map(call).collect()).await?;
        if !over.is_empty() {
            crash_point(Point::WaitsEnded);
        }
        Ok(over.len())
    }
}
