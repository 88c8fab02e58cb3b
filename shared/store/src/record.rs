//! What stands in a job's hash. Absent fields are absent, never empty.

use std::str::FromStr;

use job::{ClientName, JobId, JobType, QueueName, State, Ticket};
use protocol::work::Spec;
use protocol::{UnixMillis, WorkMessage};
use redis::Value;

use crate::Error;
use crate::keys::JobName;

/// What a key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// A job.
    Job,
    /// A submission that was refused; kept for a day.
    Refused,
    /// An identifier that was made unusable before it arrived.
    Voided,
    /// A job whose record has been retired.
    Retired,
}

impl FromStr for RecordKind {
    type Err = ();
    fn from_str(word: &str) -> Result<Self, ()> {
        match word {
            "job" => Ok(Self::Job),
            "refused" => Ok(Self::Refused),
            "voided" => Ok(Self::Voided),
            "retired" => Ok(Self::Retired),
            _ => Err(()),
        }
    }
}

macro_rules! fields {
    ($($(#[$doc:meta])* $field:ident,)*) => {
        /// A job's hash as it stands in Redis: texts, without the payload.
        #[derive(Debug, Clone, PartialEq, Eq, Default)]
        pub struct Record { $($(#[$doc])* pub $field: Option<String>,)* }

        impl Record {
            /// The names of the fields, in the order in which they are asked for.
            pub const FIELDS: &[&str] = &[$(field_name(stringify!($field)),)*];

            /// The record whose fields a function gives by their names.
            pub fn from_fields(field: impl Fn(&'static str) -> Option<String>) -> Self {
                Self { $($field: field(field_name(stringify!($field))),)* }
            }

            pub(crate) fn from_values(values: Vec<Value>) -> Result<Self, Error> {
                let mut values = values.into_iter();
                Ok(Self { $($field: text(values.next())?,)* })
            }
        }
    };
}

fields! {
    /// `job`, `refused`, `voided` or `retired`.
    record,
    /// Who owns it.
    client,
    /// The client's identifier.
    job_id,
    /// The server's identifier.
    ticket,
    /// What is to be done (`type` on the wire, a keyword in Rust).
    r#type,
    /// The work queue.
    queue,
    /// Where the job is.
    state,
    /// Grows by one with each change.
    revision,
    /// Grows by one when the store was rolled back.
    epoch,
    /// Attempts started and counted.
    attempt,
    /// Attempts allowed, as the worker says that started it: the client's number, or its own.
    attempts_allowed,
    /// The number that a work message must carry to be honoured.
    dispatch,
    /// When that number was given.
    dispatched_at,
    /// The right to write for the running attempt: a growing number and the claimer's nonce.
    fence,
    /// The worker process that runs it.
    owner,
    /// When the right to run ends, if it is not renewed.
    lease_until,
    /// 1 if the run no longer depends on its work message.
    detached,
    /// 1 if the next attempt runs alone in its worker.
    alone,
    /// Attempts in a row that ended without an outcome.
    lost,
    /// 1 if a client has asked a running job to stop.
    cancel_requested,
    /// What the processing says it is at.
    stage,
    /// Percent.
    progress,
    /// A note beside the progress.
    progress_note,
    /// The handler's result, JSON.
    result,
    /// Why it failed.
    error,
    /// Why it is parked.
    parked_reason,
    /// SHA-256 over what was submitted.
    digest,
    /// Size of the body in bytes.
    payload_bytes,
    /// Where the receipt went.
    reply_to,
    /// Echoed in receipt and events.
    correlation_id,
    /// Changes to push.
    notify,
    /// Where they go.
    notify_to,
    /// 1 if receipt and events may come in one message with others.
    batch,
    /// The newest revision that was confirmed into that queue.
    delivered_revision,
    /// Events that could not be delivered.
    undeliverable,
    /// The oldest revision of these.
    undeliverable_from,
    /// Why.
    undeliverable_reason,
    /// The first change that was joined into a gap.
    gap_from,
    /// Not to be run before.
    not_before,
    /// Expires when it is not done by then.
    deadline,
    /// When the scheduler acts on it.
    due_at,
    /// Milliseconds that one attempt may take.
    timeout_ms,
    /// Attempts allowed, as the client says.
    max_attempts,
    /// `low`, `normal` or `high`.
    priority,
    /// Milliseconds that the record is kept after the end.
    keep_ms,
    /// Words to find it by, comma-separated.
    tags,
    /// The machine or label that made the identifier.
    origin,
    /// MIME type of the body.
    content_type,
    /// Encoding of the body.
    content_encoding,
    /// The sending program.
    app_id,
    /// Seconds since 1970, as the sender says.
    timestamp,
    /// W3C trace context.
    traceparent,
    /// W3C trace state.
    tracestate,
    /// When it was accepted.
    accepted_at,
    /// When it last changed.
    changed_at,
    /// When the last attempt was started.
    started_at,
    /// When it reached its final state.
    finished_at,
    /// When the record is retired, or what is left of it goes.
    expires_at,
    /// Hash of the report token of the last run that asked for one.
    report_hash,
    /// Those who wait for a change, JSON.
    waits,
    /// The job that this one repeats.
    replay_of,
    /// The job that repeats this one.
    replayed_as,
    /// The final state that a retired job had.
    outcome,
    /// When its record was retired.
    retired_at,
    /// When a refused submission was refused.
    refused_at,
    /// When an identifier was voided.
    voided_at,
    /// The code of a refusal.
    code,
    /// The sentence of a refusal.
    message,
}

/// `stringify!` keeps the mark of a raw identifier.
const fn field_name(identifier: &'static str) -> &'static str {
    match identifier.as_bytes() {
        b"r#type" => "type",
        _ => identifier,
    }
}

fn text(value: Option<Value>) -> Result<Option<String>, Error> {
    match value {
        None | Some(Value::Nil) => Ok(None),
        Some(Value::BulkString(bytes)) => Ok(Some(
            String::from_utf8(bytes)
                .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()),
        )),
        Some(Value::SimpleString(text)) => Ok(Some(text)),
        Some(Value::Int(number)) => Ok(Some(number.to_string())),
        Some(other) => Err(Error::unexpected(other)),
    }
}

/// Reads a number; what is absent or unreadable is nothing.
pub fn number<T: FromStr>(field: &Option<String>) -> Option<T> {
    field.as_deref()?.parse().ok()
}

impl Record {
    /// What the key stands for; `None` if there is no such key.
    pub fn kind(&self) -> Option<RecordKind> {
        self.record.as_deref()?.parse().ok()
    }

    /// Where the job is.
    pub fn state(&self) -> Option<State> {
        self.state.as_deref()?.parse().ok()
    }

    /// The server's identifier.
    pub fn ticket(&self) -> Option<Ticket> {
        Ticket::parse(self.ticket.as_deref()?)
    }

    /// What is to be done.
    pub fn job_type(&self) -> Option<JobType> {
        JobType::parse(self.r#type.as_deref()?).ok()
    }

    /// The job's full name.
    pub fn name(&self) -> Option<JobName> {
        Some(JobName {
            client: ClientName::parse(self.client.as_deref()?).ok()?,
            job_id: JobId::parse_recorded(self.job_id.as_deref()?).ok()?,
        })
    }

    /// An instant.
    pub fn instant(field: &Option<String>) -> Option<UnixMillis> {
        number(field).map(UnixMillis)
    }

    /// What the client asked for beside type and body.
    pub fn spec(&self) -> Spec {
        Spec {
            reply_to: self.reply_to.clone(),
            correlation_id: self.correlation_id.clone(),
            notify: self.notify.clone().unwrap_or_default(),
            notify_to: self.notify_to.clone(),
            batch: self.batch.is_some(),
            not_before: Self::instant(&self.not_before),
            deadline: Self::instant(&self.deadline),
            timeout_ms: number(&self.timeout_ms),
            max_attempts: number(&self.max_attempts),
            priority: self.priority.clone(),
            keep_ms: number(&self.keep_ms),
            tags: self.tags(),
            origin: self.origin.clone(),
            content_type: self.content_type.clone(),
            content_encoding: self.content_encoding.clone(),
            app_id: self.app_id.clone(),
            timestamp: number(&self.timestamp),
            traceparent: self.traceparent.clone(),
            tracestate: self.tracestate.clone(),
        }
    }

    /// Words to find it by.
    pub fn tags(&self) -> Vec<String> {
        self.tags.iter().flat_map(|tags| tags.split(',')).map(str::to_owned).collect()
    }

    /// The message that dispatches this job under a number.
    pub fn work_message(
        &self,
        queue: QueueName,
        dispatch: u64,
        body: Vec<u8>,
    ) -> Option<WorkMessage> {
        let JobName { client, job_id } = self.name()?;
        Some(WorkMessage {
            client,
            job_id,
            ticket: self.ticket()?,
            job_type: self.job_type()?,
            queue,
            dispatch,
            epoch: number(&self.epoch)?,
            spec: self.spec(),
            body,
        })
    }
}

/// The fields of a new record that come from what the client asked for.
pub(crate) fn spec_fields(spec: &Spec) -> Vec<(&'static str, String)> {
    let mut fields: Vec<(&'static str, String)> = Vec::with_capacity(24);
    let mut put = |name: &'static str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            fields.push((name, value));
        }
    };
    put("notify", Some(spec.notify.clone()));
    put("reply_to", spec.reply_to.clone());
    put("correlation_id", spec.correlation_id.clone());
    put("notify_to", spec.notify_to.clone());
    put("batch", spec.batch.then(|| "1".to_owned()));
    put("not_before", spec.not_before.map(|t| t.0.to_string()));
    put("deadline", spec.deadline.map(|t| t.0.to_string()));
    put("timeout_ms", spec.timeout_ms.map(|v| v.to_string()));
    put("max_attempts", spec.max_attempts.map(|v| v.to_string()));
    put("priority", spec.priority.clone());
    put("keep_ms", spec.keep_ms.map(|v| v.to_string()));
    put("tags", Some(spec.tags.join(",")));
    put("origin", spec.origin.clone());
    put("content_type", spec.content_type.clone());
    put("content_encoding", spec.content_encoding.clone());
    put("app_id", spec.app_id.clone());
    put("timestamp", spec.timestamp.map(|v| v.to_string()));
    put("traceparent", spec.traceparent.clone());
    put("tracestate", spec.tracestate.clone());
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_asked_for_is_read_back_from_the_fields_that_are_written() {
        let spec = Spec {
            reply_to: Some("reply.shop.a".into()),
            correlation_id: Some("c".into()),
            notify: "succeeded,failed".into(),
            notify_to: Some("reply.shop.b".into()),
            batch: true,
            not_before: Some(UnixMillis(1)),
            deadline: Some(UnixMillis(2)),
            timeout_ms: Some(3),
            max_attempts: Some(4),
            priority: Some("high".into()),
            keep_ms: Some(5),
            tags: vec!["a".into(), "b".into()],
            origin: Some("10.0.0.1".into()),
            content_type: Some("text/plain".into()),
            content_encoding: Some("gzip".into()),
            app_id: Some("till".into()),
            timestamp: Some(6),
            traceparent: Some("00-…".into()),
            tracestate: Some("x=y".into()),
        };
        let written = spec_fields(&spec);
        let values = Record::FIELDS.iter().map(|name| {
            written
                .iter()
                .find(|(field, _)| field == name)
                .map_or(Value::Nil, |(_, value)| Value::BulkString(value.clone().into_bytes()))
        });
        assert_eq!(Record::from_values(values.collect()).unwrap().spec(), spec);
        assert_eq!(written.len(), 19);
    }
}
