//! Between lapin's forms and the protocol's.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use protocol::{HeaderValue, Headers, Properties};

use crate::Error;
use crate::declare::short;

pub(crate) fn from_lapin(properties: BasicProperties) -> Properties {
    let text = |value: &Option<ShortString>| value.as_ref().map(|v| v.as_str().to_owned());
    let mut headers = Headers::default();
    if let Some(table) = properties.headers() {
        for (name, value) in table.inner() {
            headers.push(name.as_str().to_owned(), header_value(value));
        }
    }
    Properties {
        content_type: text(properties.content_type()),
        content_encoding: text(properties.content_encoding()),
        headers,
        persistent: *properties.delivery_mode() == Some(2),
        priority: *properties.priority(),
        correlation_id: text(properties.correlation_id()),
        reply_to: text(properties.reply_to()),
        expiration: text(properties.expiration()),
        message_id: text(properties.message_id()),
        timestamp: *properties.timestamp(),
        kind: text(properties.kind()),
        user_id: text(properties.user_id()),
        app_id: text(properties.app_id()),
    }
}

fn header_value(value: &AMQPValue) -> HeaderValue {
    match value {
        AMQPValue::LongString(text) => match std::str::from_utf8(text.as_bytes()) {
            Ok(text) => HeaderValue::Text(text.to_owned()),
            Err(_) => HeaderValue::Other,
        },
        AMQPValue::ShortString(text) => HeaderValue::Text(text.as_str().to_owned()),
        AMQPValue::Boolean(value) => HeaderValue::Bool(*value),
        AMQPValue::ShortShortInt(n) => HeaderValue::Int((*n).into()),
        AMQPValue::ShortShortUInt(n) => HeaderValue::Int((*n).into()),
        AMQPValue::ShortInt(n) => HeaderValue::Int((*n).into()),
        AMQPValue::ShortUInt(n) => HeaderValue::Int((*n).into()),
        AMQPValue::LongInt(n) => HeaderValue::Int((*n).into()),
        AMQPValue::LongUInt(n) => HeaderValue::Int((*n).into()),
        AMQPValue::LongLongInt(n) => HeaderValue::Int(*n),
        AMQPValue::Timestamp(n) => i64::try_from(*n).map_or(HeaderValue::Other, HeaderValue::Int),
        _ => HeaderValue::Other,
    }
}

pub(crate) fn to_lapin(properties: &Properties) -> Result<BasicProperties, Error> {
    let mut to =
        BasicProperties::default().with_delivery_mode(if properties.persistent { 2 } else { 1 });
    if let Some(value) = &properties.content_type {
        to = to.with_content_type(short(value)?);
    }
    if let Some(value) = &properties.content_encoding {
        to = to.with_content_encoding(short(value)?);
    }
    if !properties.headers.is_empty() {
        let mut table = FieldTable::default();
        for (name, value) in properties.headers.iter() {
            let value = match value {
                HeaderValue::Text(text) => AMQPValue::LongString(LongString::from(text.as_str())),
                HeaderValue::Int(n) => AMQPValue::LongLongInt(*n),
                HeaderValue::Bool(value) => AMQPValue::Boolean(*value),
                HeaderValue::Other => AMQPValue::Void,
            };
            table.insert(short(name)?, value);
        }
        to = to.with_headers(table);
    }
    if let Some(value) = &properties.priority {
        to = to.with_priority(*value);
    }
    if let Some(value) = &properties.correlation_id {
        to = to.with_correlation_id(short(value)?);
    }
    if let Some(value) = &properties.reply_to {
        to = to.with_reply_to(short(value)?);
    }
    if let Some(value) = &properties.expiration {
        to = to.with_expiration(short(value)?);
    }
    if let Some(value) = &properties.message_id {
        to = to.with_message_id(short(value)?);
    }
    if let Some(value) = &properties.timestamp {
        to = to.with_timestamp(*value);
    }
    if let Some(value) = &properties.kind {
        to = to.with_type(short(value)?);
    }
    if let Some(value) = &properties.user_id {
        to = to.with_user_id(short(value)?);
    }
    if let Some(value) = &properties.app_id {
        to = to.with_app_id(short(value)?);
    }
    Ok(to)
}
