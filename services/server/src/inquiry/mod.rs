//! Answers requests. What is found is answered at once, by any inquiry process; what is not found
//! joins the line, and the registrar answers when it gets there.

mod jobs;
mod list;
mod report;

use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::{Acker, Delivery, Outcome, Publication, Publisher, chain, dead_letter, topology};
use faults::{Bug, Point, crash_point, is_seeded};
use protocol::{Answer, AnswerWord, Code, Kind, Request, What};
use store::Store;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::Error;
use crate::answers;
use crate::courier::{Courier, Delivered};
use crate::line::{ToClient, rejection};
use crate::links::Links;
use jobs::name_subject;

const PREFETCH: u16 = 512;
const CHUNK: usize = 128;
/// Records that are read at the same time for one chunk, at most; see `portions`.
const PORTION: usize = 256;
/// What a list counts as: its records are read in a pipeline of their own, without results.
const LIST_RECORDS: usize = 10;
/// Chunks that are answered at the same time.
const CHUNKS_AT_ONCE: usize = 8;
/// How long a look at the line's length is good for.
const LINE_SEEN: Duration = Duration::from_millis(250);
/// What a full queue did not take is tried again so often.
const HELD_AGAIN: Duration = Duration::from_millis(200);

struct Inquiry {
    links: Arc<Links>,
    store: Store,
    courier: Courier,
    publisher: Publisher,
    acker: Acker,
    line: Mutex<Option<(Instant, bool)>>,
}

pub(crate) async fn run(links: Arc<Links>) -> Result<(), Error> {
    let mut consumer = links.consume.consumer(topology::INQUIRY_QUEUE, PREFETCH).await?;
    let inquiry = Arc::new(Inquiry {
        courier: Courier::new(&links.publish, &links.direct, links.settings.deliver_timeout())
            .await?,
        publisher: links.publisher().await?,
        acker: consumer.acker(),
        line: Mutex::new(None),
        store: links.store.apart(),
        links: Arc::clone(&links),
    });
    let places = Arc::new(Semaphore::new(CHUNKS_AT_ONCE));
    let mut chunks = JoinSet::new();
    let ended = loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, consumer.next_chunk(CHUNK).await)
        };
        tokio::select! {
            biased;
            () = links.stop.cancelled() => break Ok(()),
            Some(done) = chunks.join_next() => match done {
                Ok(Ok(())) => {}
                Ok(Err(error)) => break Err(error),
                Err(_) => break Err(Error::Panicked("inquiry")),
            },
            (place, chunk) = next => {
                let chunk = match chunk {
                    Ok(chunk) => chunk,
                    Err(error) => break Err(error.into()),
                };
                let inquiry = Arc::clone(&inquiry);
                chunks.spawn(async move { inquiry.answer(chunk, place.ok()).await });
            }
        }
    };
    while let Some(done) = chunks.join_next().await {
        tracing::trace!(?done, "drained");
    }
    consumer.close().await;
    ended
}

/// A message that goes on, and what its asker is told if it cannot.
type Onward = (Publication, Option<Box<ToClient>>);

impl Inquiry {
    async fn answer(
        &self,
        chunk: Vec<Delivery>,
        place: Option<OwnedSemaphorePermit>,
    ) -> Result<(), Error> {
        crash_point(Point::InquiryRead);
        let tags: Vec<u64> = chunk.iter().map(|delivery| delivery.tag).collect();
        let mut replies = Vec::new();
        let mut onward = Vec::new();
        let mut requests = Vec::new();
        for delivery in &chunk {
            match Request::read(&delivery.routing_key, &delivery.properties, &delivery.body) {
                Ok(request) => requests.push(request),
                Err(rejected) => {
                    let refusal = &rejected.refusal;
                    // What cannot be parsed, and what nobody can be told of, is kept.
                    let is_kept = rejected.client.is_none()
                        || rejected.reply_to.is_none()
                        || refusal.code == Code::BadRequest;
                    if is_kept {
                        let reason = format!("{}: {}", refusal.code, refusal.message);
                        onward.push((dead_letter(delivery, &reason), None));
                    }
                    replies.extend(rejection(&rejected));
                }
            }
        }
        for requests in portions(&requests) {
            match self.carry_out(requests, &mut onward).await {
                Ok(answers) => replies.extend(answers),
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "requests cannot be answered");
                    replies.extend(requests.iter().flat_map(unavailable));
                }
            }
            crash_point(Point::InquiryDone);
            self.deliver(std::mem::take(&mut replies)).await?;
        }
        let held = self.send_on(onward, &mut replies).await?;
        crash_point(Point::InquirySentOn);
        self.deliver(replies).await?;
        // It may take long, and must not keep others waiting. Prefetch says how many may be held.
        drop(place);
        self.send_held(held).await?;
        crash_point(Point::InquiryAnswered);
        Ok(self.acker.ack(&tags).await?)
    }

    async fn deliver(&self, replies: Vec<ToClient>) -> Result<(), Error> {
        let messages = replies.iter().map(ToClient::message).collect();
        for outcome in self.courier.deliver(messages).await {
            match outcome {
                Delivered::Confirmed | Delivered::Sent => {}
                Delivered::Lost => return Err(broker::Error::Gone.into()),
                outcome => {
                    tracing::debug!(?outcome, "an answer was not delivered; ask for it again");
                }
            }
        }
        Ok(())
    }

    /// Answers what can be answered; what must join the line is added to `onward`.
    async fn carry_out(
        &self,
        requests: &[Request],
        onward: &mut Vec<Onward>,
    ) -> Result<Vec<ToClient>, store::Error> {
        let mut replies = self.carry_out_on_jobs(requests, onward).await?;
        for request in requests {
            let (kind, answer) = match &request.what {
                What::Jobs(..) => continue,
                What::List(list) => list::list(&self.store, &request.client, list).await?,
                What::Report(report) => report::report(&self.store, report).await?,
            };
            replies.extend(to_client(request, kind, answer));
        }
        Ok(replies)
    }

    /// Returns what a full queue did not take and nobody can be told of.
    async fn send_on(
        &self,
        onward: Vec<Onward>,
        replies: &mut Vec<ToClient>,
    ) -> Result<Vec<Publication>, Error> {
        let untold = |(message, asker): &Onward| asker.is_none().then(|| message.clone());
        let untold: Vec<Option<Publication>> = onward.iter().map(untold).collect();
        let (publications, askers): (Vec<_>, Vec<_>) = onward.into_iter().unzip();
        let forwarded = self.publisher.publish(publications).await;
        let mut held = Vec::new();
        for ((outcome, asker), untold) in forwarded.into_iter().zip(askers).zip(untold) {
            match outcome {
                Outcome::Confirmed => {}
                // The line is full. Whoever asks is told so; the registrar goes on emptying it.
                Outcome::Refused => {
                    replies.extend(asker.map(|asker| *asker));
                    held.extend(untold);
                }
                // Unacknowledged, the requests come again.
                Outcome::Returned | Outcome::Lost | Outcome::TooLarge => {
                    return Err(broker::Error::Gone.into());
                }
            }
        }
        Ok(held)
    }

    /// Sends what was held, when there is room. Ending the session would help nobody: the requests
    /// would come again at once, and everybody else's with them.
    async fn send_held(&self, mut held: Vec<Publication>) -> Result<(), Error> {
        while !held.is_empty() {
            tokio::select! {
                // Unacknowledged, the requests come again.
                () = self.links.stop.cancelled() => return Err(broker::Error::Gone.into()),
                () = tokio::time::sleep(HELD_AGAIN) => {}
            }
            let outcomes = self.publisher.publish(held.clone()).await;
            if outcomes.iter().any(|it| matches!(it, Outcome::Returned | Outcome::Lost)) {
                return Err(broker::Error::Gone.into());
            }
            let sent = held.into_iter().zip(outcomes);
            held = sent.filter(|(_, it)| *it == Outcome::Refused).map(|(held, _)| held).collect();
        }
        Ok(())
    }
}

/// The requests in portions that ask for no more than so many records, or that are one request:
/// each record may hold a large result.
fn portions(requests: &[Request]) -> Vec<&[Request]> {
    let asks_for = |request: &Request| match &request.what {
        What::Jobs(_, subjects) => subjects.len(),
        What::List(_) | What::Report(_) => LIST_RECORDS,
    };
    let (mut portions, mut start, mut records) = (Vec::new(), 0, 0);
    for (at, request) in requests.iter().enumerate() {
        if records > 0 && records + asks_for(request) > PORTION {
            portions.push(&requests[start..at]);
            (start, records) = (at, 0);
        }
        records += asks_for(request);
    }
    portions.push(&requests[start..]);
    portions
}

/// What is said to each part of a request while the store is away.
fn unavailable(request: &Request) -> Vec<ToClient> {
    let why = "the store cannot be asked now";
    let answers = match &request.what {
        What::Jobs(_, subjects) => subjects
            .iter()
            .map(|subject| {
                let mut answer = match is_seeded(Bug::GuessedUnknown) {
                    true => Answer::new(AnswerWord::Unknown),
                    false => answers::unavailable(None, why),
                };
                name_subject(&mut answer, subject);
                answer
            })
            .collect(),
        What::List(_) | What::Report(_) => vec![answers::unavailable(None, why)],
    };
    answers.into_iter().filter_map(|answer| to_client(request, Kind::Status, answer)).collect()
}

fn to_client(request: &Request, kind: Kind, answer: Answer) -> Option<ToClient> {
    Some(ToClient {
        to: request.reply_to.clone()?,
        correlation_id: request.correlation_id.clone(),
        kind,
        answer,
        receipt_of: None,
        batch: false,
    })
}
