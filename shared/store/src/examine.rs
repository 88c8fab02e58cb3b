//! Looking at a store without changing anything: whether it is fit, and what is in it.

use std::collections::BTreeMap;
use std::time::Duration;

use job::State;
use protocol::UnixMillis;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo as _, RedisConnectionInfo};

use crate::opening::LAYOUT;
use crate::{Error, Keys, Settings};

/// What a look at a store shows.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Redis's version.
    pub version: String,
    /// Whether somebody who gives no name may read: the user `default` is on, without a password.
    pub is_open: bool,
    /// `maxmemory-policy`.
    pub eviction: String,
    /// `appendonly`: whether there is an append-only file.
    pub appendonly: bool,
    /// `appendfsync`.
    pub appendfsync: String,
    /// `maxmemory`, in bytes; 0 for none.
    pub memory_max: u64,
    /// Memory in use, in bytes.
    pub memory_used: u64,
    /// Replicas that follow.
    pub replicas: u32,
    /// `min-replicas-to-write`.
    pub replicas_min: u32,
    /// The layout that stands in the store; nothing in a fresh one.
    pub layout: Option<u32>,
    /// The layout that this program writes.
    pub layout_known: u32,
    /// The number of slots that stands in the store.
    pub slots: Option<u16>,
    /// The stretch of time that the store has lost.
    pub lost: Option<[UnixMillis; 2]>,
    /// The store's clock, less this machine's, in milliseconds.
    pub clock_ahead_ms: i64,
    /// Announced types, and the queues that serve them.
    pub types: BTreeMap<String, String>,
    /// Parked jobs, by type.
    pub parked: BTreeMap<String, u64>,
    /// Jobs in states that people act on.
    pub jobs: BTreeMap<State, u64>,
    /// Messages still to be delivered.
    pub outbox: u64,
}

/// Looks at a store.
///
/// # Errors
/// It cannot be reached, or says no.
pub async fn examine(settings: &Settings) -> Result<Seen, Error> {
    let client = Client::open(settings.url.as_str()).map_err(Error::Url)?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_millis(settings.connect_timeout_ms)))
        .set_response_timeout(Some(Duration::from_millis(settings.response_timeout_ms)));
    let mut redis = client.get_multiplexed_async_connection_with_config(&config).await?;
    let mut seen = server(&mut redis).await?;
    contents(&mut redis, settings, &mut seen).await?;
    seen.is_open = lets_anybody_in(settings, &config).await;
    Ok(seen)
}

/// Asks without a name. Any failure is a refusal: the same server has just answered.
async fn lets_anybody_in(settings: &Settings, config: &AsyncConnectionConfig) -> bool {
    let Ok(own) = settings.url.as_str().into_connection_info() else { return false };
    let nobody = own.clone().set_redis_settings(RedisConnectionInfo::default());
    let Ok(client) = Client::open(nobody) else { return false };
    match client.get_multiplexed_async_connection_with_config(config).await {
        Ok(mut redis) => redis::cmd("DBSIZE").query_async::<u64>(&mut redis).await.is_ok(),
        Err(_) => false,
    }
}

async fn server(redis: &mut MultiplexedConnection) -> Result<Seen, Error> {
    let info: String = redis::cmd("INFO").query_async(redis).await?;
    let said = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().trim().to_owned()
    };
    let mut configured = BTreeMap::new();
    for name in
        ["maxmemory-policy", "appendonly", "appendfsync", "maxmemory", "min-replicas-to-write"]
    {
        let pair: Vec<String> =
            redis::cmd("CONFIG").arg("GET").arg(name).query_async(redis).await?;
        configured.insert(name, pair.get(1).cloned().unwrap_or_default());
    }
    let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(redis).await?;
    Ok(Seen {
        version: said("redis_version"),
        eviction: configured["maxmemory-policy"].clone(),
        appendonly: configured["appendonly"] == "yes",
        appendfsync: configured["appendfsync"].clone(),
        memory_max: configured["maxmemory"].parse().unwrap_or_default(),
        memory_used: said("used_memory").parse().unwrap_or_default(),
        replicas: said("connected_slaves").parse().unwrap_or_default(),
        replicas_min: configured["min-replicas-to-write"].parse().unwrap_or_default(),
        layout_known: LAYOUT,
        clock_ahead_ms: seconds * 1000 + micros / 1000 - UnixMillis::now().0,
        ..Seen::default()
    })
}

async fn contents(
    redis: &mut MultiplexedConnection,
    settings: &Settings,
    seen: &mut Seen,
) -> Result<(), Error> {
    let (layout, slots, lost_from, lost_to): (Option<u32>, Option<u16>, Option<i64>, Option<i64>) =
        redis::cmd("HMGET")
            .arg(Keys::new(&settings.prefix, settings.slots).deployment())
            .arg(&["layout", "slots", "lost_from", "lost_to"])
            .query_async(redis)
            .await?;
    (seen.layout, seen.slots) = (layout, slots);
    seen.lost = lost_from.zip(lost_to).map(|(from, to)| [UnixMillis(from), UnixMillis(to)]);
    let keys = Keys::new(&settings.prefix, slots.unwrap_or(settings.slots));
    seen.types = redis::cmd("HGETALL").arg(keys.types()).query_async(redis).await?;
    for slot in keys.slots() {
        let outbox: u64 = redis::cmd("XLEN").arg(keys.outbox(slot)).query_async(redis).await?;
        seen.outbox += outbox;
        for state in State::ALL.iter().filter(|state| **state != State::Parked) {
            let Some(set) = keys.state_set(slot, *state) else { continue };
            let count: u64 = redis::cmd("ZCARD").arg(set).query_async(redis).await?;
            *seen.jobs.entry(*state).or_default() += count;
        }
        parked(redis, &keys, slot, seen).await?;
    }
    Ok(())
}

/// Which types have parked jobs is known by the names of their sets alone.
async fn parked(
    redis: &mut MultiplexedConnection,
    keys: &Keys,
    slot: u16,
    seen: &mut Seen,
) -> Result<(), Error> {
    let prefix = keys.parked(slot, "");
    let mut cursor = 0u64;
    loop {
        let (next, found): (u64, Vec<String>) = redis::cmd("SCAN")
            .arg(cursor)
            .arg("MATCH")
            .arg(format!("{prefix}*"))
            .arg("COUNT")
            .arg(1000)
            .query_async(redis)
            .await?;
        for key in found {
            let count: u64 = redis::cmd("ZCARD").arg(&key).query_async(redis).await?;
            let job_type = key.strip_prefix(&prefix).unwrap_or(&key);
            *seen.parked.entry(job_type.to_owned()).or_default() += count;
        }
        cursor = next;
        if cursor == 0 {
            return Ok(());
        }
    }
}
