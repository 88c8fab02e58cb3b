//! Endless, jittered retries that say once what is wrong.

use std::error::Error;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::chain::chain;

const FIRST: Duration = Duration::from_millis(100);
const MAX: Duration = Duration::from_secs(10);

/// Pauses that double from 0.1 s to 10 s, each shortened by up to half at random.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The pause is over.
    Again,
    /// The program is stopping.
    Stop,
}

impl Backoff {
    /// Forgets earlier failures, and says so if there were any.
    pub fn succeeded(&mut self, what: &str) {
        if std::mem::take(&mut self.failures) > 0 {
            tracing::info!("{what} again");
        }
    }

    /// Waits before the next try. The first failure is said aloud, its repetitions are not.
    pub async fn failed(
        &mut self,
        what: &str,
        error: &(dyn Error + Sync),
        stop: &CancellationToken,
    ) -> Retry {
        let error = chain(error);
        if self.failures == 0 {
            tracing::warn!(%error, "{what}: trying again until it works");
        } else {
            tracing::debug!(%error, failures = self.failures, "{what}");
        }
        let pause = self.pause(fastrand::f64());
        self.failures = self.failures.saturating_add(1);
        tokio::select! {
            () = tokio::time::sleep(pause) => Retry::Again,
            () = stop.cancelled() => Retry::Stop,
        }
    }

    fn pause(&self, random: f64) -> Duration {
        FIRST.saturating_mul(1 << self.failures.min(10)).min(MAX).mul_f64(1.0 - random / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_to_ten_seconds_and_never_ends() {
        let pause = |failures| Backoff { failures }.pause(0.0).as_millis();
        assert_eq!([0, 1, 2, 7, 1000].map(pause), [100, 200, 400, 10_000, 10_000]);
    }
}
