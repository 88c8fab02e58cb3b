//! What a round trip over RabbitMQ costs without any of our logic.

use broker::{Connection, Consumer, Publication, Publisher, topology};
use job::QueueName;
use protocol::Properties;

/// The queue of the echo, a classic one.
pub const QUEUE: &str = "bench.echo";
/// The work queue whose messages come back as well: a quorum queue, as the one for questions is.
pub const QUORUM: &str = "echo";
const CHUNK: usize = 256;
const PREFETCH: u16 = 1000;

#[derive(serde::Deserialize)]
struct Settings {
    amqp: broker::Settings,
}

/// Sends back every message to where it names.
///
/// # Errors
/// The broker fails.
pub async fn serve() -> anyhow::Result<()> {
    let Settings { amqp } = settings::load(None)?;
    let consume = Connection::open(&amqp, "echo").await?;
    let publish = Connection::open(&amqp, "echo").await?;
    consume.declare_inbox(QUEUE).await?;
    let quorum = QueueName::parse(QUORUM)?;
    consume.declare_work_queue(&quorum).await?;
    let classic = consume.consumer(QUEUE, PREFETCH).await?;
    let quorum = consume.consumer(&topology::work_queue(&quorum), PREFETCH).await?;
    let classic = send_back(classic, publish.publisher().await?);
    let quorum = send_back(quorum, publish.publisher().await?);
    println!("working");
    tokio::select! {
        ended = classic => ended,
        ended = quorum => ended,
        told = crate::until_told() => told,
    }
}

async fn send_back(mut consumer: Consumer, publisher: Publisher) -> anyhow::Result<()> {
    let acker = consumer.acker();
    loop {
        let chunk = consumer.next_chunk(CHUNK).await?;
        let through = chunk.last().map_or(0, |delivery| delivery.tag);
        let answers = chunk.into_iter().map(|delivery| Publication {
            exchange: topology::DEFAULT,
            routing_key: delivery.properties.reply_to.clone().unwrap_or_default(),
            mandatory: true,
            properties: Properties {
                correlation_id: delivery.properties.correlation_id,
                ..Properties::default()
            },
            body: delivery.body,
        });
        publisher.publish(answers.collect()).await;
        acker.ack_through(through).await?;
    }
}
