//! The message that a work queue carries. It is the server's own: clients have no right to write
//! one, and a worker that finds no record for it believes it only if its seal holds.

use job::{ClientName, JobId, JobType, QueueName, Ticket, TicketKey};
use serde::{Deserialize, Serialize};

use crate::headers;
use crate::properties::{HeaderValue, Properties};
use crate::time::UnixMillis;

/// What a client asked for beside type and body. Travels with the job, so that a worker need not
/// read it from the store, and could rebuild a record that an older epoch of the store lost.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// Where the receipt goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// Echoed in receipt and events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// The changes to push, each word spelled out.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub notify: String,
    /// Where they go, if not to `reply_to`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notify_to: Option<String>,
    /// Whether receipt and events may come in one message with others.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub batch: bool,
    /// Not to be run before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<UnixMillis>,
    /// Expires when it is not done by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<UnixMillis>,
    /// Milliseconds that one attempt may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// How many attempts; the handler's own number if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// `low`, `normal` or `high`; normal if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
    /// Milliseconds that the record is kept after the job is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_ms: Option<u64>,
    /// Words to find the job by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The machine or label that made the identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// MIME type of the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Encoding of the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    /// The sending program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_id: Option<String>,
    /// Seconds since 1970, as the sender says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<u64>,
    /// W3C trace context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// W3C trace state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<String>,
}

/// One dispatch of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkMessage {
    /// Who owns the job.
    pub client: ClientName,
    /// The client's identifier.
    pub job_id: JobId,
    /// The server's identifier.
    pub ticket: Ticket,
    /// What is to be done.
    pub job_type: JobType,
    /// The work queue that carries it.
    pub queue: QueueName,
    /// A claim honours only the number that the record holds.
    pub dispatch: u64,
    /// The store's epoch at the time.
    pub epoch: u64,
    /// What else the client asked for.
    pub spec: Spec,
    /// The client's body.
    pub body: Vec<u8>,
}

/// What RabbitMQ 4 makes of a job's priority: from 4.0 on, 5 and more pass what has less, two to
/// one; from 4.3 on, what has less than 4 waits for what has none. RabbitMQ 3 makes nothing of it.
fn broker_priority(word: &str) -> Option<u8> {
    match word {
        "high" => Some(7),
        "low" => Some(1),
        _ => None,
    }
}

/// A message on a work queue that this deployment did not dispatch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a work message of this deployment: {0}")]
pub struct NotAWorkMessage(pub(crate) &'static str);

impl WorkMessage {
    /// The properties to publish it with, sealed.
    pub fn properties(&self, key: &TicketKey) -> Properties {
        let (seal, spec) = self.sealed(key);
        let mut properties = Properties {
            persistent: true,
            content_type: self.spec.content_type.clone(),
            content_encoding: self.spec.content_encoding.clone(),
            message_id: Some(self.message_id()),
            kind: Some(self.job_type.as_str().to_owned()),
            priority: self.spec.priority.as_deref().and_then(broker_priority),
            ..Properties::default()
        };
        let headers = &mut properties.headers;
        headers.push_text(headers::CLIENT, self.client.as_str());
        headers.push_text(headers::JOB_ID, self.job_id.as_str());
        headers.push(headers::DISPATCH, HeaderValue::Int(self.dispatch.cast_signed()));
        headers.push(headers::EPOCH, HeaderValue::Int(self.epoch.cast_signed()));
        headers.push_text(headers::SEAL, seal);
        headers.push_text(headers::SPEC, spec);
        for (name, value) in [
            (headers::TRACEPARENT, &self.spec.traceparent),
            (headers::TRACESTATE, &self.spec.tracestate),
        ] {
            if let Some(value) = value {
                headers.push_text(name, value.as_str());
            }
        }
        properties
    }

    /// Reads a work message back, and checks its seal.
    ///
    /// # Errors
    /// [`NotAWorkMessage`]: somebody else wrote it; keep it in the dead-letter queue.
    pub fn read(
        queue: &QueueName,
        properties: &Properties,
        body: Vec<u8>,
        key: &TicketKey,
    ) -> Result<Self, NotAWorkMessage> {
        let text =
            |name| properties.headers.text(name).ok_or(NotAWorkMessage("a header is missing"));
        let number = |name| match properties.headers.get(name) {
            Some(HeaderValue::Int(n)) if *n >= 0 => Ok(n.cast_unsigned()),
            _ => Err(NotAWorkMessage("a number is missing")),
        };
        let id = properties.message_id.as_deref().unwrap_or_default();
        let written = Written {
            client: text(headers::CLIENT)?,
            job_id: text(headers::JOB_ID)?,
            ticket: id.split('/').next().unwrap_or_default(),
            job_type: properties.kind.as_deref().unwrap_or_default(),
            dispatch: number(headers::DISPATCH)?,
            epoch: number(headers::EPOCH)?,
            spec: text(headers::SPEC)?,
            seal: text(headers::SEAL)?,
        };
        written.open(queue, body, key)
    }

    pub(crate) fn message_id(&self) -> String {
        format!("{}/{}", self.ticket, self.dispatch)
    }

    /// Its seal, and the text of its spec, which is under the seal.
    pub(crate) fn sealed(&self, key: &TicketKey) -> (String, String) {
        let spec = serde_json::to_string(&self.spec).unwrap_or_default();
        (self.seal(key, spec.as_bytes()), spec)
    }

    fn seal(&self, key: &TicketKey, spec: &[u8]) -> String {
        key.seal(&[
            self.client.as_str().as_bytes(),
            self.job_id.as_str().as_bytes(),
            self.ticket.to_string().as_bytes(),
            self.job_type.as_str().as_bytes(),
            self.queue.as_str().as_bytes(),
            &self.dispatch.to_be_bytes(),
            &self.epoch.to_be_bytes(),
            spec,
            &self.body,
        ])
    }
}

/// What a work message says beside its body, as it came.
pub(crate) struct Written<'a> {
    pub(crate) client: &'a str,
    pub(crate) job_id: &'a str,
    pub(crate) ticket: &'a str,
    pub(crate) job_type: &'a str,
    pub(crate) dispatch: u64,
    pub(crate) epoch: u64,
    pub(crate) spec: &'a str,
    pub(crate) seal: &'a str,
}

impl Written<'_> {
    /// The message, if its seal holds.
    pub(crate) fn open(
        self,
        queue: &QueueName,
        body: Vec<u8>,
        key: &TicketKey,
    ) -> Result<WorkMessage, NotAWorkMessage> {
        let message = WorkMessage {
            client: ClientName::parse(self.client).map_err(|_| NotAWorkMessage("no client"))?,
            job_id: JobId::parse_recorded(self.job_id).map_err(|_| NotAWorkMessage("no job id"))?,
            ticket: Ticket::parse(self.ticket).ok_or(NotAWorkMessage("no ticket"))?,
            job_type: JobType::parse(self.job_type).map_err(|_| NotAWorkMessage("no type"))?,
            queue: queue.clone(),
            dispatch: self.dispatch,
            epoch: self.epoch,
            spec: serde_json::from_str(self.spec).map_err(|_| NotAWorkMessage("no spec"))?,
            body,
        };
        if message.seal(key, self.spec.as_bytes()) == self.seal {
            Ok(message)
        } else {
            Err(NotAWorkMessage("its seal does not hold"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(key: &TicketKey) -> WorkMessage {
        let client = ClientName::parse("shop").unwrap();
        let job_id = JobId::parse("A-1").unwrap();
        WorkMessage {
            ticket: key.ticket(&client, &job_id, 0),
            client,
            job_id,
            job_type: JobType::parse("order.place").unwrap(),
            queue: QueueName::default(),
            dispatch: 2,
            epoch: 1,
            spec: Spec { notify: "succeeded".to_owned(), max_attempts: Some(3), ..Spec::default() },
            body: b"{}".to_vec(),
        }
    }

    #[test]
    fn a_work_message_is_read_back_and_a_changed_one_is_not_believed() {
        let key = TicketKey::new(b"secret");
        let sent = message(&key);
        let properties = sent.properties(&key);
        let read = |properties: &Properties, body: &[u8], key: &TicketKey| {
            WorkMessage::read(&QueueName::default(), properties, body.to_vec(), key)
        };
        assert_eq!(read(&properties, b"{}", &key), Ok(sent.clone()));
        assert!(read(&properties, b"{ }", &key).is_err());
        assert!(read(&properties, b"{}", &TicketKey::new(b"other")).is_err());
        let other = WorkMessage { dispatch: 3, ..sent };
        let mut forged = other.properties(&key);
        forged.message_id = properties.message_id;
        assert!(read(&forged, b"{}", &key).is_ok());
        forged.kind = Some("order.refund".to_owned());
        assert!(read(&forged, b"{}", &key).is_err());
    }
}
