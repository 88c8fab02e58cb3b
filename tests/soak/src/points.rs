//! A crash at every point at which a process can crash, again and again.

use std::time::Duration;

use anyhow::ensure;
use faults::Point;
use tokio::time::Instant;

use crate::faults::{Injector, Kind};
use crate::fleet::{Armed, Fleet, Role};
use crate::stage::Stage;

/// No more is needed than this.
const ENDS_WITHIN: Duration = Duration::from_secs(420);
/// Parked jobs come from a work queue that is full for a moment.
const FULL_EVERY: Duration = Duration::from_secs(2);

/// What takes seconds to come about has fewer turns.
const RARE: [Point; 4] =
    [Point::ParkedReleased, Point::WaitsEnded, Point::DroppedRead, Point::DroppedRecorded];

/// The role whose processes come to a point; none for what happens after a roll-back only.
fn role(point: Point) -> Option<Role> {
    match point.as_str().split('.').next() {
        _ if point == Point::WorkRebuilt => None,
        Some("client") => Some(Role::Client),
        Some("worker") => Some(Role::Worker),
        _ => Some(Role::Server),
    }
}

/// Returns when every point has had its turns.
pub(crate) async fn crash_everywhere(
    fleet: &Fleet,
    injector: &Injector,
    stage: &Stage,
) -> anyhow::Result<()> {
    let mut random = fastrand::Rng::with_seed(stage.seed);
    // A client that recovers needs servers that live for a while, so theirs come last.
    for roles in [&[Role::Client, Role::Worker][..], &[Role::Server]] {
        for wanted in roles {
            let of_role = Point::ALL.iter().filter(|point| role(**point) == Some(*wanted));
            let mut armed: Vec<Armed> = (0..stage.crash_rounds)
                .flat_map(|n| of_role.clone().map(move |p| Armed { point: *p, nth: 1 + n % 2 }))
                .filter(|armed| armed.nth == 1 || !RARE.contains(&armed.point))
                .collect();
            random.shuffle(&mut armed);
            // Only one server reads the line: if another had its turn elsewhere, these would wait.
            armed.sort_by_key(|armed| !armed.point.as_str().starts_with("registrar."));
            fleet.crash_at(*wanted, &armed);
        }
        let until = Instant::now() + ENDS_WITHIN;
        while fleet.crashed().to_come > 0 {
            ensure!(Instant::now() < until, "after {ENDS_WITHIN:?}: {:?}", fleet.crashed());
            tokio::select! {
                () = tokio::time::sleep(FULL_EVERY), if roles.contains(&Role::Server) => {
                    injector.once(Kind::WorkQueueFull).await?;
                }
                () = until_all_have(fleet) => {}
            }
        }
    }
    Ok(())
}

async fn until_all_have(fleet: &Fleet) {
    while fleet.crashed().to_come > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
