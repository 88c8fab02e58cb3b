//! What is to be known of RabbitMQ.

use std::collections::BTreeMap;

use broker::examine::{Drift, Occupied, drift};
use broker::management::Management;
use broker::{Connection, chain, greeting, topology};
use job::QueueName;
use serde_json::Value;

use super::Finding;
use crate::cli;
use crate::settings::Settings;

/// The oldest that has what the queues use.
const OLDEST: (u32, u32) = (3, 10);
/// The first that this version has not been run on.
const UNTESTED: (u32, u32) = (4, 1);
/// RabbitMQ looks once a minute whether a delivery has been held for too long.
const TIMEOUT_LOOKED_AT_MS: u64 = 60_000;

pub(super) async fn examine(
    settings: &Settings,
    options: &cli::Doctor,
    types: &BTreeMap<String, String>,
) -> Vec<Finding> {
    let mut findings = vec![acknowledgement_limit(settings, options)];
    match greeting(&settings.amqp).await {
        Ok((product, version)) => findings.push(self::version(&product, &version)),
        Err(error) => {
            findings.push(away(&error));
            return findings;
        }
    }
    let mut work: Vec<QueueName> =
        types.values().filter_map(|queue| QueueName::parse(queue).ok()).collect();
    work.push(QueueName::default());
    work.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    work.dedup();
    match look(settings, &work, types).await {
        Ok(seen) => findings.extend(seen),
        Err(error) => findings.push(away(&error)),
    }
    findings.push(arguments(settings, options, work).await);
    findings
}

fn away(error: &broker::Error) -> Finding {
    Finding::error(
        "rabbitmq",
        chain(error),
        "nothing can be submitted or asked",
        "start RabbitMQ, or mend amqp.url",
    )
}

fn version(product: &str, version: &str) -> Finding {
    let found = format!("{product} {version}");
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < OLDEST {
        Finding::error(
            "rabbitmq version",
            found,
            "its quorum queues have no at-least-once dead-lettering: what it drops is lost",
            "run RabbitMQ 3.10 to 4.0",
        )
    } else if version >= UNTESTED {
        Finding::warning(
            "rabbitmq version",
            found,
            "the queues use nothing that it changes, and it has been tested on 3.10 and 4.0 alone",
            "run RabbitMQ 3.10 to 4.0 where it matters",
        )
    } else {
        Finding::ok("rabbitmq version", found)
    }
}

/// A run is detached from its message before RabbitMQ takes the message away.
fn acknowledgement_limit(settings: &Settings, options: &cli::Doctor) -> Finding {
    let (detached, limit) = (settings.worker.detach_after_ms, options.consumer_timeout_ms);
    let found = format!("worker.detach_after_ms {detached}, consumer_timeout {limit} (as said)");
    if detached + TIMEOUT_LOOKED_AT_MS >= limit {
        Finding::error(
            "acknowledgement limit",
            found,
            "RabbitMQ closes the channel of a worker whose job runs for longer, with all its jobs",
            "lower worker.detach_after_ms, or raise consumer_timeout in rabbitmq.conf",
        )
    } else {
        Finding::ok("acknowledgement limit", found)
    }
}

async fn look(
    settings: &Settings,
    work: &[QueueName],
    types: &BTreeMap<String, String>,
) -> Result<Vec<Finding>, broker::Error> {
    let connection = Connection::open(&settings.amqp, "counterfoil doctor").await?;
    let seen = connection.examine(work).await;
    connection.close().await;
    let seen = seen?;
    let mut findings: Vec<Finding> = seen.missing.iter().map(|name| missing(name)).collect();
    if findings.is_empty() {
        findings.push(Finding::ok("topology", "every exchange and queue is there"));
    }
    findings.extend(seen.queues.iter().filter_map(|queue| occupied(queue, types)));
    Ok(findings)
}

fn missing(name: &str) -> Finding {
    let queue = name.strip_prefix(topology::WORK).and_then(|rest| rest.strip_prefix('.'));
    let remedy = match queue {
        Some(queue) => format!("counterfoil setup --queue {queue}"),
        None => "counterfoil setup".to_owned(),
    };
    Finding::error(
        "topology",
        format!("{name} does not exist"),
        "server and workers wait for it",
        remedy,
    )
}

fn occupied(seen: &Occupied, types: &BTreeMap<String, String>) -> Option<Finding> {
    let Occupied { queue, ready, consumers } = seen;
    let found = format!("{queue}: {ready} messages, {consumers} consumers");
    let is_last = *queue == topology::DEAD_QUEUE;
    if is_last && *ready > 0 {
        return Some(Finding::warning(
            "dead letters",
            found,
            "messages that could not be processed, each with its reason in a header",
            "look at them, mend what sent them, and purge the queue",
        ));
    }
    if is_last || *consumers > 0 {
        return Some(Finding::ok(if is_last { "dead letters" } else { "consumers" }, found));
    }
    match queue.strip_prefix(topology::WORK).and_then(|rest| rest.strip_prefix('.')) {
        None => Some(Finding::error(
            "consumers",
            found,
            "no server is running: nothing is accepted or answered",
            "start counterfoil server",
        )),
        // A queue that no type is announced on may be left alone.
        Some(work) if types.values().any(|queue| queue == work) => Some(Finding::warning(
            "consumers",
            found,
            "jobs of its types wait",
            "start a worker that serves it",
        )),
        Some(_) => Some(Finding::ok("consumers", format!("{found}; no type is announced on it"))),
    }
}

async fn arguments(settings: &Settings, options: &cli::Doctor, work: Vec<QueueName>) -> Finding {
    const CHECK: &str = "queue arguments";
    let Some(url) = options.management_url.clone() else {
        return Finding::warning(
            CHECK,
            "not looked at",
            "AMQP does not show them: delivery limit, overflow and order are taken on trust",
            "counterfoil doctor --management-url http://USER:PASSWORD@HOST:15672",
        );
    };
    let vhost = settings.amqp.vhost().unwrap_or_default();
    let inquiry = settings.amqp.inquiry_queue_type;
    let asked = tokio::task::spawn_blocking(move || {
        let management = Management::new(&url)?;
        drift(&management, &vhost, &work, inquiry)
    });
    match asked.await {
        Ok(Ok(drift)) if drift.is_empty() => {
            Finding::ok(CHECK, "as they should be, the delivery limit among them")
        }
        Ok(Ok(drift)) => Finding::error(
            CHECK,
            drift.iter().map(said).collect::<Vec<_>>().join("; "),
            "confirmed messages can be dropped, or come in another order than promised",
            "delete the queue when it is empty and run counterfoil setup; change the policy. What \
             counterfoil.inquiry is to be is said by amqp.inquiry_queue_type",
        ),
        Ok(Err(error)) => Finding::error(
            CHECK,
            chain(&error),
            "they could not be looked at",
            "mend --management-url",
        ),
        Err(_) => Finding::error(CHECK, "the look failed", "they could not be looked at", "again"),
    }
}

fn said(drift: &Drift) -> String {
    let shown = |value: &Option<Value>| {
        value.as_ref().map_or_else(|| "absent".to_owned(), ToString::to_string)
    };
    let Drift { queue, argument, wanted, found } = drift;
    format!("{queue}: {argument} is {}, should be {}", shown(found), shown(wanted))
}
