//! From a recorded job to a work queue. A job whose queue does not take it is parked with the
//! reason; it is released again by the scheduler's sweep.

use broker::{Outcome, Publication, Publisher, topology};
use job::Event;
use protocol::{UnixMillis, WorkMessage};
use store::change::{Change, Changed, Timer};
use store::{JobName, Store};

use crate::Error;
use crate::courier::TOO_LARGE;

/// A dispatch of which nobody says that the broker has it is made again after this long, under a
/// new number: whoever made it has died, or the broker takes its time.
pub(crate) const DISPATCH_AGAIN_MS: u64 = 15_000;

/// What became of a dispatch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dispatched {
    /// The work queue has it, or its job has moved on by another message.
    Queued,
    /// Its queue did not take it; parked, with the reason.
    Parked(String),
}

/// Publishes work messages and waits for their confirms.
///
/// # Errors
/// The channel has failed: it is not known which arrived. Dispatch again: as it was, or under new
/// numbers.
pub(crate) async fn dispatch(
    store: &Store,
    publisher: &Publisher,
    parked_ms: u64,
    messages: Vec<WorkMessage>,
) -> Result<Vec<Dispatched>, Error> {
    let publications = messages
        .iter()
        .map(|message| Publication {
            exchange: topology::WORK,
            routing_key: message.queue.as_str().to_owned(),
            mandatory: true,
            properties: message.properties(store.ticket_key()),
            body: message.body.clone(),
        })
        .collect();
    let outcomes = publisher.publish(publications).await;
    let mut dispatched = Vec::with_capacity(messages.len());
    let mut is_lost = false;
    for (message, outcome) in messages.into_iter().zip(outcomes) {
        let reason = match outcome {
            Outcome::Confirmed => {
                dispatched.push(Dispatched::Queued);
                continue;
            }
            Outcome::Returned => format!("the work queue {} does not exist", message.queue),
            Outcome::Refused => format!("the work queue {} is full", message.queue),
            Outcome::TooLarge => TOO_LARGE.to_owned(),
            // What is no better the next time, and made the channel fail, is to be parked first.
            Outcome::Lost => {
                is_lost = true;
                continue;
            }
        };
        let is_parked = park(store, message, &reason, parked_ms).await?;
        dispatched.push(if is_parked { Dispatched::Parked(reason) } else { Dispatched::Queued });
    }
    if is_lost { Err(broker::Error::Gone.into()) } else { Ok(dispatched) }
}

/// Whether it is parked now: somebody else may have moved it in the meantime.
async fn park(
    store: &Store,
    message: WorkMessage,
    reason: &str,
    parked_ms: u64,
) -> Result<bool, Error> {
    let name = JobName { client: message.client, job_id: message.job_id };
    let member = name.member();
    let change = Change {
        dispatch: Some(message.dispatch),
        timer: Timer::After(parked_ms),
        detail: reason.to_owned(),
        ..Change::new(name, message.job_type, Event::Unserved)
    }
    .with("payload", message.body)
    .with("parked_reason", reason);
    match store.change(&[change]).await?[..] {
        [Changed::Applied { .. }] => {
            tracing::warn!(job = member, reason, "parked");
            Ok(true)
        }
        [Changed::Stale | Changed::Illegal { .. } | Changed::Missing] => Ok(false),
        _ => Err(store::Error::Unexpected("one change, one answer".to_owned()).into()),
    }
}

/// When a parked job expires.
pub(crate) fn parked_until(parked_ms: u64) -> UnixMillis {
    UnixMillis::now().after(std::time::Duration::from_millis(parked_ms))
}
