//! A producer without a journal, as any AMQP client may be: what the broker has confirmed to it
//! must not be lost, though nobody sends it again.

use std::sync::Arc;
use std::time::Duration;

use broker::{Connection, Outcome, Publication, topology};
use protocol::{HeaderValue, Properties, headers};

use super::{Shared, attempts, events_queue, task};
use crate::handlers::{TYPE, Task};
use crate::history::Seen;

/// One in so many jobs of a client comes this way.
const SHARE: f64 = 0.2;

/// Publishes until the end, over as many connections as it takes.
pub(super) async fn produce(shared: Arc<Shared>, rate: f64) {
    let (mut number, mut unconfirmed) = (0u64, None);
    while !shared.is_over() {
        let ended = tokio::select! {
            ended = publish(&shared, rate * SHARE, &mut number, &mut unconfirmed) => ended,
            () = shared.stop.cancelled() => return,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "producing");
        }
        shared.pause(Duration::from_millis(300)).await;
    }
}

async fn publish(
    shared: &Shared,
    rate: f64,
    number: &mut u64,
    unconfirmed: &mut Option<(String, Task, Publication)>,
) -> anyhow::Result<()> {
    let connection = Connection::open(&shared.amqp, "soak producer").await?;
    let publisher = connection.publisher().await?;
    // Of all that it may publish it is only the last that it does not know of.
    if let Some((id, ..)) = &*unconfirmed {
        shared.log.write(Seen::Repeated { id: id.clone(), is_lost: true });
    }
    loop {
        let (id, task, message) = unconfirmed.get_or_insert_with(|| {
            *number += 1;
            let (id, task) = (format!("b-{}-{number}", shared.prefix), task(shared.mix));
            (id.clone(), task, message(shared, task, &id))
        });
        let outcome = publisher.publish(vec![message.clone()]).await;
        if outcome != [Outcome::Confirmed] {
            anyhow::bail!("not confirmed: {outcome:?}");
        }
        shared.log.write(Seen::Confirmed { id: id.clone(), task: *task });
        shared.remember(id);
        // The same again, as an impatient producer does.
        if fastrand::u32(..10) == 0 {
            shared.log.write(Seen::Repeated { id: id.clone(), is_lost: false });
            publisher.publish(vec![message.clone()]).await;
        }
        *unconfirmed = None;
        if shared.mix.once_in(20) {
            publisher.publish(vec![astray(shared, *number)]).await;
        }
        shared.pause(Duration::from_secs_f64(1.0 / rate)).await;
    }
}

fn message(shared: &Shared, task: Task, id: &str) -> Publication {
    let user = shared.client.name();
    let mut properties = Properties {
        persistent: true,
        content_type: Some("application/json".to_owned()),
        message_id: Some(id.to_owned()),
        user_id: Some(user.to_owned()),
        reply_to: Some(events_queue(user)),
        ..Properties::default()
    };
    properties.headers.push(headers::NOTIFY, HeaderValue::Text("terminal".to_owned()));
    properties.headers.push(headers::MAX_ATTEMPTS, HeaderValue::Text(attempts(task)));
    Publication {
        exchange: topology::SUBMIT,
        routing_key: TYPE.to_owned(),
        mandatory: true,
        properties,
        body: serde_json::to_vec(&task).unwrap_or_default(),
    }
}

/// What nothing is promised of: it may expire before it is read, or is no submission.
fn astray(shared: &Shared, number: u64) -> Publication {
    let mut astray = message(shared, task(shared.mix), &format!("x-{}-{number}", shared.prefix));
    if fastrand::bool() {
        astray.properties.expiration = Some("1".to_owned());
    } else {
        astray.properties.headers.push(headers::NOT_BEFORE, HeaderValue::Text("soon".to_owned()));
    }
    astray
}
