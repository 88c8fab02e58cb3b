//! The nodes of a run, as production has them: quorum queues, persistent messages, users with the
//! rights that they need; Redis with its append-only file. One user more, for the other job queues,
//! may do everything.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use broker::definitions::{Definitions, User};
use broker::rights::{Role, SERVER_USER, WORKER_USER};
use broker::topology::QueueType;
use job::QueueName;
use nodes::{Fsync, PASSWORD, RabbitMq, Redis, ports};
use store::acl;

use crate::usage;

/// The client that submits.
pub const CLIENT: &str = "shop";
/// The user of everything that is not ours.
pub const STRANGER: &str = "stranger";
/// What our keys begin with.
pub const PREFIX: &str = "counterfoil";

/// RabbitMQ and Redis.
#[derive(Debug)]
pub struct Ground {
    /// RabbitMQ.
    pub rabbitmq: RabbitMq,
    /// Redis.
    pub redis: Redis,
    /// Where their data are.
    pub directory: PathBuf,
}

impl Ground {
    /// Starts both in an empty directory.
    ///
    /// # Errors
    /// They are not installed, or did not come up.
    pub fn start(directory: &Path, fsync: Fsync) -> anyhow::Result<Self> {
        Self::start_with(directory, fsync, QueueType::default())
    }

    /// The same; what the queue of requests is, is said.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(directory: &Path, fsync: Fsync, inquiry: QueueType) -> anyhow::Result<Self> {
        if directory.exists() {
            std::fs::remove_dir_all(directory)?;
        }
        let users = [
            (SERVER_USER, Role::Server),
            (WORKER_USER, Role::Worker),
            (CLIENT, Role::Client),
            (STRANGER, Role::Administrator),
        ];
        let users = users.map(|(name, role)| User {
            name: name.to_owned(),
            password: Some(PASSWORD.to_owned()),
            role,
        });
        let definitions = Definitions {
            vhost: "/".to_owned(),
            users: users.to_vec(),
            queues: vec![QueueName::default()],
            inquiry,
        };
        let users = acl::render(PREFIX, Some(PASSWORD));
        let users = format!("{users}user {STRANGER} on >{PASSWORD} ~* &* +@all\n");
        let free = ports::free(2)?;
        let redis = Redis::start_with_users(&directory.join("redis"), free[0], fsync, &users)?;
        log_as_shipped(&redis.url_of(STRANGER, PASSWORD))?;
        go_first_as_shipped(redis.pid())?;
        let definitions = definitions.to_json().to_string();
        let rabbitmq = RabbitMq::start(&directory.join("rabbitmq"), free[1], &definitions, false)?;
        Ok(Self { rabbitmq, redis, directory: directory.to_owned() })
    }

    /// Where RabbitMQ is, for a user.
    pub fn amqp_url(&self, user: &str) -> String {
        format!("amqp://{user}:{PASSWORD}@{}/", self.rabbitmq.address())
    }

    /// Where Redis is, for a user.
    pub fn redis_url(&self, user: &str) -> String {
        self.redis.url_of(user, PASSWORD)
    }

    /// How a program of ours reaches RabbitMQ as a user.
    pub fn amqp(&self, user: &str) -> broker::Settings {
        broker::Settings {
            url: self.amqp_url(user),
            heartbeat_s: 10,
            connect_timeout_ms: 5000,
            declare: false,
            inquiry_queue_type: QueueType::default(),
        }
    }

    /// The store, as the server sees it.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn store(&self) -> anyhow::Result<store::Store> {
        let redis = self.redis_url(SERVER_USER);
        let changes = [("COUNTERFOIL_REDIS_URL".to_owned(), redis)];
        let Section { redis } = settings::load_with(None, changes)?;
        Ok(store::Store::connect(redis).await?)
    }

    /// A connection to Redis that may do everything.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn redis(&self) -> anyhow::Result<redis::aio::MultiplexedConnection> {
        let client = redis::Client::open(self.redis_url(STRANGER))?;
        Ok(client.get_multiplexed_async_connection().await?)
    }

    /// Forgets every job; the scripts and what is known of the deployment stay with the processes,
    /// which are to be started after it.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn empty(&self) -> anyhow::Result<()> {
        let mut redis = self.redis().await?;
        let (): () = redis::cmd("FLUSHALL").query_async(&mut redis).await?;
        Ok(())
    }

    /// The broker's process.
    ///
    /// # Errors
    /// It has not said which it is.
    pub fn broker_pid(&self) -> anyhow::Result<u32> {
        self.rabbitmq.pid().context("the broker's process")
    }
}

#[derive(serde::Deserialize)]
struct Section {
    redis: store::Settings,
}

/// Has Redis rewrite its log as with the configuration that is shipped.
fn log_as_shipped(url: &str) -> anyhow::Result<()> {
    let mut redis = redis::Client::open(url)?.get_connection()?;
    for name in ["auto-aof-rewrite-percentage", "auto-aof-rewrite-min-size", "rdbcompression"] {
        let value = shipped("redis.conf", name, ' ')?;
        redis::cmd("CONFIG").arg("SET").arg(name).arg(value).exec(&mut redis)?;
    }
    Ok(())
}

/// Has Redis go before others as it is shipped. Who may not do that (root may, and who has
/// `CAP_SYS_NICE`) measures without, and is told so.
fn go_first_as_shipped(pid: u32) -> anyhow::Result<()> {
    let niceness = shipped("precedence.conf", "Nice", '=')?;
    let mut command = Command::new("renice");
    command.args(["-n", &niceness, "-p"]);
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        command.arg(thread?.file_name());
    }
    let output = command.output().context("renice")?;
    if usage::niceness(pid)?.to_string() != niceness {
        let said = String::from_utf8_lossy(&output.stderr);
        println!("Redis does not go before others: {}", said.trim());
    }
    Ok(())
}

/// A value of a file of `deploy/redis`.
fn shipped(file: &str, name: &str, separator: char) -> anyhow::Result<String> {
    let path = harness::workspace().join("deploy/redis").join(file);
    let text = std::fs::read_to_string(path)?;
    let mut lines = text.lines().filter_map(|line| line.split_once(separator));
    let (_, value) =
        lines.find(|line| line.0 == name).with_context(|| format!("{file}: {name}"))?;
    Ok(value.to_owned())
}
