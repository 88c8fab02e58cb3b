//! A crash at every point at which a process can crash, again and again.

use std::time::Duration;

use anyhow::ensure;
use broker::topology::work_queue;
use faults::Point;
use futures_util::StreamExt as _;
use job::QueueName;
use lapin::options::{BasicConsumeOptions, BasicQosOptions, BasicRejectOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use tokio::time::Instant;

use crate::faults::{Injector, Kind};
use crate::fleet::{Armed, Fleet, Role};
use crate::handlers::TYPE;
use crate::stage::Stage;
use crate::world::{SLOT, keys};

/// A slow machine needs about 300 s.
const ENDS_WITHIN: Duration = Duration::from_secs(420);
/// Jobs are parked because nobody has announced their type; they come, and go, within so long.
const PARKED_WITHIN: Duration = Duration::from_secs(3);
/// In one of so many turns the work queue takes none, which parks them only if some wait there.
const FULL_ONCE_IN: u32 = 4;
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// So many work messages are dropped in a turn, if so many come within a moment.
const DROPPED: usize = 3;
const DROPPED_WITHIN: Duration = Duration::from_secs(1);

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

/// Returns when every point has had its turns. `work` is where a worker reaches the broker.
pub(crate) async fn crash_everywhere(
    fleet: &Fleet,
    injector: &Injector,
    redis: &mut MultiplexedConnection,
    work: &str,
    stage: &Stage,
) -> anyhow::Result<()> {
    let mut random = fastrand::Rng::with_seed(stage.seed);
    let until = Instant::now() + ENDS_WITHIN;
    let mut turn = 0;
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
        while fleet.crashed().to_come > 0 {
            ensure!(Instant::now() < until, "after {ENDS_WITHIN:?}: {:?}", fleet.crashed());
            if roles.contains(&Role::Server) {
                turn += 1;
                drop_some(work).await?;
                match turn % FULL_ONCE_IN {
                    0 => injector.once(Kind::WorkQueueFull).await?,
                    _ => park_some(redis).await?,
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    Ok(())
}

/// Lets the broker drop work messages, as it does with what comes back too often.
async fn drop_some(work: &str) -> anyhow::Result<()> {
    // With a slash at the end, lapin takes it for a virtual host without a name.
    let work = work.trim_end_matches('/');
    let connection = Connection::connect(work, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(1, BasicQosOptions::default()).await?;
    let queue = work_queue(&QueueName::default());
    let options = BasicConsumeOptions::default();
    let table = FieldTable::default();
    let mut consumer = channel.basic_consume(queue.into(), "".into(), options, table).await?;
    for _ in 0..DROPPED {
        let next = tokio::time::timeout(DROPPED_WITHIN, consumer.next()).await;
        let Ok(Some(delivery)) = next else { break };
        delivery?.reject(BasicRejectOptions { requeue: false }).await?;
    }
    Ok(connection.close(200, "".into()).await?)
}

/// Lets jobs be parked and released again, as after a roll-back that took the announcements. A
/// worker that announces its type at that moment prevents it; there is a next turn.
async fn park_some(redis: &mut MultiplexedConnection) -> anyhow::Result<()> {
    let (types, parked) = (keys().types(), keys().parked(SLOT, TYPE));
    for has_parked in [true, false] {
        if has_parked {
            let () = redis.hdel(&types, TYPE).await?;
        } else {
            let () = redis.hset(&types, TYPE, QueueName::default().as_str()).await?;
        }
        let until = Instant::now() + PARKED_WITHIN;
        while Instant::now() < until && redis.exists::<_, bool>(&parked).await? != has_parked {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    Ok(())
}
