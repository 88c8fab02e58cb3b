//! What becomes of jobs whose work message the broker drops.

use broker::topology;
use futures_util::StreamExt as _;
use harness::{World, within};
use job::{Event, JobType, QueueName, State};
use lapin::options::{BasicConsumeOptions, BasicRejectOptions};
use lapin::types::FieldTable;
use nodes::shared::ADMINISTRATOR;
use protocol::headers;
use store::change::{Change, Right};
use store::claim::{Claim, Claimed};
use store::lost::OF_THE_RUN_AND_PAYLOAD;

use crate::bundles::{PING, Runs, end, until_all, until_ready, waiting};
use crate::claim_table::{claim, named};

const AGAIN: &str = "dropped by the broker, and dispatched again";
const WATCHED: &str = "dropped by the broker while the job ran";
const MOVED_ON: &str = "dropped by the broker; the job had moved on";

/// Drops the next work message, as the broker does it. The letters of its jobs have these reasons.
async fn drop_one(world: &World, reasons: &[&str]) -> anyhow::Result<()> {
    let mut dead = world.raw(ADMINISTRATOR).await?.read(topology::DEAD_QUEUE).await?;
    let url = world.amqp_url(ADMINISTRATOR);
    let connection = lapin::Connection::connect(&url, Default::default()).await?;
    let channel = connection.create_channel().await?;
    let queue = topology::work_queue(&QueueName::default());
    let (options, table) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut consumer = channel.basic_consume(queue.into(), "".into(), options, table).await?;
    let next = within("a work message", consumer.next()).await?;
    let delivery = next.ok_or_else(|| anyhow::anyhow!("the consumer has ended"))??;
    delivery.reject(BasicRejectOptions { requeue: false }).await?;
    connection.close(200, "".into()).await?;
    for reason in reasons {
        let letter = dead.next().await?;
        let said = letter.properties.headers.text(headers::REASON);
        assert_eq!(said, Some(*reason), "{}", letter.body);
    }
    Ok(())
}

/// Starts a job as a worker that dies then.
async fn started(world: &World, id: &str) -> anyhow::Result<String> {
    let dies = Claim {
        name: named(id),
        job_type: JobType::parse(PING)?,
        ..claim("a worker that dies", id, false, 300)
    };
    match &world.store().await?.claim(&[dies]).await?[..] {
        [Claimed::Start { attempt: 1, fence, .. }] => Ok(fence.clone()),
        other => anyhow::bail!("{id}: {other:?}"),
    }
}

/// The broker drops what came back too often. One of the jobs may be why, so they part.
#[tokio::test]
async fn what_the_broker_drops_of_several_jobs_comes_again_one_by_one() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let runs = Runs::new(100);
    let (shop, ids) = waiting(&world, &runs, 5).await?;
    drop_one(&world, &[AGAIN; 5]).await?;
    until_ready(&shop, 5).await?;
    let worker = runs.serve(&world, &[PING]).await?;
    until_all(&world, &ids, State::Succeeded).await?;
    end(&shop, worker).await?;
    runs.assert_once(&ids);
    Ok(server.stop().await?)
}

/// Its worker had died, and the message that came back was dropped before anybody claimed it. So
/// the job was left running for ever: no message came, and nobody watched the lease.
#[tokio::test]
async fn a_run_whose_message_the_broker_drops_is_not_left_to_a_dead_worker() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let runs = Runs::new(100);
    let (shop, ids) = waiting(&world, &runs, 1).await?;
    started(&world, &ids[0]).await?;
    drop_one(&world, &[WATCHED]).await?;
    let worker = runs.serve(&world, &[PING]).await?;
    until_all(&world, &ids, State::Succeeded).await?;
    assert_eq!(runs.attempts().into_values().collect::<Vec<_>>(), [[2]]);
    end(&shop, worker).await?;
    Ok(server.stop().await?)
}

/// No payload was taken for one that had to be in the store already, and the job stayed queued.
#[tokio::test]
async fn a_job_without_a_body_whose_message_the_broker_drops_comes_again() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    world.demo_worker().await?.stop().await?;
    let shop = world.raw("shop").await?;
    shop.submit_job("demo.echo", "A-1", "", &[], "").await?;
    until_ready(&shop, 1).await?;
    drop_one(&world, &[AGAIN]).await?;
    until_ready(&shop, 1).await?;
    Ok(server.stop().await?)
}

/// One of them runs, one waits, and one has ended.
#[tokio::test]
async fn of_several_jobs_in_a_dropped_message_each_goes_its_own_way() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let runs = Runs::new(100);
    let (shop, ids) = waiting(&world, &runs, 3).await?;
    started(&world, &ids[0]).await?;
    let right = Right::Fence(started(&world, &ids[2]).await?);
    let delete = OF_THE_RUN_AND_PAYLOAD;
    let ended = Change::new(named(&ids[2]), JobType::parse(PING)?, Event::Succeeded);
    world.store().await?.change(&[Change { right, delete, ..ended }]).await?;
    drop_one(&world, &[WATCHED, AGAIN, MOVED_ON]).await?;
    let worker = runs.serve(&world, &[PING]).await?;
    until_all(&world, &ids, State::Succeeded).await?;
    let wanted = [(ids[0].clone(), vec![2]), (ids[1].clone(), vec![1])];
    assert_eq!(runs.attempts(), wanted.into());
    end(&shop, worker).await?;
    Ok(server.stop().await?)
}
