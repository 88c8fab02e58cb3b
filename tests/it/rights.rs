//! Least rights: each user of RabbitMQ and Redis can do its part, and nothing else.

use broker::topology::QueueType;
use harness::{World, workspace};
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ErrorKind, ExchangeKind};
use redis::AsyncCommands as _;
use store::acl::{READER_USER, SERVER_USER, WORKER_USER};

/// What a user tries.
#[derive(Debug, Clone, Copy)]
enum Try {
    Declare(&'static str),
    Publish(&'static str, &'static str),
    Consume(&'static str),
    DeclareExchange(&'static str),
    DeleteQueue(&'static str),
}

async fn attempt(channel: &Channel, attempt: Try) -> Result<(), lapin::Error> {
    let table = FieldTable::default;
    match attempt {
        Try::Declare(queue) => {
            let options = QueueDeclareOptions { durable: true, ..Default::default() };
            channel.queue_declare(queue.into(), options, table()).await.map(drop)
        }
        Try::Publish(exchange, key) => {
            let options = BasicPublishOptions::default();
            let properties = BasicProperties::default();
            channel
                .basic_publish(exchange.into(), key.into(), options, b"{}", properties)
                .await?
                .await?;
            // A publisher hears of a refusal when the channel is closed: ask for something else.
            let passive = QueueDeclareOptions { passive: true, ..Default::default() };
            channel.queue_declare("counterfoil.intake".into(), passive, table()).await.map(drop)
        }
        Try::Consume(queue) => {
            let options = BasicConsumeOptions::default();
            channel.basic_consume(queue.into(), "".into(), options, table()).await.map(drop)
        }
        Try::DeclareExchange(name) => {
            let options = ExchangeDeclareOptions::default();
            let kind = ExchangeKind::Fanout;
            channel.exchange_declare(name.into(), kind, options, table()).await
        }
        Try::DeleteQueue(queue) => {
            channel.queue_delete(queue.into(), Default::default()).await.map(drop)
        }
    }
}

/// Whether RabbitMQ lets the user do it.
async fn may(world: &World, user: &str, wish: Try) -> anyhow::Result<bool> {
    let url = world.amqp_url(user);
    loop {
        let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let done = attempt(&channel, wish).await;
        connection.close(200, "done".into()).await.ok();
        match done {
            Ok(()) => return Ok(true),
            Err(error) if error.to_string().contains("ACCESS") => return Ok(false),
            // The refusal was on its way, and its reason is not said any more.
            Err(error) if matches!(error.kind(), ErrorKind::InvalidChannelState(..)) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Redis loads its append-only file with the rights of the user `default`; when that user had none,
/// everything that scripts had written was dropped at each restart, with a line in Redis's log.
#[tokio::test]
async fn promise_02_what_was_accepted_outlives_a_restart_of_redis_with_the_shipped_users()
-> anyhow::Result<()> {
    let mut world = World::new().await?;
    let acl = store::acl::render(&world.name, Some(nodes::PASSWORD));
    let (directory, port) = (world.directory.join("redis"), nodes::ports::free(1)?[0]);
    let mut redis = nodes::Redis::start_with_users(&directory, port, nodes::Fsync::Always, &acl)?;
    world.settings.redis.url = redis.url_of(store::acl::SERVER_USER, nodes::PASSWORD);
    let (server, worker) = (world.server().await?, world.demo_worker().await?);
    let shop = world.client("shop")?;
    for (id, job_type) in [("A-1", "demo.echo"), ("A-2", "nobody.serves")] {
        let submission = client::Submission::new(job_type, "1").job_id(id);
        shop.submit(submission).await?.accepted().await?;
    }
    shop.wait("A-1", std::time::Duration::from_secs(30), |_| {}).await?;
    for killed in [false, true] {
        if killed {
            redis.kill();
        } else {
            redis.stop_and_wait();
        }
        redis.start_again()?;
        for (id, state) in [("A-1", "succeeded"), ("A-2", "parked")] {
            let status = harness::eventually("an answer", || async {
                let status = shop.status(id).await?;
                Ok((status.answer != protocol::AnswerWord::Unavailable).then_some(status))
            })
            .await?;
            assert_eq!(status.state.as_deref(), Some(state), "{id}: {status:?}");
        }
    }
    worker.stop().await?;
    Ok(server.stop().await?)
}

#[tokio::test]
async fn each_user_of_rabbitmq_may_do_its_part_and_nothing_else() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (own, others) = ("reply.shop.a", "reply.till.a");
    let work = "counterfoil.work.default";
    assert!(may(&world, "till", Try::Declare(others)).await?);
    for (user, wish, allowed) in [
        ("shop", Try::Declare(own), true),
        ("shop", Try::Consume(own), true),
        ("shop", Try::Publish("counterfoil.submit", "order.place"), true),
        ("shop", Try::Publish("counterfoil.request", "status"), true),
        ("shop", Try::Declare("reply.shopper.a"), false),
        ("shop", Try::Declare("reply.shop"), false),
        ("shop", Try::Declare("orders"), false),
        ("shop", Try::DeclareExchange("reply.shopping"), false),
        ("shop", Try::Consume(others), false),
        ("shop", Try::DeleteQueue(others), false),
        ("shop", Try::Consume("counterfoil.intake"), false),
        ("shop", Try::Consume("counterfoil.dead"), false),
        ("shop", Try::Consume(work), false),
        ("shop", Try::DeleteQueue("counterfoil.intake"), false),
        ("shop", Try::Publish("counterfoil.line", ""), false),
        ("shop", Try::Publish("counterfoil.work", "default"), false),
        ("shop", Try::Publish("counterfoil.dead", ""), false),
        ("shop", Try::Publish("counterfoil.dropped", ""), false),
        ("shop", Try::Publish("", "counterfoil.intake"), false),
        ("shop", Try::Publish("", others), false),
        ("worker", Try::Consume(work), true),
        ("worker", Try::Publish("counterfoil.dead", ""), true),
        ("worker", Try::Publish("counterfoil.work", "default"), false),
        ("worker", Try::Publish("counterfoil.submit", "order.place"), false),
        ("worker", Try::Publish("", others), false),
        ("worker", Try::Consume("counterfoil.intake"), false),
        ("worker", Try::Declare("counterfoil.work.more"), false),
        ("server", Try::Consume("counterfoil.intake"), true),
        ("server", Try::Publish("counterfoil.line", ""), true),
        ("server", Try::Publish("", others), true),
        ("server", Try::Consume(work), false),
        ("server", Try::Consume(others), false),
        ("server", Try::Publish("counterfoil.submit", "order.place"), false),
        ("server", Try::Declare("counterfoil.work.more"), false),
        ("server", Try::DeleteQueue("counterfoil.intake"), false),
    ] {
        assert_eq!(may(&world, user, wish).await?, allowed, "{user}: {wish:?}");
    }
    Ok(())
}

async fn redis(world: &World, user: &str) -> anyhow::Result<redis::aio::MultiplexedConnection> {
    let url = world.settings.redis.url.replace(SERVER_USER, user);
    Ok(redis::Client::open(url)?.get_multiplexed_async_connection().await?)
}

/// A reader reads records, tickets, timelines and lists; it changes nothing, and reads neither the
/// secret nor what waits to be delivered.
#[tokio::test]
async fn a_reader_of_redis_reads_jobs_and_changes_nothing() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    shop.submit_job("order.place", "A-1", &inbox.queue, &[("job-tags", "vip")], "{}").await?;
    let ticket = inbox.next_of("receipt").await?.text("ticket").to_owned();
    let prefix = &world.name;
    let job = format!("{prefix}:{{0}}:job:shop:A-1");
    let mut reader = redis(&world, READER_USER).await?;
    let state: String = reader.hget(&job, "state").await?;
    assert_eq!(state, "parked");
    let named: String = reader.get(format!("{prefix}:{{0}}:ticket:{ticket}")).await?;
    assert_eq!(named, "shop:A-1");
    let history: Vec<String> =
        reader.lrange(format!("{prefix}:{{0}}:history:shop:A-1"), 0, -1).await?;
    assert_eq!(history.len(), 1);
    for set in ["client:shop", "tag:shop:vip", "parked:order.place"] {
        let members: u64 = reader.zcard(format!("{prefix}:{{0}}:{set}")).await?;
        assert_eq!(members, 1, "{set}");
    }
    for forbidden in [
        redis::cmd("HSET").arg(&job).arg("state").arg("succeeded"),
        redis::cmd("DEL").arg(&job),
        redis::cmd("EXPIRE").arg(&job).arg(1),
        redis::cmd("GET").arg(format!("{prefix}:secret")),
        redis::cmd("XRANGE").arg(format!("{prefix}:{{0}}:outbox")).arg("-").arg("+"),
        redis::cmd("EVAL").arg("return 1").arg(0),
        redis::cmd("KEYS").arg("*"),
        redis::cmd("CONFIG").arg("GET").arg("*"),
        redis::cmd("FLUSHALL").arg("ASYNC"),
    ] {
        let done: Result<redis::Value, _> = forbidden.query_async(&mut reader).await;
        let error = done.err().map(|error| error.code().unwrap_or_default().to_owned());
        assert_eq!(error.as_deref(), Some("NOPERM"), "{:?}", forbidden.args_iter().next());
    }
    Ok(server.stop().await?)
}

#[tokio::test]
async fn server_and_worker_cannot_harm_what_is_not_theirs_in_redis() -> anyhow::Result<()> {
    let world = World::new().await?;
    for user in [SERVER_USER, WORKER_USER] {
        let mut own = redis(&world, user).await?;
        for forbidden in [
            redis::cmd("FLUSHALL").arg("ASYNC"),
            redis::cmd("CONFIG").arg("SET").arg("appendonly").arg("no"),
            redis::cmd("SHUTDOWN").arg("NOSAVE"),
            redis::cmd("ACL").arg("LIST"),
            redis::cmd("SET").arg("other:key").arg(1),
        ] {
            let done: Result<redis::Value, _> = forbidden.query_async(&mut own).await;
            let error = done.err().map(|error| error.code().unwrap_or_default().to_owned());
            assert_eq!(error.as_deref(), Some("NOPERM"), "{user}");
        }
    }
    Ok(())
}

/// The files that are shipped are what `counterfoil setup --print` gives. `UPDATE_GOLDEN=1` writes
/// them.
#[test]
fn the_shipped_users_and_rights_are_what_setup_prints() -> anyhow::Result<()> {
    let rabbitmq = vec!["rabbitmq", "--client", "shop"];
    let one_node = ("COUNTERFOIL_AMQP_INQUIRY_QUEUE_TYPE", QueueType::Classic.as_str());
    for (file, set, arguments) in [
        ("deploy/rabbitmq/definitions.json", None, rabbitmq.clone()),
        ("deploy/rabbitmq/one-node.json", Some(one_node), rabbitmq),
        ("deploy/redis/users.acl", None, vec!["redis"]),
    ] {
        let output = std::process::Command::new(harness::binary("counterfoil")?)
            .args(["setup", "--print"])
            .args(arguments)
            .env_clear()
            .envs(set)
            .output()?;
        let printed = String::from_utf8(output.stdout)?;
        let path = workspace().join(file);
        if std::env::vars().any(|(name, _)| name == "UPDATE_GOLDEN") {
            std::fs::write(&path, &printed)?;
        }
        let shipped = std::fs::read_to_string(&path)?;
        assert_eq!(shipped, printed, "{file}");
    }
    Ok(())
}
