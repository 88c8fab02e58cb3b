//! Writes outcomes, many at a time, for as long as the store takes.

use broker::Backoff;
use store::Store;
use store::change::{Change, Changed};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Outcomes written in one pipeline.
const CHUNK: usize = 256;

/// A handle on the recording task.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    changes: mpsc::Sender<(Change, oneshot::Sender<Changed>)>,
}

impl Recorder {
    pub(crate) fn start(store: Store) -> Self {
        let (changes, waiting) = mpsc::channel(2 * CHUNK);
        tokio::spawn(run(store, waiting));
        Self { changes }
    }

    /// Writes an outcome; returns when it is written, or `None` if the process ends first.
    pub(crate) async fn record(&self, change: Change) -> Option<Changed> {
        let (reply, written) = oneshot::channel();
        self.changes.send((change, reply)).await.ok()?;
        written.await.ok()
    }
}

async fn run(store: Store, mut waiting: mpsc::Receiver<(Change, oneshot::Sender<Changed>)>) {
    let never = CancellationToken::new();
    let mut taken = Vec::with_capacity(CHUNK);
    while waiting.recv_many(&mut taken, CHUNK).await > 0 {
        let (changes, replies): (Vec<Change>, Vec<_>) = taken.drain(..).unzip();
        let mut backoff = Backoff::default();
        let written = loop {
            match store.change(&changes).await {
                Ok(written) => break written,
                Err(error) => {
                    backoff.failed("recording outcomes", &error, &never).await;
                }
            }
        };
        backoff.succeeded("outcomes are recorded");
        for (reply, changed) in replies.into_iter().zip(written) {
            // Who asked may have been aborted; the outcome is written all the same.
            reply.send(changed).ok();
        }
    }
}
