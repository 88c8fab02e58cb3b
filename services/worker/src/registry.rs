//! Which handler runs which type, on which queue, and how often it is tried.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use job::{JobType, QueueName, RetryPolicy};

use crate::handler::{Handler, Outcome};
use crate::{Context, Error};

type Run = Arc<dyn Fn(Context) -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync>;

/// A handler and its settings.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) queue: QueueName,
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

    /// Every type and its queue.
    pub(crate) fn served(&self) -> Vec<(JobType, QueueName)> {
        self.entries
            .iter()
            .map(|(job_type, entry)| (job_type.clone(), entry.queue.clone()))
            .collect()
    }

    /// Every queue, once.
    pub(crate) fn queues(&self) -> Vec<QueueName> {
        let mut queues: Vec<_> = self.entries.values().map(|entry| entry.queue.clone()).collect();
        queues.sort();
        queues.dedup();
        queues
    }
}
