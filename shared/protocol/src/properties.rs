//! A message's AMQP properties as plain values.

use std::borrow::Cow;

/// What a header may hold: scalars. Anything else is [`HeaderValue::Other`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderValue {
    /// A string, in UTF-8.
    Text(String),
    /// An integer of any AMQP width.
    Int(i64),
    /// A truth value.
    Bool(bool),
    /// A table, an array, a fraction, bytes that are not text: no header of ours holds one.
    Other,
}

/// A message's headers, in the order in which they came. The names that we write are constants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers(Vec<(Cow<'static, str>, HeaderValue)>);

impl Headers {
    /// The value under a name.
    pub fn get(&self, name: &str) -> Option<&HeaderValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The text under a name; `None` if there is none or it is no text.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            HeaderValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Adds a header.
    pub fn push(&mut self, name: impl Into<Cow<'static, str>>, value: HeaderValue) {
        self.0.push((name.into(), value));
    }

    /// Sets a header, in the place of one of the same name.
    pub fn set(&mut self, name: String, value: HeaderValue) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.push(name, value),
        }
    }

    /// Adds a text.
    pub fn push_text(&mut self, name: &'static str, value: impl Into<String>) {
        self.push(name, HeaderValue::Text(value.into()));
    }

    /// Name and value, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// How long names and texts are together.
    pub fn bytes(&self) -> usize {
        let of = |(name, value): (&str, &HeaderValue)| match value {
            HeaderValue::Text(text) => name.len() + text.len(),
            _ => name.len(),
        };
        self.iter().map(of).sum()
    }
}

/// The AMQP 0-9-1 properties of a message, by their AMQP names (`type` is [`Self::kind`]).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Properties {
    /// MIME type of the body.
    pub content_type: Option<String>,
    /// Encoding of the body, e.g. `gzip`.
    pub content_encoding: Option<String>,
    /// Headers.
    pub headers: Headers,
    /// Delivery mode 2: the broker writes the message to disk.
    pub persistent: bool,
    /// The broker's priority, which RabbitMQ 4 honours in quorum queues. A submission must not set
    /// it.
    pub priority: Option<u8>,
    /// Echoed in every answer to this message.
    pub correlation_id: Option<String>,
    /// Where answers go.
    pub reply_to: Option<String>,
    /// Milliseconds after which the broker drops the message. A submission must not set it.
    pub expiration: Option<String>,
    /// The message's identifier; for a submission, the job id.
    pub message_id: Option<String>,
    /// Seconds since 1970, as the sender says.
    pub timestamp: Option<u64>,
    /// The AMQP property `type`.
    pub kind: Option<String>,
    /// The sender's user name, which the broker has verified where it is present.
    pub user_id: Option<String>,
    /// The sending program.
    pub app_id: Option<String>,
}
