//! Which queue serves which type, and whether its jobs are short, as workers announced it. An
//! announcement stays when the worker goes: jobs of the type then wait in their queue, which is
//! durable.

use std::collections::{HashMap, HashSet};

use job::{JobType, QueueName};
use redis::Pipeline;

use crate::reply::Reply;
use crate::{Error, Store};

/// How workers serve a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The type.
    pub job_type: JobType,
    /// The work queue of its jobs.
    pub queue: QueueName,
    /// Its jobs take so short a time that several may travel in one work message.
    pub is_short: bool,
}

impl Served {
    /// A type whose jobs travel alone.
    pub fn new(job_type: JobType, queue: QueueName) -> Self {
        Self { job_type, queue, is_short: false }
    }
}

impl Store {
    /// Announces that a worker serves types.
    ///
    /// # Errors
    /// It is not known whether it is announced: call again.
    pub async fn announce(&self, served: &[Served]) -> Result<(), Error> {
        let mut pipeline = Pipeline::new();
        let (types, short) = (self.keys().types(), self.keys().short_types());
        for Served { job_type, queue, is_short } in served {
            pipeline.cmd("HSET").arg(&types).arg(job_type.as_str()).arg(queue.as_str());
            let command = if *is_short { "SADD" } else { "SREM" };
            pipeline.cmd(command).arg(&short).arg(job_type.as_str());
        }
        self.run_and_heed(pipeline).await
    }

    /// Every announced type.
    ///
    /// # Errors
    /// Nothing is known; ask again.
    pub async fn served_types(&self) -> Result<HashMap<JobType, Served>, Error> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("HGETALL").arg(self.keys().types());
        pipeline.cmd("SMEMBERS").arg(self.keys().short_types());
        let mut answers = self.run(&pipeline).await?;
        let short = Reply::new(answers.pop().unwrap_or_default())?.into_texts();
        let short: HashSet<String> = short.collect();
        let mut texts = Reply::new(answers.pop().unwrap_or_default())?.into_texts();
        let mut types = HashMap::new();
        while let (Some(job_type), Some(queue)) = (texts.next(), texts.next()) {
            let is_short = short.contains(&job_type);
            if let (Ok(job_type), Ok(queue)) = (JobType::parse(&job_type), QueueName::parse(&queue))
            {
                types.insert(job_type.clone(), Served { job_type, queue, is_short });
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
            self.reopen();
        }
        Ok(())
    }
}
