//! Reading what a script returned: a word and its parts, as a list or, which costs Redis less, as
//! one text with blanks between them.

use std::str::FromStr;

use redis::Value;

use crate::Error;

/// The words that a script returned.
pub(crate) struct Reply(Vec<Option<Vec<u8>>>);

impl Reply {
    /// A list has any parts; the parts of a text hold no blank.
    pub(crate) fn new(value: Value) -> Result<Self, Error> {
        match value {
            Value::Array(parts) => parts.into_iter().map(part).collect::<Result<_, _>>().map(Self),
            Value::BulkString(text) => {
                Ok(Self(text.split(|byte| *byte == b' ').map(|part| Some(part.to_vec())).collect()))
            }
            other => Ok(Self(vec![part(other)?])),
        }
    }

    /// A part as text; empty where there is none.
    pub(crate) fn text(&self, index: usize) -> &str {
        let bytes = self.0.get(index).and_then(Option::as_deref).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// A part as text, if there is one.
    pub(crate) fn optional(&self, index: usize) -> Option<&str> {
        Some(self.text(index)).filter(|text| !text.is_empty())
    }

    pub(crate) fn parse<T: FromStr>(&self, index: usize) -> Result<T, Error> {
        self.text(index).parse().map_err(|_| Error::unexpected(self.text(index)))
    }

    pub(crate) fn word(&self) -> &str {
        self.text(0)
    }

    pub(crate) fn into_texts(self) -> impl Iterator<Item = String> {
        self.0
            .into_iter()
            .map(|part| String::from_utf8_lossy(part.as_deref().unwrap_or_default()).into_owned())
    }
}

fn part(value: Value) -> Result<Option<Vec<u8>>, Error> {
    match value {
        Value::Nil => Ok(None),
        Value::Int(number) => Ok(Some(number.to_string().into_bytes())),
        Value::BulkString(bytes) => Ok(Some(bytes)),
        Value::SimpleString(text) => Ok(Some(text.into_bytes())),
        Value::Okay => Ok(Some(b"OK".to_vec())),
        other => Err(Error::unexpected(other)),
    }
}

/// The bytes of a value, if it has any.
pub(crate) fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}
