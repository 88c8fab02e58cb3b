//! Faults of the links.

use std::time::Duration;

use super::{Effect, Injector, Kind};
use crate::proxy::{Cut, Direction, How, What};
use crate::world::Link;

/// For so long a link carries little.
const SLOW: Duration = Duration::from_secs(2);
const SLOW_BYTES: u32 = 20_000;
/// For so long a link carries nothing.
const SWALLOWS_MS: std::ops::Range<u64> = 500..4500;
/// A cut that does not fall within so long is given up.
const FALLS_WITHIN: Duration = Duration::from_secs(2);

/// For so long a connection is half open; it works on beside what else fails.
const HALF_OPEN_MS: std::ops::Range<u64> = 1_000..15_000;

impl Injector {
    pub(super) async fn link(&self, kind: Kind) -> Effect {
        let Some((link, proxy)) = fastrand::choice(self.links.iter()) else {
            return Effect { has_missed: true, ..Effect::default() };
        };
        let mut has_missed = false;
        match kind {
            Kind::LinkReset => proxy.reset(),
            Kind::HalfOpen => {
                let direction = [None, Some(Direction::Up), Some(Direction::Down)];
                let lost = proxy.lose(fastrand::choice(direction).flatten());
                let lasts = Duration::from_millis(fastrand::u64(HALF_OPEN_MS));
                tokio::spawn(async move {
                    tokio::time::sleep(lasts).await;
                    drop(lost);
                });
            }
            Kind::LinkSlow => {
                proxy.slow(SLOW_BYTES);
                tokio::time::sleep(SLOW).await;
                proxy.heal();
            }
            Kind::LinkCut => {
                proxy.arm(cut(*link));
                has_missed = tokio::time::timeout(FALLS_WITHIN, proxy.fallen()).await.is_err();
                proxy.heal();
            }
            _ => {
                proxy.swallow();
                tokio::time::sleep(Duration::from_millis(fastrand::u64(SWALLOWS_MS))).await;
                proxy.heal();
            }
        }
        Effect { link: Some(*link), has_missed, ..Effect::default() }
    }
}

/// Right where a careless program loses something: after a publish and before its confirm, after a
/// script has run and before its reply, before or after an acknowledgement.
fn cut(link: Link) -> Cut {
    let before = |what| (Direction::Down, what, false);
    let after = |what| (Direction::Up, what, true);
    let deliveries = [before(Some(What::Deliver)), after(Some(What::Ack))];
    // A connection on which nothing happens.
    let idle = [after(Some(What::Heartbeat))];
    let publications = [before(Some(What::Confirm)), after(Some(What::Publish))];
    let scripts = [before(None), after(Some(What::Script))];
    let places = match link {
        // A worker publishes dead letters only.
        Link::WorkerAmqp => [&deliveries[..], &idle].concat(),
        Link::ClientAmqp | Link::ServerAmqp => [&publications[..], &deliveries, &idle].concat(),
        Link::ServerRedis | Link::WorkerRedis => scripts.to_vec(),
    };
    let (direction, what, passes) = fastrand::choice(places).unwrap_or(scripts[0]);
    Cut { direction, what, nth: fastrand::u64(1..10), passes, how: How::Reset }
}
