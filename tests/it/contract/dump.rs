//! What stands under a prefix of Redis, as JSON that is the same each time, and back again.

use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands as _, Value as Redis};
use serde_json::{Map, Value, json};

/// What instants of a run become: 2026-01-31T12:00:00Z, and whole minutes after it.
const BASE_MS: i64 = 1_769_860_800_000;
const MINUTE_MS: i64 = 60_000;

/// Redis's clock, in ms.
pub(crate) async fn now(redis: &mut MultiplexedConnection) -> anyhow::Result<i64> {
    let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(redis).await?;
    Ok(seconds * 1000 + micros / 1000)
}

/// Every key under a prefix, but for those of the deployment itself. Instants from `start` on are
/// told in whole minutes from a fixed one, so a run of less than a minute leaves no trace.
pub(crate) async fn dump(
    redis: &mut MultiplexedConnection,
    prefix: &str,
    start: i64,
) -> anyhow::Result<Value> {
    let mut keys: Vec<String> = redis.keys(format!("{prefix}:*")).await?;
    keys.sort();
    let mut dumped = Map::new();
    for key in keys {
        let name = key[prefix.len() + 1..].to_owned();
        if ["deployment", "secret"].contains(&name.as_str()) {
            continue;
        }
        let mut value = content(redis, &key).await?;
        if value.is_null() {
            continue;
        }
        let left: i64 = redis.pttl(&key).await?;
        if left > 0 {
            // So long as it was given when it was written, less than a minute ago.
            let minutes = (left + MINUTE_MS - 1) / MINUTE_MS;
            value["expires_in_ms"] = json!(minutes * MINUTE_MS);
        }
        settle(&mut value, start);
        dumped.insert(name, value);
    }
    Ok(Value::Object(dumped))
}

async fn content(redis: &mut MultiplexedConnection, key: &str) -> anyhow::Result<Value> {
    let kind: String = redis::cmd("TYPE").arg(key).query_async(redis).await?;
    Ok(match kind.as_str() {
        "hash" => json!({"type": kind, "fields": hash(redis, key).await?}),
        "list" => {
            let items: Vec<String> = redis.lrange(key, 0, -1).await?;
            json!({"type": kind, "items": items})
        }
        "zset" => {
            let members: Vec<(String, i64)> = redis.zrange_withscores(key, 0, -1).await?;
            json!({"type": kind, "members": members.into_iter().collect::<Map1>()})
        }
        "string" => {
            let value: String = redis.get(key).await?;
            json!({"type": kind, "value": value})
        }
        "stream" => {
            let entries: Vec<(String, Vec<(String, String)>)> =
                redis::cmd("XRANGE").arg(key).arg("-").arg("+").query_async(redis).await?;
            let entries = entries.into_iter().map(|(_, fields)| fields.into_iter().collect());
            json!({"type": kind, "entries": entries.collect::<Vec<Fields>>()})
        }
        // It has gone since the keys were listed.
        "none" => Value::Null,
        other => anyhow::bail!("{key} is a {other}"),
    })
}

type Map1 = std::collections::BTreeMap<String, i64>;
type Fields = std::collections::BTreeMap<String, String>;

/// The fields of a hash; those who wait are JSON whose fields have no order.
pub(crate) async fn hash(
    redis: &mut MultiplexedConnection,
    key: &str,
) -> anyhow::Result<Map<String, Value>> {
    let fields: Fields = redis.hgetall(key).await?;
    let mut fields: Map<String, Value> =
        fields.into_iter().map(|(name, value)| (name, json!(value))).collect();
    if let Some(waits) = fields.get("waits").and_then(Value::as_str) {
        let waits: Value = serde_json::from_str(waits)?;
        fields.insert("waits".to_owned(), json!(waits.to_string()));
    }
    Ok(fields)
}

fn settle(value: &mut Value, start: i64) {
    match value {
        Value::String(text) => *text = settled_text(text, start),
        Value::Number(number) => {
            let instant = number.as_i64().unwrap_or_default();
            *value = json!(settled(instant, start).unwrap_or(instant));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| settle(item, start)),
        Value::Object(fields) => fields.values_mut().for_each(|field| settle(field, start)),
        _ => {}
    }
}

fn settled(instant: i64, start: i64) -> Option<i64> {
    const AT_MOST: i64 = 400 * 24 * 60 * MINUTE_MS;
    let passed = instant - start;
    (0..AT_MOST).contains(&passed).then(|| BASE_MS + passed / MINUTE_MS * MINUTE_MS)
}

/// Runs of digits that are such an instant.
fn settled_text(text: &str, start: i64) -> String {
    let mut out = String::new();
    let mut digits = String::new();
    for c in text.chars().map(Some).chain([None]) {
        match c {
            Some(c) if c.is_ascii_digit() => digits.push(c),
            c => {
                let instant = digits.parse().ok().and_then(|instant| settled(instant, start));
                out.push_str(&instant.map_or(digits.clone(), |instant| instant.to_string()));
                digits.clear();
                out.extend(c);
            }
        }
    }
    out
}

/// Writes a dump back, verbatim, beside what is there.
pub(crate) async fn load(
    redis: &mut MultiplexedConnection,
    prefix: &str,
    dump: &Value,
) -> anyhow::Result<()> {
    for (name, value) in dump.as_object().into_iter().flatten() {
        let key = format!("{prefix}:{name}");
        let mut commands = Vec::new();
        let mut add = |command: &str, arguments: &[&str]| {
            let mut cmd = redis::cmd(command);
            cmd.arg(&key).arg(arguments);
            commands.push(cmd);
        };
        let text = |value: &Value| value.as_str().map_or(value.to_string(), str::to_owned);
        let object = |name: &str| value[name].as_object().into_iter().flatten();
        let array = |name: &str| value[name].as_array().into_iter().flatten();
        object("fields").for_each(|(field, value)| add("HSET", &[field, &text(value)]));
        object("members").for_each(|(member, score)| add("ZADD", &[&text(score), member]));
        array("items").for_each(|item| add("RPUSH", &[&text(item)]));
        for entry in array("entries") {
            let fields = entry.as_object().into_iter().flatten();
            let fields: Vec<String> = std::iter::once("*".to_owned())
                .chain(fields.flat_map(|(name, value)| [name.clone(), text(value)]))
                .collect();
            add("XADD", &fields.iter().map(String::as_str).collect::<Vec<_>>());
        }
        if let Some(value) = value["value"].as_str() {
            add("SET", &[value]);
        }
        if !value["expires_in_ms"].is_null() {
            add("PEXPIRE", &[&text(&value["expires_in_ms"])]);
        }
        for command in commands {
            let _: Redis = command.query_async(redis).await?;
        }
    }
    Ok(())
}
