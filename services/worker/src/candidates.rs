//! From deliveries to candidates: `decode`, the first step of [`crate::execution`].

use std::sync::Arc;
use std::time::Duration;

use broker::{Delivery, Outcome, Publication, Publisher, dead_letter};
use job::QueueName;
use protocol::{WorkMessage, bundle};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;

use crate::registry::Entry;
use crate::runs::{Receipt, Settle};
use crate::shared::Shared;

/// A message that nobody here can run is held for a moment before it goes back, so that it does not
/// fly around if nobody else can either.
const NOT_OURS_PAUSE: Duration = Duration::from_millis(200);

/// A job whose message is ours to run.
pub(crate) struct Candidate {
    pub(crate) message: WorkMessage,
    pub(crate) entry: Entry,
    pub(crate) receipt: Receipt,
    pub(crate) redelivered: bool,
    pub(crate) delivered_at: Instant,
    pub(crate) nonce: String,
    /// This process was told to attach the message to a run, and has no such run.
    pub(crate) not_here: bool,
    pub(crate) dead: Publisher,
    /// The slot that it is to run in.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

impl Candidate {
    /// Goes back to its queue: nobody here can run it in time.
    pub(crate) fn give_back(self) {
        self.receipt.give_back();
    }

    /// Gets a slot.
    pub(crate) fn with(self, permit: OwnedSemaphorePermit) -> Self {
        Self { permit: Some(permit), ..self }
    }
}

/// Reads a delivery, which may be of several jobs. What is no message of this deployment is kept in
/// the dead-letter queue; what another worker has to run goes back.
pub(crate) fn decode(
    shared: &Arc<Shared>,
    queue: &QueueName,
    delivery: Delivery,
    acks: &mpsc::UnboundedSender<Settle>,
    dead: &Publisher,
) -> Vec<Candidate> {
    let key = shared.store.ticket_key();
    let messages = match bundle::read(queue, &delivery.properties, &delivery.body, key) {
        Ok(messages) => messages,
        Err(reason) => {
            let receipt = Receipt::new(delivery.tag, acks.clone(), 1);
            let reason = reason.to_string();
            bury(dead.clone(), dead_letter(&delivery, &reason), &reason, receipt);
            return Vec::new();
        }
    };
    let receipt = Receipt::new(delivery.tag, acks.clone(), messages.len());
    let candidate = |message| candidate(shared, message, &delivery, receipt.clone(), dead);
    messages.into_iter().filter_map(candidate).collect()
}

fn candidate(
    shared: &Shared,
    message: WorkMessage,
    delivery: &Delivery,
    receipt: Receipt,
    dead: &Publisher,
) -> Option<Candidate> {
    let Some(entry) = shared.registry.get(&message.job_type).cloned() else {
        tracing::debug!(job_type = %message.job_type, "not served here: given back");
        tokio::spawn(async move {
            tokio::time::sleep(NOT_OURS_PAUSE).await;
            receipt.give_back();
        });
        return None;
    };
    Some(Candidate {
        message,
        entry,
        receipt,
        redelivered: delivery.redelivered,
        delivered_at: Instant::now(),
        nonce: format!("{:016x}", fastrand::u64(..)),
        not_here: false,
        dead: dead.clone(),
        permit: None,
    })
}

/// Keeps a message in the dead-letter queue; gives it back, after a pause, if that does not work.
pub(crate) fn bury(dead: Publisher, letter: Publication, reason: &str, receipt: Receipt) {
    let id = letter.properties.message_id.as_deref().unwrap_or_default();
    tracing::warn!(id, reason, "kept in the dead-letter queue");
    tokio::spawn(async move {
        let kept = dead.publish(vec![letter]).await;
        if matches!(kept[..], [Outcome::Confirmed]) {
            receipt.ack();
        } else {
            tokio::time::sleep(NOT_OURS_PAUSE).await;
            receipt.give_back();
        }
    });
}
