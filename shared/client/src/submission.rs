use job::{JobId, JobType, Origin};
use protocol::batch::SHORT_BYTES_MAX;
use protocol::{HeaderValue, Properties, headers};
use serde::{Deserialize, Serialize};

use crate::Error;

/// A job that is to be submitted: type, body, and what else is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    pub(crate) job_type: String,
    pub(crate) body: Vec<u8>,
    pub(crate) job_id: Option<String>,
    pub(crate) options: Options,
}

/// Everything beside type, body and id; kept in the journal as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Options {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_type: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) headers: Vec<(String, String)>,
}

impl Options {
    /// How long names and values of the headers are together.
    pub(crate) fn header_bytes(&self) -> usize {
        self.headers.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// Whether everything that comes of it comes to this client's own queue.
    pub(crate) fn is_for_this_client(&self) -> bool {
        !self.headers.iter().any(|(name, _)| name == headers::NOTIFY_TO || name == headers::BATCH)
    }
}

impl Submission {
    /// A job of a type, with a body.
    pub fn new(job_type: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self {
            job_type: job_type.into(),
            body: body.into(),
            job_id: None,
            options: Options::default(),
        }
    }

    /// An identifier of your own; made for you otherwise.
    #[must_use]
    pub fn job_id(mut self, id: impl Into<String>) -> Self {
        self.job_id = Some(id.into());
        self
    }

    /// MIME type of the body.
    #[must_use]
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.options.content_type = Some(content_type.into());
        self
    }

    /// Which changes to push: states, `terminal`, `stage`, `progress`, `*`, comma-separated.
    #[must_use]
    pub fn notify(self, changes: impl Into<String>) -> Self {
        self.header(headers::NOTIFY, changes)
    }

    /// The queue that changes are pushed to, `reply.<client>.…`; this process's inbox otherwise.
    #[must_use]
    pub fn notify_to(self, queue: impl Into<String>) -> Self {
        self.header(headers::NOTIFY_TO, queue)
    }

    /// Any other header of the protocol, e.g. `job-timeout-ms`.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.headers.push((name.into(), value.into()));
        self
    }

    /// The job's identifier: the one that was set, or a new one. What no message could carry gets
    /// none.
    pub(crate) fn take_id(&mut self, origin: &Origin) -> Result<JobId, Error> {
        JobType::parse(&self.job_type)?;
        let bytes = self.options.content_type.as_ref().map_or(0, String::len);
        if bytes > SHORT_BYTES_MAX {
            return Err(Error::LongContentType(bytes));
        }
        match self.job_id.take() {
            Some(id) => Ok(JobId::parse(&id)?),
            None => Ok(origin.job_id(uuid::Uuid::now_v7())),
        }
    }
}

/// The AMQP properties of a submission, without its identifier.
pub(crate) fn properties(
    options: &Options,
    client: &str,
    inbox: &str,
    origin: &Origin,
) -> Properties {
    let mut properties = Properties {
        persistent: true,
        content_type: options.content_type.clone(),
        user_id: Some(client.to_owned()),
        reply_to: Some(inbox.to_owned()),
        ..Properties::default()
    };
    for (name, value) in &options.headers {
        properties.headers.push(name.clone(), HeaderValue::Text(value.clone()));
    }
    properties.headers.push_text(headers::ORIGIN, origin.to_string());
    // This client takes batches apart; who reads another queue may not.
    if options.is_for_this_client() {
        properties.headers.push(headers::BATCH, HeaderValue::Bool(true));
    }
    properties
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The broker's library took it for a queue that is not there, and it was sent again for ever.
    #[test]
    fn what_no_message_could_carry_is_refused_before_it_is_written() {
        let origin = Origin::label("till-1").unwrap();
        let of = |bytes| Submission::new("a.b", "1").content_type("x".repeat(bytes));
        assert!(of(SHORT_BYTES_MAX).take_id(&origin).is_ok());
        let refused = of(SHORT_BYTES_MAX + 1).take_id(&origin).unwrap_err().to_string();
        assert_eq!(refused, "the content_type has 256 bytes; allowed are up to 255");
    }
}
