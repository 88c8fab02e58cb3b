//! A message as JSON: its properties by their AMQP names, its headers, its body.

use protocol::{HeaderValue, Properties};
use serde_json::{Map, Value, json};

/// Properties and headers; what is absent is absent.
pub(crate) fn envelope(properties: &Properties) -> Value {
    let Properties {
        content_type,
        content_encoding,
        headers,
        persistent,
        priority,
        correlation_id,
        reply_to,
        expiration,
        message_id,
        timestamp,
        kind,
        user_id,
        app_id,
    } = properties;
    let mut named = Map::new();
    for (name, text) in [
        ("content_type", content_type),
        ("content_encoding", content_encoding),
        ("correlation_id", correlation_id),
        ("reply_to", reply_to),
        ("expiration", expiration),
        ("message_id", message_id),
        ("type", kind),
        ("user_id", user_id),
        ("app_id", app_id),
    ] {
        named.extend(text.as_ref().map(|text| (name.to_owned(), json!(text))));
    }
    named.insert("delivery_mode".to_owned(), json!(if *persistent { 2 } else { 1 }));
    named.extend(priority.map(|priority| ("priority".to_owned(), json!(priority))));
    named.extend(timestamp.map(|timestamp| ("timestamp".to_owned(), json!(timestamp))));
    let headers: Map<String, Value> =
        headers.iter().map(|(name, value)| (name.to_owned(), header(value))).collect();
    json!({"properties": named, "headers": headers})
}

/// The whole message.
pub(crate) fn message(properties: &Properties, body: &Value) -> Value {
    let mut message = envelope(properties);
    message["body"] = body.clone();
    message
}

fn header(value: &HeaderValue) -> Value {
    match value {
        HeaderValue::Text(text) => json!(text),
        HeaderValue::Int(number) => json!(number),
        HeaderValue::Bool(value) => json!(value),
        HeaderValue::Other => Value::Null,
    }
}

/// The properties of a golden message.
pub(crate) fn properties(message: &Value) -> Properties {
    let named = &message["properties"];
    let text = |name: &str| named[name].as_str().map(str::to_owned);
    let mut properties = Properties {
        content_type: text("content_type"),
        content_encoding: text("content_encoding"),
        persistent: named["delivery_mode"] == 2,
        priority: named["priority"].as_u64().and_then(|priority| priority.try_into().ok()),
        correlation_id: text("correlation_id"),
        reply_to: text("reply_to"),
        expiration: text("expiration"),
        message_id: text("message_id"),
        timestamp: named["timestamp"].as_u64(),
        kind: text("type"),
        user_id: text("user_id"),
        app_id: text("app_id"),
        ..Properties::default()
    };
    for (name, value) in message["headers"].as_object().into_iter().flatten() {
        let value = match value {
            Value::String(text) => HeaderValue::Text(text.clone()),
            Value::Number(number) => HeaderValue::Int(number.as_i64().unwrap_or_default()),
            Value::Bool(value) => HeaderValue::Bool(*value),
            _ => HeaderValue::Other,
        };
        properties.headers.push(name.clone(), value);
    }
    // Nothing is lost on the way.
    let again = envelope(&properties);
    assert_eq!((&again["properties"], &again["headers"]), (named, &message["headers"]));
    properties
}
