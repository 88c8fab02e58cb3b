//! Looking at a broker without changing anything: what is there, what is missing, what differs.

use job::QueueName;
use serde_json::Value;

use crate::management::{Management, ManagementError, QueueSeen};
use crate::topology::{self, Argument, QueueType};
use crate::{Connection, Error};

/// A queue, and who reads it.
#[derive(Debug, Clone)]
pub struct Occupied {
    /// Its name.
    pub queue: String,
    /// Messages that no consumer holds.
    pub ready: u32,
    /// Consumers.
    pub consumers: u32,
}

/// What AMQP shows of the topology.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Exchanges and queues that are not there.
    pub missing: Vec<String>,
    /// Queues that are.
    pub queues: Vec<Occupied>,
}

/// A queue that is not as this version wants it.
#[derive(Debug, Clone)]
pub struct Drift {
    /// Which queue.
    pub queue: String,
    /// The argument.
    pub argument: String,
    /// What it is to be; nothing if it is not to be there.
    pub wanted: Option<Value>,
    /// What it is; nothing if it is not there.
    pub found: Option<Value>,
}

impl Connection {
    /// Looks at every exchange and queue, and at these work queues.
    ///
    /// # Errors
    /// The connection has failed.
    pub async fn examine(&self, work: &[QueueName]) -> Result<Seen, Error> {
        let mut seen = Seen::default();
        for (name, kind) in topology::exchanges() {
            match self.has_exchange(name, kind).await {
                Ok(()) => {}
                Err(Error::Missing(name)) => seen.missing.push(name),
                Err(error) => return Err(error),
            }
        }
        for queue in topology::queues(work, self.inquiry) {
            match self.depth(&queue.name).await {
                Ok(depth) => seen.queues.push(Occupied {
                    queue: queue.name,
                    ready: depth.ready,
                    consumers: depth.consumers,
                }),
                Err(Error::Missing(name)) => seen.missing.push(name),
                Err(error) => return Err(error),
            }
        }
        Ok(seen)
    }
}

/// Compares the arguments of the queues that are there with what they are to be. A policy counts
/// where it changes what an argument says.
///
/// # Errors
/// The management interface cannot be asked.
pub fn drift(
    management: &Management,
    vhost: &str,
    work: &[QueueName],
    inquiry: QueueType,
) -> Result<Vec<Drift>, ManagementError> {
    let found = management.queues(vhost)?;
    let mut drift = Vec::new();
    for wanted in topology::queues(work, inquiry) {
        if let Some(queue) = found.iter().find(|queue| queue.name == wanted.name) {
            drift.extend(differences(&wanted.arguments, queue));
        }
    }
    Ok(drift)
}

fn differences(wanted: &[(&'static str, Argument)], queue: &QueueSeen) -> Vec<Drift> {
    let drift = |argument: &str, wanted: Option<Value>, found: Option<Value>| Drift {
        queue: queue.name.clone(),
        argument: argument.to_owned(),
        wanted,
        found,
    };
    let mut all = Vec::new();
    for (name, argument) in wanted {
        let value = Value::from(*argument);
        let found = queue.arguments.get(*name).cloned();
        if found.as_ref() != Some(&value) {
            all.push(drift(name, Some(value), found));
            continue;
        }
        // The smaller number counts, so a policy can only take away.
        let policy = name.strip_prefix("x-").unwrap_or(name);
        let policy = queue.effective_policy_definition.get(policy);
        if let (Some(wanted), Some(found)) = (value.as_i64(), policy.and_then(Value::as_i64))
            && found < wanted
        {
            let policy = Some(Value::from(found));
            all.push(drift(&format!("{name} (by a policy)"), Some(value), policy));
        }
    }
    let known = |name: &str| wanted.iter().any(|(wanted, _)| *wanted == name);
    let others = queue.arguments.iter().filter(|(name, _)| !known(name));
    all.extend(others.map(|(name, value)| drift(name, None, Some(value.clone()))));
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_argument_that_differs_is_missing_or_is_too_much_is_drift() {
        let wanted =
            [("x-queue-type", Argument::Text("quorum")), ("x-delivery-limit", Argument::Number(9))];
        let seen = |arguments: Value, policy: Value| QueueSeen {
            name: "q".into(),
            arguments: arguments.as_object().unwrap().clone(),
            effective_policy_definition: policy,
        };
        let right = json!({ "x-queue-type": "quorum", "x-delivery-limit": 9 });
        assert!(differences(&wanted, &seen(right.clone(), json!({}))).is_empty());
        let wrong = json!({ "x-queue-type": "classic", "x-max-priority": 3 });
        let names = |drift: Vec<Drift>| -> Vec<String> {
            drift.into_iter().map(|drift| drift.argument).collect()
        };
        assert_eq!(
            names(differences(&wanted, &seen(wrong, json!({})))),
            ["x-queue-type", "x-delivery-limit", "x-max-priority"]
        );
        let policy = seen(right, json!({ "delivery-limit": 3 }));
        assert_eq!(names(differences(&wanted, &policy)), ["x-delivery-limit (by a policy)"]);
    }
}
