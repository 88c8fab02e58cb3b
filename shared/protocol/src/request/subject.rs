//! Which job is meant.

use job::{JobId, Ticket};
use serde::Deserialize;

use crate::refusal::{Code, Refusal};

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

/// The two identifiers as they stand in a request.
#[derive(Deserialize)]
pub(super) struct Names {
    job_id: Option<String>,
    ticket: Option<String>,
}

impl TryFrom<Names> for Subject {
    type Error = Refusal;
    fn try_from(names: Names) -> Result<Self, Refusal> {
        let id = names.job_id.map(|id| {
            JobId::parse_recorded(&id)
                .map_err(|e| Refusal::new(Code::InvalidId, format!("job_id: {e}")))
        });
        let ticket = names.ticket.map(|ticket| {
            Ticket::parse(&ticket)
                .ok_or_else(|| Refusal::new(Code::InvalidId, "ticket: a ticket is a UUID"))
        });
        match (id.transpose()?, ticket.transpose()?) {
            (Some(id), Some(ticket)) => Ok(Self::Both(id, ticket)),
            (Some(id), None) => Ok(Self::Id(id)),
            (None, Some(ticket)) => Ok(Self::Ticket(ticket)),
            (None, None) => {
                Err(Refusal::new(Code::BadRequest, "neither job_id nor ticket is given"))
            }
        }
    }
}
