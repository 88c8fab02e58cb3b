//! A worker that hears late what it may do, or does it late: it was stopped, or the answer was long
//! on its way, or another one's end was waited for.

use std::sync::{Arc, Mutex};

use harness::{World, eventually, start};
use job::State;
use protocol::UnixMillis;
use redis::AsyncCommands as _;
use store::Record;
use store::claim::Claimed;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use worker::{Context, Failure, Running};

use crate::bundles::{PING, Runs, until_all, waiting};
use crate::claim_table::{LONG_MS, claim, job_type, named, one};
use crate::refused_requests::redis;
use crate::timers::until;

/// What stands between a worker and Redis: answers come through only while they are let.
struct Relay {
    port: u16,
    lets: watch::Sender<bool>,
}

impl Relay {
    async fn to(port: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let own = listener.local_addr()?.port();
        let (lets, seen) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, port, seen.clone()));
            }
        });
        Ok(Self { port: own, lets })
    }
}

async fn carry(near: TcpStream, port: u16, mut lets: watch::Receiver<bool>) -> std::io::Result<()> {
    let (mut questions, mut to_near) = near.into_split();
    let (mut answers, mut to_far) = TcpStream::connect(("127.0.0.1", port)).await?.into_split();
    tokio::spawn(async move { copy(&mut questions, &mut to_far).await });
    let mut buffer = [0; 4096];
    loop {
        let read = answers.read(&mut buffer).await?;
        if read == 0 || lets.wait_for(|lets| *lets).await.is_err() {
            return Ok(());
        }
        to_near.write_all(&buffer[..read]).await?;
    }
}

/// Jobs that have begun, in their order.
type Begun = Arc<Mutex<Vec<String>>>;

/// A worker whose claim of `A-1` is made, and whose answer is held back until the lease is over.
async fn late(world: &World) -> anyhow::Result<(Relay, Running, Begun)> {
    let mut settings = world.worker_settings();
    let (_, address) = settings.redis.url.rsplit_once(':').unwrap_or_default();
    let (port, _) = address.split_once('/').unwrap_or_default();
    let relay = Relay::to(port.parse()?).await?;
    settings.redis.url = settings.redis.url.replace(port, &relay.port.to_string());
    settings.worker.lease_ms = 300;
    settings.worker.beat_ms = 50;
    let begun = Begun::default();
    let counting = Arc::clone(&begun);
    let handler = move |job: Context| {
        counting.lock().unwrap().push(job.job_id().to_string());
        async { Ok::<_, Failure>(()) }
    };
    let worker = worker::Worker::new(settings).handle(job_type().as_str(), handler)?;
    let worker = start(worker).await?;
    relay.lets.send_replace(false);
    world.raw("shop").await?.submit_job(job_type().as_str(), "A-1", "", &[], "1").await?;
    eventually("the lease to be over", || async {
        let record = world.record("shop", "A-1").await?.unwrap_or_default();
        let ended = Record::instant(&record.lease_until);
        Ok(ended.filter(|ended| *ended < UnixMillis::now()).map(drop))
    })
    .await?;
    Ok((relay, worker, begun))
}

/// It used to begin, beside another worker that had the right by then. Nothing of what it wrote was
/// taken; but who sends a parcel twice is not helped by that. The crash campaign found it.
#[tokio::test]
async fn a_worker_whose_claim_is_answered_after_its_lease_begins_nothing_that_another_one_runs()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let (relay, worker, begun) = late(&world).await?;
    let other = one(&world.store().await?, claim("other", "2", true, LONG_MS)).await?;
    assert!(matches!(other, Claimed::Start { attempt: 2, .. }), "{other:?}");
    relay.lets.send_replace(true);
    // What comes after it is claimed after it.
    world.raw("shop").await?.submit_job(job_type().as_str(), "A-2", "", &[], "1").await?;
    until(&world, "A-2", State::Succeeded).await?;
    assert_eq!(*begun.lock().unwrap(), ["A-2"]);
    worker.stop().await?;
    Ok(server.stop().await?)
}

/// And if it cannot ask any more, for it is to end: the message comes again, to whoever is there.
#[tokio::test]
async fn a_worker_that_is_to_end_begins_nothing_by_a_claim_that_was_answered_after_its_lease()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let (relay, worker, begun) = late(&world).await?;
    let (ends, _) = tokio::join!(worker.stop(), async { relay.lets.send_replace(true) });
    ends?;
    assert!(begun.lock().unwrap().is_empty());
    let next = world.demo_worker().await?;
    assert_eq!(until(&world, "A-1", State::Succeeded).await?.attempt.as_deref(), Some("2"));
    next.stop().await?;
    Ok(server.stop().await?)
}

/// They did: the store went away, their leases ended, and they began when others had the right. The
/// first is spoiled by hand: its attempts are used up, and its end cannot be written for now.
#[tokio::test]
async fn jobs_that_may_start_do_not_wait_for_the_end_of_another_one_to_be_written()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let runs = Runs::new(100);
    let (_, ids) = waiting(&world, &runs, 3).await?;
    let store = world.store().await?;
    let (name, mut redis) = (named(&ids[0]), redis(&world).await?);
    let lost = [("state", "running"), ("attempt", "99"), ("lease_until", "0"), ("epoch", "0")];
    let () = redis.hset_multiple(store.keys().job(&name), &lost).await?;
    // It is read before an end is written.
    let kept = store.keys().retention(0);
    let aside = format!("{kept}:aside");
    let () = redis.rename(&kept, &aside).await?;
    let () = redis.set(&kept, "no hash").await?;
    let worker = runs.serve(&world, &[PING]).await?;
    let begun = || async { Ok((runs.attempts().len() == 2).then_some(())) };
    eventually("the others to begin", begun).await?;
    let () = redis.rename(&aside, &kept).await?;
    until_all(&world, &ids[..1], State::Failed).await?;
    until_all(&world, &ids[1..], State::Succeeded).await?;
    worker.stop().await?;
    runs.assert_once(&ids[1..]);
    Ok(server.stop().await?)
}
