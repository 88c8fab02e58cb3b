//! After the faults: a client that submits nothing more asks about everything that is open, until
//! nothing is.

use std::sync::Arc;
use std::time::Duration;

use client::Standing;

use tokio_util::sync::CancellationToken;

use super::{Load, events, events_queue, share, spare_queue, submissions};

/// The pauses between two looks at what is open: thousands of questions a second would keep the
/// servers from what they are asked about.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Recovers until nothing of the journal is open, and listens until it is told to stop. What is
/// open still, when the time is up.
///
/// # Errors
/// The journal or the history cannot be opened.
pub async fn settle(
    load: &Load,
    settings: client::Settings,
    within: Duration,
    stop: CancellationToken,
) -> anyhow::Result<usize> {
    let over = CancellationToken::new();
    let shared = share(load, settings, over.clone())?;
    let listening = [events_queue, spare_queue]
        .map(|queue| tokio::spawn(events::listen(Arc::clone(&shared), queue)));
    let until = tokio::time::Instant::now() + within;
    let (mut open, mut pause) = (usize::MAX, PAUSE_FIRST);
    while open > 0 && tokio::time::Instant::now() < until {
        // It asks until it is answered; what is open when the time is up is counted.
        tokio::time::timeout_at(until, submissions::recover(Arc::clone(&shared))).await.ok();
        shared.client.journal().flush().await;
        open = shared.client.journal().entries(Standing::OPEN)?.len();
        if open > 0 {
            shared.pause(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
    stop.cancelled().await;
    over.cancel();
    for task in listening {
        task.await?;
    }
    shared.client.close().await;
    Ok(open)
}
