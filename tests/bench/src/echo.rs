//! What a round trip over RabbitMQ costs without any of our logic.

use broker::{Connection, Publication, topology};
use protocol::Properties;

/// The queue of the echo.
pub const QUEUE: &str = "bench.echo";
const CHUNK: usize = 256;

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
    let mut consumer = consume.consumer(QUEUE, 1000).await?;
    let (publisher, acker) = (publish.publisher().await?, consumer.acker());
    println!("working");
    let echo = async {
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
    };
    tokio::select! {
        ended = echo => ended,
        told = crate::until_told() => told,
    }
}
