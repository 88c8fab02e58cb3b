//! What the roles of one session share.

use std::sync::Arc;

use broker::{Connection, Publisher};
use job::{ClientName, JobId};
use protocol::Refusal;
use store::{JobName, Store};
use tokio_util::sync::CancellationToken;

use crate::courier::DirectLink;
use crate::served::Served;
use crate::{Error, Settings};

/// Connections and handles of one session. Publishing and consuming have connections apart: lapin
/// writes nothing at all, acknowledgements included, on one that the broker has blocked.
pub(crate) struct Links {
    pub(crate) settings: Settings,
    pub(crate) store: Store,
    pub(crate) consume: Connection,
    pub(crate) publish: Arc<Connection>,
    pub(crate) direct: Arc<DirectLink>,
    pub(crate) served: Served,
    /// Ends when the session does.
    pub(crate) stop: CancellationToken,
}

impl Links {
    pub(crate) async fn open(
        settings: Settings,
        amqp: &broker::Settings,
        store: Store,
        stop: CancellationToken,
    ) -> Result<Self, Error> {
        let consume = Connection::open(amqp, "counterfoil server, consuming").await?;
        let publish = Arc::new(Connection::open(amqp, "counterfoil server, publishing").await?);
        if amqp.declare {
            consume.declare_topology(&[]).await?;
        } else {
            consume.check_topology().await?;
        }
        Ok(Self {
            served: Served::load(&store).await?,
            settings,
            store,
            consume,
            publish,
            direct: Arc::new(DirectLink::start(amqp.clone(), stop.clone())),
            stop,
        })
    }

    /// A publisher on a channel of its own: a role never waits for another's confirms.
    pub(crate) async fn publisher(&self) -> Result<Publisher, Error> {
        Ok(self.publish.publisher().await?)
    }

    /// Records that submissions of a client are refused, all for the same reason.
    pub(crate) async fn refuse_all(
        &self,
        client: &ClientName,
        job_ids: Vec<JobId>,
        refusal: &Refusal,
    ) -> Result<(), store::Error> {
        let name = |job_id: JobId| JobName { client: client.clone(), job_id };
        let refused: Vec<_> = job_ids.into_iter().map(|id| (name(id), refusal.clone())).collect();
        self.store.refuse(&refused, self.settings.keep_refused_ms).await.map(drop)
    }

    pub(crate) async fn close(&self) {
        self.consume.close().await;
        self.publish.close().await;
    }
}
