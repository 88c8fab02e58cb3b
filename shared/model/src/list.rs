//! Lists of one client's jobs, newest first.

use std::cmp::Reverse;

use job::ClientName;
use protocol::request::List;
use store::Record;
use store::list::Cursor;

use crate::Model;

impl Model {
    /// A page of a client's jobs: newest first, of one millisecond the greatest identifier first;
    /// and where it goes on. (The store may end a page earlier, after many jobs that do not match.)
    pub fn list(
        &self,
        client: &ClientName,
        list: &List,
        from: Option<&Cursor>,
    ) -> (Vec<Record>, Option<Cursor>) {
        let mut jobs: Vec<_> = self
            .standings
            .iter()
            .filter(|(name, it)| name.client == *client && it.is_job())
            .map(|(name, it)| {
                let accepted_at: i64 = it.fields.number("accepted_at").unwrap_or_default();
                ((accepted_at, name.job_id.as_str()), it)
            })
            .collect();
        jobs.sort_by_key(|(place, _)| Reverse(*place));
        let after = from.map(ToString::to_string);
        let after = after.as_deref().and_then(|text| text.split_once('/'));
        let after = after.and_then(|(at, job_id)| Some((at.parse::<i64>().ok()?, job_id)));
        let mut records = Vec::new();
        for (place, it) in jobs {
            let accepted_at = place.0;
            let record = it.record();
            let is_next = after.is_none_or(|after| place < after);
            // With a cursor the page goes on from there.
            let in_time = list.after.is_none_or(|least| accepted_at >= least.0)
                && (after.is_some() || list.before.is_none_or(|most| accepted_at < most.0));
            let tagged = list.tag.as_ref().is_none_or(|tag| record.tags().contains(tag));
            let in_state =
                list.states.is_empty() || it.state().is_some_and(|s| list.states.contains(&s));
            let of_type =
                list.job_type.as_ref().is_none_or(|t| record.job_type().as_ref() == Some(t));
            if is_next && in_time && tagged && in_state && of_type {
                let cursor = Cursor::of(&record);
                records.push(Record { result: None, ..record });
                if records.len() == list.limit {
                    return (records, cursor);
                }
            }
        }
        (records, None)
    }
}
