//! How a worker that found nothing comes to look again.

use std::task::{Context, Poll};
use std::time::Duration;

use apalis::prelude::{PollSnapshot, PollStrategy};
use tokio::time::{Interval, MissedTickBehavior, interval};

const PERIOD: Duration = Duration::from_millis(5);

/// Wakes the worker once in each period. The strategy of apalis for this does not ask to be woken
/// again if a fetch took longer than the period: the worker can then sleep until its heartbeat.
pub struct Again(Interval);

impl Again {
    pub fn new() -> Self {
        let mut interval = interval(PERIOD);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self(interval)
    }
}

impl PollStrategy for Again {
    fn poll_drive(&mut self, cx: &mut Context<'_>, _: &PollSnapshot) -> Poll<Option<()>> {
        // Only a pending tick has taken the waker.
        while self.0.poll_tick(cx).is_ready() {}
        Poll::Pending
    }
}
