//! The queue of requests, and what stands between a request and its answer.

use harness::{Raw, World};
use nodes::Fsync;
use serde_json::json;

use crate::commands::{Runner, commands_of};
use crate::interleavings::not_pending;
use crate::line::on_nodes_of_its_own;
use crate::operate::{findings, run, with};

const KEY: &str = "COUNTERFOIL_AMQP_INQUIRY_QUEUE_TYPE";

/// As OPERATIONS.md says: the queue is deleted, `setup` makes it anew, and servers wait for it.
#[tokio::test]
async fn the_queue_of_requests_may_be_a_classic_one() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    for command in commands_of(Runner::Broker) {
        let arguments: Vec<&str> = command.split(' ').skip(1).collect();
        world.rabbitmqctl(&[&arguments[..], &["-p", &world.name]].concat()).await?;
    }
    let classic = with(&world, "admin", KEY, "classic");
    for _ in 0..2 {
        let (printed, exit) = run(&world, &classic, &["setup"]).await?;
        assert_eq!(exit, 0, "{printed:?}");
    }
    // By another setting it would be another queue.
    let (printed, exit) = run(&world, &world.environment("admin"), &["setup"]).await?;
    assert_ne!(exit, 0, "{printed:?}");

    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    shop.submit_job("none.such", "A-1", &inbox.queue, &[], "1").await?;
    assert_eq!(inbox.next_of("receipt").await?.text("state"), "parked");
    for (job_id, answer) in [("A-1", "found"), ("A-2", "unknown")] {
        shop.ask("status", &inbox.queue, json!({ "job_id": job_id })).await?;
        assert_eq!(not_pending(&mut inbox).await?.text("answer"), answer, "{job_id}");
    }
    shop.ask("cancel", &inbox.queue, json!({ "job_id": "A-1" })).await?;
    let cancelled = inbox.next_of_any(&["status", "refusal"]).await?;
    assert_eq!(cancelled.text("state"), "cancelled", "{}", cancelled.body);

    let doctor = ["doctor", "--management-url", &world.management_url()];
    for (environment, level) in [(&classic, "ok"), (&world.environment("admin"), "error")] {
        let (printed, _) = run(&world, environment, &doctor).await?;
        let found = findings(&printed);
        assert_eq!(found.get("queue arguments").map(String::as_str), Some(level), "{printed:#?}");
    }
    Ok(server.stop().await?)
}

/// These private nodes are those of `counterfoil dev`.
#[tokio::test]
async fn a_persistent_question_outlives_the_death_of_a_broker_of_one_node() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    let (mut nodes, client) = on_nodes_of_its_own(&mut world).await?;
    client.close().await;
    let amqp = broker::Settings { url: nodes.amqp_url("shop"), ..world.settings.amqp.clone() };
    let listed = nodes.rabbitmq.control(&["list_queues", "name", "type"])?;
    let classic = |line: &str| line.contains("counterfoil.inquiry") && line.contains("classic");
    assert!(listed.lines().any(classic), "{listed}");

    let server = world.server().await?;
    let shop = Raw::connect(amqp.clone(), "shop").await?;
    let mut inbox = shop.inbox("a").await?;
    shop.submit_job("none.such", "A-1", &inbox.queue, &[], "1").await?;
    inbox.next_of("receipt").await?;
    server.stop().await?;
    shop.ask("status", &inbox.queue, json!({ "job_id": "A-1" })).await?;
    let nodes = tokio::task::spawn_blocking(move || {
        nodes.rabbitmq.kill();
        nodes.rabbitmq.start_again().map(|()| nodes)
    });
    let nodes = nodes.await??;
    let server = world.server().await?;
    let shop = Raw::connect(amqp, "shop").await?;
    let status = shop.read(&inbox.queue).await?.next_of("status").await?;
    assert_eq!(status.text("answer"), "found", "{}", status.body);
    server.stop().await?;
    tokio::task::spawn_blocking(move || nodes.stop()).await?;
    Ok(())
}

/// On a connection that the registrar shares, the question would stand behind the submission whose
/// script the store does not carry out, and be answered `unavailable`.
#[tokio::test]
async fn a_question_about_a_recorded_job_does_not_wait_for_the_registrars_scripts()
-> anyhow::Result<()> {
    let mut world = World::new().await?;
    let redis = world.own_redis(Fsync::Everysec)?;
    let server = world.server().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    shop.submit_job("none.such", "A-1", &inbox.queue, &[], "1").await?;
    inbox.next_of("receipt").await?;
    let client = redis::Client::open(redis.url())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let pause = redis::cmd("CLIENT").arg(&["PAUSE", "600000", "WRITE"]).to_owned();
    let () = pause.query_async(&mut connection).await?;
    shop.submit_job("none.such", "A-2", &inbox.queue, &[], "1").await?;
    harness::eventually("the script waits", || async {
        let clients = redis::cmd("CLIENT").arg("LIST").to_owned();
        let clients: String = clients.query_async(&mut connection.clone()).await?;
        let waits = |client: &&str| client.contains("flags=b") && !client.contains("cmd=xread");
        Ok(clients.lines().find(waits).map(drop))
    })
    .await?;
    shop.ask("status", &inbox.queue, json!({ "job_id": "A-1" })).await?;
    assert_eq!(inbox.next_of("status").await?.text("answer"), "found");
    let () = redis::cmd("CLIENT").arg("UNPAUSE").query_async(&mut connection).await?;
    assert_eq!(inbox.next_of("receipt").await?.text("job_id"), "A-2");
    server.stop().await?;
    redis.stop();
    Ok(())
}

/// Reads are answered by a server that was demoted, and writes are not: who only reads would never
/// look for the new one.
#[tokio::test]
async fn what_one_connection_finds_demoted_the_other_leaves_too() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    let redis = world.own_redis(Fsync::Everysec)?;
    let store = world.store().await?;
    let apart = store.apart();
    apart.served_types().await?;
    let client = redis::Client::open(redis.url())?;
    let looking = client.get_multiplexed_async_connection().await?;
    let connected = || async {
        let list = redis::cmd("CLIENT").arg("LIST").to_owned();
        let list: String = list.query_async(&mut looking.clone()).await?;
        let id = |client: &str| client.split(' ').next().unwrap_or_default().to_owned();
        let others = list.lines().filter(|client| !client.contains("cmd=client"));
        anyhow::Ok(others.map(id).collect::<Vec<_>>())
    };
    let before = connected().await?;
    assert_eq!(before.len(), 2, "{before:?}");
    let demote = redis::cmd("REPLICAOF").arg(&["127.0.0.1", "1"]).to_owned();
    let () = demote.query_async(&mut looking.clone()).await?;
    assert!(store.alive(protocol::UnixMillis::now()).await.is_err());
    harness::eventually("both are given up", || async {
        let now = connected().await?;
        Ok(before.iter().all(|id| !now.contains(id)).then_some(()))
    })
    .await?;
    redis.stop();
    Ok(())
}
