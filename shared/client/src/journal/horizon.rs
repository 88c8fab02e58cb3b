//! How long one id is one job, and so how long a submission may be sent again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use protocol::UnixMillis;

use crate::Error;

/// What the last receipt said (`horizon_ms`); until one has come, the server's default of 30 days.
#[derive(Debug, Clone)]
pub(crate) struct Horizon(Arc<AtomicU64>);

const UNTIL_TOLD: Duration = Duration::from_secs(30 * 24 * 3600);

impl Horizon {
    pub(super) fn new(told_ms: Option<u64>) -> Self {
        let ms = told_ms.unwrap_or(u64::try_from(UNTIL_TOLD.as_millis()).unwrap_or(u64::MAX));
        Self(Arc::new(AtomicU64::new(ms)))
    }

    /// Takes a receipt's word; says whether it is another one than before.
    pub(super) fn learn(&self, ms: u64) -> bool {
        self.0.swap(ms, Ordering::Relaxed) != ms
    }

    /// Whether a submission is too old to be sent: the server may have forgotten that it ran.
    pub(crate) fn is_passed(&self, journaled_at_ms: i64) -> bool {
        // A clock that was set back makes nothing old.
        let age = UnixMillis::now().0.saturating_sub(journaled_at_ms);
        u64::try_from(age).is_ok_and(|age| age >= self.0.load(Ordering::Relaxed))
    }

    pub(crate) fn too_old(&self, job_id: &str) -> Error {
        let horizon_ms = self.0.load(Ordering::Relaxed);
        Error::TooOld { job_id: job_id.to_owned(), horizon_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_last_word_is_too_old_and_the_future_is_not() {
        let (horizon, now) = (Horizon::new(None), UnixMillis::now().0);
        let day = 24 * 3600 * 1000;
        assert!(!horizon.is_passed(now - 29 * day));
        assert!(horizon.is_passed(now - 31 * day));
        assert!(horizon.learn(3_600_000) && !horizon.learn(3_600_000));
        assert!(horizon.is_passed(now - day));
        assert!(!horizon.is_passed(now) && !horizon.is_passed(now + 40 * day));
    }
}
