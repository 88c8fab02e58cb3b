//! Private nodes, and processes that join them.

use std::path::PathBuf;

use anyhow::Context as _;
use harness::{Lines, Process, workspace};
use nodes::{Definitions, Fsync, RabbitMq, Redis, User, ports};

/// Every user's password on the private broker.
const PASSWORD: &str = "secret";

pub(crate) struct Stage {
    pub(crate) directory: PathBuf,
    redis: Redis,
    rabbitmq: RabbitMq,
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
            let users = ["server", "shop"].map(|name| User {
                name: name.to_owned(),
                password: PASSWORD.to_owned(),
                administrator: false,
            });
            let definitions = Definitions { users: users.to_vec() };
            let redis = Redis::start(&directory.join("redis"), free[0], Fsync::Everysec)?;
            let rabbitmq =
                RabbitMq::start(&directory.join("rabbitmq"), free[1], &definitions, false)?;
            Ok(Self { directory, redis, rabbitmq })
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
        let amqp = format!("amqp://{user}:{PASSWORD}@{}/", self.rabbitmq.address());
        let environment = [
            ("COUNTERFOIL_AMQP_URL", amqp),
            ("COUNTERFOIL_REDIS_URL", self.redis.url()),
            ("COUNTERFOIL_LOG_FILTER", "error".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value));
        Process::start(program, arguments, &environment, &self.directory)
    }

    /// Stops everything and removes its files.
    pub(crate) async fn clear(self) -> anyhow::Result<()> {
        println!("\nStopping RabbitMQ and Redis …");
        let directory = self.directory.clone();
        tokio::task::spawn_blocking(move || {
            self.rabbitmq.stop();
            self.redis.stop();
        })
        .await?;
        Ok(std::fs::remove_dir_all(directory)?)
    }
}
