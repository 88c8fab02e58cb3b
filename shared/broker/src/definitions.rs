//! RabbitMQ's definitions file: users, rights and topology, as it imports them
//! ([Definitions](https://www.rabbitmq.com/docs/definitions)).

use job::QueueName;
use serde_json::{Value, json};

use crate::rights::{Rights, Role};
use crate::topology::{self, Argument, QueueType};

/// A user of RabbitMQ.
#[derive(Debug, Clone)]
pub struct User {
    /// Its name; for a client, the client's name.
    pub name: String,
    /// Its password. Without one it cannot log in until it is given one:
    /// `rabbitmqctl change_password`.
    pub password: Option<String>,
    /// What it may do.
    pub role: Role,
}

/// What a virtual host is to hold.
#[derive(Debug, Clone)]
pub struct Definitions {
    /// Its name.
    pub vhost: String,
    /// Those who have rights there.
    pub users: Vec<User>,
    /// The work queues.
    pub queues: Vec<QueueName>,
    /// What the queue of requests is to be.
    pub inquiry: QueueType,
}

impl Definitions {
    /// The definitions file.
    pub fn to_json(&self) -> Value {
        let vhost = &self.vhost;
        let users: Vec<Value> = self.users.iter().map(user).collect();
        let permissions = self.users.iter().map(|user| {
            let Rights { configure, write, read } = user.role.rights(&user.name);
            json!({ "user": user.name, "vhost": vhost, "configure": configure, "write": write,
                    "read": read })
        });
        let exchanges = topology::exchanges().map(|(name, kind)| {
            json!({ "name": name, "vhost": vhost, "type": kind.as_str(), "durable": true,
                    "auto_delete": false, "internal": false, "arguments": {} })
        });
        let queues = topology::queues(&self.queues, self.inquiry).into_iter().map(|queue| {
            let arguments: serde_json::Map<String, Value> = queue
                .arguments
                .iter()
                .map(|(name, it)| ((*name).to_owned(), Value::from(*it)))
                .collect();
            json!({ "name": queue.name, "vhost": vhost, "durable": true, "auto_delete": false,
                    "arguments": arguments })
        });
        let bindings = topology::routes(&self.queues).into_iter().map(|route| {
            json!({ "source": route.exchange, "vhost": vhost, "destination": route.queue,
                    "destination_type": "queue", "routing_key": route.key, "arguments": {} })
        });
        json!({
            "vhosts": [{ "name": vhost }],
            "users": users,
            "permissions": permissions.collect::<Vec<_>>(),
            "exchanges": exchanges.collect::<Vec<_>>(),
            "queues": queues.collect::<Vec<_>>(),
            "bindings": bindings.collect::<Vec<_>>(),
        })
    }
}

fn user(user: &User) -> Value {
    let tags = if user.role == Role::Administrator { "administrator" } else { "" };
    match &user.password {
        Some(password) => json!({ "name": user.name, "password": password, "tags": tags }),
        // An empty hash lets nobody in.
        None => json!({ "name": user.name, "password_hash": "",
                        "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": tags }),
    }
}

impl From<Argument> for Value {
    fn from(argument: Argument) -> Self {
        match argument {
            Argument::Text(text) => text.into(),
            Argument::Number(number) => number.into(),
            Argument::Flag(flag) => flag.into(),
        }
    }
}
