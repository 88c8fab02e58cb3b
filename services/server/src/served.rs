//! Which queue serves which type, and whether its jobs are short: a copy of what workers announced,
//! refreshed twice a second. A type that is not in the copy is looked up again before a job of it
//! is parked; and a parked job is released by a repeated sweep, so a copy that is a moment old
//! delays but never strands a job.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use job::{JobType, QueueName};
use store::Store;
use store::types::Served as Announced;
use tokio_util::sync::CancellationToken;

use crate::Error;

const FRESH: Duration = Duration::from_millis(500);
/// A type that was not found is looked up again at most so often.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

pub(crate) struct Served {
    copy: RwLock<(Instant, HashMap<JobType, store::types::Served>)>,
}

impl Served {
    pub(crate) async fn load(store: &Store) -> Result<Self, Error> {
        let types = match store.served_types().await {
            Ok(types) => types,
            // The roles hold what they have until the store is back, and so does this copy.
            Err(error) if error.is_transient() => HashMap::new(),
            Err(error) => return Err(error.into()),
        };
        Ok(Self { copy: RwLock::new((Instant::now(), types)) })
    }

    /// The queue of a type.
    pub(crate) fn queue(&self, job_type: &JobType) -> Option<QueueName> {
        self.read().1.get(job_type).map(|served| served.queue.clone())
    }

    /// Whether several jobs of a type may travel in one work message.
    pub(crate) fn is_short(&self, job_type: &JobType) -> bool {
        self.read().1.get(job_type).is_some_and(|served| served.is_short)
    }

    /// Every announced type.
    pub(crate) fn types(&self) -> Vec<JobType> {
        self.read().1.keys().cloned().collect()
    }

    /// Looks again if a type of these is not known and the last look was a moment ago.
    pub(crate) async fn look_again<'a>(
        &self,
        store: &Store,
        wanted: impl Iterator<Item = &'a JobType>,
    ) -> Result<(), store::Error> {
        let missing = {
            let copy = self.read();
            copy.0.elapsed() > LOOK_AGAIN && wanted.into_iter().any(|t| !copy.1.contains_key(t))
        };
        if missing { self.refresh(store).await } else { Ok(()) }
    }

    async fn refresh(&self, store: &Store) -> Result<(), store::Error> {
        let types = store.served_types().await?;
        *self.copy.write().unwrap_or_else(PoisonError::into_inner) = (Instant::now(), types);
        Ok(())
    }

    /// Refreshes the copy until the session ends.
    pub(crate) async fn keep_fresh(
        &self,
        store: &Store,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(FRESH) => {}
            }
            // A store that is away is the roles' to notice; the copy stays as it is.
            if let Err(error) = self.refresh(store).await {
                tracing::debug!(%error, "announced types");
            }
            if let Err(error) = store.alive(protocol::UnixMillis::now()).await {
                tracing::debug!(%error, "sign of life");
            }
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, (Instant, HashMap<JobType, Announced>)> {
        self.copy.read().unwrap_or_else(PoisonError::into_inner)
    }
}
