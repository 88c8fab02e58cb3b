//! Jobs after the store was rolled back: who has what is left of them.

use client::Submission;
use harness::{World, eventually, within};
use job::State;
use store::accept::{Accepted, First};

use crate::claim_table::{accept, name, submit};
use crate::line::on_nodes_of_its_own;
use crate::rolled_back::{Fleet, Power, begun, fleet, held, order, reconnected, recorded_as_done};

/// Nothing was heard of it but the submission, so it may be lost once more: with the registrar that
/// was about to dispatch it. It used to look as if it went on.
#[tokio::test]
async fn a_submission_that_comes_again_after_a_loss_is_dispatched_until_somebody_claims_it()
-> anyhow::Result<()> {
    let mut world = World::new().await?;
    let mut power = Power::of(&mut world)?;
    let store = world.store().await?;
    accept(&store, name(), First::Queued).await?;
    power.is_lost_since(power.written().await?)?;
    reconnected(&store).await?;
    for nonce in ["first", "second"] {
        let again = submit(&store, name(), First::Queued, nonce).await?;
        assert_eq!(again, Accepted::Redispatch { dispatch: 1 }, "{nonce}");
    }
    let record = store.read_one(&name()).await?.unwrap_or_default();
    assert_eq!((record.epoch.as_deref(), store.epoch()), (Some("1"), 2));
    Ok(())
}

/// The store has forgotten that the run is detached, and its message is acknowledged. Given back,
/// it used to be queued for ever: no message, no body, and a word of it since the loss.
#[tokio::test]
async fn a_detached_run_that_the_store_has_forgotten_is_detached_again() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    world.settings.worker.detach_after_ms = 1500;
    world.settings.worker.drain_ms = 100;
    let mut power = Power::of(&mut world)?;
    let Fleet { server, worker, started, through, shop } = fleet(&world).await?;
    shop.submit(order("A-1")).await?.accepted().await?;
    begun(&started).await?;
    let written = power.written().await?;
    let detached = || async {
        let record = world.record("shop", "A-1").await.ok().flatten();
        Ok(record.filter(|record| record.detached.is_some()))
    };
    eventually("it is detached", detached).await?;
    power.is_lost_since(written)?;
    eventually("it is detached again", detached).await?;
    worker.stop().await?;
    let (worker, started, _) = held(&world).await?;
    begun(&started).await?;
    through.add_permits(1);
    worker.stop().await?;
    Ok(server.stop().await?)
}

/// The store lost its epoch as well, and whoever opens it first has never known another one. The
/// message is of a later epoch than the store, which says the same as an older one.
#[tokio::test]
async fn promise_09_a_work_message_of_a_later_epoch_rebuilds_its_record_too() -> anyhow::Result<()>
{
    let mut world = World::new().await?;
    world.settings.redis.secret = Some("of this deployment, for ever".to_owned());
    let mut power = Power::of(&mut world)?;
    let nobody = world.store().await?;
    power.is_lost_since(power.written().await?)?;
    drop(nobody);
    let server = world.server().await?;
    let shop = world.client("shop")?;
    let (worker, started, through) = held(&world).await?;
    shop.submit(order("first")).await?.accepted().await?;
    begun(&started).await?;
    let receipt = shop.submit(order("second")).await?.accepted().await?;
    assert_eq!(receipt.epoch, Some(2));
    shop.close().await;
    through.add_permits(1);
    // Its queue keeps the second one.
    worker.stop().await?;
    server.stop().await?;
    power.is_lost_since(0)?;
    assert_eq!(world.store().await?.epoch(), 1);
    let (worker, _, through) = held(&world).await?;
    through.add_permits(2);
    recorded_as_done(&world, "second").await?;
    let record = world.record("shop", "second").await?.unwrap_or_default();
    assert_eq!((record.ticket, record.epoch.as_deref()), (receipt.ticket, Some("1")));
    Ok(worker.stop().await?)
}

/// What is too large for the broker makes the channel fail for all that was published with it. It
/// is parked, and the others run; they used to be published together again and again.
#[tokio::test]
async fn a_due_job_that_the_broker_does_not_take_does_not_keep_the_others_from_running()
-> anyhow::Result<()> {
    let mut world = World::new().await?;
    let (nodes, shop) = on_nodes_of_its_own(&mut world).await?;
    let server = world.server().await?;
    let due = protocol::UnixMillis::now().after(std::time::Duration::from_secs(6));
    for (id, bytes) in [("before", 1), ("large", 5000), ("after", 1)] {
        let body = format!("\"{}\"", "x".repeat(bytes));
        let submission = Submission::new("order.place", body)
            .job_id(id)
            .header(protocol::headers::NOT_BEFORE, due.to_string());
        shop.submit(submission).await?.accepted().await?;
    }
    nodes.rabbitmq.control(&["eval", "application:set_env(rabbit, max_message_size, 4000)."])?;
    nodes.rabbitmq.control(&["eval", "persistent_term:put(max_message_size, 4000)."])?;
    nodes.rabbitmq.control(&["close_all_connections", "for the test"])?;
    let mut settings = world.worker_settings();
    settings.amqp.url = nodes.amqp_url(broker::rights::WORKER_USER);
    settings.redis.url = nodes.redis_url(store::acl::WORKER_USER);
    let worker = worker::Worker::new(settings);
    let handler = async |_job: worker::Context| Ok::<_, worker::Failure>(());
    let worker = harness::start(worker.handle("order.place", handler)?).await?;
    for id in ["before", "after"] {
        recorded_as_done(&world, id).await?;
    }
    let record = world.record("shop", "large").await?.unwrap_or_default();
    assert_eq!(record.state(), Some(State::Parked), "{record:?}");
    within("the client ends", shop.close()).await?;
    worker.stop().await?;
    server.stop().await?;
    tokio::task::spawn_blocking(move || nodes.stop()).await?;
    Ok(())
}
