//! The program's settings: every section.

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
        settings.server.validate().map_err(UsageError)?;
        settings.worker.validate().map_err(UsageError)?;
        telemetry::start(&settings.log).map_err(|error| UsageError(error.to_string()))?;
        Ok(settings)
    }

    /// The client's part, quiet: a command prints what it was asked for.
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
