//! Where a run writes what it says of itself.

use std::sync::Arc;

use store::change::Right;
use store::report::{Report, Reported};
use store::{JobName, Store};

use crate::testing::Bench;

/// The store; or the model of it, when a handler is tried without any server.
#[derive(Debug, Clone)]
pub(crate) enum Books {
    Store(Store),
    Model(Arc<Bench>),
}

impl Books {
    pub(crate) async fn mint(
        &self,
        name: &JobName,
        fence: &str,
        hash: &str,
    ) -> Result<bool, store::Error> {
        match self {
            Self::Store(store) => store.mint(name, fence, hash).await,
            Self::Model(bench) => Ok(bench.mint(name, fence, hash)),
        }
    }

    pub(crate) async fn report(
        &self,
        name: &JobName,
        right: &Right,
        report: &Report,
    ) -> Result<Reported, store::Error> {
        match self {
            Self::Store(store) => store.report(name, right, report).await,
            Self::Model(bench) => Ok(bench.report(name, right, report).await),
        }
    }
}
