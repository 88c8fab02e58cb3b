//! What is asked about a job, with its options. This is also what a question carries that joins the
//! line.

use job::{ClientName, Subscription};
use serde::{Deserialize, Serialize};

use super::Verb;
use crate::refusal::{Code, Refusal};
use crate::reply_to::{Destination, Purpose};

/// A question or an order about one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Ask {
    /// What became of it.
    Status(Status),
    /// Stop it, or make an id unusable that has not arrived.
    Cancel,
    /// Change what is pushed, and where.
    Subscribe(Subscribe),
    /// Remove payload, result and timeline of a finished job at once.
    Erase,
}

/// How a job is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Status {
    /// Whether the timeline is wanted too.
    #[serde(default)]
    pub history: bool,
    /// Whether an id of which nothing is known becomes unusable in the same step.
    #[serde(default)]
    pub void_if_unknown: bool,
    /// Answer later, when something has happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Wait>,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// For how long at most; then the present state is the answer.
    pub limit_ms: u64,
    /// For a revision after this one, instead of a final state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub past_revision: Option<u64>,
    /// The epoch of that revision; the present one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub past_epoch: Option<u64>,
}

/// The longest wait, in milliseconds (1 hour): a client that waits longer asks again.
pub const WAIT_MS_MAX: u64 = 60 * 60 * 1000;

/// What is changed in a job's subscription.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Subscribe {
    /// The changes to push, each word spelled out; empty for none; unchanged if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<String>,
    /// Where they go; unchanged if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify_to: Option<String>,
    /// Whether what was not delivered is pushed again.
    #[serde(default)]
    pub redeliver: bool,
}

/// The options of every request about jobs, as they stand in its body.
#[derive(Deserialize)]
pub(super) struct Options {
    #[serde(default)]
    history: bool,
    #[serde(default)]
    void_if_unknown: bool,
    wait: Option<Wait>,
    notify: Option<String>,
    notify_to: Option<String>,
    #[serde(default)]
    redeliver: bool,
}

impl Ask {
    /// The request's word.
    pub fn verb(&self) -> Verb {
        match self {
            Self::Status(_) => Verb::Status,
            Self::Cancel => Verb::Cancel,
            Self::Subscribe(_) => Verb::Subscribe,
            Self::Erase => Verb::Erase,
        }
    }

    /// Whether the timeline is wanted.
    pub fn wants_history(&self) -> bool {
        matches!(self, Self::Status(Status { history: true, .. }))
    }

    /// What is waited for, if anything is.
    pub fn wait(&self) -> Option<Wait> {
        match self {
            Self::Status(status) => status.wait,
            _ => None,
        }
    }

    pub(super) fn status(options: Options) -> Result<Self, Refusal> {
        let Options { history, void_if_unknown, wait, .. } = options;
        if let Some(wait) = &wait
            && !(1..=WAIT_MS_MAX).contains(&wait.limit_ms)
        {
            return Err(bad(format!(
                "wait.limit_ms is {}; allowed is 1 to {WAIT_MS_MAX}",
                wait.limit_ms
            )));
        }
        if wait.is_some_and(|wait| wait.past_epoch.is_some() && wait.past_revision.is_none()) {
            return Err(bad("wait.past_epoch needs wait.past_revision"));
        }
        Ok(Self::Status(Status { history, void_if_unknown, wait }))
    }

    pub(super) fn subscribe(client: &ClientName, options: Options) -> Result<Self, Refusal> {
        let Options { notify, notify_to, redeliver, .. } = options;
        if notify.is_none() && notify_to.is_none() && !redeliver {
            return Err(bad("none of notify, notify_to and redeliver is given"));
        }
        let notify = notify.map(|words| match Subscription::parse(&words) {
            Ok(subscription) => Ok(subscription.to_string()),
            Err(error) => Err(bad(format!("notify: {error}"))),
        });
        if let Some(to) = &notify_to {
            Destination::check(Some(client), to, Purpose::Events)?;
        }
        Ok(Self::Subscribe(Subscribe { notify: notify.transpose()?, notify_to, redeliver }))
    }
}

fn bad(message: impl Into<String>) -> Refusal {
    Refusal::new(Code::BadRequest, message)
}
