//! A request about jobs: a JSON body, the verb as routing key.

use std::fmt;

use job::{ClientName, JobId, Ticket};
use serde::{Deserialize, Serialize};

use crate::headers;
use crate::properties::Properties;
use crate::refusal::{Code, Refusal};
use crate::reply_to::{Destination, Purpose};

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// What became of a job.
    Status,
    /// Stop a job, or make an id unusable that has not arrived.
    Cancel,
}

impl Verb {
    /// Every verb.
    pub const ALL: &[Self] = &[Self::Status, Self::Cancel];

    /// The routing key.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Cancel => "cancel",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which job is meant: by either identifier, or by both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// By the client's identifier.
    Id(JobId),
    /// By the server's.
    Ticket(Ticket),
    /// By both, which must name the same job.
    Both(JobId, Ticket),
}

impl Subject {
    /// The client's identifier, if it was given.
    pub fn job_id(&self) -> Option<&JobId> {
        match self {
            Self::Id(id) | Self::Both(id, _) => Some(id),
            Self::Ticket(_) => None,
        }
    }

    /// The server's identifier, if it was given.
    pub fn ticket(&self) -> Option<Ticket> {
        match self {
            Self::Ticket(ticket) | Self::Both(_, ticket) => Some(*ticket),
            Self::Id(_) => None,
        }
    }
}

/// A request that keeps every rule of the protocol.
#[derive(Debug, Clone)]
pub struct Request {
    /// Who asks, as the broker verified.
    pub client: ClientName,
    /// What is asked.
    pub verb: Verb,
    /// Which jobs are meant, up to [`SUBJECTS_MAX`].
    pub subjects: Vec<Subject>,
    /// Whether the timeline is wanted too.
    pub history: bool,
    /// Where the answers go. A cancellation may do without.
    pub reply_to: Option<Destination>,
    /// Echoed in the answers.
    pub correlation_id: Option<String>,
}

/// A message that was refused, with what is known of its sender.
#[derive(Debug, Clone)]
pub struct Rejected {
    /// Why.
    pub refusal: Refusal,
    /// Who sent it, if the broker has verified that.
    pub client: Option<ClientName>,
    /// Which job it was about, if it said so.
    pub job_id: Option<JobId>,
    /// Where it may be answered.
    pub reply_to: Option<Destination>,
    /// Echoed in the answer.
    pub correlation_id: Option<String>,
}

impl From<&Properties> for Rejected {
    fn from(properties: &Properties) -> Self {
        let client = sender(properties).ok();
        let reply_to = properties
            .reply_to
            .as_deref()
            .and_then(|name| Destination::check(client.as_ref(), name, Purpose::Answer).ok());
        Self {
            refusal: Refusal::new(Code::BadRequest, ""),
            client,
            job_id: None,
            reply_to,
            correlation_id: properties.correlation_id.clone(),
        }
    }
}

/// How many jobs one request may be about.
pub const SUBJECTS_MAX: usize = 100;
/// The largest request, in bytes.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// The client of a message that came from outside.
///
/// # Errors
/// [`Code::InvalidClient`]: nobody that the broker has verified, or a message that a broker has
/// dead-lettered, which names whoever published it first.
pub fn sender(properties: &Properties) -> Result<ClientName, Refusal> {
    if properties.headers.get(headers::X_DEATH).is_some() {
        return Err(Refusal::new(
            Code::InvalidClient,
            "the message was dead-lettered by a broker, so its sender is not known",
        ));
    }
    let Some(user) = properties.user_id.as_deref() else {
        return Err(Refusal::new(Code::InvalidClient, "the user_id property is missing"));
    };
    ClientName::parse(user).map_err(|e| Refusal::new(Code::InvalidClient, format!("user_id: {e}")))
}

#[derive(Deserialize)]
struct Body {
    #[serde(flatten)]
    one: Names,
    #[serde(default)]
    jobs: Option<Vec<Names>>,
    #[serde(default)]
    history: bool,
    #[serde(default)]
    void_if_unknown: bool,
    wait: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Names {
    job_id: Option<String>,
    ticket: Option<String>,
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// [`Rejected`], with what is known of the sender, so that it can be answered.
    pub fn read(
        routing_key: &str,
        properties: &Properties,
        body: &[u8],
    ) -> Result<Self, Box<Rejected>> {
        Self::parse(routing_key, properties, body)
            .map_err(|refusal| Box::new(Rejected { refusal, ..Rejected::from(properties) }))
    }

    fn parse(routing_key: &str, properties: &Properties, body: &[u8]) -> Result<Self, Refusal> {
        let client = sender(properties)?;
        let reply_to = match &properties.reply_to {
            Some(name) => Some(Destination::check(Some(&client), name, Purpose::Answer)?),
            None => None,
        };
        let verb = Verb::ALL.iter().copied().find(|verb| verb.as_str() == routing_key).ok_or_else(
            || {
                let asked: String = routing_key.chars().take(80).collect();
                Refusal::new(Code::UnknownRequest, format!("{asked:?} is no request"))
            },
        )?;
        if verb == Verb::Status && reply_to.is_none() {
            return Err(Refusal::new(Code::BadRequest, "reply_to does not say where to answer"));
        }
        if body.len() > REQUEST_BYTES_MAX {
            return Err(Refusal::new(
                Code::PayloadTooLarge,
                format!("{} bytes; a request has at most {REQUEST_BYTES_MAX}", body.len()),
            ));
        }
        let body: Body = serde_json::from_slice(body).map_err(|e| {
            Refusal::new(Code::BadRequest, format!("the body is no such JSON: {e}"))
        })?;
        // Passed over in silence, either would be believed to be done.
        if body.void_if_unknown || body.wait.is_some() {
            let message = "void_if_unknown and wait are not in this version";
            return Err(Refusal::new(Code::BadRequest, message));
        }
        let subjects = match body.jobs {
            None => vec![subject(body.one)?],
            Some(jobs) if (1..=SUBJECTS_MAX).contains(&jobs.len()) => {
                jobs.into_iter().map(subject).collect::<Result<_, _>>()?
            }
            Some(jobs) => {
                let message = format!("jobs holds {}; 1 to {SUBJECTS_MAX} are allowed", jobs.len());
                return Err(Refusal::new(Code::BadRequest, message));
            }
        };
        Ok(Self {
            client,
            verb,
            subjects,
            history: body.history,
            reply_to,
            correlation_id: properties.correlation_id.clone(),
        })
    }
}

fn subject(names: Names) -> Result<Subject, Refusal> {
    let id = names.job_id.map(|id| {
        JobId::parse(&id).map_err(|e| Refusal::new(Code::InvalidId, format!("job_id: {e}")))
    });
    let ticket = names.ticket.map(|ticket| {
        Ticket::parse(&ticket)
            .ok_or_else(|| Refusal::new(Code::InvalidId, "ticket: a ticket is a UUID"))
    });
    match (id.transpose()?, ticket.transpose()?) {
        (Some(id), Some(ticket)) => Ok(Subject::Both(id, ticket)),
        (Some(id), None) => Ok(Subject::Id(id)),
        (None, Some(ticket)) => Ok(Subject::Ticket(ticket)),
        (None, None) => Err(Refusal::new(Code::BadRequest, "neither job_id nor ticket is given")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(routing_key: &str, body: &str) -> Result<Request, Box<Rejected>> {
        let properties = Properties {
            user_id: Some("shop".to_owned()),
            reply_to: Some("reply.shop.a".to_owned()),
            ..Properties::default()
        };
        Request::read(routing_key, &properties, body.as_bytes())
    }

    #[test]
    fn a_request_names_jobs_by_either_identifier_or_both() {
        let ticket = "6f9619ff-8b86-8011-b42d-00c04fc964ff";
        assert!(matches!(
            read("status", r#"{"job_id":"A-1"}"#).unwrap().subjects[..],
            [Subject::Id(_)]
        ));
        let both = read("cancel", &format!(r#"{{"job_id":"A-1","ticket":"{ticket}"}}"#)).unwrap();
        assert!(matches!(both.subjects[..], [Subject::Both(..)]));
        let many =
            read("status", &format!(r#"{{"jobs":[{{"job_id":"a"}},{{"ticket":"{ticket}"}}]}}"#));
        assert_eq!(many.unwrap().subjects.len(), 2);
    }

    #[test]
    fn what_cannot_be_understood_is_refused_with_its_code() {
        let code = |key: &str, body: &str| read(key, body).unwrap_err().refusal.code;
        assert_eq!(code("status", ""), Code::BadRequest);
        assert_eq!(code("status", "{}"), Code::BadRequest);
        let void = r#"{"job_id":"A-1","void_if_unknown":true}"#;
        assert_eq!(code("status", void), Code::BadRequest);
        assert_eq!(code("status", "[1]"), Code::BadRequest);
        assert_eq!(code("status", r#"{"jobs":[]}"#), Code::BadRequest);
        assert_eq!(code("status", r#"{"job_id":5}"#), Code::BadRequest);
        assert_eq!(code("status", r#"{"job_id":"~"}"#), Code::InvalidId);
        assert_eq!(code("status", r#"{"ticket":"12"}"#), Code::InvalidId);
        assert_eq!(code("explain", r#"{"job_id":"A-1"}"#), Code::UnknownRequest);
        let many = format!(r#"{{"jobs":[{}]}}"#, [r#"{"job_id":"a"}"#; 101].join(","));
        assert_eq!(code("status", &many), Code::BadRequest);
        assert_eq!(code("status", &" ".repeat(70_000)), Code::PayloadTooLarge);
    }
}
