//! What each user of RabbitMQ may do: no more than its part needs.
//!
//! RabbitMQ's three rights are regular expressions over the names of queues and exchanges
//! ([Access Control](https://www.rabbitmq.com/docs/access-control)): to configure (create and
//! delete), to write (publish, and bind a queue), to read (consume, and bind to an exchange). The
//! default exchange, over which the server answers, is called `amq.default` there.

use crate::topology;

/// The user that the server's roles connect as, where nothing else is said.
pub const SERVER_USER: &str = "counterfoil-server";
/// The user that workers connect as.
pub const WORKER_USER: &str = "counterfoil-worker";

/// Whose rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The server's: it may write to every reply queue, and declares nothing.
    Server,
    /// A worker's: it reads work queues.
    Worker,
    /// A client's: it submits and asks, and has reply queues of its own.
    Client,
    /// An administrator's: every right.
    Administrator,
}

/// RabbitMQ's three regular expressions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// What may be created and deleted.
    pub configure: String,
    /// What may be published to.
    pub write: String,
    /// What may be consumed from.
    pub read: String,
}

impl Role {
    /// The rights of a user with this role.
    pub fn rights(self, user: &str) -> Rights {
        let all = || ".*".to_owned();
        let none = || "^$".to_owned();
        match self {
            Self::Server => Rights {
                configure: none(),
                write: one_of(&["amq.default", topology::LINE, topology::WORK, topology::DEAD]),
                read: one_of(&[
                    topology::INTAKE_QUEUE,
                    topology::INQUIRY_QUEUE,
                    topology::DROPPED_QUEUE,
                ]),
            },
            Self::Worker => Rights {
                configure: none(),
                write: one_of(&[topology::DEAD]),
                read: format!("^{}\\..+$", escaped(topology::WORK)),
            },
            Self::Client => {
                // Its own queues, and those that RabbitMQ names.
                let own = format!("^(reply\\.{}\\..+|amq\\.gen-.+)$", escaped(user));
                Rights {
                    configure: own.clone(),
                    write: one_of(&[topology::SUBMIT, topology::REQUEST]),
                    read: own,
                }
            }
            Self::Administrator => Rights { configure: all(), write: all(), read: all() },
        }
    }
}

fn one_of(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| escaped(name)).collect();
    format!("^({})$", names.join("|"))
}

/// A name as a regular expression that matches nothing else.
fn escaped(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for c in name.chars() {
        if !c.is_ascii_alphanumeric() && c != '_' && c != '-' {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_may_submit_ask_and_have_its_own_queues() {
        let rights = Role::Client.rights("shop");
        assert_eq!(rights.write, r"^(counterfoil\.submit|counterfoil\.request)$");
        assert_eq!(rights.read, r"^(reply\.shop\..+|amq\.gen-.+)$");
        assert_eq!(rights.configure, rights.read);
        assert!(Role::Client.rights("a.b").read.starts_with(r"^(reply\.a\.b\..+|"));
    }

    #[test]
    fn nobody_but_an_administrator_may_create_what_is_the_systems() {
        for role in [Role::Server, Role::Worker] {
            assert_eq!(role.rights("x").configure, "^$");
        }
    }
}
