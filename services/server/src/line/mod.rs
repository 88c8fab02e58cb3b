//! What the registrar decides about deliveries of the line, in their order.
//!
//! # Why negatives are a second phase
//! "Unknown" may be said only when every earlier delivery of the line has been decided: a failed
//! accept in front of the question could still succeed when it is repeated. So deliveries are taken
//! in runs. A run of submissions is decided as a whole, or it stays and everything behind it waits;
//! a run of questions is answered only when nothing stands in front of it.
//!
//! ```text
//!   S S S │ Q Q │ S │ Q        S submission, Q question
//!   ─────   ───   ─   ─
//!   one pipeline each; a failure keeps its run and all behind it, and questions behind it are
//!   answered `unavailable` at once
//! ```
//!
//! A delivery may hold several submissions; each of them is an item of its own.

pub(crate) mod parts;
mod questions;
mod submissions;

use std::collections::VecDeque;

use broker::{Delivery, topology};
use job::JobId;
use protocol::batch::Apart;
use protocol::{
    Answer, Code, Destination, Forwarded, Kind, Limits, Properties, Refusal, Rejected, Submission,
    Submissions, WorkMessage,
};
use store::JobName;

use crate::answers;
use crate::links::Links;
use crate::outgoing::Outgoing;

pub(crate) use questions::mismatch;
pub(crate) use submissions::rejection;

/// So many are decided with one call of the store.
const RUN_MAX: usize = 512;
/// While the store is away nothing is read beyond so many: a delivery may be a list of hundreds.
const HELD_MAX: usize = 4096;

/// What is to be done before a delivery may be acknowledged, and right after.
#[derive(Default)]
pub(crate) struct Decision {
    /// To be dispatched.
    pub(crate) work: Option<WorkMessage>,
    /// To be kept in the dead-letter queue.
    pub(crate) dead: Option<broker::Publication>,
    /// To be sent once the delivery is acknowledged.
    pub(crate) answer: Option<ToClient>,
}

/// An answer that is not yet a message: a receipt may still learn that its job was parked.
pub(crate) struct ToClient {
    pub(crate) to: Destination,
    pub(crate) correlation_id: Option<String>,
    pub(crate) kind: Kind,
    pub(crate) answer: Answer,
    /// Whose receipt it is; a receipt that does not arrive in time goes to the outbox.
    pub(crate) receipt_of: Option<JobName>,
    /// Whether it may come in one message with others.
    pub(crate) batch: bool,
}

impl ToClient {
    pub(crate) fn message(&self) -> Outgoing {
        Outgoing {
            body: self.answer.to_json(),
            properties: self.answer.properties(self.kind, self.correlation_id.clone()),
            to: self.to.clone(),
            batch: self.batch,
        }
    }
}

/// One delivery, read.
enum Item {
    /// With the nonce of this delivery, and whether it is a redelivery.
    Submission(Box<Submission>, String, bool),
    Rejected(Box<Rejected>, Delivery),
    Question(Box<Forwarded>),
    Foreign(Delivery),
}

/// The deliveries that are not decided yet, in the order of the line.
pub(crate) struct Line<'a> {
    links: &'a Links,
    items: VecDeque<Item>,
}

impl<'a> Line<'a> {
    pub(crate) fn new(links: &'a Links) -> Self {
        Self { links, items: VecDeque::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether more may be read while nothing can be decided.
    pub(crate) fn has_room(&self) -> bool {
        self.items.len() < HELD_MAX
    }

    pub(crate) fn push(&mut self, delivery: Delivery) {
        let payload_bytes_max = self.links.settings.payload_bytes_max;
        let is_of_many =
            delivery.exchange == topology::SUBMIT && Submissions::are(&delivery.properties);
        if !is_of_many {
            self.items.push_back(read(delivery, payload_bytes_max));
            return;
        }
        match apart(&delivery) {
            Ok(each) => self.items.extend(each.into_iter().map(|one| read(one, payload_bytes_max))),
            Err(refusal) => {
                let rejected = Rejected { refusal, ..Rejected::from(&delivery.properties) };
                self.items.push_back(Item::Rejected(Box::new(rejected), delivery));
            }
        }
    }

    /// Decides everything that is there.
    ///
    /// # Errors
    /// The store failed. What was decided before is in `decisions`; the rest stays, in order.
    pub(crate) async fn decide(
        &mut self,
        decisions: &mut Vec<Decision>,
    ) -> Result<(), store::Error> {
        while let Some(front) = self.items.front() {
            let of_questions = matches!(front, Item::Question(_));
            let run = self
                .items
                .iter()
                .take_while(|item| matches!(item, Item::Question(_)) == of_questions)
                .take(RUN_MAX)
                .count();
            let items = &self.items.make_contiguous()[..run];
            let decided = if of_questions {
                self.links.answer_questions(items).await?
            } else {
                self.links.decide_submissions(items).await?
            };
            decisions.extend(decided);
            self.items.drain(..run);
        }
        Ok(())
    }

    /// Takes the questions out while something in front of them is undecided, and answers that
    /// nothing can be said. They are acknowledged with the deliveries around them.
    pub(crate) fn give_up_questions(&mut self) -> Vec<ToClient> {
        let mut answers = Vec::new();
        self.items.retain(|item| {
            let Item::Question(question) = item else { return true };
            let name = questions::name(question);
            let why = "an earlier submission in the line is not decided yet";
            answers.extend(questions::reply(
                question,
                Kind::Status,
                answers::unavailable(Some(&name), why),
            ));
            false
        });
        answers
    }
}

/// Several submissions in one delivery, as if each had come alone. It is acknowledged when all of
/// them are decided.
pub(crate) fn apart(delivery: &Delivery) -> Result<Vec<Delivery>, Refusal> {
    let each = Submissions::apart(&delivery.routing_key, &delivery.properties, &delivery.body)?;
    let (tag, exchange, redelivered) =
        (delivery.tag, delivery.exchange.clone(), delivery.redelivered);
    let one = |one: Apart| Delivery {
        tag,
        exchange: exchange.clone(),
        routing_key: one.routing_key,
        redelivered,
        properties: one.properties,
        body: one.body,
    };
    Ok(each.into_iter().map(one).collect())
}

/// The identifiers of what is submitted by a delivery: one, or several.
pub(crate) fn job_ids(delivery: &Delivery) -> Vec<JobId> {
    let of = |properties: &Properties| JobId::parse(properties.message_id.as_deref()?).ok();
    if !Submissions::are(&delivery.properties) {
        return of(&delivery.properties).into_iter().collect();
    }
    // The message's own identifier says nothing of them.
    let each = Submissions::apart(&delivery.routing_key, &delivery.properties, &delivery.body);
    each.unwrap_or_default().iter().filter_map(|one| of(&one.properties)).collect()
}

/// What a delivery is. It is internal only if the exchange that it came through says so: a client
/// that puts our headers into its own message stays itself.
fn read(delivery: Delivery, payload_bytes_max: usize) -> Item {
    if delivery.exchange == topology::LINE {
        return match Forwarded::read(&delivery.properties, &delivery.body) {
            Some(question) => Item::Question(Box::new(question)),
            None => Item::Foreign(delivery),
        };
    }
    if delivery.exchange != topology::SUBMIT {
        return Item::Foreign(delivery);
    }
    let limits = Limits { payload_bytes_max };
    let body = delivery.body.clone();
    match Submission::read(&delivery.routing_key, &delivery.properties, body, limits) {
        Ok(submission) => {
            let nonce = format!("{:016x}", fastrand::u64(..));
            Item::Submission(Box::new(submission), nonce, delivery.redelivered)
        }
        Err(rejected) => Item::Rejected(rejected, delivery),
    }
}

fn refusal(name: &JobName, code: Code, message: &str) -> Answer {
    Answer {
        job_id: Some(name.job_id.as_str().to_owned()),
        ..Answer::refused(&Refusal::new(code, message))
    }
}
