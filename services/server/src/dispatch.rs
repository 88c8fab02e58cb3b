//! From a recorded job to a work queue. A job whose queue does not take it is parked with the
//! reason; it is released again by the scheduler's sweep.
//!
//! Short jobs of one type that are dispatched at the same moment travel in one message
//! ([`protocol::bundle`]). Nothing waits for company.

use std::collections::HashMap;

use broker::{Outcome, Publication, Publisher, topology};
use job::{Event, JobType, QueueName, TicketKey};
use protocol::bundle::{self, Part};
use protocol::{UnixMillis, WorkMessage};
use store::JobName;
use store::change::{Change, Changed, Timer};
use tokio::sync::oneshot;

use crate::Error;
use crate::courier::TOO_LARGE;
use crate::links::Links;

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
    links: &Links,
    publisher: &Publisher,
    messages: Vec<WorkMessage>,
) -> Result<Vec<Dispatched>, Error> {
    Underway::begin(links, publisher, messages).await?.outcomes(links).await
}

/// Work messages that are published, and not confirmed yet.
pub(crate) struct Underway {
    messages: Vec<WorkMessage>,
    /// Which of them each publication carries.
    places: Vec<Vec<usize>>,
    confirms: oneshot::Receiver<Vec<Outcome>>,
}

impl Underway {
    /// Publishes work messages. Others may be published before these are confirmed.
    ///
    /// # Errors
    /// As [`dispatch`].
    pub(crate) async fn begin(
        links: &Links,
        publisher: &Publisher,
        messages: Vec<WorkMessage>,
    ) -> Result<Self, Error> {
        let (places, publications) = publications(links, &messages);
        let confirms = publisher.begin(publications).await?;
        Ok(Self { messages, places, confirms })
    }

    /// Waits for the confirms.
    ///
    /// # Errors
    /// As [`dispatch`].
    pub(crate) async fn outcomes(self, links: &Links) -> Result<Vec<Dispatched>, Error> {
        let mut outcomes = vec![Outcome::Lost; self.messages.len()];
        // Unanswered, the channel has failed: all of them are lost.
        let confirms = self.confirms.await.unwrap_or_default();
        for (places, outcome) in self.places.iter().zip(confirms) {
            places.iter().for_each(|place| outcomes[*place] = outcome);
        }
        let mut dispatched = Vec::with_capacity(self.messages.len());
        let mut is_lost = false;
        for (message, outcome) in self.messages.into_iter().zip(outcomes) {
            let reason = match outcome {
                Outcome::Confirmed => {
                    dispatched.push(Dispatched::Queued);
                    continue;
                }
                Outcome::Returned => format!("the work queue {} does not exist", message.queue),
                Outcome::Refused => format!("the work queue {} is full", message.queue),
                Outcome::TooLarge => TOO_LARGE.to_owned(),
                // What is no better the next time, and made the channel fail, is to be parked
                // first.
                Outcome::Lost => {
                    is_lost = true;
                    continue;
                }
            };
            let is_parked = park(links, message, &reason).await?;
            let parked = Dispatched::Parked(reason);
            dispatched.push(if is_parked { parked } else { Dispatched::Queued });
        }
        if is_lost { Err(broker::Error::Gone.into()) } else { Ok(dispatched) }
    }
}

/// Jobs that travel in one message, and their places among all. They are of one type and one queue:
/// whoever gets them serves all of them, or none.
struct Carriage<'a> {
    places: Vec<usize>,
    first: &'a WorkMessage,
    /// Of each, unless the only one is to travel alone.
    parts: Vec<Part<'a>>,
}

/// What is to be published, in the order of its first jobs, and the places of those in each.
fn publications(links: &Links, messages: &[WorkMessage]) -> (Vec<Vec<usize>>, Vec<Publication>) {
    let key = links.store.ticket_key();
    let mut carriages: Vec<Carriage<'_>> = Vec::with_capacity(messages.len());
    let mut open: HashMap<(&QueueName, &JobType), usize> = HashMap::new();
    for (place, message) in messages.iter().enumerate() {
        let is_short = links.served.is_short(&message.job_type);
        let part = if is_short { Part::of(message, key) } else { None };
        let company = (&message.queue, &message.job_type);
        match (part, open.get(&company)) {
            (Some(part), Some(at)) if carriages[*at].parts.len() < bundle::JOBS_MAX => {
                carriages[*at].places.push(place);
                carriages[*at].parts.push(part);
            }
            (part, _) => {
                if part.is_some() {
                    open.insert(company, carriages.len());
                }
                let parts = part.into_iter().collect();
                carriages.push(Carriage { places: vec![place], first: message, parts });
            }
        }
    }
    let publication = |carriage: Carriage<'_>| {
        let publication = publication(&carriage, key);
        (carriage.places, publication)
    };
    carriages.into_iter().map(publication).unzip()
}

fn publication(carriage: &Carriage<'_>, key: &TicketKey) -> Publication {
    let (properties, body) = match &carriage.parts[..] {
        [] | [_] => (carriage.first.properties(key), carriage.first.body.clone()),
        several => bundle::pack(several),
    };
    Publication {
        exchange: topology::WORK,
        routing_key: carriage.first.queue.as_str().to_owned(),
        mandatory: true,
        properties,
        body,
    }
}

/// Whether it is parked now: somebody else may have moved it in the meantime.
async fn park(links: &Links, message: WorkMessage, reason: &str) -> Result<bool, Error> {
    let name = JobName { client: message.client, job_id: message.job_id };
    let member = name.member();
    let change = Change {
        dispatch: Some(message.dispatch),
        timer: Timer::After(links.settings.parked_ms),
        detail: reason.to_owned(),
        ..Change::new(name, message.job_type, Event::Unserved)
    }
    .with("payload", message.body)
    .with("parked_reason", reason);
    match links.store.change(&[change]).await?[..] {
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
