//! Reading records and timelines.

use job::Ticket;
use protocol::{HistoryEntry, UnixMillis};
use redis::{Pipeline, Value};

use crate::keys::JobName;
use crate::record::Record;
use crate::reply::bytes;
use crate::{Error, Store};

impl Store {
    /// The records of jobs, without their payloads; `None` where there is none. The store's time at
    /// which they were read comes first.
    ///
    /// # Errors
    /// Nothing is known of any of them. A record that could not be read is not an absent one.
    pub async fn read(
        &self,
        names: &[JobName],
    ) -> Result<(UnixMillis, Vec<Option<Record>>), Error> {
        self.read_fields(names, Record::FIELDS).await
    }

    /// The same without results, which may be large.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn read_without_results(
        &self,
        names: &[JobName],
    ) -> Result<(UnixMillis, Vec<Option<Record>>), Error> {
        // A field that no record has keeps the others in their places.
        let of = |field: &&'static str| if *field == "result" { "" } else { *field };
        let fields: Vec<&str> = Record::FIELDS.iter().map(of).collect();
        self.read_fields(names, &fields).await
    }

    async fn read_fields(
        &self,
        names: &[JobName],
        fields: &[&str],
    ) -> Result<(UnixMillis, Vec<Option<Record>>), Error> {
        let mut pipeline = Pipeline::with_capacity(names.len() + 1);
        pipeline.cmd("TIME");
        for name in names {
            pipeline.cmd("HMGET").arg(self.keys().job(name)).arg(fields);
        }
        let mut answers = self.run(&pipeline).await?.into_iter();
        let at = store_time(answers.next())?;
        let records = answers
            .map(|value| match value {
                Value::Array(values) => {
                    Record::from_values(values).map(|record| record.kind().map(|_| record))
                }
                other => Err(Error::unexpected(other)),
            })
            .collect::<Result<_, _>>()?;
        Ok((at, records))
    }

    /// The record of one job.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn read_one(&self, name: &JobName) -> Result<Option<Record>, Error> {
        let (_, mut records) = self.read(std::slice::from_ref(name)).await?;
        Ok(records.pop().flatten())
    }

    /// The jobs that tickets name; `None` where no record does.
    ///
    /// # Errors
    /// Nothing is known of any of them.
    pub async fn resolve(&self, tickets: &[Ticket]) -> Result<Vec<Option<JobName>>, Error> {
        let mut pipeline = Pipeline::with_capacity(tickets.len());
        for ticket in tickets {
            // A ticket of another deployment may carry a slot that this one does not have.
            pipeline.cmd("GET").arg(self.keys().ticket(*ticket));
        }
        let answers = self.run(&pipeline).await?;
        Ok(answers
            .into_iter()
            .map(|value| {
                let member = String::from_utf8(bytes(value)?).ok()?;
                JobName::from_member(&member)
            })
            .collect())
    }

    /// The payload that is kept for a job.
    ///
    /// # Errors
    /// It is not known whether there is one.
    pub async fn payload(&self, name: &JobName) -> Result<Option<Vec<u8>>, Error> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("HGET").arg(self.keys().job(name)).arg("payload");
        Ok(self.run(&pipeline).await?.pop().and_then(bytes))
    }

    /// The timeline of a job, oldest first.
    ///
    /// # Errors
    /// Nothing is known of it.
    pub async fn history(&self, name: &JobName) -> Result<Vec<HistoryEntry>, Error> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("LRANGE").arg(self.keys().history(name)).arg(0).arg(-1);
        match self.run(&pipeline).await?.pop() {
            Some(Value::Array(lines)) => Ok(lines
                .into_iter()
                .filter_map(|line| history_entry(&String::from_utf8(bytes(line)?).ok()?))
                .collect()),
            other => Err(Error::unexpected(other)),
        }
    }
}

/// Reads `<revision> <ms> <event> <state> <attempt> <detail>`.
fn history_entry(line: &str) -> Option<HistoryEntry> {
    let mut words = line.splitn(6, ' ');
    Some(HistoryEntry {
        revision: words.next()?.parse().ok()?,
        at: UnixMillis(words.next()?.parse().ok()?),
        event: words.next()?.to_owned(),
        state: words.next()?.to_owned(),
        attempt: words.next()?.parse().ok()?,
        detail: words.next().filter(|detail| !detail.is_empty()).map(str::to_owned),
    })
}

pub(crate) fn store_time(value: Option<Value>) -> Result<UnixMillis, Error> {
    let Some(Value::Array(parts)) = value else { return Err(Error::unexpected("TIME")) };
    let mut numbers = parts
        .into_iter()
        .filter_map(|part| String::from_utf8(bytes(part)?).ok()?.parse::<i64>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(seconds), Some(micros)) => Ok(UnixMillis(seconds * 1000 + micros / 1000)),
        _ => Err(Error::unexpected("TIME")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_timeline_is_read_back() {
        let entry = history_entry("3 1770000000000 staged running 1 stock reserved").unwrap();
        assert_eq!((entry.revision, entry.attempt), (3, 1));
        assert_eq!(entry.detail.as_deref(), Some("stock reserved"));
        assert_eq!(history_entry("1 5 accepted queued 0 ").unwrap().detail, None);
        assert!(history_entry("nonsense").is_none());
    }
}
