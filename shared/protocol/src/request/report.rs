//! What the outside world says of a job that was handed over to it.

use std::fmt;

use job::{Digest, Event, Ticket};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::refusal::{Code, Refusal};

/// The right to report on one attempt of one job: its ticket, and a random part of which the store
/// holds only the hash. Whoever has it may report; it needs no other right.
#[derive(Clone, PartialEq, Eq)]
pub struct ReportToken {
    ticket: Ticket,
    text: String,
}

impl ReportToken {
    /// A token with a random part.
    pub fn new(ticket: Ticket, random: u128) -> Self {
        Self { ticket, text: format!("{ticket}.{random:032x}") }
    }

    /// Reads a token.
    pub fn parse(text: &str) -> Option<Self> {
        let (ticket, random) = text.split_once('.')?;
        let valid = random.len() == 32 && random.bytes().all(|c| c.is_ascii_hexdigit());
        let ticket = Ticket::parse(ticket).filter(|_| valid)?;
        Some(Self { ticket, text: text.to_owned() })
    }

    /// Whose job it is about.
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// The token itself, for the one who is to report.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What the store keeps of it: a SHA-256, in hexadecimal.
    pub fn hash(&self) -> String {
        Digest::over(&[("report_token", Some(self.text.as_bytes()))]).to_string()
    }
}

/// Not the token: it is a secret.
impl fmt::Debug for ReportToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReportToken").field(&self.ticket).finish()
    }
}

/// A report.
#[derive(Debug, Clone)]
pub struct Report {
    /// The right to report.
    pub token: ReportToken,
    /// What is reported.
    pub what: Reported,
}

/// What is reported.
#[derive(Debug, Clone)]
pub enum Reported {
    /// The job is done.
    Outcome {
        /// How: succeeded, failed or cancelled.
        event: Event,
        /// The result of a success, JSON.
        result: Option<Box<RawValue>>,
        /// Why it failed.
        error: Option<String>,
    },
    /// It goes on: at least one of the two is there.
    Ongoing {
        /// A free word.
        stage: Option<String>,
        /// Percent and a note.
        progress: Option<(u8, String)>,
    },
}

#[derive(Deserialize)]
struct Body {
    report_token: Option<String>,
    outcome: Option<String>,
    result: Option<Box<RawValue>>,
    error: Option<String>,
    stage: Option<String>,
    progress: Option<u64>,
    progress_note: Option<String>,
}

/// The longest stage or note, in bytes, as for a handler's.
const TEXT_BYTES_MAX: usize = 1024;

impl Report {
    pub(super) fn read(body: &[u8]) -> Result<Self, Refusal> {
        let body: Body = serde_json::from_slice(body).map_err(|e| {
            Refusal::new(Code::BadRequest, format!("the body is no such JSON: {e}"))
        })?;
        let token = body.report_token.as_deref().and_then(ReportToken::parse);
        let token = token.ok_or_else(|| bad("report_token is missing or is none"))?;
        let what = match body.outcome.as_deref() {
            Some(word) => {
                let allowed = [Event::Succeeded, Event::Failed, Event::Cancelled];
                let event = allowed.into_iter().find(|event| event.as_str() == word);
                let event = event.ok_or_else(|| bad("outcome: succeeded, failed or cancelled"))?;
                if body.result.is_some() && event != Event::Succeeded {
                    return Err(bad("result: only with the outcome succeeded"));
                }
                Reported::Outcome { event, result: body.result, error: body.error }
            }
            None => ongoing(body.stage, body.progress, body.progress_note)?,
        };
        Ok(Self { token, what })
    }
}

fn ongoing(
    stage: Option<String>,
    progress: Option<u64>,
    note: Option<String>,
) -> Result<Reported, Refusal> {
    if stage.is_none() && progress.is_none() {
        return Err(bad("none of outcome, stage and progress is given"));
    }
    if stage.iter().chain(&note).any(|text| text.len() > TEXT_BYTES_MAX) {
        return Err(bad("stage and progress_note: at most 1024 bytes"));
    }
    let progress = match progress {
        None => None,
        Some(percent @ 0..=100) => {
            Some((u8::try_from(percent).unwrap_or(100), note.unwrap_or_default()))
        }
        Some(_) => return Err(bad("progress: 0 to 100")),
    };
    Ok(Reported::Ongoing { stage, progress })
}

fn bad(message: &str) -> Refusal {
    Refusal::new(Code::BadReport, message)
}
