//! The program's settings: every section.

use client::Client;
use serde::Deserialize;

use crate::cli::Arguments;
use crate::exit::UsageError;

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Settings {
    pub(crate) amqp: broker::Settings,
    pub(crate) redis: store::Settings,
    pub(crate) server: server::Settings,
    pub(crate) worker: worker::WorkerSettings,
    pub(crate) client: client::ClientSettings,
    pub(crate) log: telemetry::Settings,
}

impl Settings {
    /// Loads and checks the settings, and starts logging.
    pub(crate) fn load(arguments: &Arguments) -> anyhow::Result<Self> {
        let settings: Self = settings::load(arguments.config.as_deref())
            .map_err(|error| UsageError(error.to_string()))?;
        settings.amqp.validate().map_err(UsageError)?;
        settings.redis.validate().map_err(UsageError)?;
        settings.client.validate().map_err(UsageError)?;
        settings.server.validate().map_err(UsageError)?;
        settings.worker.validate().map_err(UsageError)?;
        telemetry::start(&settings.log).map_err(|error| UsageError(error.to_string()))?;
        Ok(settings)
    }

    /// Does something as a client, and closes the connection whatever came of it.
    pub(crate) async fn as_client<T>(
        arguments: &Arguments,
        act: impl AsyncFnOnce(&Client) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let client = Client::open(Self::for_client(arguments)?)?;
        let done = act(&client).await;
        client.close().await;
        done
    }

    /// The client's part.
    pub(crate) fn for_client(arguments: &Arguments) -> anyhow::Result<client::Settings> {
        let settings = Self::load(arguments)?;
        Ok(client::Settings { amqp: settings.amqp, client: settings.client })
    }

    pub(crate) fn for_worker(&self) -> worker::Settings {
        worker::Settings {
            amqp: self.amqp.clone(),
            redis: self.redis.clone(),
            worker: self.worker.clone(),
        }
    }
}
