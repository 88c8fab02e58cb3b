use std::future::Future;
use std::time::Duration;

/// How long a test waits for something that must happen. Long, because a busy machine is no bug.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Waits for an event; fails with what was waited for.
///
/// # Errors
/// It did not come in time.
pub async fn within<T>(what: &str, event: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::time::timeout(DEADLINE, event)
        .await
        .map_err(|_| anyhow::anyhow!("waited {} s for: {what}", DEADLINE.as_secs()))
}

/// Looks again and again until something is there, for what gives no event of its own.
///
/// # Errors
/// It was not there in time, or looking failed.
pub async fn eventually<T, F: Future<Output = anyhow::Result<Option<T>>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> anyhow::Result<T> {
    let mut ticks = tokio::time::interval(Duration::from_millis(25));
    within(what, async {
        loop {
            ticks.tick().await;
            if let Some(found) = look().await? {
                return Ok(found);
            }
        }
    })
    .await?
}
