//! What is checked on every new connection, before anything else is said on it.
//!
//! A store cannot roll back without a new `run_id`: where it differs from the stored one and an
//! acknowledged write may have been lost, the epoch grows and the lost stretch is recorded, from
//! the last sign of life that survived to now. Nobody outside needs to remember anything.

use protocol::UnixMillis;
use redis::aio::MultiplexedConnection;

use faults::{Bug, is_seeded};

use crate::scripts;
use crate::{Error, Keys, Settings};

/// The layout of the keys that this version writes.
pub const LAYOUT: u32 = 1;

/// What a crash of Redis can lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing that was acknowledged: `appendfsync always`.
    Fsync,
    /// About the last second: `appendfsync everysec`.
    Everysec,
    /// Everything: no append-only file.
    None,
}

impl Durability {
    /// The public word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::Everysec => "everysec",
            Self::None => "none",
        }
    }
}

/// What is known of the deployment.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Grows by one when the store was rolled back.
    pub epoch: u64,
    /// What a crash can lose.
    pub durability: Durability,
    /// The last stretch of time that the store lost.
    pub lost_between: Option<[UnixMillis; 2]>,
    pub(crate) secret: Vec<u8>,
    /// Of which run of Redis this is known.
    pub(crate) run_id: String,
}

/// Which run of which server is at the other end.
pub(crate) async fn run_id(connection: &mut MultiplexedConnection) -> Result<String, Error> {
    let info: String = redis::cmd("INFO").arg("server").query_async(connection).await?;
    let run_id = info.lines().find_map(|line| line.strip_prefix("run_id:"));
    let run_id = run_id.ok_or_else(|| Error::unexpected("INFO without run_id"))?;
    Ok(run_id.trim().to_owned())
}

/// `known` is what this process has seen before: a store that comes back empty gets the same
/// secret, so that tickets and work messages stay good, and a new epoch.
pub(crate) async fn open(
    connection: &mut MultiplexedConnection,
    settings: &Settings,
    known: Option<&Deployment>,
) -> Result<Deployment, Error> {
    let run_id = run_id(connection).await?;
    let config: Vec<String> =
        redis::cmd("CONFIG").arg("GET").arg("appendonly").query_async(connection).await?;
    let sync: Vec<String> =
        redis::cmd("CONFIG").arg("GET").arg("appendfsync").query_async(connection).await?;
    let policy: Vec<String> =
        redis::cmd("CONFIG").arg("GET").arg("maxmemory-policy").query_async(connection).await?;
    let value = |pair: &[String]| pair.get(1).cloned().unwrap_or_default();
    if value(&policy) != "noeviction" {
        return Err(Error::Unfit(format!(
            "Redis has maxmemory-policy {}, which deletes records of jobs when memory runs out. \
             Set: maxmemory-policy noeviction",
            value(&policy)
        )));
    }
    let durability = match (value(&config).as_str(), value(&sync).as_str()) {
        ("yes", "always") => Durability::Fsync,
        ("yes", _) => Durability::Everysec,
        _ => Durability::None,
    };
    if durability == Durability::None {
        tracing::warn!(
            "Redis has no append-only file: a restart forgets every job. Set: appendonly yes"
        );
    }
    let keys = Keys::new(&settings.prefix, settings.slots);
    let candidate = known
        .map(|known| known.secret.clone())
        .or_else(|| settings.secret.clone().map(String::into_bytes));
    let candidate = candidate.unwrap_or_else(|| {
        format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple()).into_bytes()
    });
    let answer: Vec<String> = redis::cmd("EVAL")
        .arg(scripts::OPEN)
        .arg(2)
        .arg(keys.deployment())
        .arg(keys.secret())
        .arg(&run_id)
        .arg(u8::from(durability == Durability::Fsync || is_seeded(Bug::LossUnnoticed)))
        .arg(settings.slots)
        .arg(LAYOUT)
        .arg(&candidate)
        .arg(known.map_or(0, |known| known.epoch))
        .arg(known.map_or("", |known| &known.run_id))
        .query_async(connection)
        .await?;
    let [layout, slots, epoch, secret, lost_from, lost_to] = answer.as_slice() else {
        return Err(Error::unexpected(answer));
    };
    if layout.parse() != Ok(LAYOUT) {
        return Err(Error::Unfit(format!(
            "the store has layout {layout}, this program writes layout {LAYOUT}. Run the version \
             that fits, or use another redis.prefix"
        )));
    }
    if slots.parse() != Ok(settings.slots) {
        return Err(Error::Unfit(format!(
            "redis.slots is {} and the store was made with {slots}; the number is fixed at first \
             use. Set: redis.slots = {slots}",
            settings.slots
        )));
    }
    let instant = |text: &String| text.parse().ok().map(UnixMillis);
    Ok(Deployment {
        epoch: epoch.parse().map_err(|_| Error::unexpected(epoch))?,
        durability,
        lost_between: instant(lost_from).zip(instant(lost_to)).map(|(from, to)| [from, to]),
        secret: settings.secret.clone().unwrap_or_else(|| secret.clone()).into_bytes(),
        run_id,
    })
}
