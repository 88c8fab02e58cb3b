use harness::World;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties};

/// A quorum queue that confirms nothing, as when its majority is lost: its process is suspended.
#[derive(Debug)]
pub(crate) struct Hanging {
    process: String,
}

impl Hanging {
    /// Makes one, of a user's own.
    pub(crate) async fn new(world: &World, user: &str, queue: &str) -> anyhow::Result<Self> {
        let owner =
            Connection::connect(&world.amqp_url(user), ConnectionProperties::default()).await?;
        let channel = owner.create_channel().await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(queue.into(), durable, arguments).await?;
        let process = format!("'{}_{queue}'", world.name);
        world.rabbitmqctl(&["eval", &format!("sys:suspend({process}).")]).await?;
        Ok(Self { process })
    }

    /// Has it go on.
    pub(crate) async fn resume(self, world: &World) -> anyhow::Result<()> {
        world.rabbitmqctl(&["eval", &format!("sys:resume({}).", self.process)]).await.map(drop)
    }
}
