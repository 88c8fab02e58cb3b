//! Which handler runs which type, on which queue, and how often it is tried.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use job::{JobType, QueueName, RetryPolicy};
use store::types::Served;

use crate::handler::{Handler, Outcome};
use crate::{Context, Error};

type Run = Arc<dyn Fn(Context) -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync>;

/// A handler and its settings.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) queue: QueueName,
    /// Several of its jobs may come in one message.
    pub(crate) is_short: bool,
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) run: Run,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("queue", &self.queue).finish_non_exhaustive()
    }
}

/// Handlers by type.
#[derive(Clone, Default)]
pub struct Registry {
    entries: HashMap<JobType, Entry>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.entries.keys()).finish()
    }
}

impl Registry {
    /// Adds a handler on a queue.
    ///
    /// # Errors
    /// [`Error::InvalidId`] if the type or the queue is outside its alphabet.
    pub fn add<Arguments>(
        &mut self,
        job_type: &str,
        queue: &str,
        retry: Option<RetryPolicy>,
        handler: impl Handler<Arguments>,
    ) -> Result<(), Error> {
        let entry = Entry {
            queue: QueueName::parse(queue)?,
            is_short: false,
            retry,
            run: Arc::new(move |job| handler.call(job)),
        };
        self.entries.insert(JobType::parse(job_type)?, entry);
        Ok(())
    }

    pub(crate) fn get(&self, job_type: &JobType) -> Option<&Entry> {
        self.entries.get(job_type)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Lets several jobs of a type come in one message. Whether the type has a handler.
    pub(crate) fn shorten(&mut self, job_type: &str) -> bool {
        let entry = JobType::parse(job_type).ok().and_then(|of| self.entries.get_mut(&of));
        entry.map(|entry| entry.is_short = true).is_some()
    }

    /// Every type, and how it is served.
    pub(crate) fn served(&self) -> Vec<Served> {
        let served = |(job_type, entry): (&JobType, &Entry)| Served {
            job_type: job_type.clone(),
            queue: entry.queue.clone(),
            is_short: entry.is_short,
        };
        self.entries.iter().map(served).collect()
    }

    /// Every queue, once.
    pub(crate) fn queues(&self) -> Vec<QueueName> {
        let mut queues: Vec<_> = self.entries.values().map(|entry| entry.queue.clone()).collect();
        queues.sort();
        queues.dedup();
        queues
    }
}
