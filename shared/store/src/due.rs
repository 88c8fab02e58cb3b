//! Timers: what the scheduler acts on.

use job::State;
use protocol::UnixMillis;
use redis::Pipeline;

use crate::keys::JobName;
use crate::reply::Reply;
use crate::scripts::{self, Call};
use crate::{Error, Store};

/// What followed for a job whose work message has not arrived, or is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redispatched {
    /// It waits, and is to be sent under this number.
    Under(u64),
    /// It runs, or its owner has died: the scheduler watches its lease.
    Watched,
    /// It has moved on, or there is no payload to send, or it runs and its message is not gone.
    Not,
}

impl Store {
    /// Jobs of a slot whose timer has run out, oldest first, and the store's time.
    ///
    /// # Errors
    /// Nothing is known; ask again.
    pub async fn due(&self, slot: u16, most: usize) -> Result<(UnixMillis, Vec<JobName>), Error> {
        self.timers(&self.keys().due(slot), most).await
    }

    async fn timers(&self, key: &str, most: usize) -> Result<(UnixMillis, Vec<JobName>), Error> {
        let mut pipeline = Pipeline::new();
        Call::new(&scripts::DUE, &[key]).arg(most).add_to(&mut pipeline);
        let mut texts =
            Reply::new(self.run(&pipeline).await?.pop().unwrap_or_default())?.into_texts();
        let at = texts.next().unwrap_or_default();
        let at = UnixMillis(at.parse().map_err(|_| Error::unexpected(at))?);
        Ok((at, texts.filter_map(|member| JobName::from_member(&member)).collect()))
    }

    /// The members of a sorted set of times that have passed, oldest first.
    pub(crate) async fn members_until_now(
        &self,
        key: &str,
        most: usize,
    ) -> Result<Vec<JobName>, Error> {
        Ok(self.timers(key, most).await?.1)
    }

    /// Gives a queued job its next dispatch number and looks at it again later. If its message is
    /// gone, `gone` is the payload that was in it: that is kept until the dispatch is confirmed,
    /// and if the job runs the run is detached. Without it the payload must be here already.
    ///
    /// # Errors
    /// It is not known whether it has a new number; the next look will tell.
    pub async fn redispatch(
        &self,
        name: &JobName,
        seen: u64,
        again_after_ms: u64,
        gone: Option<&[u8]>,
    ) -> Result<Redispatched, Error> {
        let keys = self.keys();
        let mut pipeline = Pipeline::new();
        Call::new(&scripts::REDISPATCH, &[&keys.job(name), &keys.due(keys.slot(name))])
            .arg(name.member())
            .arg(seen)
            .arg(again_after_ms)
            .arg(State::Queued.as_str())
            .arg(State::Running.as_str())
            .arg(u8::from(gone.is_some()))
            .arg(gone.unwrap_or_default())
            .add_to(&mut pipeline);
        let reply = Reply::new(self.run(&pipeline).await?.pop().unwrap_or_default())?;
        Ok(match reply.word() {
            "" => Redispatched::Not,
            "watched" => Redispatched::Watched,
            _ => Redispatched::Under(reply.parse(0)?),
        })
    }

    /// The broker has confirmed these dispatches: payload and timer go.
    ///
    /// # Errors
    /// It is not known which; they will be dispatched again, under a new number.
    pub async fn dispatched(&self, dispatches: &[(JobName, u64)]) -> Result<(), Error> {
        let keys = self.keys();
        let mut pipeline = Pipeline::with_capacity(dispatches.len());
        for (name, number) in dispatches {
            Call::new(&scripts::DISPATCHED, &[&keys.job(name), &keys.due(keys.slot(name))])
                .arg(name.member())
                .arg(number)
                .arg(State::Queued.as_str())
                .add_to(&mut pipeline);
        }
        self.run(&pipeline).await.map(drop)
    }

    /// Drops a timer that means nothing any more.
    ///
    /// # Errors
    /// It may still be there; the next look will tell.
    pub async fn untimed(&self, name: &JobName, seen_at: UnixMillis) -> Result<(), Error> {
        let keys = self.keys();
        let mut pipeline = Pipeline::new();
        Call::new(&scripts::UNTIMED, &[&keys.due(keys.slot(name))])
            .arg(name.member())
            .arg(seen_at.0)
            .add_to(&mut pipeline);
        self.run(&pipeline).await.map(drop)
    }

    /// Parked jobs of a type, oldest first.
    ///
    /// # Errors
    /// Nothing is known; ask again.
    pub async fn parked(
        &self,
        slot: u16,
        job_type: &str,
        most: usize,
    ) -> Result<Vec<JobName>, Error> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("ZRANGE").arg(self.keys().parked(slot, job_type)).arg(0).arg(most - 1);
        let reply = Reply::new(self.run(&pipeline).await?.pop().unwrap_or_default())?;
        Ok(reply.into_texts().filter_map(|member| JobName::from_member(&member)).collect())
    }
}
