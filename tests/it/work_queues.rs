//! A work queue that takes no job, or loses one; and names as long as they may be.

use broker::topology;
use harness::{Inbox, Raw, World, eventually, start};
use job::{JobType, QueueName};
use lapin::options::QueueDeleteOptions;
use protocol::{HeaderValue, Properties};
use serde_json::json;
use worker::Failure;

const TYPE: &str = "order.place";

async fn worker_on(world: &World, job_type: &str, queue: &str) -> anyhow::Result<worker::Running> {
    let handler = || async { Ok::<_, Failure>("done") };
    start(world.worker().handle_on(job_type, queue, None, handler)?).await
}

/// Jobs of another type are accepted and done as if nothing were wrong.
async fn others_go_on(shop: &Raw, inbox: &mut Inbox, prefix: &str) -> anyhow::Result<()> {
    for n in 0..5 {
        let id = format!("{prefix}-{n}");
        shop.submit_job("demo.echo", &id, &inbox.queue, &[("job-notify", "terminal")], "1").await?;
        assert_eq!(inbox.event("succeeded").await?.text("job_id"), id);
    }
    Ok(())
}

async fn until_done(world: &World, ids: &[String]) -> anyhow::Result<()> {
    for id in ids {
        eventually(&format!("{id} to be done"), || async {
            let record = world.record("shop", id).await?.unwrap_or_default();
            Ok(record.state().filter(|state| *state == job::State::Succeeded))
        })
        .await?;
    }
    Ok(())
}

/// Were there an alternate exchange, the job would count as dispatched, and nobody would ever run
/// it. So it comes back, is parked with the reason, and goes on when the queue is there again.
#[tokio::test]
async fn h26_a_job_whose_work_queue_is_gone_is_parked_and_runs_when_it_is_back()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let echo = world.demo_worker().await?;
    let shop = world.raw("shop").await?;
    let (mut inbox, mut other) = (shop.inbox("a").await?, shop.inbox("b").await?);
    // Announced by a worker that goes; then its queue goes.
    world.work_queue("orders").await?;
    worker_on(&world, TYPE, "orders").await?.stop().await?;
    let admin = lapin::Connection::connect(&world.amqp_url("admin"), Default::default()).await?;
    let channel = admin.create_channel().await?;
    let queue = topology::work_queue(&QueueName::parse("orders")?);
    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;

    shop.submit_job(TYPE, "A-1", &inbox.queue, &[], "1").await?;
    let receipt = inbox.next_of("receipt").await?;
    let reason = "the work queue orders does not exist";
    assert_eq!((receipt.text("state"), receipt.text("parked_reason")), ("parked", reason));
    others_go_on(&shop, &mut other, "B").await?;
    world.work_queue("orders").await?;
    let worker = worker_on(&world, TYPE, "orders").await?;
    until_done(&world, &["A-1".to_owned()]).await?;
    worker.stop().await?;
    echo.stop().await?;
    Ok(server.stop().await?)
}

/// A type whose work queue takes nothing more: its jobs are parked with the reason, the line moves
/// on, and they run when there is room.
#[tokio::test]
async fn h9_a_work_queue_that_is_full_stops_no_other_type() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let echo = world.demo_worker().await?;
    let shop = world.raw("shop").await?;
    let (mut inbox, mut other) = (shop.inbox("a").await?, shop.inbox("b").await?);
    world.work_queue("orders").await?;
    worker_on(&world, TYPE, "orders").await?.stop().await?;
    let policy = ["set_policy", "-p", &world.name, "full", "^counterfoil.work.orders$"];
    let limit = [r#"{"max-length":1}"#, "--apply-to", "queues"];
    world.rabbitmqctl(&[&policy[..], &limit].concat()).await?;
    let mut ids = Vec::new();
    // How many a queue takes beyond its limit is RabbitMQ's to say.
    loop {
        let id = format!("A-{}", ids.len());
        shop.submit_job(TYPE, &id, &inbox.queue, &[], "1").await?;
        let receipt = inbox.next_of("receipt").await?;
        assert_eq!(receipt.text("job_id"), id);
        ids.push(id);
        if receipt.text("state") == "parked" {
            assert_eq!(receipt.text("parked_reason"), "the work queue orders is full");
            break;
        }
        anyhow::ensure!(ids.len() < 1000, "the queue is never full");
    }
    others_go_on(&shop, &mut other, "B").await?;
    world.rabbitmqctl(&["clear_policy", "-p", &world.name, "full"]).await?;
    let worker = worker_on(&world, TYPE, "orders").await?;
    until_done(&world, &ids).await?;
    worker.stop().await?;
    echo.stop().await?;
    Ok(server.stop().await?)
}

/// Somebody empties the work queue: nothing but the client, who sends its submission again, has the
/// job's body. It is dispatched again, under its number, and runs once.
#[tokio::test]
async fn h6_a_duplicate_of_a_job_whose_message_is_gone_is_dispatched_again() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server_with(|settings| settings.duplicate_redispatch_ms = 0).await?;
    world.demo_worker().await?.stop().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    shop.submit_job("demo.echo", "A-1", &inbox.queue, &[], "1").await?;
    assert_eq!(inbox.next_of("receipt").await?.text("state"), "queued");
    let admin = lapin::Connection::connect(&world.amqp_url("admin"), Default::default()).await?;
    let channel = admin.create_channel().await?;
    let queue = topology::work_queue(&QueueName::default());
    let purged = channel.queue_purge(queue.as_str().into(), Default::default()).await?;
    assert_eq!(purged, 1);
    shop.submit_job("demo.echo", "A-1", &inbox.queue, &[], "1").await?;
    assert_eq!(inbox.next_of("receipt").await?.body["duplicate"], json!(true));
    let worker = world.demo_worker().await?;
    until_done(&world, &["A-1".to_owned()]).await?;
    let done = world.record("shop", "A-1").await?.unwrap_or_default();
    assert_eq!((done.dispatch.as_deref(), done.attempt.as_deref()), (Some("1"), Some("1")));
    worker.stop().await?;
    Ok(server.stop().await?)
}

/// What AMQP holds in 255 bytes, filled to the last one where a client may, and every name as long
/// as its alphabet allows: nothing that is made of them is too long to be sent.
#[tokio::test]
async fn h33_names_as_long_as_they_may_be_go_all_the_way() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let job_type = JobType::parse(&"t".repeat(100))?;
    let queue = "q".repeat(64);
    world.work_queue(&queue).await?;
    let worker = worker_on(&world, job_type.as_str(), &queue).await?;
    let shop = world.raw("shop").await?;
    let name = "reply.shop.".len();
    let mut inbox = shop.inbox(&"r".repeat(255 - name)).await?;
    assert_eq!(inbox.queue.len(), 255);
    let job_id = "A".repeat(128);
    let longest = |letter: &str| Some(letter.repeat(255));
    let mut properties = Properties {
        correlation_id: longest("c"),
        app_id: longest("a"),
        content_type: longest("x"),
        content_encoding: longest("y"),
        ..shop.properties(&job_id, &inbox.queue)
    };
    for (header, value) in [("job-notify", "*".to_owned()), ("job-origin", "o".repeat(255))] {
        properties.headers.push(header, HeaderValue::Text(value));
    }
    shop.submit(job_type.as_str(), properties, "1").await?;
    assert_eq!(inbox.next_of("receipt").await?.text("job_id"), job_id);
    let end = inbox.event("succeeded").await?;
    assert_eq!(end.properties.correlation_id, longest("c"));
    assert_eq!((end.text("type"), end.text("queue")), (job_type.as_str(), queue.as_str()));
    shop.ask("status", &inbox.queue, json!({ "ticket": end.text("ticket") })).await?;
    let status = inbox.next_of("status").await?;
    assert_eq!((status.text("state"), status.text("job_id")), ("succeeded", job_id.as_str()));
    worker.stop().await?;
    Ok(server.stop().await?)
}
