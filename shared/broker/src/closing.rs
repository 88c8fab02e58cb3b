//! Closing in a bounded time.

use std::time::Duration;

use crate::Error;

/// Every broker that lives answers by then.
const CLOSES_WITHIN: Duration = Duration::from_secs(2);

/// Waits until something of lapin's is closed. What fails meanwhile would never be answered, and
/// lapin would wait for it without end; it is as good as closed.
pub(crate) async fn closed(closing: impl Future<Output = lapin::Result<()>>) -> Result<(), Error> {
    match tokio::time::timeout(CLOSES_WITHIN, closing).await {
        Ok(closed) => Ok(closed?),
        Err(_) => Err(Error::Gone),
    }
}
