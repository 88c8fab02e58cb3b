//! Renews the leases of runs, tells them of cancellations, and detaches long ones.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use faults::{Point, crash_point};
use store::claim::{Beat, Lease};
use tokio::time::Instant;

use crate::runs::Run;
use crate::shared::Shared;

/// Leases renewed in one pipeline.
const CHUNK: usize = 256;

/// Beats until the worker ends.
pub(crate) async fn run(shared: Arc<Shared>) {
    let every = Duration::from_millis(shared.settings.worker.beat_ms);
    loop {
        tokio::time::sleep(every).await;
        // A run that has just started has a whole lease yet.
        let due: Vec<Arc<Run>> = shared
            .runs
            .all()
            .into_iter()
            .filter(|run| run.started_at.elapsed() >= every / 2)
            .collect();
        for chunk in due.chunks(CHUNK) {
            beat(&shared, chunk).await;
        }
    }
}

async fn beat(shared: &Shared, runs: &[Arc<Run>]) {
    let detach_after = Duration::from_millis(shared.settings.worker.detach_after_ms);
    let now = Instant::now();
    // Read before: if there is a new one in the meantime, the next beat sees it.
    let epoch = shared.store.epoch();
    let takes_long = |run: &Run| !run.is_detached() && now - run.delivered_at >= detach_after;
    let detaches: Vec<bool> =
        runs.iter().map(|run| run.is_of_before(epoch) || takes_long(run)).collect();
    let leases: Vec<Lease> = runs
        .iter()
        .zip(&detaches)
        .map(|(run, detach)| Lease {
            name: run.context.inner.name.clone(),
            fence: run.context.fence().to_owned(),
            detach: detach.then(|| run.context.body().to_vec()),
        })
        .collect();
    let answers = match shared.store.beat(&leases, shared.settings.worker.lease_ms).await {
        Ok(answers) => answers,
        // The next beat tries again; a lease that ends in between is safe by its fence.
        Err(error) => {
            tracing::debug!(%error, "renewing leases");
            return;
        }
    };
    if !runs.is_empty() {
        crash_point(Point::WorkBeat);
    }
    for ((run, detached), answer) in runs.iter().zip(detaches).zip(answers) {
        match answer {
            Beat::Held { cancel_requested } => {
                if cancel_requested {
                    run.context.inner.cancelled.cancel();
                }
                if detached {
                    run.epoch.store(epoch, Ordering::Relaxed);
                    if let Some(delivery) = run.take_delivery() {
                        crash_point(Point::WorkDetached);
                        delivery.ack();
                    }
                }
            }
            Beat::Lost => run.context.inner.lost.cancel(),
        }
    }
}
