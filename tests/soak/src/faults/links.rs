//! Faults of the links.

use std::time::Duration;

use super::{Injector, Kind};
use crate::proxy::{Cut, Direction, How, Language, What};
use crate::world::Link;

/// For so long a link carries little.
const SLOW: Duration = Duration::from_secs(2);
const SLOW_BYTES: u32 = 20_000;
/// For so long a link carries nothing.
const SWALLOWS_MS: std::ops::Range<u64> = 500..4500;
/// A cut that does not fall within so long is given up.
const FALLS_WITHIN: Duration = Duration::from_secs(2);

impl Injector {
    pub(super) async fn link(&self, kind: Kind) {
        let Some((link, proxy)) = fastrand::choice(self.links.iter()) else { return };
        match kind {
            Kind::LinkReset => proxy.reset(),
            Kind::LinkSlow => {
                proxy.slow(SLOW_BYTES);
                tokio::time::sleep(SLOW).await;
                proxy.heal();
            }
            Kind::LinkCut => {
                proxy.arm(cut(*link));
                // What falls later is no harm, what never falls is.
                tokio::time::timeout(FALLS_WITHIN, proxy.fallen()).await.ok();
                proxy.heal();
            }
            _ => {
                proxy.swallow();
                tokio::time::sleep(Duration::from_millis(fastrand::u64(SWALLOWS_MS))).await;
                proxy.heal();
            }
        }
    }
}

/// Right where a careless program loses something.
fn cut(link: Link) -> Cut {
    let nth = fastrand::u64(1..20);
    let how = How::Reset;
    match link.language() {
        Language::Amqp if fastrand::bool() => {
            let what = Some(What::Confirm);
            Cut { direction: Direction::Down, what, nth, passes: false, how }
        }
        Language::Amqp => {
            let what = Some(fastrand::choice([What::Publish, What::Ack]).unwrap_or(What::Publish));
            Cut { direction: Direction::Up, what, nth, passes: true, how }
        }
        // The script has run, and its reply is lost.
        Language::Resp if fastrand::bool() => {
            Cut { direction: Direction::Down, what: None, nth, passes: false, how }
        }
        Language::Resp => {
            let what = Some(What::Script);
            Cut { direction: Direction::Up, what, nth, passes: true, how }
        }
    }
}
