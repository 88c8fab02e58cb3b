//! A private RabbitMQ and Redis as an operator would set them up: each part of the system has a
//! user with the rights that it needs and no others, and the topology is there.

use std::path::Path;

use broker::definitions::{Definitions, User};
use broker::rights::{Role, SERVER_USER, WORKER_USER};
use broker::topology::QueueType;
use job::QueueName;
use store::acl;

use crate::{Error, Fsync, RabbitMq, Redis};

/// Every user's password on private nodes, which listen on this machine alone.
pub const PASSWORD: &str = "secret";

/// The two nodes.
#[derive(Debug)]
pub struct Deployment {
    /// RabbitMQ.
    pub rabbitmq: RabbitMq,
    /// Redis.
    pub redis: Redis,
}

impl Deployment {
    /// Starts both in a directory, with users for server, worker and these clients, and these work
    /// queues beside the default one. `prefix` is what every key of the store begins with.
    ///
    /// # Errors
    /// They are not installed, or did not come up.
    pub fn start(
        directory: &Path,
        (amqp_port, redis_port): (u16, u16),
        prefix: &str,
        clients: &[&str],
        queues: &[QueueName],
    ) -> Result<Self, Error> {
        let parts = [(SERVER_USER, Role::Server), (WORKER_USER, Role::Worker)];
        let clients = clients.iter().map(|name| (*name, Role::Client));
        let users = parts.into_iter().chain(clients).map(|(name, role)| User {
            name: name.to_owned(),
            password: Some(PASSWORD.to_owned()),
            role,
        });
        let definitions = Definitions {
            vhost: "/".to_owned(),
            users: users.collect(),
            queues: [QueueName::default()].into_iter().chain(queues.iter().cloned()).collect(),
            // RabbitMQ has one node here: a quorum queue would keep nothing persistent more.
            inquiry: QueueType::Classic,
        };
        let definitions = definitions.to_json().to_string();
        let acl = acl::render(prefix, Some(PASSWORD));
        let redis = directory.join("redis");
        let redis = Redis::start_with_users(&redis, redis_port, Fsync::Everysec, &acl)?;
        let rabbitmq = directory.join("rabbitmq");
        let rabbitmq = RabbitMq::start(&rabbitmq, amqp_port, &definitions, false)?;
        Ok(Self { rabbitmq, redis })
    }

    /// Where RabbitMQ is, for a user.
    pub fn amqp_url(&self, user: &str) -> String {
        format!("amqp://{user}:{PASSWORD}@{}/", self.rabbitmq.address())
    }

    /// Where Redis is, for a user.
    pub fn redis_url(&self, user: &str) -> String {
        self.redis.url_of(user, PASSWORD)
    }

    /// Stops both in an orderly way.
    pub fn stop(self) {
        self.rabbitmq.stop();
        self.redis.stop();
    }
}
