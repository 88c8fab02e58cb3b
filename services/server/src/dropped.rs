//! Reads what the broker drops: a submission that its client let expire, a work message that came
//! back too often. Neither is lost without a word: the first is recorded as refused, the second is
//! dispatched again, or the run that it started is watched; a copy of either is kept for people.

use std::sync::Arc;

use broker::{
    Backoff, Delivery, Outcome, Publication, Publisher, Retry, dead_letter, dead_work_message,
    topology,
};
use faults::{Point, crash_point};
use job::{ClientName, QueueName};
use protocol::{Code, Refusal, WorkMessage, bundle, headers};
use store::JobName;
use store::due::Redispatched;

use crate::Error;
use crate::dispatch::{DISPATCH_AGAIN_MS, dispatch};
use crate::line::job_ids;
use crate::links::Links;

const PREFETCH: u16 = 64;

pub(crate) async fn run(links: Arc<Links>) -> Result<(), Error> {
    let mut consumer = links.consume.consumer(topology::DROPPED_QUEUE, PREFETCH).await?;
    let acker = consumer.acker();
    let publisher = links.publisher().await?;
    let ended = loop {
        let chunk = tokio::select! {
            biased;
            () = links.stop.cancelled() => break Ok(()),
            chunk = consumer.next_chunk(PREFETCH.into()) => match chunk {
                Ok(chunk) => chunk,
                Err(error) => break Err(error.into()),
            },
        };
        if let Err(error) = record_until(&links, &publisher, chunk, &acker).await {
            break Err(error);
        }
    };
    consumer.close().await;
    ended
}

/// Records for as long as the store takes; what is not acknowledged comes again.
async fn record_until(
    links: &Links,
    publisher: &Publisher,
    chunk: Vec<Delivery>,
    acker: &broker::Acker,
) -> Result<(), Error> {
    let mut backoff = Backoff::default();
    loop {
        match record(links, publisher, chunk.clone(), acker).await {
            Err(Error::Store(error)) if error.is_transient() => {
                if backoff.failed("dropped messages", &error, &links.stop).await == Retry::Stop {
                    return Ok(());
                }
            }
            ended => return ended,
        }
    }
}

async fn record(
    links: &Links,
    publisher: &Publisher,
    chunk: Vec<Delivery>,
    acker: &broker::Acker,
) -> Result<(), Error> {
    crash_point(Point::DroppedRead);
    let mut letters = Vec::with_capacity(chunk.len());
    let mut tags = Vec::with_capacity(chunk.len());
    for delivery in chunk {
        tags.push(delivery.tag);
        match work_messages(links, &delivery) {
            Some(messages) => letters.extend(dispatch_again(links, publisher, messages).await?),
            None => {
                let reason = refuse(links, &delivery).await?;
                letters.push(dead_letter(&as_published(delivery), reason));
            }
        }
    }
    let kept = publisher.publish(letters).await;
    if kept.iter().any(|outcome| *outcome != Outcome::Confirmed) {
        return Err(broker::Error::Gone.into());
    }
    crash_point(Point::DroppedRecorded);
    Ok(acker.ack(&tags).await?)
}

/// The delivery as it was before the broker dropped it.
fn as_published(delivery: Delivery) -> Delivery {
    let first = delivery.properties.headers.text(headers::FIRST_DEATH_EXCHANGE);
    let exchange = first.unwrap_or(&delivery.exchange).to_owned();
    Delivery { exchange, ..delivery }
}

/// The routing key of a dropped work message is its queue; the seal says whether it is ours.
fn work_messages(links: &Links, delivery: &Delivery) -> Option<Vec<WorkMessage>> {
    let queue = QueueName::parse(&delivery.routing_key).ok()?;
    bundle::read(&queue, &delivery.properties, &delivery.body, links.store.ticket_key()).ok()
}

/// Dispatches again what still waits for this message, each job alone: one of them may be what it
/// came back for. What runs already would not be brought back if its worker died. Returns a letter
/// for each.
async fn dispatch_again(
    links: &Links,
    publisher: &Publisher,
    messages: Vec<WorkMessage>,
) -> Result<Vec<Publication>, Error> {
    let (mut letters, mut numbers, mut again) = (Vec::new(), Vec::new(), Vec::new());
    for message in messages {
        let name = JobName { client: message.client.clone(), job_id: message.job_id.clone() };
        let gone = Some(&message.body[..]);
        let taken =
            links.store.redispatch(&name, message.dispatch, DISPATCH_AGAIN_MS, gone).await?;
        let reason = match taken {
            Redispatched::Under(_) => "dropped by the broker, and dispatched again",
            Redispatched::Watched => "dropped by the broker while the job ran",
            Redispatched::Not => "dropped by the broker; the job had moved on",
        };
        letters.push(dead_work_message(&message, links.store.ticket_key(), reason));
        if let Redispatched::Under(dispatch) = taken {
            numbers.push((name, dispatch));
            again.push(WorkMessage { dispatch, epoch: links.store.epoch(), ..message });
        }
    }
    dispatch(links, publisher, again).await?;
    links.store.dispatched(&numbers).await?;
    Ok(letters)
}

/// The client that the message names was verified when it was published, and nobody but the broker
/// writes to this queue.
async fn refuse(links: &Links, delivery: &Delivery) -> Result<&'static str, Error> {
    let properties = &delivery.properties;
    // Only a submission has an id of its own to be refused.
    if properties.headers.text(headers::FIRST_DEATH_QUEUE) != Some(topology::INTAKE_QUEUE) {
        return Ok("dropped by the broker before it was read");
    }
    let client = properties.user_id.as_deref().and_then(|user| ClientName::parse(user).ok());
    let job_ids = job_ids(delivery);
    let Some(client) = client.filter(|_| !job_ids.is_empty()) else {
        return Ok("dropped by the broker");
    };
    let message =
        "the broker dropped the submission before it was read: expiration must not be set";
    let refusal = Refusal::new(Code::BadHeader, message);
    links.refuse_all(&client, job_ids, &refusal).await?;
    Ok("dropped by the broker before it was read")
}
