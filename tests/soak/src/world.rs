//! Where the fleet lives: private nodes, and a link of its own from each role to each of them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use broker::definitions::{Definitions, User};
use broker::rights::{Role as Right, SERVER_USER, WORKER_USER};
use broker::topology::QueueType;
use nodes::{Fsync, PASSWORD, RabbitMq, Redis, ports};
use store::{Keys, acl};

use crate::proxy::{Direction, Language, Proxy, What};

/// What every key of the campaign begins with.
pub const PREFIX: &str = "soak";
/// The only slot of its store.
pub const SLOT: u16 = 0;

/// The keys of its store.
pub fn keys() -> Keys {
    Keys::new(PREFIX, SLOT + 1)
}
/// Who looks into Redis for the checker, and makes faults there.
const ROOT: &str = "root";
const ROOT_WAITS: Duration = Duration::from_secs(30);

/// From a role to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// Clients to RabbitMQ.
    ClientAmqp,
    /// Servers to RabbitMQ.
    ServerAmqp,
    /// Servers to Redis.
    ServerRedis,
    /// Workers to RabbitMQ.
    WorkerAmqp,
    /// Workers to Redis.
    WorkerRedis,
}

impl Link {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::ClientAmqp,
        Self::ServerAmqp,
        Self::ServerRedis,
        Self::WorkerAmqp,
        Self::WorkerRedis,
    ];

    /// What is spoken on it.
    pub fn language(self) -> Language {
        match self {
            Self::ClientAmqp | Self::ServerAmqp | Self::WorkerAmqp => Language::Amqp,
            Self::ServerRedis | Self::WorkerRedis => Language::Resp,
        }
    }
}

/// Nodes and links.
#[derive(Debug)]
pub struct World {
    /// Everything that is written is here.
    pub directory: PathBuf,
    /// The broker.
    pub rabbitmq: RabbitMq,
    /// The store.
    pub redis: Redis,
    redis_port: u16,
    links: Vec<(Link, Arc<Proxy>)>,
}

impl World {
    /// Starts both nodes with the users of servers, workers and these clients.
    ///
    /// # Errors
    /// They do not start.
    pub async fn start(directory: &Path, clients: &[String], fsync: Fsync) -> anyhow::Result<Self> {
        let free = ports::free(2)?;
        let (amqp_port, redis_port) = (free[0], free[1]);
        let parts = [(SERVER_USER, Right::Server), (WORKER_USER, Right::Worker)];
        let clients = clients.iter().map(|name| (name.as_str(), Right::Client));
        let users = parts.into_iter().chain(clients).map(|(name, role)| User {
            name: name.to_owned(),
            password: Some(PASSWORD.to_owned()),
            role,
        });
        let definitions = Definitions {
            vhost: "/".to_owned(),
            users: users.collect(),
            queues: vec![job::QueueName::default()],
            inquiry: QueueType::default(),
        };
        let users = format!(
            "{}user {ROOT} on >{PASSWORD} ~* &* +@all\n",
            acl::render(PREFIX, Some(PASSWORD))
        );
        let at = directory.to_owned();
        let (redis, rabbitmq) = tokio::task::spawn_blocking(move || {
            let redis = Redis::start_with_users(&at.join("redis"), redis_port, fsync, &users)?;
            let text = definitions.to_json().to_string();
            let rabbitmq = RabbitMq::start(&at.join("rabbitmq"), amqp_port, &text, false)?;
            Ok::<_, nodes::Error>((redis, rabbitmq))
        })
        .await??;
        let mut links = Vec::new();
        for link in Link::ALL {
            let port = if link.language() == Language::Amqp { amqp_port } else { redis_port };
            let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            links.push((link, Arc::new(Proxy::start(link.language(), upstream).await?)));
        }
        Ok(Self { directory: directory.to_owned(), rabbitmq, redis, redis_port, links })
    }

    /// Where a link listens.
    fn port(&self, link: Link) -> u16 {
        let of = self.links.iter().find(|(known, _)| *known == link);
        of.map_or(0, |(_, proxy)| proxy.port())
    }

    /// All of the links.
    pub fn links(&self) -> Vec<(Link, Arc<Proxy>)> {
        self.links.clone()
    }

    /// Where a user of a role reaches RabbitMQ.
    pub fn amqp_url(&self, link: Link, user: &str) -> String {
        format!("amqp://{user}:{PASSWORD}@127.0.0.1:{}/", self.port(link))
    }

    /// Where a user of a role reaches Redis.
    pub fn redis_url(&self, link: Link, user: &str) -> String {
        format!("redis://{user}:{PASSWORD}@127.0.0.1:{}/0", self.port(link))
    }

    /// A connection to Redis that may do everything, past the links.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn root(&self) -> anyhow::Result<redis::aio::MultiplexedConnection> {
        let url = format!("redis://{ROOT}:{PASSWORD}@127.0.0.1:{}/0", self.redis_port);
        let client = redis::Client::open(url)?;
        // A machine that is busy with faults takes its time.
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ROOT_WAITS))
            .set_response_timeout(Some(ROOT_WAITS));
        client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .context("Redis, past the links")
    }

    /// Where a user reaches RabbitMQ past the links.
    pub fn direct_amqp_url(&self, user: &str) -> String {
        format!("amqp://{user}:{PASSWORD}@{}/", self.rabbitmq.address())
    }

    /// Lets everything through everywhere.
    pub fn heal(&self) {
        for (_, proxy) in &self.links {
            proxy.heal();
        }
    }

    /// How many messages were delivered again.
    pub fn redelivered(&self) -> u64 {
        let of = |proxy: &Proxy| proxy.passed(Direction::Down, Some(What::Redelivered));
        self.links.iter().map(|(_, proxy)| of(proxy)).sum()
    }

    /// How many cuts have fallen.
    pub fn cuts(&self) -> u64 {
        self.links.iter().map(|(_, proxy)| proxy.cuts()).sum()
    }
}
