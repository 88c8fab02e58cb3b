//! A store that comes back without what it acknowledged last: a loss of power under
//! `appendfsync everysec`, made by cutting the end of Redis's log off.

use std::path::PathBuf;
use std::sync::Arc;

use client::{AnswerWord, Client, Standing, Submission};
use harness::{DEADLINE, World, eventually, within};
use job::State;
use nodes::{Fsync, Redis};
use protocol::UnixMillis;
use tokio::sync::Semaphore;
use worker::Context;

/// A Redis of its own, whose log can be cut.
pub(crate) struct Power {
    redis: Redis,
    log: PathBuf,
}

impl Power {
    /// Puts the world on a Redis of its own.
    pub(crate) fn of(world: &mut World) -> anyhow::Result<Self> {
        let directory = world.directory.join("redis");
        let redis = world.own_redis(Fsync::Everysec)?;
        let log = directory.join("appendonlydir/appendonly.aof.1.incr.aof");
        Ok(Self { redis, log })
    }

    /// How much is written now, which is everything that was answered: while a sync lasts, Redis
    /// puts off what it writes, and answers all the same.
    pub(crate) async fn written(&self) -> anyhow::Result<u64> {
        let client = redis::Client::open(self.redis.url())?;
        let redis = client.get_multiplexed_async_connection().await?;
        eventually("Redis to have written its log", || {
            let mut redis = redis.clone();
            async move {
                let mut info = redis::cmd("INFO");
                let info: String = info.arg("persistence").query_async(&mut redis).await?;
                Ok(info.lines().any(|line| line == "aof_buffer_length:0").then_some(()))
            }
        })
        .await?;
        Ok(std::fs::metadata(&self.log)?.len())
    }

    /// Loses everything that was written after that.
    pub(crate) fn is_lost_since(&mut self, written: u64) -> anyhow::Result<()> {
        self.redis.kill();
        std::fs::File::options().write(true).open(&self.log)?.set_len(written)?;
        Ok(self.redis.start_again()?)
    }
}

/// A worker with one slot, whose handler waits to be let through.
pub(crate) async fn held(
    world: &World,
) -> anyhow::Result<(worker::Running, Arc<Semaphore>, Arc<Semaphore>)> {
    let (started, through) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let handler = {
        let (started, through) = (Arc::clone(&started), Arc::clone(&through));
        move |_job: Context| {
            let (started, through) = (Arc::clone(&started), Arc::clone(&through));
            async move {
                started.add_permits(1);
                through.acquire().await.map(tokio::sync::SemaphorePermit::forget).ok();
                Ok::<_, worker::Failure>(())
            }
        }
    };
    let mut settings = world.worker_settings();
    settings.worker.slots = 1;
    let worker = worker::Worker::new(settings).handle("order.place", handler)?;
    Ok((harness::start(worker).await?, started, through))
}

/// A server, a worker whose handlers wait to be let through, and a client.
pub(crate) struct Fleet {
    pub(crate) server: server::Server,
    pub(crate) worker: worker::Running,
    pub(crate) started: Arc<Semaphore>,
    pub(crate) through: Arc<Semaphore>,
    pub(crate) shop: Client,
}

pub(crate) async fn fleet(world: &World) -> anyhow::Result<Fleet> {
    let server = world.server().await?;
    let (worker, started, through) = held(world).await?;
    Ok(Fleet { server, worker, started, through, shop: world.client("shop")? })
}

pub(crate) fn order(id: &str) -> Submission {
    Submission::new("order.place", "{}").job_id(id)
}

/// Waits until one more handler has begun.
pub(crate) async fn begun(started: &Semaphore) -> anyhow::Result<()> {
    within("a handler begins", started.acquire()).await??.forget();
    Ok(())
}

/// Waits until the store has a job as done.
pub(crate) async fn recorded_as_done(world: &World, id: &str) -> anyhow::Result<()> {
    let looking = async {
        while world.record("shop", id).await?.is_none_or(|r| r.state() != Some(State::Succeeded)) {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    };
    within("it is done", looking).await?
}

/// Recovers until nothing is open, whatever is away meanwhile.
async fn recovered(client: &Client) -> anyhow::Result<()> {
    let recovering = async {
        while !client.journal().entries(Standing::OPEN)?.is_empty() {
            if client.recover().await.is_ok() {
                client.journal().flush().await;
            }
        }
        anyhow::Ok(())
    };
    within("nothing is open", recovering).await?
}

/// H5 d and H6: their messages are acknowledged, and the store has them as running and as queued.
/// Nobody else has anything of them than the client, in its journal.
#[tokio::test]
async fn promise_09_jobs_whose_end_was_lost_are_done_again_when_their_client_recovers()
-> anyhow::Result<()> {
    let mut world = World::new().await?;
    let mut power = Power::of(&mut world)?;
    let Fleet { server, worker, started, through, shop } = fleet(&world).await?;
    for id in ["running", "queued"] {
        shop.submit(order(id)).await?.accepted().await?;
    }
    // It is away while they end, so its journal has them open.
    shop.close().await;
    begun(&started).await?;
    let written = power.written().await?;
    through.add_permits(2);
    begun(&started).await?;
    for id in ["running", "queued"] {
        recorded_as_done(&world, id).await?;
    }
    power.is_lost_since(written)?;
    through.add_permits(2);
    let shop = world.client("shop")?;
    recovered(&shop).await?;
    for (id, attempt) in [("running", 2), ("queued", 1)] {
        let status = shop.status(id).await?;
        let seen = (status.state.as_deref(), status.attempt, status.epoch);
        assert_eq!(seen, (Some("succeeded"), Some(attempt), Some(2)), "{id}: {status:?}");
    }
    worker.stop().await?;
    Ok(server.stop().await?)
}

/// Found by the campaign: that a client asked it to stop was the last that was heard of it, so no
/// answer said any more that its end might be lost, and nobody ran it.
#[tokio::test]
async fn promise_09_a_job_whose_end_was_lost_is_cancelled_when_its_client_asks_for_it()
-> anyhow::Result<()> {
    let mut world = World::new().await?;
    let mut power = Power::of(&mut world)?;
    let Fleet { server, worker, started, through, shop } = fleet(&world).await?;
    shop.submit(order("A-1")).await?.accepted().await?;
    begun(&started).await?;
    let written = power.written().await?;
    through.add_permits(1);
    recorded_as_done(&world, "A-1").await?;
    power.is_lost_since(written)?;
    let cancelling = || async {
        let answer = shop.cancel("A-1").await.ok();
        Ok(answer.filter(|answer| answer.answer == AnswerWord::Found))
    };
    let asked = eventually("the job is found", cancelling).await?;
    // One whose answer was lost is asked again; the lease may have ended by then.
    let seen = (asked.state.as_deref(), asked.cancel_requested);
    assert!(matches!(seen, (Some("running"), Some(true)) | (Some("cancelled"), None)), "{seen:?}");
    assert_eq!(shop.wait("A-1", DEADLINE, |_| {}).await?.state.as_deref(), Some("cancelled"));
    worker.stop().await?;
    Ok(server.stop().await?)
}

/// Its seal holds, and its epoch is older than that of the store (H31).
#[tokio::test]
async fn promise_09_a_job_of_which_only_its_work_message_is_left_is_recorded_again_and_done()
-> anyhow::Result<()> {
    let mut world = World::new().await?;
    let mut power = Power::of(&mut world)?;
    let Fleet { server, worker, started, through, shop } = fleet(&world).await?;
    shop.submit(order("first")).await?.accepted().await?;
    begun(&started).await?;
    let written = power.written().await?;
    let receipt = shop.submit(order("second")).await?.accepted().await?;
    power.is_lost_since(written)?;
    through.add_permits(2);
    begun(&started).await?;
    recorded_as_done(&world, "second").await?;
    let record = world.record("shop", "second").await?.unwrap_or_default();
    assert_eq!((record.ticket, record.epoch.as_deref()), (receipt.ticket, Some("2")));
    worker.stop().await?;
    Ok(server.stop().await?)
}

/// A job that is not done, and of which nothing was heard since, may have gone on: the answer says
/// so. Once something is heard of it, it does not.
#[tokio::test]
async fn promise_09_what_may_be_lost_is_said_with_a_job_until_something_is_heard_of_it()
-> anyhow::Result<()> {
    let mut world = World::new().await?;
    let mut power = Power::of(&mut world)?;
    let server = world.server().await?;
    let shop = world.client("shop")?;
    shop.submit(order("A-1")).await?.accepted().await?;
    assert_eq!(shop.status("A-1").await?.lost_between, None);
    power.is_lost_since(power.written().await?)?;
    let answered = async {
        loop {
            match shop.status("A-1").await {
                Ok(status) if status.answer == AnswerWord::Found => return status,
                _ => {}
            }
        }
    };
    let status = within("an answer", answered).await?;
    assert!(status.lost_between.is_some(), "{status:?}");
    // Nobody serves its type: it is parked, and cancelled there.
    shop.cancel("A-1").await?;
    let status = shop.status("A-1").await?;
    assert_eq!((status.state.as_deref(), status.lost_between), (Some("cancelled"), None));
    Ok(server.stop().await?)
}

/// Two losses in a row: the second one takes back that the first was noticed. What was written in
/// the lost epoch must not be told from what is written in the next one by nothing.
#[tokio::test]
async fn an_epoch_that_was_lost_itself_is_not_given_a_second_time() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    let mut power = Power::of(&mut world)?;
    let knowing = world.store().await?;
    assert_eq!(knowing.epoch(), 1);
    let written = power.written().await?;
    power.is_lost_since(written)?;
    reconnected(&knowing).await?;
    assert_eq!(knowing.epoch(), 2);
    power.is_lost_since(written)?;
    // Whoever comes first has never heard of the second epoch, and gives it again.
    let first = world.store().await?;
    assert_eq!(first.epoch(), 2);
    reconnected(&knowing).await?;
    assert_eq!(knowing.epoch(), 3);
    // With its next sign of life it learns of the third.
    first.alive(UnixMillis::now()).await?;
    reconnected(&first).await?;
    assert_eq!(first.epoch(), 3);
    Ok(())
}

/// Nothing is left of the store, and whoever opens it first has never seen another one.
#[tokio::test]
async fn promise_09_a_store_that_comes_back_empty_is_noticed_by_whoever_knew_it()
-> anyhow::Result<()> {
    let mut world = World::new().await?;
    let mut power = Power::of(&mut world)?;
    let knowing = world.store().await?;
    power.is_lost_since(0)?;
    let first = world.store().await?;
    let apart = first.apart();
    reconnected(&apart).await?;
    assert_eq!((apart.epoch(), apart.lost_between()), (1, None));
    reconnected(&knowing).await?;
    assert_eq!(knowing.epoch(), 2);
    assert_eq!(knowing.lost_between().map(|[from, _]| from), Some(UnixMillis(0)));
    first.alive(UnixMillis::now()).await?;
    // What is asked apart knows it as well, and before the other connection is used again.
    reconnected(&apart).await?;
    assert_eq!((apart.epoch(), apart.lost_between()), (2, knowing.lost_between()));
    reconnected(&first).await?;
    assert_eq!(first.epoch(), 2);
    Ok(())
}

/// Asks until an answer comes.
pub(crate) async fn reconnected(store: &store::Store) -> anyhow::Result<()> {
    let asking = async { while store.due(0, 1).await.is_err() {} };
    within("Redis answers", asking).await
}
