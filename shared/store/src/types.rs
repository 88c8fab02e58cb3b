//! Which queue serves which type, as workers announced it. An announcement stays when the worker
//! goes: jobs of the type then wait in their queue, which is durable.

use std::collections::HashMap;

use job::{JobType, QueueName};
use redis::Pipeline;

use crate::reply::Reply;
use crate::{Error, Store};

impl Store {
    /// Announces that a worker serves types on a queue.
    ///
    /// # Errors
    /// It is not known whether it is announced: call again.
    pub async fn announce(&self, served: &[(JobType, QueueName)]) -> Result<(), Error> {
        let mut pipeline = Pipeline::new();
        for (job_type, queue) in served {
            pipeline
                .cmd("HSET")
                .arg(self.keys().types())
                .arg(job_type.as_str())
                .arg(queue.as_str());
        }
        self.run_and_heed(pipeline).await
    }

    /// Every announced type and its queue.
    ///
    /// # Errors
    /// Nothing is known; ask again.
    pub async fn served_types(&self) -> Result<HashMap<JobType, QueueName>, Error> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("HGETALL").arg(self.keys().types());
        let answer = self.run(&pipeline).await?.pop().unwrap_or_default();
        let mut texts = Reply::new(answer)?.into_texts();
        let mut types = HashMap::new();
        while let (Some(job_type), Some(queue)) = (texts.next(), texts.next()) {
            if let (Ok(job_type), Ok(queue)) = (JobType::parse(&job_type), QueueName::parse(&queue))
            {
                types.insert(job_type, queue);
            }
        }
        Ok(types)
    }

    /// Leaves the sign of life that says, after a roll-back, up to when the store's memory reaches.
    ///
    /// # Errors
    /// It may be missing; leave the next one in time.
    pub async fn alive(&self, now: protocol::UnixMillis) -> Result<(), Error> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("HSET").arg(self.keys().deployment()).arg("alive_at").arg(now.0);
        self.run_and_heed(pipeline).await
    }

    /// Runs what is run every few seconds, and looks whether the store is in a later epoch than
    /// this process: then somebody who knew more has raised it, and the store is opened anew.
    async fn run_and_heed(&self, mut pipeline: Pipeline) -> Result<(), Error> {
        pipeline.cmd("HGET").arg(self.keys().deployment()).arg("epoch");
        let epoch = self.run(&pipeline).await?.pop().unwrap_or_default();
        if Reply::new(epoch)?.parse(0).is_ok_and(|epoch: u64| epoch > self.epoch()) {
            self.reopen().await;
        }
        Ok(())
    }
}
