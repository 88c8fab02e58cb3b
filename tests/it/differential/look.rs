//! What Redis holds under a prefix, read at one moment, and how it is compared with the model.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use model::image::{Held, Image, Value};
use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue as _, Script, from_redis_value};

use super::cast::LONG_MS;
use super::operation::Op;

/// Where store and model disagree.
#[derive(Debug)]
pub(super) struct Difference(String);

impl Difference {
    pub(super) fn of(what: &str, store: impl Debug, model: impl Debug) -> Self {
        Self(format!("{what}\n   store: {store:?}\n   model: {model:?}"))
    }

    pub(super) fn failed(error: impl std::error::Error) -> Self {
        Self(format!("the store failed: {error}; {:?}", error.source().map(ToString::to_string)))
    }

    pub(super) fn at(self, place: usize, op: &impl Debug) -> Self {
        Self(format!("operation {place}, {op:?}: {}", self.0))
    }

    pub(super) fn at_the_end(self, sequence: &[Op]) -> Self {
        Self(format!("after {} operations: {}", sequence.len(), self.0))
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<redis::RedisError> for Difference {
    fn from(error: redis::RedisError) -> Self {
        Self::failed(error)
    }
}

/// A connection of one's own, on a machine that may be busy.
pub(super) async fn connect(url: &str) -> Result<MultiplexedConnection, redis::RedisError> {
    let limit = Some(std::time::Duration::from_secs(30));
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(limit);
    redis::Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await
}

/// The store's time in milliseconds.
pub(super) async fn time(redis: &mut MultiplexedConnection) -> Result<i64, Difference> {
    let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(redis).await?;
    Ok(seconds * 1000 + micros / 1000)
}

/// Removes what a sequence has left, and says what time it is; the deployment stays, and so do the
/// readers of its outbox.
const EMPTY: &str = "
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. ':*')) do
  if key ~= ARGV[1] .. ':deployment' and key ~= ARGV[1] .. ':secret' then redis.call('DEL', key) end
end
for slot = 0, tonumber(ARGV[2]) - 1 do
  local outbox = ARGV[1] .. ':{' .. slot .. '}:outbox'
  redis.call('XGROUP', 'CREATE', outbox, 'notifiers', '0', 'MKSTREAM')
end
return redis.call('TIME')";

pub(super) async fn empty(
    redis: &mut MultiplexedConnection,
    prefix: &str,
    slots: u16,
) -> Result<i64, Difference> {
    static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(EMPTY));
    let (seconds, micros): (i64, i64) = SCRIPT.arg(prefix).arg(slots).invoke_async(redis).await?;
    Ok(seconds * 1000 + micros / 1000)
}

/// Every key: its name, its type, when it goes, its value; of a stream how many are not settled
/// too.
const HELD: &str = "
local all = {}
local read = {
  string = function(key) return redis.call('GET', key) end,
  hash = function(key) return redis.call('HGETALL', key) end,
  zset = function(key) return redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') end,
  list = function(key) return redis.call('LRANGE', key, 0, -1) end,
  stream = function(key) return redis.call('XRANGE', key, '-', '+') end,
}
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. ':*')) do
  local kind = redis.call('TYPE', key).ok
  local held = 0
  if kind == 'stream' then held = redis.call('XPENDING', key, 'notifiers')[1] end
  all[#all + 1] = { key, kind, redis.call('PEXPIRETIME', key), read[kind](key), held }
end
return all";

pub(super) async fn held(
    redis: &mut MultiplexedConnection,
    prefix: &str,
) -> Result<Image, Difference> {
    static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(HELD));
    let all: Vec<(String, String, i64, redis::Value, usize)> =
        SCRIPT.arg(prefix).invoke_async(redis).await?;
    let mut image = Image::new();
    for (key, kind, goes_at, value, held) in all {
        if key == format!("{prefix}:deployment") || key == format!("{prefix}:secret") {
            continue;
        }
        let value = match kind.as_str() {
            "string" => Value::Text(from_redis_value(value).map_err(redis::RedisError::from)?),
            "hash" => Value::Hash(fields(value)?),
            "zset" => Value::Sorted(scores(value)?),
            "list" => Value::List(from_redis_value(value).map_err(redis::RedisError::from)?),
            _ => {
                let entries: Vec<(String, redis::Value)> =
                    Vec::from_redis_value(value).map_err(redis::RedisError::from)?;
                let texts = entries.into_iter().map(|(_, entry)| {
                    from_redis_value(entry)
                        .map_err(|e| Difference::from(redis::RedisError::from(e)))
                });
                let texts: Vec<BTreeMap<String, String>> = texts.collect::<Result<_, _>>()?;
                // A stream stays when it is empty.
                if texts.is_empty() && held == 0 {
                    continue;
                }
                Value::Stream(texts, held)
            }
        };
        image.insert(key, Held { value, goes_at: (goes_at >= 0).then_some(goes_at) });
    }
    Ok(image)
}

fn fields(value: redis::Value) -> Result<BTreeMap<String, Vec<u8>>, Difference> {
    Ok(from_redis_value(value).map_err(redis::RedisError::from)?)
}

fn scores(value: redis::Value) -> Result<BTreeMap<String, i64>, Difference> {
    let scores: BTreeMap<String, f64> = from_redis_value(value).map_err(redis::RedisError::from)?;
    // Instants, far below what a floating-point number holds exactly.
    #[expect(clippy::cast_possible_truncation, reason = "instants are whole numbers")]
    let whole = scores.into_iter().map(|(member, score)| (member, score as i64));
    Ok(whole.collect())
}

/// How far from the instant of a call the instants are that it writes or compares with.
const APART_MS: &[i64] = &[
    0,
    1,
    LONG_MS as i64,
    2 * LONG_MS as i64,
    3 * LONG_MS as i64,
    store::change::AFTER_MS_MAX as i64,
];

/// The instants at which a call may have run, as far as they make a difference: those that show in
/// what the store holds and answers, and the ends.
pub(super) fn instants(held: &Image, answer: &str, within: RangeInclusive<i64>) -> Vec<i64> {
    let mut shown_at = numbers(answer);
    for it in held.values() {
        shown_at.extend(it.goes_at);
        match &it.value {
            Value::Sorted(members) => shown_at.extend(members.values()),
            _ => shown_at.extend(numbers(&shown(Some(it)))),
        }
    }
    let all = shown_at.iter().flat_map(|at| APART_MS.iter().map(move |apart| at - apart));
    let mut all: Vec<i64> = all.chain([*within.start(), *within.end()]).collect();
    all.retain(|instant| within.contains(instant));
    all.sort_unstable();
    all.dedup();
    all
}

fn numbers(text: &str) -> Vec<i64> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// JSON with its fields in order.
pub(super) fn ordered(json: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    value.to_string()
}

/// A key that goes by itself is given its instant by a command that counts from the time at which
/// it runs; that may be the next millisecond.
const LATER_MS: i64 = 20;

pub(super) fn compare(store: &Image, model: &Image) -> Result<(), Difference> {
    for key in store.keys().chain(model.keys()) {
        let (Some(one), Some(other)) = (store.get(key), model.get(key)) else {
            return Err(Difference::of(key, shown(store.get(key)), shown(model.get(key))));
        };
        let near = match (one.goes_at, other.goes_at) {
            (Some(one), Some(other)) => (one - other).abs() <= LATER_MS,
            (one, other) => one == other,
        };
        if !near || comparable(&one.value) != comparable(&other.value) {
            return Err(Difference::of(key, shown(Some(one)), shown(Some(other))));
        }
    }
    Ok(())
}

fn comparable(value: &Value) -> Value {
    match value {
        Value::Hash(fields) => {
            let mut fields = fields.clone();
            if let Some(waits) = fields.get_mut("waits") {
                *waits = ordered(&String::from_utf8_lossy(waits)).into_bytes();
            }
            Value::Hash(fields)
        }
        other => other.clone(),
    }
}

fn shown(held: Option<&Held>) -> String {
    let Some(held) = held else { return "nothing".to_owned() };
    let value = match &held.value {
        Value::Hash(fields) => {
            let text = |(name, bytes): (&String, &Vec<u8>)| {
                format!("{name}={}", String::from_utf8_lossy(bytes))
            };
            fields.iter().map(text).collect::<Vec<_>>().join(" ")
        }
        other => format!("{other:?}"),
    };
    held.goes_at.map_or_else(|| value.clone(), |at| format!("{value} until {at}"))
}

/// Makes the store look as if another Redis process had been seen last.
pub(super) async fn other_run(
    redis: &mut MultiplexedConnection,
    deployment: &str,
) -> Result<(), Difference> {
    let () =
        redis::cmd("HSET").arg(deployment).arg("run_id").arg("gone").query_async(redis).await?;
    Ok(())
}
