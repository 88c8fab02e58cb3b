//! The line: what comes back to it, what it does not take, and who asks behind it.

use std::time::Duration;

use broker::{Consumer, Outcome, Publication, topology};
use client::Submission;
use futures_util::future::{join_all, try_join_all};
use harness::{World, eventually, within};
use nodes::{Deployment, Fsync};
use serde_json::json;

use crate::interleavings::{answer, fill_line, not_pending};

/// Takes so many deliveries of the line.
async fn take(line: &mut Consumer, count: usize) -> anyhow::Result<Vec<(u64, String)>> {
    let mut taken = Vec::new();
    while taken.len() < count {
        for delivery in within("the line", line.next_chunk(count - taken.len())).await?? {
            taken.push((delivery.tag, delivery.properties.message_id.unwrap_or_default()));
        }
    }
    Ok(taken)
}

/// Without a limit on deliveries RabbitMQ 3.10 puts what is returned behind everything else, and a
/// question would be answered in front of it. The line is declared with one.
#[tokio::test]
async fn h2_what_is_returned_to_the_line_comes_again_first() -> anyhow::Result<()> {
    let world = World::new().await?;
    let shop = world.raw("shop").await?;
    for n in 0..20 {
        shop.submit_job("demo.echo", &format!("A-{n}"), "", &[], "1").await?;
    }
    let server = world.raw("server").await?;
    let mut line = server.connection.consumer(topology::INTAKE_QUEUE, 10).await?;
    let held = take(&mut line, 10).await?;
    for (tag, _) in &held[..3] {
        line.acker().give_back(*tag).await?;
    }
    let mut again: Vec<String> = take(&mut line, 3).await?.into_iter().map(|(_, id)| id).collect();
    again.sort();
    assert_eq!(again, ["A-0", "A-1", "A-2"]);
    line.close().await;
    Ok(())
}

/// The store executes what it is given and does not answer: nobody knows what has become of the
/// submission, so nothing negative is said behind it.
#[tokio::test]
async fn h3_a_time_out_in_front_of_a_question_is_no_reason_to_say_unknown() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    let redis = world.own_redis(Fsync::Everysec)?;
    world.settings.redis.response_timeout_ms = 300;
    let server = world.server().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    let client = redis::Client::open(redis.url())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let pause = redis::cmd("CLIENT").arg(&["PAUSE", "600000", "WRITE"]).to_owned();
    let () = pause.query_async(&mut connection).await?;
    shop.submit_job("none.such", "A-1", &inbox.queue, &[], "1").await?;
    for _ in 0..3 {
        shop.ask("status", &inbox.queue, json!({ "job_id": "A-1" })).await?;
        let status = not_pending(&mut inbox).await?;
        assert_eq!(status.text("answer"), "unavailable", "{}", status.body);
    }
    shop.ask("status", &inbox.queue, json!({ "job_id": "A-1" })).await?;
    let () = redis::cmd("CLIENT").arg("UNPAUSE").query_async(&mut connection).await?;
    assert_eq!(inbox.next_of("receipt").await?.text("state"), "parked");
    shop.ask("status", &inbox.queue, json!({ "job_id": "A-1" })).await?;
    assert_eq!(answer(&mut inbox, "A-1").await?, "found");
    server.stop().await?;
    redis.stop();
    Ok(())
}

/// A line that takes nothing more says so to whoever publishes. What it has confirmed it keeps: it
/// does not make room by dropping the oldest.
#[tokio::test]
async fn h10_a_full_line_refuses_what_comes_and_drops_nothing_that_it_confirmed()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let shop = world.raw("shop").await?;
    let policy = ["set_policy", "-p", &world.name, "full", "^counterfoil.intake$"];
    let limit = [r#"{"max-length":5}"#, "--apply-to", "queues"];
    world.rabbitmqctl(&[&policy[..], &limit].concat()).await?;
    let (mut confirmed, mut refused) = (Vec::new(), 0);
    for n in 0.. {
        anyhow::ensure!(n < 1000, "the line is never full: {confirmed:?}");
        let id = format!("A-{n}");
        match shop.submit_job("none.such", &id, "", &[], "1").await {
            Ok(()) => confirmed.push(id),
            Err(_) => refused += 1,
        }
        if refused == 20 {
            break;
        }
    }
    assert!(confirmed.len() >= 5, "{confirmed:?}");
    let server = world.server().await?;
    for id in confirmed {
        eventually(&id, || world.record("shop", &id)).await?;
    }
    Ok(server.stop().await?)
}

/// Puts a world on nodes that nobody else is on, with one client.
pub(crate) async fn on_nodes_of_its_own(
    world: &mut World,
) -> anyhow::Result<(Deployment, client::Client)> {
    let free = nodes::ports::free(2)?;
    let (directory, prefix) = (world.directory.join("nodes"), world.name.clone());
    let nodes = tokio::task::spawn_blocking(move || {
        Deployment::start(&directory, (free[0], free[1]), &prefix, &["shop"], &[])
    });
    let nodes = nodes.await??;
    world.settings.amqp.url = nodes.amqp_url(broker::rights::SERVER_USER);
    world.settings.redis.url = nodes.redis_url(store::acl::SERVER_USER);
    let mut settings = world.client_settings("shop");
    settings.amqp.url = nodes.amqp_url("shop");
    Ok((nodes, client::Client::open(settings)?))
}

/// A broker that raises an alarm takes nothing from anybody, so nothing can be asked through it.
/// The store still answers; and when the alarm is over everything goes on by itself.
#[tokio::test]
async fn h10_after_an_alarm_of_the_broker_everything_goes_on() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    let (nodes, shop) = on_nodes_of_its_own(&mut world).await?;
    let server = world.server().await?;
    shop.submit(Submission::new("none.such", "1").job_id("A-1")).await?.accepted().await?;
    nodes.rabbitmq.control(&["set_vm_memory_high_watermark", "absolute", "1"])?;
    let submitted = shop.submit(Submission::new("none.such", "1").job_id("A-2")).await?;
    let blocked = tokio::time::timeout(Duration::from_secs(2), submitted.accepted()).await;
    assert!(blocked.is_err(), "{blocked:?}");
    let state = |record: store::Record| record.state;
    let read = world.record("shop", "A-1").await?.and_then(state);
    assert_eq!(read.as_deref(), Some("parked"));
    assert!(world.record("shop", "A-2").await?.is_none());
    nodes.rabbitmq.control(&["set_vm_memory_high_watermark", "0.4"])?;
    within("the receipt", submitted.accepted()).await??;
    assert_eq!(shop.status("A-2").await?.state.as_deref(), Some("parked"));
    shop.close().await;
    server.stop().await?;
    tokio::task::spawn_blocking(move || nodes.stop()).await?;
    Ok(())
}

/// Messages to several queues, the same id to each, some of which are not there: a return is laid
/// to the message that came back, not to one whose confirm came next.
#[tokio::test]
async fn h27_a_return_is_laid_to_the_message_that_came_back() -> anyhow::Result<()> {
    let world = World::new().await?;
    let shop = world.raw("shop").await?;
    let there = try_join_all(["a", "b"].map(|name| shop.inbox(name))).await?;
    let server = world.raw("server").await?;
    let publisher = server.connection.publisher().await?;
    let queues = ["reply.shop.a", "reply.shop.none", "reply.shop.b", "reply.shop.gone"];
    let batches = (0..50).map(|batch: usize| {
        let publisher = publisher.clone();
        async move {
            let order: Vec<&str> = (0..20).map(|n| queues[(n * 7 + batch) % 4]).collect();
            let messages = order.iter().map(|queue| Publication {
                exchange: topology::DEFAULT,
                routing_key: (*queue).to_owned(),
                mandatory: true,
                properties: protocol::Properties {
                    message_id: Some(format!("event-{}", batch / 4)),
                    ..Default::default()
                },
                body: b"{}".to_vec(),
            });
            let outcomes = publisher.publish(messages.collect()).await;
            order.into_iter().zip(outcomes).collect::<Vec<_>>()
        }
    });
    for (queue, outcome) in join_all(batches).await.into_iter().flatten() {
        let is_there = there.iter().any(|inbox| inbox.queue == queue);
        let expected = if is_there { Outcome::Confirmed } else { Outcome::Returned };
        assert_eq!(outcome, expected, "{queue}");
    }
    Ok(())
}

/// Registrars that died over a chunk again and again: what came back three times is decided one by
/// one, in order, with the question behind it.
#[tokio::test]
async fn h28_what_has_come_back_three_times_is_decided_in_its_order() -> anyhow::Result<()> {
    let world = World::new().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    for n in 0..20 {
        shop.submit_job("demo.echo", &format!("A-{n}"), "", &[], "1").await?;
    }
    for _ in 0..3 {
        let dying = world.raw("server").await?;
        let mut line = dying.connection.consumer(topology::INTAKE_QUEUE, 15).await?;
        take(&mut line, 15).await?;
        dying.connection.close().await;
    }
    let last = fill_line(&shop, &inbox, "B", 20).await?;
    let server = world.server().await?;
    assert_eq!(answer(&mut inbox, &last).await?, "found");
    for n in 0..20 {
        assert!(world.record("shop", &format!("A-{n}")).await?.is_some(), "A-{n}");
    }
    Ok(server.stop().await?)
}

/// Whoever asks behind a long line, or one that nobody works on, is told `pending` at once; the
/// final answer follows.
#[tokio::test]
async fn h35_whoever_asks_behind_a_long_line_is_told_so_at_once() -> anyhow::Result<()> {
    let world = World::new().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    let inquiry = world
        .server_with(|settings| {
            settings.roles = vec![server::Role::Inquiry];
            settings.pending_above = 5;
        })
        .await?;
    shop.ask("status", &inbox.queue, json!({ "job_id": "B-1" })).await?;
    assert_eq!(inbox.next_of("status").await?.text("answer"), "pending", "nobody works on it");
    // Now somebody does, and takes its time.
    let slow = world.raw("server").await?;
    let mut line = slow.connection.consumer(topology::INTAKE_QUEUE, 1).await?;
    take(&mut line, 1).await?;
    for n in 0..20 {
        shop.submit_job("none.such", &format!("A-{n}"), "", &[], "1").await?;
    }
    shop.ask("status", &inbox.queue, json!({ "job_id": "B-2" })).await?;
    let pending = inbox.next_of("status").await?;
    assert_eq!((pending.text("job_id"), pending.text("answer")), ("B-2", "pending"));
    assert!(!pending.text("as_of").is_empty(), "{}", pending.body);
    slow.connection.close().await;
    let registrar =
        world.server_with(|settings| settings.roles = vec![server::Role::Registrar]).await?;
    for id in ["B-1", "B-2"] {
        let last = inbox.next_of("status").await?;
        assert_eq!((last.text("job_id"), last.text("answer")), (id, "unknown"));
    }
    registrar.stop().await?;
    Ok(inquiry.stop().await?)
}
