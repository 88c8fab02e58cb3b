//! The runs that are under way in this process, and the deliveries that belong to them.
//!
//! A run outlives the connection that brought its message: after a broker restart the message comes
//! again, and if it comes to this process it is attached to the run that goes on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use store::JobName;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::Context;

/// What acknowledges, or gives back, one delivery. It may be of a session that is over.
#[derive(Debug, Clone)]
pub(crate) struct Receipt {
    pub(crate) tag: u64,
    pub(crate) acks: mpsc::UnboundedSender<Settle>,
}

/// What is to be done with a delivery.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Settle {
    Ack(u64),
    GiveBack(u64),
}

impl Receipt {
    /// Acknowledges. If the session is over the message comes again, and its claim says what then.
    pub(crate) fn ack(&self) {
        self.acks.send(Settle::Ack(self.tag)).ok();
    }

    /// Returns the message to its queue.
    pub(crate) fn give_back(&self) {
        self.acks.send(Settle::GiveBack(self.tag)).ok();
    }
}

/// One run.
pub(crate) struct Run {
    pub(crate) context: Context,
    pub(crate) delivered_at: Instant,
    pub(crate) started_at: Instant,
    pub(crate) delivery: Mutex<Option<Receipt>>,
    /// The epoch in which the store was last told that it runs here, or that it is detached.
    pub(crate) epoch: AtomicU64,
    /// Ended early, because the worker shuts down.
    pub(crate) given_back: tokio_util::sync::CancellationToken,
}

impl Run {
    /// Takes the delivery that is to be settled, if the run has one still.
    pub(crate) fn take_delivery(&self) -> Option<Receipt> {
        self.delivery.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether the store was rolled back since it was told of this run: it may have lost that the
    /// run is detached, by this worker or by another one, and its message may be gone.
    pub(crate) fn is_of_before(&self, epoch: u64) -> bool {
        self.epoch.load(Ordering::Relaxed) != epoch
    }

    /// Whether the run no longer depends on a message.
    pub(crate) fn is_detached(&self) -> bool {
        self.delivery.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

#[derive(Default)]
pub(crate) struct Runs {
    by_job: Mutex<HashMap<JobName, Arc<Run>>>,
    /// Told whenever a run ends.
    pub(crate) ended: Notify,
}

impl Runs {
    pub(crate) fn add(&self, run: Arc<Run>) {
        self.lock().insert(run.context.inner.name.clone(), run);
    }

    pub(crate) fn remove(&self, run: &Arc<Run>) {
        let name = &run.context.inner.name;
        let mut runs = self.lock();
        // A later attempt of the same job may have taken the place.
        if runs.get(name).is_some_and(|known| Arc::ptr_eq(known, run)) {
            runs.remove(name);
        }
        drop(runs);
        self.ended.notify_waiters();
    }

    /// Attaches a delivery to the run that holds a fence. Whether there is such a run.
    pub(crate) fn attach(&self, name: &JobName, fence: &str, receipt: Receipt) -> bool {
        let runs = self.lock();
        let Some(run) = runs.get(name).filter(|run| run.context.fence() == fence) else {
            return false;
        };
        let before = run.delivery.lock().unwrap_or_else(PoisonError::into_inner).replace(receipt);
        // A copy of the same message, or one of a session that is over, which ignores this.
        if let Some(before) = before {
            before.ack();
        }
        true
    }

    pub(crate) fn all(&self) -> Vec<Arc<Run>> {
        self.lock().values().cloned().collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Waits until nothing runs.
    pub(crate) async fn none_left(&self) {
        loop {
            let ended = self.ended.notified();
            if self.is_empty() {
                return;
            }
            ended.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobName, Arc<Run>>> {
        self.by_job.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
