//! The runs that are under way in this process, and the deliveries that belong to them.
//!
//! A run outlives the connection that brought its message: after a broker restart the message comes
//! again, and if it comes to this process it is attached to the run that goes on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use store::JobName;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::Context;

/// What acknowledges, or gives back, the delivery of one job. It may be of a session that is over.
/// A delivery of several jobs is settled with the last of them.
#[derive(Debug, Clone)]
pub(crate) struct Receipt {
    tag: u64,
    acks: mpsc::UnboundedSender<Settle>,
    jobs: Arc<Jobs>,
}

/// The jobs of one delivery.
#[derive(Debug)]
struct Jobs {
    unsettled: AtomicUsize,
    /// One of them is to come again, and so the message is.
    comes_again: AtomicBool,
}

/// What is to be done with a delivery.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Settle {
    Ack(u64),
    GiveBack(u64),
}

impl Receipt {
    /// The receipt of a delivery, to be cloned for each of its jobs.
    pub(crate) fn new(tag: u64, acks: mpsc::UnboundedSender<Settle>, jobs: usize) -> Self {
        let (unsettled, comes_again) = (AtomicUsize::new(jobs), AtomicBool::new(false));
        Self { tag, acks, jobs: Arc::new(Jobs { unsettled, comes_again }) }
    }

    /// Acknowledges. If the session is over the message comes again, and its claim says what then.
    pub(crate) fn ack(self) {
        self.settle();
    }

    /// Returns the message to its queue. What of it is done by then is told by the claim.
    pub(crate) fn give_back(self) {
        self.jobs.comes_again.store(true, Ordering::Relaxed);
        self.settle();
    }

    fn settle(self) {
        // Whoever is the last sees what the others have stored.
        if self.jobs.unsettled.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let settle = match self.jobs.comes_again.load(Ordering::Relaxed) {
            true => Settle::GiveBack(self.tag),
            false => Settle::Ack(self.tag),
        };
        // The session may be over.
        self.acks.send(settle).ok();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_of_several_jobs_is_settled_once_with_the_last_of_them() {
        let (acks, mut settled) = mpsc::unbounded_channel();
        let done = Receipt::new(7, acks.clone(), 3);
        let comes_again = Receipt::new(8, acks, 3);
        done.clone().ack();
        done.clone().ack();
        comes_again.clone().ack();
        comes_again.clone().give_back();
        assert!(settled.try_recv().is_err(), "one of each is not settled");
        comes_again.ack();
        assert!(matches!(settled.try_recv(), Ok(Settle::GiveBack(8))));
        done.ack();
        assert!(matches!(settled.try_recv(), Ok(Settle::Ack(7))));
        assert!(settled.try_recv().is_err());
    }
}
