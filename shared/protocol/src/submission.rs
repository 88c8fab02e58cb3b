//! A submission: a plain message whose body is the client's own.

use job::{ClientName, Digest, JobId, JobType, Subscription};

use crate::headers;
use crate::properties::{HeaderValue, Properties};
use crate::refusal::{Code, Refusal};
use crate::reply_to::{Destination, Purpose};
use crate::request::{Rejected, sender};
use crate::time::UnixMillis;
use crate::work::Spec;

/// What a deployment allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The largest body, in bytes.
    pub payload_bytes_max: usize,
}

/// A submission that keeps every rule of the protocol.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Who sent it, as the broker verified.
    pub client: ClientName,
    /// The client's identifier.
    pub job_id: JobId,
    /// What is to be done.
    pub job_type: JobType,
    /// What else the client asked for.
    pub spec: Spec,
    /// Where the receipt goes.
    pub reply_to: Option<Destination>,
    /// Headers that looked like ours and are none.
    pub ignored: Vec<String>,
    /// What makes another submission of this id the same.
    pub digest: Digest,
    /// The client's body.
    pub body: Vec<u8>,
}

const TIMEOUT_MS_MAX: u64 = 7 * 24 * 3600 * 1000;
const KEEP_MS_MAX: u64 = 30 * 24 * 3600 * 1000;
const ATTEMPTS_MAX: u64 = 1000;
const TAGS_MAX: usize = 16;
const TAG_BYTES_MAX: usize = 64;
const TEXT_BYTES_MAX: usize = 255;
const IGNORED_MAX: usize = 32;

impl Submission {
    /// Reads a submission.
    ///
    /// # Errors
    /// [`Rejected`], with what is known of the sender, so that it can be answered and recorded.
    pub fn read(
        routing_key: &str,
        properties: &Properties,
        body: Vec<u8>,
        limits: Limits,
    ) -> Result<Self, Box<Rejected>> {
        let mut rejected = Rejected::from(properties);
        match Self::parse(routing_key, properties, body, limits, &mut rejected) {
            Ok(submission) => Ok(submission),
            Err(refusal) => {
                rejected.refusal = refusal;
                Err(Box::new(rejected))
            }
        }
    }

    fn parse(
        routing_key: &str,
        properties: &Properties,
        body: Vec<u8>,
        limits: Limits,
        known: &mut Rejected,
    ) -> Result<Self, Refusal> {
        let client = sender(properties)?;
        let job_id = JobId::parse(properties.message_id.as_deref().unwrap_or_default())
            .map_err(|e| Refusal::new(Code::InvalidId, format!("message_id: {e}")))?;
        known.job_id = Some(job_id.clone());
        let reply_to = match &properties.reply_to {
            Some(name) => Some(Destination::check(Some(&client), name, Purpose::Answer)?),
            None => None,
        };
        let job_type = JobType::parse(routing_key)
            .map_err(|e| Refusal::new(Code::InvalidType, format!("routing key: {e}")))?;
        if properties.expiration.is_some() {
            return Err(bad("expiration", "must not be set: a broker would drop the job unseen"));
        }
        // RabbitMQ 4 would let a question pass it in the line, and `unknown` would be false.
        if properties.priority.is_some() {
            return Err(bad("priority", "must not be set; job-priority is what you mean"));
        }
        if body.len() > limits.payload_bytes_max {
            return Err(Refusal::new(
                Code::PayloadTooLarge,
                format!("{} bytes; the limit is {}", body.len(), limits.payload_bytes_max),
            ));
        }
        let spec = read_spec(&client, properties)?;
        let digest = digest(&job_type, &spec, &body);
        let ignored = properties
            .headers
            .iter()
            .map(|(name, _)| name)
            .filter(|name| name.starts_with(headers::PREFIX) && !headers::SUBMISSION.contains(name))
            .take(IGNORED_MAX)
            .map(|name| name.chars().take(TEXT_BYTES_MAX).collect())
            .collect();
        Ok(Self { client, job_id, job_type, spec, reply_to, ignored, digest, body })
    }
}

fn read_spec(client: &ClientName, properties: &Properties) -> Result<Spec, Refusal> {
    let header = Reader { properties };
    if let Some(version) = header.number(headers::PROTOCOL, 0, u64::MAX)?
        && version != u64::from(crate::VERSION)
    {
        return Err(Refusal::new(Code::UnknownVersion, format!("job-protocol is {version}")));
    }
    let notify = Subscription::parse(header.text(headers::NOTIFY)?.unwrap_or_default())
        .map_err(|e| bad(headers::NOTIFY, &e.to_string()))?;
    let notify_to = header.text(headers::NOTIFY_TO)?;
    if !notify.is_empty() {
        let to = notify_to.or(properties.reply_to.as_deref()).ok_or_else(|| {
            bad(
                headers::NOTIFY,
                "names changes to push, and neither job-notify-to nor reply_to says where",
            )
        })?;
        Destination::check(Some(client), to, Purpose::Events)?;
    } else if let Some(to) = notify_to {
        Destination::check(Some(client), to, Purpose::Events)?;
    }
    let priority = header.text(headers::PRIORITY)?;
    if priority.is_some_and(|p| !["low", "normal", "high"].contains(&p)) {
        return Err(bad(headers::PRIORITY, "must be low, normal or high"));
    }
    Ok(Spec {
        reply_to: properties.reply_to.clone(),
        correlation_id: properties.correlation_id.clone(),
        notify: notify.to_string(),
        notify_to: notify_to.map(str::to_owned),
        batch: header.truth(headers::BATCH)?.unwrap_or_default(),
        not_before: header.time(headers::NOT_BEFORE)?,
        deadline: header.time(headers::DEADLINE)?,
        timeout_ms: header.number(headers::TIMEOUT_MS, 1, TIMEOUT_MS_MAX)?,
        // The range fits: at most ATTEMPTS_MAX.
        max_attempts: header
            .number(headers::MAX_ATTEMPTS, 1, ATTEMPTS_MAX)?
            .and_then(|n| u32::try_from(n).ok()),
        priority: priority.map(str::to_owned),
        keep_ms: header.number(headers::KEEP_MS, 0, KEEP_MS_MAX)?,
        tags: read_tags(header.text(headers::TAGS)?.unwrap_or_default())?,
        origin: header.text(headers::ORIGIN)?.map(str::to_owned),
        content_type: properties.content_type.clone(),
        content_encoding: properties.content_encoding.clone(),
        app_id: properties.app_id.clone(),
        timestamp: properties.timestamp,
        traceparent: header.trace(headers::TRACEPARENT),
        tracestate: header.trace(headers::TRACESTATE),
    })
}

fn read_tags(list: &str) -> Result<Vec<String>, Refusal> {
    let tags: Vec<String> =
        list.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect();
    let fits = |tag: &String| tag.len() <= TAG_BYTES_MAX && !tag.chars().any(char::is_control);
    if tags.len() <= TAGS_MAX && tags.iter().all(fits) {
        Ok(tags)
    } else {
        Err(bad(headers::TAGS, "takes at most 16 tags of at most 64 bytes each"))
    }
}

/// The parts that change what is executed. Where answers and events go, what they are correlated
/// with and how long the record is kept may differ in a repetition; it is the same job.
pub fn digest(job_type: &JobType, spec: &Spec, body: &[u8]) -> Digest {
    let text = |value: Option<i64>| value.map(|v| v.to_string());
    let not_before = text(spec.not_before.map(|t| t.0));
    let deadline = text(spec.deadline.map(|t| t.0));
    let timeout_ms = spec.timeout_ms.map(|v| v.to_string());
    let max_attempts = spec.max_attempts.map(|v| v.to_string());
    let bytes = |value: &'_ Option<String>| value.as_ref().map(|v| v.clone().into_bytes());
    let parts: [(&str, Option<Vec<u8>>); 8] = [
        ("content_type", bytes(&spec.content_type)),
        ("content_encoding", bytes(&spec.content_encoding)),
        (headers::NOT_BEFORE, bytes(&not_before)),
        (headers::DEADLINE, bytes(&deadline)),
        (headers::TIMEOUT_MS, bytes(&timeout_ms)),
        (headers::MAX_ATTEMPTS, bytes(&max_attempts)),
        (headers::PRIORITY, bytes(&spec.priority)),
        ("type", Some(job_type.as_str().as_bytes().to_vec())),
    ];
    let mut all: Vec<(&str, Option<&[u8]>)> =
        parts.iter().map(|(name, value)| (*name, value.as_deref())).collect();
    all.push(("body", Some(body)));
    Digest::over(&all)
}

fn bad(name: &str, why: &str) -> Refusal {
    Refusal::new(Code::BadHeader, format!("{name}: {why}"))
}

struct Reader<'a> {
    properties: &'a Properties,
}

impl<'a> Reader<'a> {
    fn text(&self, name: &str) -> Result<Option<&'a str>, Refusal> {
        match self.properties.headers.get(name) {
            None => Ok(None),
            Some(HeaderValue::Text(text)) if text.len() <= 4 * TEXT_BYTES_MAX => Ok(Some(text)),
            Some(HeaderValue::Text(_)) => Err(bad(name, "is longer than 1020 bytes")),
            Some(_) => Err(bad(name, "must be text")),
        }
    }

    /// Trace context is for others: one that is no text, or too long for a work message, is passed
    /// over.
    fn trace(&self, name: &str) -> Option<String> {
        let text = self.properties.headers.text(name)?;
        (text.len() <= 4 * TEXT_BYTES_MAX).then(|| text.to_owned())
    }

    fn number(&self, name: &str, min: u64, max: u64) -> Result<Option<u64>, Refusal> {
        let number = match self.properties.headers.get(name) {
            None => return Ok(None),
            Some(HeaderValue::Int(n)) => u64::try_from(*n).ok(),
            Some(HeaderValue::Text(digits)) => digits.parse().ok(),
            Some(_) => None,
        };
        match number {
            Some(n) if (min..=max).contains(&n) => Ok(Some(n)),
            _ => Err(bad(name, &format!("must be a whole number from {min} to {max}"))),
        }
    }

    fn truth(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.properties.headers.get(name) {
            None => Ok(None),
            Some(HeaderValue::Bool(value)) => Ok(Some(*value)),
            Some(HeaderValue::Text(word)) if word == "true" => Ok(Some(true)),
            Some(HeaderValue::Text(word)) if word == "false" => Ok(Some(false)),
            Some(_) => Err(bad(name, "must be true or false")),
        }
    }

    fn time(&self, name: &str) -> Result<Option<UnixMillis>, Refusal> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        UnixMillis::parse(text)
            .map(Some)
            .ok_or_else(|| bad(name, "must be a time in RFC 3339, e.g. 2026-01-31T12:00:00Z"))
    }
}

#[cfg(test)]
#[path = "submission_tests.rs"]
mod tests;
