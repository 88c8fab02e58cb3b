//! Answers requests. What is found is answered at once, by any inquiry process; what is not found
//! joins the line, and the registrar answers when it gets there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::{Acker, Delivery, Outcome, Publication, Publisher, chain, dead_letter, topology};
use job::Ticket;
use protocol::{Answer, AnswerWord, Code, Forwarded, Kind, Request, Subject, UnixMillis, Verb};
use store::{JobName, Record, RecordKind};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

use crate::Error;
use crate::answers;
use crate::cancel::cancel;
use crate::courier::{Courier, Delivered};
use crate::line::{ToClient, mismatch, rejection};
use crate::links::Links;

const PREFETCH: u16 = 512;
const CHUNK: usize = 128;
/// Chunks that are answered at the same time.
const CHUNKS_AT_ONCE: usize = 8;
/// How long a look at the line's length is good for.
const LINE_SEEN: Duration = Duration::from_millis(250);

struct Inquiry {
    links: Arc<Links>,
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
                chunks.spawn(async move {
                    let _place = place;
                    inquiry.answer(chunk).await
                });
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

/// One subject of one request.
struct Asked {
    request: usize,
    subject: Subject,
    name: Option<JobName>,
    /// The ticket is of a job of another client's, which is nobody's business.
    is_foreign: bool,
}

impl Inquiry {
    async fn answer(&self, chunk: Vec<Delivery>) -> Result<(), Error> {
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
        match self.carry_out(&requests, &mut onward).await {
            Ok(answers) => replies.extend(answers),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "requests cannot be answered");
                for request in &requests {
                    let why = "the store cannot be asked now";
                    for subject in &request.subjects {
                        let mut answer = answers::unavailable(None, why);
                        name_subject(&mut answer, subject);
                        replies.extend(to_client(request, Kind::Status, answer));
                    }
                }
            }
        }
        let (publications, askers): (Vec<_>, Vec<_>) = onward.into_iter().unzip();
        let forwarded = self.publisher.publish(publications).await;
        for (outcome, asker) in forwarded.into_iter().zip(askers) {
            match (outcome, asker) {
                (Outcome::Confirmed, _) => {}
                // The line is full. Whoever asks is told so; the registrar goes on emptying it.
                (Outcome::Refused, Some(asker)) => replies.push(*asker),
                // Unacknowledged, the requests come again.
                _ => return Err(broker::Error::Gone.into()),
            }
        }
        let messages = replies.into_iter().map(ToClient::message).collect();
        for outcome in self.courier.deliver(messages).await {
            match outcome {
                Delivered::Confirmed | Delivered::Sent => {}
                Delivered::Lost => return Err(broker::Error::Gone.into()),
                outcome => {
                    tracing::debug!(?outcome, "an answer was not delivered; ask for it again");
                }
            }
        }
        Ok(self.acker.ack(&tags).await?)
    }

    /// Answers what can be answered; what must join the line is added to `onward`.
    async fn carry_out(
        &self,
        requests: &[Request],
        onward: &mut Vec<Onward>,
    ) -> Result<Vec<ToClient>, store::Error> {
        let asked = self.resolve(requests).await?;
        let names: Vec<JobName> = asked.iter().filter_map(|asked| asked.name.clone()).collect();
        let (as_of, records) = self.links.store.read(&names).await?;
        let mut records = records.into_iter();
        let mut replies = Vec::new();
        let mut forwards = Vec::new();
        for Asked { request, subject, name, is_foreign } in asked {
            let request = &requests[request];
            let record = name.as_ref().and_then(|_| records.next().flatten());
            if let (Some(job_id), Some(ticket), Some(name)) =
                (subject.job_id(), subject.ticket(), &name)
                && self.links.store.ticket(name) != ticket
            {
                replies.extend(to_client(request, Kind::Refusal, mismatch(job_id)));
                continue;
            }
            match (name, record) {
                (Some(name), Some(record)) => {
                    let answered = self.known(request, &name, record, as_of).await?;
                    match answered {
                        Some((kind, answer)) => replies.extend(to_client(request, kind, answer)),
                        None => forwards.push((request, name, subject.ticket())),
                    }
                }
                (Some(name), None) if subject.job_id().is_some() => {
                    forwards.push((request, name, subject.ticket()));
                }
                // By ticket alone. A ticket exists only after its record: there is no line to wait
                // in. One that was issued and has no record was lost or retired.
                _ => {
                    let mut answer = Answer::new(AnswerWord::Unknown);
                    let key = self.links.store.ticket_key();
                    let genuine =
                        !is_foreign && subject.ticket().is_some_and(|t| key.is_genuine(t));
                    if genuine {
                        answer.answer = AnswerWord::Forgotten;
                        answer.lost_between = self.links.store.lost_between();
                    }
                    answer.as_of = Some(as_of);
                    name_subject(&mut answer, &subject);
                    replies.extend(to_client(request, Kind::Status, answer));
                }
            }
        }
        let long = !forwards.is_empty() && self.line_is_long().await;
        for (request, name, ticket) in forwards {
            if long {
                let word = AnswerWord::Pending;
                let answer = answers::negative(&self.links.store, &name, word, as_of);
                replies.extend(to_client(request, Kind::Status, answer));
            }
            let full = answers::unavailable(Some(&name), "the line is full");
            let asker = to_client(request, Kind::Status, full).map(Box::new);
            onward.push((forward(request, name, ticket), asker));
        }
        Ok(replies)
    }

    /// Finds out which job each subject means. A ticket of another client's job means none.
    async fn resolve(&self, requests: &[Request]) -> Result<Vec<Asked>, store::Error> {
        let mut tickets: Vec<Ticket> = Vec::new();
        for subject in requests.iter().flat_map(|request| &request.subjects) {
            tickets.extend(subject.ticket().filter(|_| subject.job_id().is_none()));
        }
        let found = self.links.store.resolve(&tickets).await?;
        let by_ticket: HashMap<Ticket, Option<JobName>> = tickets.into_iter().zip(found).collect();
        let mut asked = Vec::new();
        for (place, request) in requests.iter().enumerate() {
            for subject in &request.subjects {
                let found = match (subject.job_id(), subject.ticket()) {
                    (Some(job_id), _) => {
                        Some(JobName { client: request.client.clone(), job_id: job_id.clone() })
                    }
                    (None, Some(ticket)) => by_ticket.get(&ticket).cloned().flatten(),
                    (None, None) => None,
                };
                let is_foreign = found.as_ref().is_some_and(|name| name.client != request.client);
                let name = found.filter(|_| !is_foreign);
                asked.push(Asked { request: place, subject: subject.clone(), name, is_foreign });
            }
        }
        Ok(asked)
    }

    /// Answers for a record that was found; `None` if the question must join the line all the same.
    async fn known(
        &self,
        request: &Request,
        name: &JobName,
        mut record: Record,
        as_of: UnixMillis,
    ) -> Result<Option<(Kind, Answer)>, store::Error> {
        let kind = record.kind();
        // A corrected submission may stand in the line behind the refused one.
        if kind == Some(RecordKind::Refused) {
            return Ok(None);
        }
        if request.verb == Verb::Cancel && kind == Some(RecordKind::Job) {
            match cancel(&self.links.store, name).await? {
                Some(cancelled) => record = cancelled,
                None => return Ok(None),
            }
        }
        let history = if request.history && kind == Some(RecordKind::Job) {
            Some(self.links.store.history(name).await?)
        } else {
            None
        };
        Ok(Some(answers::found(&record, as_of, history)))
    }

    /// Whether the line holds more than about a second of work, or nobody works on it.
    async fn line_is_long(&self) -> bool {
        let mut seen = self.line.lock().await;
        if let Some((at, long)) = *seen
            && at.elapsed() < LINE_SEEN
        {
            return long;
        }
        let long = match self.links.consume.depth(topology::INTAKE_QUEUE).await {
            Ok(depth) => depth.consumers == 0 || depth.ready > self.links.settings.pending_above,
            Err(error) => {
                tracing::debug!(%error, "the length of the line");
                false
            }
        };
        *seen = Some((Instant::now(), long));
        long
    }
}

fn forward(request: &Request, name: JobName, ticket: Option<Ticket>) -> Publication {
    let question = Forwarded {
        client: name.client,
        job_id: name.job_id,
        verb: request.verb,
        history: request.history,
        ticket: ticket.map(|ticket| ticket.to_string()),
        reply_to: request.reply_to.as_ref().map(|to| to.name().to_owned()),
        correlation_id: request.correlation_id.clone(),
    };
    let (properties, body) = question.message();
    Publication {
        exchange: topology::LINE,
        routing_key: String::new(),
        mandatory: true,
        properties,
        body,
    }
}

fn name_subject(answer: &mut Answer, subject: &Subject) {
    answer.job_id = subject.job_id().map(|id| id.as_str().to_owned());
    answer.ticket = subject.ticket().map(|ticket| ticket.to_string());
}

fn to_client(request: &Request, kind: Kind, answer: Answer) -> Option<ToClient> {
    Some(ToClient {
        to: request.reply_to.clone()?,
        correlation_id: request.correlation_id.clone(),
        kind,
        answer,
        receipt_of: None,
    })
}
