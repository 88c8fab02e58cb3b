//! Lists of one client's jobs, newest first, in pages.

use std::cmp::Reverse;
use std::fmt;

use job::{ClientName, JobId};
use protocol::UnixMillis;
use protocol::request::List;
use redis::Pipeline;

use crate::keys::JobName;
use crate::record::{Record, RecordKind, number};
use crate::reply::Reply;
use crate::scripts::{self, Call};
use crate::{Error, Store};

/// Where a page ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    accepted_at: i64,
    job_id: JobId,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.accepted_at, self.job_id)
    }
}

impl Cursor {
    /// Where a page ends whose last job this is.
    pub fn of(record: &Record) -> Option<Self> {
        Some(Self { accepted_at: number(&record.accepted_at)?, job_id: record.name()?.job_id })
    }

    /// Reads a cursor that an earlier page gave.
    pub fn parse(text: &str) -> Option<Self> {
        let (accepted_at, job_id) = text.split_once('/')?;
        let job_id = JobId::parse_recorded(job_id).ok()?;
        Some(Self { accepted_at: accepted_at.parse().ok()?, job_id })
    }
}

/// A page.
#[derive(Debug)]
pub struct Page {
    /// The store's time.
    pub as_of: UnixMillis,
    /// The jobs that were asked for, newest first, without their results.
    pub records: Vec<Record>,
    /// Where it goes on; nothing at the end of the list.
    pub next: Option<Cursor>,
}

/// Records that are looked at for one page: a list that few jobs match comes in many small pages
/// instead of holding up everybody else.
const LOOKED_AT_MAX: usize = 1000;
const CHUNK: usize = 100;

impl Store {
    /// A page of a client's jobs. It may hold fewer than asked for, even none, and not be the last.
    ///
    /// # Errors
    /// Nothing is known; ask again.
    pub async fn list(
        &self,
        client: &ClientName,
        list: &List,
        from: Option<Cursor>,
    ) -> Result<Page, Error> {
        let mut page = Page { as_of: UnixMillis::default(), records: Vec::new(), next: from };
        let mut looked_at = 0;
        loop {
            let found = self.candidates(client, list, page.next.as_ref()).await?;
            let is_last = found.len() < CHUNK;
            let names: Vec<JobName> = found
                .iter()
                .map(|cursor| JobName { client: client.clone(), job_id: cursor.job_id.clone() })
                .collect();
            let (as_of, records) = self.read_without_results(&names).await?;
            page.as_of = as_of;
            looked_at += found.len();
            for (cursor, record) in found.into_iter().zip(records) {
                page.next = Some(cursor);
                page.records.extend(record.filter(|record| matches(record, list)));
                if page.records.len() == list.limit {
                    return Ok(page);
                }
            }
            if is_last {
                page.next = None;
                return Ok(page);
            }
            if looked_at >= LOOKED_AT_MAX {
                return Ok(page);
            }
        }
    }

    /// The next jobs after a cursor, from all slots, in order.
    async fn candidates(
        &self,
        client: &ClientName,
        list: &List,
        from: Option<&Cursor>,
    ) -> Result<Vec<Cursor>, Error> {
        let keys = self.keys();
        // Before means before: sorted sets take an open end in round brackets.
        let most = list.before.map_or("+inf".to_owned(), |at| format!("({}", at.0));
        let least = list.after.map_or("-inf".to_owned(), |at| at.0.to_string());
        let mut pipeline = Pipeline::new();
        for slot in keys.slots() {
            let key = match &list.tag {
                Some(tag) => keys.tag(slot, client, tag),
                None => keys.client_jobs(slot, client),
            };
            Call::new(&scripts::LIST, &[&key])
                .arg(&most)
                .arg(&least)
                .arg(CHUNK)
                .arg(from.map_or_else(String::new, |cursor| cursor.accepted_at.to_string()))
                .arg(from.map_or("", |cursor| cursor.job_id.as_str()))
                .add_to(&mut pipeline);
        }
        let mut found = Vec::new();
        for answer in self.run(&pipeline).await? {
            let mut texts = Reply::new(answer)?.into_texts();
            while let (Some(job_id), Some(at)) = (texts.next(), texts.next()) {
                let cursor = Cursor::parse(&format!("{at}/{job_id}"));
                found.push(cursor.ok_or_else(|| Error::unexpected(job_id))?);
            }
        }
        found.sort_by_cached_key(|cursor| {
            Reverse((cursor.accepted_at, cursor.job_id.as_str().to_owned()))
        });
        found.truncate(CHUNK);
        Ok(found)
    }
}

fn matches(record: &Record, list: &List) -> bool {
    // It may have been retired since its name was read.
    let is_job = record.kind() == Some(RecordKind::Job);
    let in_state =
        list.states.is_empty() || record.state().is_some_and(|state| list.states.contains(&state));
    let of_type =
        list.job_type.as_ref().is_none_or(|t| record.r#type.as_deref() == Some(t.as_str()));
    is_job && in_state && of_type
}
