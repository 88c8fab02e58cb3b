//! Faults of queues: those to which changes are pushed, and the work queue.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use broker::topology::work_queue;
use job::QueueName;
use lapin::options::{BasicGetOptions, QueueDeleteOptions};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::{Connection, ConnectionProperties, ErrorKind};
use serde_json::Value;

use super::{Effect, Injector, Kind};
use crate::fleet::client_name;
use crate::load::spare_queue;

/// For so long a queue is full.
const FULL: Duration = Duration::from_millis(1500);
/// To delete one takes no longer, or the broker is away. Other faults may hold the nodes first.
const DELETED_WITHIN: Duration = Duration::from_secs(30);
const POLICY: &str = "full";
/// Nothing fits in, and whoever publishes is told so.
const NOTHING_FITS: &str = r#"{"max-length":0,"overflow":"reject-publish"}"#;

impl Injector {
    pub(super) async fn queue(&self, kind: Kind) -> Effect {
        let clients = self.fleet.size().clients;
        let client = client_name(fastrand::usize(..clients));
        let queue = spare_queue(&client);
        let queue =
            if kind == Kind::WorkQueueFull { work_queue(&QueueName::default()) } else { queue };
        let mut taken = Vec::new();
        let has_hit = match kind {
            Kind::ReplyQueueDeleted => {
                let deleting = self.delete(&client, &queue, &mut taken);
                match tokio::time::timeout(DELETED_WITHIN, deleting).await {
                    Ok(Ok(())) => true,
                    other => {
                        tracing::debug!(?other, queue, "deleting");
                        false
                    }
                }
            }
            _ => {
                let pattern = format!("^{}$", queue.replace('.', r"\."));
                let set = ["set_policy", POLICY, &pattern, NOTHING_FITS, "--apply-to", "queues"];
                let has_hit = self.control(set.map(str::to_owned).into()).await;
                tokio::time::sleep(FULL).await;
                // A broker that was killed in between has the policy still.
                while has_hit && !self.control(vec!["clear_policy".into(), POLICY.into()]).await {
                    tokio::time::sleep(FULL).await;
                }
                has_hit
            }
        };
        Effect { queue: Some(queue), has_missed: !has_hit, taken, ..Effect::default() }
    }

    /// Deletes a queue in a moment in which nothing is in it, so that it is known what went with
    /// it: what is found there is taken first. Its reader is cut off before, or what the reader has
    /// not acknowledged would go as well.
    async fn delete(
        &self,
        client: &str,
        queue: &str,
        taken: &mut Vec<Value>,
    ) -> anyhow::Result<()> {
        // The virtual host "/".
        let url = format!("{}%2f", self.world.lock().await.direct_amqp_url(client));
        let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
        let cut = format!(
            r#"{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"{queue}">>)),
               [exit(element(1, C), kill) || C <- rabbit_amqqueue:consumers(Q)]."#
        );
        let (get, unheld) = (
            BasicGetOptions::default(),
            QueueDeleteOptions { if_unused: true, if_empty: true, nowait: false },
        );
        loop {
            let is_cut = self.control(vec!["eval".into(), cut.clone()]).await;
            ensure!(is_cut, "its reader was not cut off");
            let channel = connection.create_channel().await?;
            while let Some(message) = channel.basic_get(queue.into(), get).await? {
                taken.push(serde_json::from_slice(&message.delivery.data)?);
            }
            match channel.queue_delete(queue.into(), unheld).await {
                Ok(_) => return Ok(()),
                Err(error) if is_held(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether it was done: the broker may be away, the queue not there.
    async fn control(&self, words: Vec<String>) -> bool {
        let world = Arc::clone(&self.world);
        let run = move || {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            world.blocking_lock().rabbitmq.control(&words)
        };
        match tokio::task::spawn_blocking(run).await {
            Ok(Ok(_)) => true,
            other => {
                tracing::debug!(?other, "rabbitmqctl");
                false
            }
        }
    }
}

/// Something has come in between, or its reader has come back.
fn is_held(error: &lapin::Error) -> bool {
    let ErrorKind::ProtocolError(error) = error.kind() else { return false };
    *error.kind() == AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED)
}
