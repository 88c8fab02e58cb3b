//! A question that joins the line: sent by an inquiry process to the registrar, through an exchange
//! that none but the server may write.

use job::{ClientName, JobId};
use serde::{Deserialize, Serialize};

use crate::headers;
use crate::properties::Properties;
use crate::request::Ask;

/// A question about an identifier of which no record was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    /// Who asks.
    pub client: ClientName,
    /// The identifier.
    pub job_id: JobId,
    /// What is asked.
    pub ask: Ask,
    /// The ticket that was given beside the identifier.
    pub ticket: Option<String>,
    /// Where the answer goes: checked when the question came in, and again before it is used.
    pub reply_to: Option<String>,
    /// Echoed in the answer.
    pub correlation_id: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Body {
    ask: Ask,
    #[serde(default)]
    ticket: Option<String>,
}

impl Forwarded {
    /// The message to publish.
    pub fn message(&self) -> (Properties, Vec<u8>) {
        let body = Body { ask: self.ask.clone(), ticket: self.ticket.clone() };
        let mut properties = Properties {
            persistent: true,
            content_type: Some("application/json".to_owned()),
            message_id: Some(self.job_id.as_str().to_owned()),
            reply_to: self.reply_to.clone(),
            correlation_id: self.correlation_id.clone(),
            ..Properties::default()
        };
        properties.headers.push_text(headers::CLIENT, self.client.as_str());
        // Words, texts and numbers always have a JSON form.
        (properties, serde_json::to_vec(&body).unwrap_or_default())
    }

    /// Reads one back; `None` if it is none of ours.
    pub fn read(properties: &Properties, body: &[u8]) -> Option<Self> {
        let body: Body = serde_json::from_slice(body).ok()?;
        Some(Self {
            client: ClientName::parse(properties.headers.text(headers::CLIENT)?).ok()?,
            job_id: JobId::parse_recorded(properties.message_id.as_deref()?).ok()?,
            ask: body.ask,
            ticket: body.ticket,
            reply_to: properties.reply_to.clone(),
            correlation_id: properties.correlation_id.clone(),
        })
    }
}
