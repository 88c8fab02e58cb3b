//! How a command went, as an exit status.

use std::process::ExitCode;

use client::{Answer, AnswerWord};
use job::State;

/// The documented statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    JobFailed = 3,
    Unknown = 4,
    NoAnswer = 5,
}

/// Settings that cannot be used.
#[derive(Debug)]
pub(crate) struct UsageError(pub(crate) String);

impl std::fmt::Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

pub(crate) fn code(exit: Exit) -> ExitCode {
    ExitCode::from(exit as u8)
}

impl Exit {
    /// What an answer means for whoever asked.
    pub(crate) fn of(answer: &Answer) -> Self {
        match answer.answer {
            AnswerWord::Found => Self::of_state(answer.state()),
            // Its record is retired; what is left of it says how it ended.
            AnswerWord::Forgotten if answer.outcome.is_some() => {
                Self::of_state(answer.outcome.as_deref().and_then(|word| word.parse().ok()))
            }
            AnswerWord::Unknown => Self::Unknown,
            AnswerWord::Refused | AnswerWord::Voided | AnswerWord::Forgotten => Self::JobFailed,
            AnswerWord::Unavailable | AnswerWord::Pending => Self::NoAnswer,
        }
    }

    fn of_state(state: Option<State>) -> Self {
        match state {
            Some(State::Failed | State::Cancelled | State::Expired) => Self::JobFailed,
            _ => Self::Done,
        }
    }
}

/// Says what went wrong, once, with its causes.
impl From<anyhow::Error> for Exit {
    fn from(error: anyhow::Error) -> Self {
        eprintln!("error: {error:#}");
        if error.is::<UsageError>() || error.is::<job::InvalidId>() {
            return Self::Usage;
        }
        match error.downcast_ref::<client::Error>() {
            Some(client::Error::NoAnswer(_)) => Self::NoAnswer,
            Some(client::Error::InvalidId(_)) => Self::Usage,
            Some(client::Error::Answered(answer)) => {
                if let Some(action) = &answer.action {
                    eprintln!("{action}");
                }
                Self::JobFailed
            }
            _ => Self::Failed,
        }
    }
}
