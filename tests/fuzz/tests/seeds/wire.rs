//! As much of AMQP's encoding as the seeds take.

use serde_json::Value;

fn short(text: &[u8]) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap();
    [&[length][..], text].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes()[..], bytes].concat()
}

/// The arguments of a `basic.deliver`.
pub(super) fn deliver(key: &[u8]) -> Vec<u8> {
    let exchange = short(b"counterfoil.submit");
    [&short(b"tag")[..], &7_u64.to_be_bytes(), &[0], &exchange, &short(key)].concat()
}

/// A table of texts, integers and truth values.
pub(super) fn table(headers: &Value) -> Vec<u8> {
    let mut entries = Vec::new();
    for (name, value) in headers.as_object().into_iter().flatten() {
        entries.extend(short(name.as_bytes()));
        match value {
            Value::String(text) => entries.extend([b"S", &long(text.as_bytes())[..]].concat()),
            Value::Number(n) => {
                entries.extend([b"l", &n.as_i64().unwrap().to_be_bytes()[..]].concat());
            }
            Value::Bool(truth) => entries.extend([b't', u8::from(*truth)]),
            _ => entries.push(b'V'),
        }
    }
    long(&entries)
}

/// A table in a table in a table.
pub(super) fn nested(depth: usize) -> Vec<u8> {
    (0..depth).fold(table(&Value::Null), |inner, _| long(&[b"\x01tF", &inner[..]].concat()))
}

/// A content header with properties by their AMQP names, and an encoded table of headers.
pub(super) fn header(properties: &Value, headers: &[u8], size: usize) -> Vec<u8> {
    const NAMES: [&str; 13] = [
        "content_type",
        "content_encoding",
        "headers",
        "delivery_mode",
        "priority",
        "correlation_id",
        "reply_to",
        "expiration",
        "message_id",
        "timestamp",
        "type",
        "user_id",
        "app_id",
    ];
    let (mut flags, mut encoded) = (0_u16, Vec::new());
    for (place, name) in NAMES.iter().enumerate() {
        let value = match (*name, &properties[*name]) {
            ("headers", _) => headers.to_vec(),
            (_, Value::Null) => continue,
            ("timestamp", value) => value.as_u64().unwrap().to_be_bytes().to_vec(),
            (_, Value::Number(number)) => vec![u8::try_from(number.as_u64().unwrap()).unwrap()],
            (_, value) => short(value.as_str().unwrap().as_bytes()),
        };
        flags |= 1 << (15 - place);
        encoded.extend(value);
    }
    let size = u64::try_from(size).unwrap();
    [&[0, 60, 0, 0][..], &size.to_be_bytes(), &flags.to_be_bytes(), &encoded].concat()
}
