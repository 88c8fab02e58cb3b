//! Several short jobs in one work message. For the broker a message of many jobs costs little more
//! than a message of one, and a job that takes a moment costs less than its message.
//!
//! Only the carriage is shared: each job keeps its dispatch number and its seal, and behind the
//! place where a delivery is read nothing knows how it came. The body is one line of JSON, a list
//! of heads, and after it the bodies of the jobs, one behind the other.

use std::borrow::Cow;

use job::{QueueName, TicketKey};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::headers;
use crate::properties::{HeaderValue, Properties};
use crate::work::{NotAWorkMessage, WorkMessage, Written};

/// So many jobs travel in one message: what they share is nearly gone by then, and the message goes
/// to one worker, while others may have nothing to do.
pub const JOBS_MAX: usize = 16;
/// A job travels alone if body and head together are longer, in bytes: it would gain nothing. So
/// no message of several is longer than any broker takes.
pub const PART_BYTES_MAX: usize = 4096;

/// The number that the registrar dispatches under. What has a later one is the scheduler's.
const REGISTRARS_DISPATCH: u64 = 1;

/// What a work message of its own says in properties and headers.
#[derive(Serialize, Deserialize)]
struct Head<'a, S> {
    #[serde(borrow)]
    client: Cow<'a, str>,
    #[serde(borrow)]
    job_id: Cow<'a, str>,
    #[serde(borrow)]
    ticket: Cow<'a, str>,
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    dispatch: u64,
    epoch: u64,
    #[serde(borrow)]
    seal: Cow<'a, str>,
    /// To be written, or the text that was written, which is under the seal.
    spec: S,
    /// The length of its body.
    bytes: usize,
}

/// A job that is to travel with others.
#[derive(Debug, Clone)]
pub struct Part<'a> {
    head: Vec<u8>,
    message: &'a WorkMessage,
}

impl<'a> Part<'a> {
    /// `None` if the job is to travel alone: its message is not small, or has a priority, which is
    /// the broker's to heed; or the scheduler sends it, for the second time perhaps, and it may be
    /// what the first message came back for.
    pub fn of(message: &'a WorkMessage, key: &TicketKey) -> Option<Self> {
        if message.spec.priority.is_some()
            || message.body.len() > PART_BYTES_MAX
            || message.dispatch > REGISTRARS_DISPATCH
        {
            return None;
        }
        let head = Head {
            client: message.client.as_str().into(),
            job_id: message.job_id.as_str().into(),
            ticket: message.ticket.to_string().into(),
            r#type: message.job_type.as_str().into(),
            dispatch: message.dispatch,
            epoch: message.epoch,
            seal: message.sealed(key).0.into(),
            spec: &message.spec,
            bytes: message.body.len(),
        };
        let head = serde_json::to_vec(&head).ok()?;
        (head.len() + message.body.len() <= PART_BYTES_MAX).then_some(Self { head, message })
    }
}

/// The properties and the body of one message for several jobs, at least one.
pub fn pack(parts: &[Part<'_>]) -> (Properties, Vec<u8>) {
    let bytes: usize = parts.iter().map(|part| part.head.len() + part.message.body.len() + 1).sum();
    let mut body = Vec::with_capacity(bytes + 2);
    for part in parts {
        body.push(if body.is_empty() { b'[' } else { b',' });
        body.extend_from_slice(&part.head);
    }
    body.extend_from_slice(b"]\n");
    parts.iter().for_each(|part| body.extend_from_slice(&part.message.body));
    let mut properties = Properties {
        persistent: true,
        // A message that no queue takes comes back under it.
        message_id: parts.first().map(|first| first.message.message_id()),
        ..Properties::default()
    };
    let count = i64::try_from(parts.len()).unwrap_or_default();
    properties.headers.push(headers::JOBS, HeaderValue::Int(count));
    (properties, body)
}

/// Reads a work message, of one job or of several, and checks every seal.
///
/// # Errors
/// [`NotAWorkMessage`]: somebody else wrote it; keep it in the dead-letter queue.
pub fn read(
    queue: &QueueName,
    properties: &Properties,
    body: &[u8],
    key: &TicketKey,
) -> Result<Vec<WorkMessage>, NotAWorkMessage> {
    let count = match properties.headers.get(headers::JOBS) {
        None => return Ok(vec![WorkMessage::read(queue, properties, body.to_vec(), key)?]),
        Some(HeaderValue::Int(count)) => usize::try_from(*count).unwrap_or_default(),
        Some(_) => 0,
    };
    let line_end = body.iter().position(|byte| *byte == b'\n');
    let (line, bodies) = body.split_at(line_end.ok_or(NotAWorkMessage("no list of jobs"))?);
    let heads: Vec<Head<'_, &RawValue>> =
        serde_json::from_slice(line).map_err(|_| NotAWorkMessage("no list of jobs"))?;
    if heads.is_empty() || heads.len() != count {
        return Err(NotAWorkMessage("not as many jobs as it says"));
    }
    let mut bodies = &bodies[1..];
    let mut messages = Vec::with_capacity(heads.len());
    for head in heads {
        let body = bodies.split_off(..head.bytes).ok_or(NotAWorkMessage("a body is missing"))?;
        let written = Written {
            client: &head.client,
            job_id: &head.job_id,
            ticket: &head.ticket,
            job_type: &head.r#type,
            dispatch: head.dispatch,
            epoch: head.epoch,
            spec: head.spec.get(),
            seal: &head.seal,
        };
        messages.push(written.open(queue, body.to_vec(), key)?);
    }
    if !bodies.is_empty() {
        return Err(NotAWorkMessage("it has more than its bodies"));
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use job::{ClientName, JobId, JobType};

    use super::*;
    use crate::work::Spec;

    fn message(key: &TicketKey, number: usize, body: &[u8]) -> WorkMessage {
        let client = ClientName::parse("shop").unwrap();
        let job_id = JobId::parse(&format!("A-{number}")).unwrap();
        WorkMessage {
            ticket: key.ticket(&client, &job_id, 0),
            client,
            job_id,
            job_type: JobType::parse("order.ping").unwrap(),
            queue: QueueName::default(),
            dispatch: 1,
            epoch: 7,
            spec: Spec { origin: Some("a \"desk\"\n".to_owned()), ..Spec::default() },
            body: body.to_vec(),
        }
    }

    fn three(key: &TicketKey) -> Vec<WorkMessage> {
        let bodies = [&b"{}"[..], &b""[..], &b"\n\xff[]"[..]];
        bodies.iter().enumerate().map(|(number, body)| message(key, number, body)).collect()
    }

    fn packed(messages: &[WorkMessage], key: &TicketKey) -> (Properties, Vec<u8>) {
        let parts: Vec<_> = messages.iter().filter_map(|message| Part::of(message, key)).collect();
        pack(&parts)
    }

    #[test]
    fn several_jobs_are_read_back_as_they_were_packed_whatever_their_bodies_are() {
        let key = TicketKey::new(b"secret");
        let sent = three(&key);
        let (properties, body) = packed(&sent, &key);
        assert_eq!(read(&QueueName::default(), &properties, &body, &key), Ok(sent.clone()));
        assert_eq!(properties.message_id, Some(sent[0].message_id()));
        // One that came alone.
        let alone = read(&QueueName::default(), &sent[0].properties(&key), b"{}", &key);
        assert_eq!(alone, Ok(vec![sent[0].clone()]));
    }

    #[test]
    fn whatever_is_changed_in_it_none_of_it_is_believed() {
        let key = TicketKey::new(b"secret");
        let sent = three(&key);
        let (properties, body) = packed(&sent, &key);
        let is_read = |body: &[u8], key: &TicketKey, queue: &str| {
            let queue = QueueName::parse(queue).unwrap();
            read(&queue, &properties, body, key).is_ok()
        };
        assert!(is_read(&body, &key, QueueName::DEFAULT));
        assert!(!is_read(&body, &TicketKey::new(b"other"), QueueName::DEFAULT));
        assert!(!is_read(&body, &key, "elsewhere"));
        for changed in 0..body.len() {
            let mut other = body.clone();
            other[changed] ^= 1;
            assert!(!is_read(&other, &key, QueueName::DEFAULT), "byte {changed}");
            assert!(!is_read(&body[..changed], &key, QueueName::DEFAULT), "cut at {changed}");
        }
        let one_less = packed(&sent[1..], &key).1;
        for other in [&[&body[..], b"x"].concat(), &b"[]\n"[..], &one_less] {
            assert!(!is_read(other, &key, QueueName::DEFAULT));
        }
    }

    #[test]
    fn what_is_large_urgent_or_the_schedulers_travels_alone() {
        let key = TicketKey::new(b"secret");
        let small = message(&key, 1, &[b'1'; PART_BYTES_MAX - 1000]);
        assert!(Part::of(&small, &key).is_some());
        let spec = |priority: Option<&str>, app_id: &str| Spec {
            priority: priority.map(str::to_owned),
            app_id: Some(app_id.to_owned()),
            ..Spec::default()
        };
        for other in [
            message(&key, 1, &[b'1'; PART_BYTES_MAX - 100]),
            WorkMessage { spec: spec(None, &"x".repeat(1000)), ..small.clone() },
            WorkMessage { spec: spec(Some("high"), ""), ..small.clone() },
            WorkMessage { dispatch: 2, ..small },
        ] {
            assert!(Part::of(&other, &key).is_none(), "{other:?}");
        }
    }
}
