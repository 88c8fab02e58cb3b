//! Where versions of RabbitMQ or Redis differ. `make lanes` runs every test on each of them.

use std::collections::BTreeMap;

use broker::topology;
use harness::{Process, Raw, World, eventually};
use nodes::{Distribution, Store};
use protocol::Properties;
use serde_json::json;
use server::Role;

/// The line of `make lanes`' table is read from here.
#[tokio::test]
async fn the_nodes_are_those_that_were_asked_for() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (product, rabbitmq) = broker::greeting(&world.settings.amqp).await?;
    let client = redis::Client::open(world.redis_url())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let said: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
    let of = |name: &str| {
        let values = said.lines().filter_map(|line| line.trim().split_once(':'));
        values.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    };
    let (store, version) = match of("valkey_version") {
        Some(version) => (Store::Valkey, version),
        None => (Store::Redis, of("redis_version").unwrap_or_default()),
    };
    println!("nodes: {product} {rabbitmq}, {store:?} {version}");
    let asked_for = Distribution::current();
    assert_eq!(store, asked_for.store());
    if let Some(tree) = asked_for.tree() {
        let library = format!("usr/lib/rabbitmq/lib/rabbitmq_server-{rabbitmq}");
        assert!(tree.join(&library).is_dir(), "RabbitMQ {rabbitmq} is not of {}", tree.display());
    }
    Ok(())
}

/// From 4.0 on a quorum queue delivers what has a priority of 5 and more before what has less. A
/// question joins the line without one, whatever it was asked with; a submission that has one is
/// refused. So no question passes a submission that is accepted, nor one that is refused.
#[tokio::test]
async fn promise_05_no_priority_of_a_message_makes_unknown_untrue() -> anyhow::Result<()> {
    const PRIORITIES: [Option<u8>; 7] =
        [None, Some(0), Some(3), Some(4), Some(5), Some(9), Some(255)];
    const FILLERS: usize = 40;
    let world = World::new().await?;
    // Questions join the line, and nobody decides it yet.
    let inquiry = world.server_with(|settings| settings.roles = vec![Role::Inquiry]).await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    for n in 0..FILLERS {
        shop.submit_job("demo.echo", &format!("filler-{n}"), "", &[], "1").await?;
    }
    for (n, priority) in PRIORITIES.into_iter().enumerate() {
        let id = format!("A-{n}");
        let submission = Properties { priority, ..shop.properties(&id, "") };
        shop.submit("demo.echo", submission, "1").await?;
        for priority in PRIORITIES {
            let question = Properties { priority, ..shop.properties("", &inbox.queue) };
            let body = json!({ "job_id": id }).to_string();
            shop.publish(topology::REQUEST, "status", question, body).await?;
        }
    }
    let questions = PRIORITIES.len() * PRIORITIES.len();
    in_line(&shop, FILLERS + PRIORITIES.len() + questions).await?;
    let server = world.server().await?;
    let mut answered: BTreeMap<(String, String), usize> = BTreeMap::new();
    while answered.values().sum::<usize>() < questions {
        let status = inbox.next_of("status").await?;
        if status.text("answer") != "pending" {
            let about = (status.text("job_id").to_owned(), status.text("answer").to_owned());
            *answered.entry(about).or_default() += 1;
        }
    }
    let expected = PRIORITIES.into_iter().enumerate().map(|(n, priority)| {
        let answer = if priority.is_none() { "found" } else { "refused" };
        ((format!("A-{n}"), answer.to_owned()), PRIORITIES.len())
    });
    assert_eq!(answered, expected.collect());
    inquiry.stop().await?;
    Ok(server.stop().await?)
}

async fn in_line(shop: &Raw, messages: usize) -> anyhow::Result<()> {
    eventually("everything to be in the line", || async {
        let depth = shop.connection.depth(topology::INTAKE_QUEUE).await?;
        Ok((depth.ready as usize == messages).then_some(()))
    })
    .await
}

/// RabbitMQ 4 deletes a message that has come back 20 times, unless its queue says otherwise.
#[tokio::test]
async fn twenty_five_registrar_deaths_over_one_submission_lose_nothing() -> anyhow::Result<()> {
    const DEATHS: u32 = 25;
    let world = World::new().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    shop.submit_job("demo.echo", "A-1", &inbox.queue, &[], "1").await?;
    let mut environment = world.environment("server");
    environment.push(("FAULTS_CRASH_AT".to_owned(), "registrar.read".to_owned()));
    for death in 1..=DEATHS {
        let (registrar, _) = Process::start(
            "counterfoil",
            &["server", "--roles", "registrar"],
            &environment,
            &world.directory,
        )?;
        // A signal ended it, and no status did.
        assert_eq!(registrar.ended().await?, None, "death {death}");
    }
    // Nothing reads what the broker drops before a whole server runs.
    in_line(&shop, 1).await?;
    assert_eq!(shop.connection.depth(topology::DROPPED_QUEUE).await?.ready, 0);
    let server = world.server().await?;
    let receipt = inbox.next_of("receipt").await?;
    assert_eq!((receipt.text("job_id"), receipt.text("answer")), ("A-1", "found"));
    assert!(world.record("shop", "A-1").await?.is_some());
    for queue in [topology::DROPPED_QUEUE, topology::DEAD_QUEUE] {
        assert_eq!(shop.connection.depth(queue).await?.ready, 0, "{queue}");
    }
    Ok(server.stop().await?)
}
