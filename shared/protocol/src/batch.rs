//! Several messages in one. A broker's cost is by the message: who sends or gets many says so.
//!
//! | direction | who asks for it | `type` | body |
//! |---|---|---|---|
//! | to the client | the job's header `job-batch` | `batch` | [`Batch`] |
//! | from the client | whoever sends it | `submissions` | [`Submissions`] |
//!
//! What is in a batch means what it means alone: it is taken apart where it is received, and
//! nothing behind that place knows of it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::answer::{Answer, Kind};
use crate::properties::{HeaderValue, Properties};
use crate::refusal::{Code, Refusal};

/// The AMQP `type` of several messages to a client.
pub const TO_CLIENT: &str = "batch";
/// The AMQP `type` of several submissions.
pub const FROM_CLIENT: &str = "submissions";
/// So many submissions may be in one message.
pub const SUBMISSIONS_MAX: usize = 500;
/// A list of submissions is no longer than this, in bytes.
pub const SUBMISSIONS_BYTES_MAX: usize = 1024 * 1024;
/// So many headers a message of several submissions has, and so many each of these has beside it.
/// What comes alone is held to less by AMQP's frames.
pub const HEADERS_MAX: usize = 64;
/// So long are the headers of such a message, in bytes: each submission gets all of them.
pub const HEADERS_BYTES_MAX: usize = 16 * 1024;
/// So many messages to a client are sent in one.
pub const MESSAGES_MAX: usize = 500;
/// A message to a client is not put into a batch that would be longer than this, in bytes.
pub const BYTES_MAX: usize = 256 * 1024;
/// A property or a routing key of a message of its own holds no more bytes.
pub const SHORT_BYTES_MAX: usize = 255;
/// A reason is cut to so many characters: it may quote what it is about.
const WHY_CHARS_MAX: usize = 300;

/// Several messages to a client in one.
#[derive(Debug, Serialize, Deserialize)]
pub struct Batch {
    /// The protocol's version, 1.
    pub v: u32,
    /// The messages, in the order in which they would have been sent.
    pub messages: Vec<Message>,
}

/// A message in a batch: what its properties would have said, and its body.
#[derive(Debug, Serialize, Deserialize)]
pub struct Message {
    /// Its kind, as the property `type` of a message of its own says it.
    pub r#type: String,
    /// As the property.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// As the property: an event's identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Its body.
    pub body: Box<RawValue>,
}

impl Batch {
    /// Reads a batch.
    ///
    /// # Errors
    /// It is none.
    pub fn read(body: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }

    /// The properties to publish a batch with.
    pub fn properties() -> Properties {
        Properties {
            persistent: true,
            content_type: Some("application/json".to_owned()),
            kind: Some(TO_CLIENT.to_owned()),
            ..Properties::default()
        }
    }

    /// The body.
    pub fn to_json(&self) -> Vec<u8> {
        // Texts, and JSON already.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl Message {
    /// The same message, to be put into a batch; `None` if its body is no JSON.
    pub fn of(properties: &Properties, body: Vec<u8>) -> Option<Self> {
        Some(Self {
            r#type: properties.kind.clone()?,
            correlation_id: properties.correlation_id.clone(),
            message_id: properties.message_id.clone(),
            body: RawValue::from_string(String::from_utf8(body).ok()?).ok()?,
        })
    }

    /// Its kind; none of a later version's.
    pub fn kind(&self) -> Option<Kind> {
        Kind::parse(&self.r#type)
    }

    /// What it says.
    ///
    /// # Errors
    /// It is no answer.
    pub fn answer(&self) -> Result<Answer, serde_json::Error> {
        serde_json::from_str(self.body.get())
    }
}

/// Several submissions in one message. Its own properties and headers are those of each of them,
/// unless the submission has its own; except `message_id`, `type`, `content_type` and
/// `content_encoding`, which are of the message alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Submissions {
    /// The protocol's version, 1.
    pub v: u32,
    /// The submissions, in the order in which they are recorded.
    pub submissions: Vec<Entry>,
}

/// A submission among others.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// The client's identifier.
    pub job_id: String,
    /// The job's type, if it is not the routing key's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<String>,
    /// As the property.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// As the property.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// As the property.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    /// As the property.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<u64>,
    /// Headers that the others do not have, or have otherwise.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Value>,
    /// The body, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body, in base64, if it is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}

/// A submission that was in a batch, as if it had come alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Apart {
    /// The job's type.
    pub routing_key: String,
    /// Its properties.
    pub properties: Properties,
    /// Its body.
    pub body: Vec<u8>,
}

impl Entry {
    /// A submission with a body, as text if it is text.
    pub fn new(job_id: impl Into<String>, body: Vec<u8>) -> Self {
        let (body, body_base64) = match String::from_utf8(body) {
            Ok(text) => (Some(text), None),
            Err(bytes) => (None, Some(STANDARD.encode(bytes.as_bytes()))),
        };
        Self { job_id: job_id.into(), body, body_base64, ..Self::default() }
    }

    /// What no message of its own could carry could be in no answer and in no work message.
    fn too_long(&self) -> Option<&'static str> {
        let texts = [
            ("job_id", Some(&self.job_id)),
            ("type", self.r#type.as_ref()),
            ("correlation_id", self.correlation_id.as_ref()),
            ("content_type", self.content_type.as_ref()),
            ("content_encoding", self.content_encoding.as_ref()),
        ];
        let is_too_long = |text: Option<&String>| text.is_some_and(|it| it.len() > SHORT_BYTES_MAX);
        texts.into_iter().find(|(_, text)| is_too_long(*text)).map(|(name, _)| name)
    }

    fn apart(self, routing_key: &str, common: &Properties) -> Result<Apart, Refusal> {
        if let Some(name) = self.too_long() {
            return Err(bad(&format!("a {name} is longer than {SHORT_BYTES_MAX} bytes")));
        }
        if self.headers.len() > HEADERS_MAX {
            let count = self.headers.len();
            return Err(bad(&format!("{count} headers of one; the limit is {HEADERS_MAX}")));
        }
        let body = match (self.body, self.body_base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(text)) => STANDARD
                .decode(text)
                .map_err(|_| bad(&format!("body_base64 of {:?} is no base64", self.job_id)))?,
            (None, None) => Vec::new(),
            (Some(_), Some(_)) => {
                return Err(bad(&format!("{:?} has both body and body_base64", self.job_id)));
            }
        };
        let mut properties = common.clone();
        properties.message_id = Some(self.job_id);
        properties.kind = None;
        properties.correlation_id = self.correlation_id.or(properties.correlation_id);
        // Those of the message say what the list is.
        properties.content_type = self.content_type;
        properties.content_encoding = self.content_encoding;
        properties.timestamp = self.timestamp.or(properties.timestamp);
        for (name, value) in self.headers {
            properties.headers.set(name, header(value));
        }
        let routing_key = self.r#type.unwrap_or_else(|| routing_key.to_owned());
        Ok(Apart { routing_key, properties, body })
    }
}

fn header(value: Value) -> HeaderValue {
    match value {
        Value::String(text) => HeaderValue::Text(text),
        Value::Bool(value) => HeaderValue::Bool(value),
        Value::Number(number) => number.as_i64().map_or(HeaderValue::Other, HeaderValue::Int),
        _ => HeaderValue::Other,
    }
}

impl Submissions {
    /// Whether a message says that it is several submissions.
    pub fn are(properties: &Properties) -> bool {
        properties.kind.as_deref() == Some(FROM_CLIENT)
    }

    /// Takes a message of several submissions apart.
    ///
    /// # Errors
    /// [`Code::BadRequest`]: none of them can be told from the others.
    pub fn apart(
        routing_key: &str,
        properties: &Properties,
        body: &[u8],
    ) -> Result<Vec<Apart>, Refusal> {
        if body.len() > SUBMISSIONS_BYTES_MAX {
            let bytes = body.len();
            return Err(bad(&format!("{bytes} bytes; the limit is {SUBMISSIONS_BYTES_MAX}")));
        }
        let headers = &properties.headers;
        if headers.len() > HEADERS_MAX || headers.bytes() > HEADERS_BYTES_MAX {
            let (count, bytes) = (headers.len(), headers.bytes());
            return Err(bad(&format!(
                "{count} headers of {bytes} bytes; \
                 the limits of a list are {HEADERS_MAX} and {HEADERS_BYTES_MAX}"
            )));
        }
        let read: Self = serde_json::from_slice(body)
            .map_err(|error| bad(&format!("the body is no list of submissions: {error}")))?;
        if read.v != crate::VERSION {
            return Err(bad(&format!("v is {}; allowed is {}", read.v, crate::VERSION)));
        }
        if read.submissions.is_empty() || read.submissions.len() > SUBMISSIONS_MAX {
            let count = read.submissions.len();
            return Err(bad(&format!("{count} submissions; allowed are 1 to {SUBMISSIONS_MAX}")));
        }
        read.submissions.into_iter().map(|entry| entry.apart(routing_key, properties)).collect()
    }

    /// The body.
    pub fn to_json(&self) -> Vec<u8> {
        // Texts, numbers and lists of these.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

fn bad(why: &str) -> Refusal {
    Refusal::new(Code::BadRequest, why.chars().take(WHY_CHARS_MAX).collect::<String>())
}
