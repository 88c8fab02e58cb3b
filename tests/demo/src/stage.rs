//! Private nodes, and processes that join them.

use std::path::PathBuf;

use anyhow::Context as _;
use harness::{Lines, Process, workspace};
use nodes::{Deployment, ports};

/// The queue that the order desk serves.
const QUEUE: &str = "orders";

pub(crate) struct Stage {
    pub(crate) directory: PathBuf,
    nodes: Deployment,
}

impl Stage {
    pub(crate) async fn set() -> anyhow::Result<Self> {
        println!("Starting a private RabbitMQ and Redis …");
        let directory = workspace().canonicalize()?.join("target/demo");
        if directory.exists() {
            std::fs::remove_dir_all(&directory).context("the last demonstration's files")?;
        }
        tokio::task::spawn_blocking(move || {
            let free = ports::free(2)?;
            let queues = [job::QueueName::parse(QUEUE)?];
            let ports = (free[0], free[1]);
            let nodes = Deployment::start(&directory, ports, "counterfoil", &["shop"], &queues)?;
            Ok(Self { directory, nodes })
        })
        .await?
    }

    /// Starts a process as a user.
    pub(crate) fn start(
        &self,
        user: &str,
        program: &str,
        arguments: &[&str],
    ) -> anyhow::Result<(Process, Lines)> {
        let environment = [
            ("COUNTERFOIL_AMQP_URL", self.nodes.amqp_url(user)),
            ("COUNTERFOIL_REDIS_URL", self.nodes.redis_url(user)),
            ("COUNTERFOIL_LOG_FILTER", "error".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value));
        Process::start(program, arguments, &environment, &self.directory)
    }

    /// Stops everything and removes its files.
    pub(crate) async fn clear(self) -> anyhow::Result<()> {
        println!("\nStopping RabbitMQ and Redis …");
        let directory = self.directory.clone();
        tokio::task::spawn_blocking(move || self.nodes.stop()).await?;
        Ok(std::fs::remove_dir_all(directory)?)
    }
}
