//! A request: a JSON body, the verb as routing key.
//!
//! About given jobs ([`Ask`], [`Subject`]), about all of one's own ([`List`]), or from the outside
//! world about a job that was handed over to it ([`Report`]).

mod ask;
mod list;
mod report;
mod subject;

use std::fmt;

use job::{ClientName, JobId};
use serde::Deserialize;

pub use ask::{Ask, Status, Subscribe, WAIT_MS_MAX, Wait};
pub use list::{List, PAGE_MAX};
pub use report::{Report, ReportToken, Reported};
pub use subject::Subject;

use crate::headers;
use crate::properties::Properties;
use crate::refusal::{Code, Refusal};
use crate::reply_to::{Destination, Purpose};

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// What became of a job.
    Status,
    /// Which jobs there are.
    List,
    /// Stop a job, or make an id unusable that has not arrived.
    Cancel,
    /// Change what is pushed of a job, and where.
    Subscribe,
    /// Remove what a finished job has left.
    Erase,
    /// Say what became of a job that was handed over.
    Report,
}

impl Verb {
    /// Every verb.
    pub const ALL: &[Self] =
        &[Self::Status, Self::List, Self::Cancel, Self::Subscribe, Self::Erase, Self::Report];

    /// The routing key.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::List => "list",
            Self::Cancel => "cancel",
            Self::Subscribe => "subscribe",
            Self::Erase => "erase",
            Self::Report => "report",
        }
    }

    /// Whether a request that nobody can be told the answer of makes no sense.
    const fn is_a_question(self) -> bool {
        matches!(self, Self::Status | Self::List)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A request that keeps every rule of the protocol.
#[derive(Debug, Clone)]
pub struct Request {
    /// Who asks, as the broker verified.
    pub client: ClientName,
    /// What is asked.
    pub what: What,
    /// Where the answers go; only a question cannot do without.
    pub reply_to: Option<Destination>,
    /// Echoed in the answers.
    pub correlation_id: Option<String>,
}

/// What is asked, by what it is about.
#[derive(Debug, Clone)]
pub enum What {
    /// About given jobs, up to [`SUBJECTS_MAX`].
    Jobs(Ask, Vec<Subject>),
    /// About all of the client's.
    List(List),
    /// About the job that the token names.
    Report(Report),
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
struct JobsBody {
    #[serde(flatten)]
    one: subject::Names,
    jobs: Option<Vec<subject::Names>>,
    #[serde(flatten)]
    options: ask::Options,
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
        if verb.is_a_question() && reply_to.is_none() {
            return Err(Refusal::new(Code::BadRequest, "reply_to does not say where to answer"));
        }
        if body.len() > REQUEST_BYTES_MAX {
            return Err(Refusal::new(
                Code::PayloadTooLarge,
                format!("{} bytes; the limit is {REQUEST_BYTES_MAX}", body.len()),
            ));
        }
        // A list of values would be taken for the fields in their order.
        if body.trim_ascii_start().first() != Some(&b'{') {
            let message = "the body is no such JSON: it must be an object";
            return Err(Refusal::new(Code::BadRequest, message));
        }
        let what = match verb {
            Verb::List => What::List(List::read(body)?),
            Verb::Report => What::Report(Report::read(body)?),
            _ => about_jobs(verb, &client, body)?,
        };
        let correlation_id = properties.correlation_id.clone();
        Ok(Self { client, what, reply_to, correlation_id })
    }
}

fn about_jobs(verb: Verb, client: &ClientName, body: &[u8]) -> Result<What, Refusal> {
    let body: JobsBody = serde_json::from_slice(body)
        .map_err(|e| Refusal::new(Code::BadRequest, format!("the body is no such JSON: {e}")))?;
    let subjects = match body.jobs {
        None => vec![body.one.try_into()?],
        Some(jobs) if (1..=SUBJECTS_MAX).contains(&jobs.len()) => {
            jobs.into_iter().map(Subject::try_from).collect::<Result<_, _>>()?
        }
        Some(jobs) => {
            let message = format!("jobs holds {}; 1 to {SUBJECTS_MAX} are allowed", jobs.len());
            return Err(Refusal::new(Code::BadRequest, message));
        }
    };
    let ask = match verb {
        Verb::Cancel => Ask::Cancel,
        Verb::Erase => Ask::Erase,
        Verb::Subscribe => Ask::subscribe(client, body.options)?,
        _ => Ask::status(body.options)?,
    };
    Ok(What::Jobs(ask, subjects))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
