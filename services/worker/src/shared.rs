//! What all parts of a running worker share.

use std::sync::Arc;

use store::Store;
use tokio::sync::{RwLock, Semaphore};

use crate::Settings;
use crate::recorder::Recorder;
use crate::registry::Registry;
use crate::runs::Runs;

/// One for each worker; it outlives connections.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) registry: Registry,
    pub(crate) store: Store,
    pub(crate) recorder: Recorder,
    pub(crate) runs: Runs,
    pub(crate) slots: Arc<Semaphore>,
    /// Batches hold a share; a job that must be alone holds the whole.
    pub(crate) gate: Arc<RwLock<()>>,
    /// This process, in records.
    pub(crate) owner: String,
}
