//! Faults of queues: those to which changes are pushed, and the work queue.

use std::sync::Arc;
use std::time::Duration;

use broker::topology::work_queue;
use job::QueueName;

use super::{Effect, Injector, Kind};
use crate::fleet::client_name;
use crate::load::spare_queue;

/// For so long a queue is full.
const FULL: Duration = Duration::from_millis(1500);
const POLICY: &str = "full";
/// Nothing fits in, and whoever publishes is told so.
const NOTHING_FITS: &str = r#"{"max-length":0,"overflow":"reject-publish"}"#;

impl Injector {
    pub(super) async fn queue(&self, kind: Kind) -> Effect {
        let clients = self.fleet.size().clients;
        let queue = spare_queue(&client_name(fastrand::usize(..clients)));
        let queue =
            if kind == Kind::WorkQueueFull { work_queue(&QueueName::default()) } else { queue };
        let has_hit = match kind {
            Kind::ReplyQueueDeleted => {
                self.control(vec!["delete_queue".into(), queue.clone()]).await
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
        Effect { queue: Some(queue), has_missed: !has_hit, ..Effect::default() }
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
