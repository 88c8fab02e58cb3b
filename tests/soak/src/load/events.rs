//! A durable queue of events, read by a consumer of its own.

use std::sync::Arc;
use std::time::Duration;

use broker::Connection;

use super::{SPARE, Shared};
use crate::history::Seen;

/// A queue that is not read for so long goes.
const EXPIRES_MS: u32 = 3_600_000;

/// After so long a queue is declared again that could not be read.
const AWAY: Duration = Duration::from_millis(300);
/// The same of one that is deleted: much is sent to it meanwhile, and comes back.
const AWAY_LONG: Duration = Duration::from_secs(3);

/// Reads until the end, over as many connections as it takes.
pub(super) async fn listen(shared: Arc<Shared>, queue: fn(&str) -> String) {
    let queue = queue(shared.client.name());
    let away = if queue.ends_with(SPARE) { AWAY_LONG } else { AWAY };
    while !shared.is_over() {
        let ended = tokio::select! {
            ended = read(&shared, &queue) => ended,
            () = shared.stop.cancelled() => return,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "events");
        }
        shared.pause(away).await;
    }
}

async fn read(shared: &Shared, queue: &str) -> anyhow::Result<()> {
    let connection = Connection::open(&shared.amqp, "soak events").await?;
    connection.declare_durable_inbox(queue, EXPIRES_MS).await?;
    let mut consumer = connection.consumer(queue, 500).await?;
    let acker = consumer.acker();
    loop {
        let chunk = consumer.next_chunk(100).await?;
        for delivery in &chunk {
            shared.log.write(Seen::Told {
                kind: delivery.properties.kind.clone().unwrap_or_default(),
                asked: None,
                ticket: None,
                message_id: delivery.properties.message_id.clone(),
                answer: serde_json::from_slice(&delivery.body)?,
            });
        }
        // After it is written down: what was not comes again.
        acker.ack(&chunk.iter().map(|delivery| delivery.tag).collect::<Vec<_>>()).await?;
    }
}
