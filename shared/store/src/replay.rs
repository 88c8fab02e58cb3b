//! A replay of a finished job is a new job with an identifier of its own, linked both ways: a final
//! state stays final.

use job::Digest;
use protocol::work::Spec;
use redis::Pipeline;

use crate::accept::{Accept, Accepted, First, Limits};
use crate::keys::JobName;
use crate::record::RecordKind;
use crate::scripts::{self, Call};
use crate::{Error, Store};

/// What became of a wish to run a job again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replayed {
    /// The new job, made now or by an earlier call.
    As(JobName),
    /// No job is recorded.
    NoJob,
    /// It is not finished.
    Unfinished,
    /// Its body is not kept.
    NoPayload,
    /// The replay's identifier is used up: voided, or that of a job which was retired.
    UsedUp(JobName),
}

impl Store {
    /// Runs a finished job again, as a new job that is dispatched as soon as the scheduler sees it.
    ///
    /// # Errors
    /// It is not known whether it runs: call again.
    pub async fn replay(&self, name: &JobName) -> Result<Replayed, Error> {
        let (as_of, mut records) = self.read(std::slice::from_ref(name)).await?;
        let record = records.pop().flatten();
        let record = record.filter(|record| record.kind() == Some(RecordKind::Job));
        let Some(record) = record else { return Ok(Replayed::NoJob) };
        let (Some(state), Some(job_type), Some(digest)) =
            (record.state(), record.job_type(), record.digest.as_deref().and_then(Digest::parse))
        else {
            return Ok(Replayed::NoJob);
        };
        if !state.is_terminal() {
            return Ok(Replayed::Unfinished);
        }
        let again = JobName { client: name.client.clone(), job_id: name.job_id.replayed() };
        let Some(payload) = self.payload(name).await? else { return Ok(Replayed::NoPayload) };
        let accept = Accept {
            name: again.clone(),
            job_type,
            queue: job::QueueName::default(),
            // What was said of time was said of the first run.
            spec: Spec { not_before: None, deadline: None, ..record.spec() },
            digest,
            payload_bytes: payload.len(),
            first: First::Scheduled { payload, at: as_of },
            nonce: format!("replay-of-{}", name.job_id),
            redelivered: false,
            dispatch: 1,
            is_too_old: false,
            replay_of: Some(name.job_id.clone()),
        };
        match self.accept(&[accept], Limits::default()).await?.pop() {
            Some(Accepted::New { .. } | Accepted::Duplicate) => {}
            Some(Accepted::Voided | Accepted::Forgotten | Accepted::Conflict { .. }) => {
                return Ok(Replayed::UsedUp(again));
            }
            other => return Err(Error::unexpected(other)),
        }
        let mut pipeline = Pipeline::new();
        Call::new(&scripts::LINK, &[&self.keys().job(name)])
            .arg(again.job_id.as_str())
            .add_to(&mut pipeline);
        self.run(&pipeline).await?;
        Ok(Replayed::As(again))
    }
}
