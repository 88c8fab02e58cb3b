//! Creating the topology, which takes an administrator's right to configure; and looking whether it
//! is there, which anybody may.

use job::QueueName;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};

use crate::closing::closed;
use crate::topology::{self, Argument, Kind, QueueShape, Route};
use crate::{Connection, Error};

impl Connection {
    /// Creates what is missing of the exchanges and queues of [`topology`].
    ///
    /// # Errors
    /// [`Error::Drift`] if something exists with other arguments; [`Error::Refused`] if this user
    /// may not configure.
    pub async fn declare_topology(&self, work: &[QueueName]) -> Result<(), Error> {
        let channel = self.channel().await?;
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        for (name, kind) in topology::exchanges() {
            channel
                .exchange_declare(name.into(), lapin_kind(kind), durable, FieldTable::default())
                .await
                .map_err(|error| Error::about(name, error))?;
        }
        for queue in topology::queues(work, self.inquiry) {
            declare_queue(&channel, &queue).await?;
        }
        for route in topology::routes(work) {
            bind(&channel, &route).await?;
        }
        close(&channel).await;
        Ok(())
    }

    /// Creates what is missing of one work queue.
    ///
    /// # Errors
    /// As [`Self::declare_topology`].
    pub async fn declare_work_queue(&self, queue: &QueueName) -> Result<(), Error> {
        let channel = self.channel().await?;
        let name = topology::work_queue(queue);
        let work = std::slice::from_ref(queue);
        for shape in topology::queues(work, self.inquiry).iter().filter(|shape| shape.name == name)
        {
            declare_queue(&channel, shape).await?;
        }
        for route in topology::routes(work).iter().filter(|route| route.queue == name) {
            bind(&channel, route).await?;
        }
        close(&channel).await;
        Ok(())
    }

    /// Looks whether every exchange and queue is there, whatever its arguments.
    ///
    /// # Errors
    /// [`Error::Missing`] with the first that is not.
    pub async fn check_topology(&self) -> Result<(), Error> {
        for (name, kind) in topology::exchanges() {
            self.has_exchange(name, kind).await?;
        }
        for queue in topology::queues(&[], self.inquiry) {
            self.depth(&queue.name).await?;
        }
        Ok(())
    }

    pub(crate) async fn has_exchange(&self, name: &str, kind: Kind) -> Result<(), Error> {
        let channel = self.channel().await?;
        let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
        channel
            .exchange_declare(short(name)?, lapin_kind(kind), passive, FieldTable::default())
            .await
            .map_err(|error| Error::about(name, error))?;
        close(&channel).await;
        Ok(())
    }

    /// Looks whether a work queue is there.
    ///
    /// # Errors
    /// [`Error::Missing`] if it is not.
    pub async fn check_work_queue(&self, queue: &QueueName) -> Result<(), Error> {
        self.depth(&topology::work_queue(queue)).await.map(drop)
    }
}

fn lapin_kind(kind: Kind) -> ExchangeKind {
    match kind {
        Kind::Topic => ExchangeKind::Topic,
        Kind::Fanout => ExchangeKind::Fanout,
        Kind::Direct => ExchangeKind::Direct,
    }
}

async fn declare_queue(channel: &Channel, queue: &QueueShape) -> Result<(), Error> {
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    let mut table = FieldTable::default();
    for (name, argument) in &queue.arguments {
        let value = match argument {
            Argument::Text(text) => AMQPValue::LongString((*text).into()),
            Argument::Number(number) => AMQPValue::LongLongInt(*number),
            Argument::Flag(flag) => AMQPValue::Boolean(*flag),
        };
        table.insert((*name).into(), value);
    }
    let declared = channel.queue_declare(short(&queue.name)?, options, table).await;
    declared.map(drop).map_err(|error| Error::about(&queue.name, error))
}

async fn bind(channel: &Channel, route: &Route) -> Result<(), Error> {
    let (queue, exchange, key) = (short(&route.queue)?, short(route.exchange)?, short(&route.key)?);
    let options = QueueBindOptions::default();
    Ok(channel.queue_bind(queue, exchange, key, options, FieldTable::default()).await?)
}

/// Closes a channel whose work is done: that it takes long, or fails, takes nothing of it back. The
/// next call on the connection says if that has failed.
pub(crate) async fn close(channel: &Channel) {
    if let Err(error) = closed(channel.close(200, "done".into())).await {
        tracing::debug!(%error, "closing a channel");
    }
}

pub(crate) fn short(text: &str) -> Result<ShortString, Error> {
    ShortString::try_new(text).map_err(|_| Error::TooLong(text.chars().take(80).collect()))
}
