//! A list of one's own jobs, in pages.

use job::{JobType, State};
use serde::Deserialize;

use crate::refusal::{Code, Refusal};
use crate::time::UnixMillis;

/// How many jobs a page holds at most.
pub const PAGE_MAX: usize = 500;
const PAGE_DEFAULT: usize = 50;
/// The longest cursor and tag, in bytes.
const TEXT_BYTES_MAX: usize = 255;

/// Which jobs are listed. What is absent does not restrict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct List {
    /// In one of these states.
    pub states: Vec<State>,
    /// Of this type.
    pub job_type: Option<JobType>,
    /// With this tag.
    pub tag: Option<String>,
    /// Accepted at or after this instant.
    pub after: Option<UnixMillis>,
    /// Accepted before this instant.
    pub before: Option<UnixMillis>,
    /// How many at most.
    pub limit: usize,
    /// Where the page before ended.
    pub page: Option<String>,
}

#[derive(Deserialize)]
struct Body {
    state: Option<OneOrMany>,
    r#type: Option<String>,
    tag: Option<String>,
    after: Option<UnixMillis>,
    before: Option<UnixMillis>,
    limit: Option<u64>,
    page: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl List {
    pub(super) fn read(body: &[u8]) -> Result<Self, Refusal> {
        let body: Body = serde_json::from_slice(body)
            .map_err(|e| bad(format!("the body is no such JSON: {e}")))?;
        let words = match body.state {
            None => Vec::new(),
            Some(OneOrMany::One(word)) => vec![word],
            Some(OneOrMany::Many(words)) => words,
        };
        let states = words.iter().map(|word| {
            word.parse::<State>().map_err(|_| bad(format!("state: {} is none", shown(word))))
        });
        let limit = body.limit.unwrap_or(PAGE_DEFAULT as u64);
        if !(1..=PAGE_MAX as u64).contains(&limit) {
            return Err(bad(format!("limit is {limit}; allowed is 1 to {PAGE_MAX}")));
        }
        let fits = |text: &String| text.len() <= TEXT_BYTES_MAX;
        if !body.tag.iter().chain(&body.page).all(fits) {
            return Err(bad(format!("tag and page: at most {TEXT_BYTES_MAX} bytes")));
        }
        let job_type = body.r#type.map(|text| {
            JobType::parse(&text).map_err(|e| Refusal::new(Code::InvalidType, format!("type: {e}")))
        });
        Ok(Self {
            states: states.collect::<Result<_, _>>()?,
            job_type: job_type.transpose()?,
            tag: body.tag,
            after: body.after,
            before: body.before,
            limit: usize::try_from(limit).unwrap_or(PAGE_MAX),
            page: body.page,
        })
    }
}

fn shown(word: &str) -> String {
    format!("{:?}", word.chars().take(80).collect::<String>())
}

fn bad(message: String) -> Refusal {
    Refusal::new(Code::BadRequest, message)
}
