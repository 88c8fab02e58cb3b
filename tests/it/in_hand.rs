//! What a notifier has read, and not settled when its connection fails.

use std::time::Duration;

use harness::{World, eventually};
use job::{ClientName, JobId};
use store::JobName;
use store::outbox::Outcome;
use tokio::time::timeout;

use crate::hanging::Hanging;

/// Long before anything is taken over, which is after 30 s.
const AT_ONCE: Duration = Duration::from_secs(15);

/// It used to wait until another took it over, half a minute and more, though who had it in hand
/// was there again at once.
#[tokio::test]
async fn what_a_notifier_has_in_hand_when_its_store_fails_is_sent_again_at_once()
-> anyhow::Result<()> {
    let mut world = World::new().await?;
    let redis = world.own_redis(nodes::Fsync::Everysec)?;
    // Longer than the test: what is in hand stays there.
    let patient = |settings: &mut server::Settings| settings.deliver_timeout_ms = 120_000;
    let (server, worker) = (world.server_with(patient).await?, world.demo_worker().await?);
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    let hanging = Hanging::new(&world, "shop", "reply.shop.hangs").await?;
    let headers = [("job-notify", "terminal"), ("job-notify-to", "reply.shop.hangs")];
    shop.submit_job("demo.echo", "A-1", &inbox.queue, &headers, "1").await?;
    inbox.next_of("receipt").await?;

    let looking = redis::Client::open(redis.url())?.get_multiplexed_async_connection().await?;
    let outbox = world.store().await?.keys().outbox(0);
    // As whom it is in hand, once it was read so many times.
    let read = |times: usize| {
        let (mut looking, outbox) = (looking.clone(), &outbox);
        async move {
            let mut command = redis::cmd("XPENDING");
            command.arg(outbox).arg("notifiers").arg("-").arg("+").arg(10);
            // Entry, whose, for how many ms, how often.
            let held: Vec<(String, String, u64, usize)> = command.query_async(&mut looking).await?;
            Ok(held.into_iter().find(|entry| entry.3 >= times).map(|entry| entry.1))
        }
    };
    let before = eventually("the event to be in hand", || read(1)).await?;
    let mut other = looking.clone();
    let mut cut = redis::cmd("CLIENT");
    cut.arg("KILL").arg("TYPE").arg("normal").arg("SKIPME").arg("yes");
    cut.exec_async(&mut other).await?;
    let again = eventually("the event to be in hand again", || read(2));
    assert_eq!(timeout(AT_ONCE, again).await??, before);

    hanging.resume(&world).await?;
    let mut told = shop.read("reply.shop.hangs").await?;
    let twice = async { anyhow::Ok([told.next_of("event").await?, told.next_of("event").await?]) };
    let [first, second] = timeout(AT_ONCE, twice).await??;
    assert_eq!(first.text("event"), "succeeded");
    assert_eq!(first.properties.message_id, second.properties.message_id);
    eventually("nothing to be in the outbox", || {
        let (mut looking, outbox) = (looking.clone(), &outbox);
        async move {
            let left: u64 = redis::cmd("XLEN").arg(outbox).query_async(&mut looking).await?;
            Ok((left == 0).then_some(()))
        }
    })
    .await?;
    worker.stop().await?;
    server.stop().await?;
    redis.stop();
    Ok(())
}

/// One key that a foreign hand has written used to keep the other entries of the call waiting, and
/// counted as waiting for ever.
#[tokio::test]
async fn an_entry_is_settled_though_a_key_of_another_type_stands_where_its_job_is_to_be()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let (store, client) = (world.store().await?, ClientName::parse("shop")?);
    let name = |id: &str| {
        anyhow::Ok(JobName { client: ClientName::parse("shop")?, job_id: JobId::parse(id)? })
    };
    for id in ["A-1", "A-2", "A-3"] {
        store.post_receipt(&name(id)?, "reply.shop.a", None, "t", b"{}").await?;
    }
    let mut redis =
        redis::Client::open(world.redis_url())?.get_multiplexed_async_connection().await?;
    let key = store.keys().job(&name("A-2")?);
    redis::cmd("SET").arg(&key).arg("foreign").exec_async(&mut redis).await?;

    let mut reader = store.outbox_reader("a test").await?;
    let read = reader.next(10, 1000).await?;
    assert_eq!(read.len(), 3);
    let settled: Vec<_> = read.into_iter().map(|entry| (entry, Outcome::Delivered)).collect();
    store.settle(&settled).await?;
    assert_eq!(store.outbox_waiting(&client).await?, 0);
    assert!(reader.in_hand(0, "0", 10).await?.is_empty());
    Ok(())
}
