//! One call, in the store's own types, and how both sides take it.

use std::cell::Cell;

use job::{ClientName, JobType, QueueName};
use model::Model;
use model::outbox::{Posted, Taken};
use protocol::request::{List, Subscribe, Wait};
use protocol::{Refusal, UnixMillis};
use store::accept::{Accept, Limits};
use store::change::{Change, Changed, Right};
use store::claim::{Claim, Lease};
use store::outbox::{Entry, Outcome};
use store::replay::Replayed;
use store::report::{Report, Reported};
use store::subscribe::Subscribed;
use store::wait::Waiter;
use store::{JobName, Record, Retention};

use super::look::Difference;
use super::twin::{Known, Twin};

#[derive(Debug)]
pub(super) struct Waits {
    pub(super) name: JobName,
    pub(super) wait: Wait,
    pub(super) correlation_id: Option<&'static str>,
    pub(super) history: bool,
}

impl Waits {
    fn waiter(&self) -> Waiter<'_> {
        let Self { name, wait, correlation_id, history } = self;
        let (correlation_id, history) = (*correlation_id, *history);
        Waiter { name, wait: *wait, to: "reply.shop.w", correlation_id, history }
    }
}

pub(super) enum Call {
    Accept(Box<Accept>, Limits),
    Refuse(JobName, Refusal, u64),
    Void(JobName, u64, bool),
    /// And when the store read the job that is repeated, which it says by when the new one is due.
    Replay(JobName, Cell<Option<UnixMillis>>),
    Claim(Box<Claim>),
    Beat(Lease, u64),
    Mint(JobName, String, String),
    Report(JobName, Right, Report),
    Change(Box<Change>),
    Due(u16, usize),
    Untimed(JobName, UnixMillis),
    Redispatch(JobName, u64, u64, &'static str),
    Dispatched(JobName, u64),
    Parked(u16, JobType, usize),
    Subscribe(JobName, Subscribe, &'static str),
    Wait(Waits),
    EndWaits(u16, usize),
    Receipt(JobName, Option<&'static str>),
    ReadOutbox(usize),
    TakeOver,
    Settle(Box<Known>, Outcome),
    PutOffDue(u16, u64),
    Keep(Retention),
    Retire(JobName, u64, bool),
    DueToRetire(u16, usize),
    List(ClientName, Box<List>),
    Read(JobName),
    Announce(JobType),
}

/// What the store answered.
pub(super) struct Answer {
    text: String,
    pub(super) entries: Vec<Entry>,
}

impl Answer {
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// What the model answers, and what that shows of the scripts.
pub(super) struct Expected {
    text: String,
    pub(super) entries: Vec<(Taken, Posted)>,
    pub(super) tallies: Vec<(&'static str, String)>,
}

impl Expected {
    pub(super) fn compare(&self, answer: &Answer) -> Result<(), Difference> {
        let number = (self.entries.len(), answer.entries.len());
        if self.text == answer.text && number.0 == number.1 {
            return Ok(());
        }
        let told = |text: &str, entries: usize| format!("{text}, {entries} entries");
        Err(Difference::of("the answer", told(&answer.text, number.1), told(&self.text, number.0)))
    }
}

/// The entries of both sides, which come in the same order, or are known by their try.
pub(super) fn pairs(
    expected: Vec<(Taken, Posted)>,
    entries: Vec<Entry>,
) -> Vec<(Taken, Posted, Entry)> {
    expected.into_iter().zip(entries).map(|((taken, posted), it)| (taken, posted, it)).collect()
}

/// Where a list goes on is a place, so it is compared too.
fn page(records: &[store::Record], next: Option<&store::list::Cursor>) -> String {
    format!("{:?} {next:?}", records.iter().map(comparable).collect::<Vec<_>>())
}

/// A record; those who wait come as JSON whose fields stand in any order.
fn comparable(record: &store::Record) -> store::Record {
    let waits = record.waits.as_deref().map(super::look::ordered);
    store::Record { waits, ..record.clone() }
}

fn subscribed(subscribed: &Subscribed) -> String {
    match subscribed {
        Subscribed::Stored(at, record) => format!("Stored {} {:?}", at.0, comparable(record)),
        other => format!("{other:?}"),
    }
}

fn told(entries: &[(Taken, Posted)]) -> String {
    let all = entries.iter().map(|(_, posted)| format!("{:?}", posted.message.fields()));
    all.collect::<Vec<_>>().join("; ")
}

fn told_by_store(entries: &[Entry]) -> String {
    let sorted = |entry: &Entry| entry.fields.clone().into_iter().collect();
    let all = entries.iter().map(|entry| {
        let fields: std::collections::BTreeMap<String, String> = sorted(entry);
        format!("{fields:?}")
    });
    all.collect::<Vec<_>>().join("; ")
}

/// The first word of an answer: what is counted.
fn word(text: &str) -> String {
    text.trim_start_matches('[').chars().take_while(char::is_ascii_alphanumeric).collect()
}

fn some<T>(found: &[T]) -> String {
    if found.is_empty() { "None".to_owned() } else { "Some".to_owned() }
}

impl Call {
    /// The round trips that decide: before them a call may read, and after them the test does.
    pub(super) fn deciding<'a, T>(&self, spans: &'a [T]) -> &'a [T] {
        match self {
            // Read, payload, accept, link; then what the test asks for.
            Self::Replay(..) => &spans[spans.len().min(2)..spans.len().min(3)],
            Self::Retire(..) => &spans[spans.len().min(1)..],
            _ => spans,
        }
    }

    pub(super) async fn on_store(&self, twin: &mut Twin) -> Result<Answer, Difference> {
        self.ask(twin).await.map_err(Difference::failed)
    }

    async fn ask(&self, twin: &mut Twin) -> Result<Answer, store::Error> {
        let store = &twin.store;
        let mut entries = Vec::new();
        let text = match self {
            Self::Accept(accept, limits) => {
                format!("{:?}", store.accept(std::slice::from_ref(accept), *limits).await?[0])
            }
            Self::Refuse(name, refusal, ms) => {
                let refused = [(name.clone(), refusal.clone())];
                format!("{:?}", store.refuse(&refused, *ms).await?[0])
            }
            Self::Void(name, ms, over) => format!("{:?}", store.void(name, *ms, *over).await?),
            Self::Replay(name, read_at) => {
                let replayed = store.replay(name).await?;
                if let Replayed::As(again) = &replayed {
                    let made = store.read_one(again).await?.unwrap_or_default();
                    read_at.set(Record::instant(&made.due_at));
                }
                format!("{replayed:?}")
            }
            Self::Claim(claim) => {
                format!("{:?}", store.claim(std::slice::from_ref(claim)).await?[0])
            }
            Self::Beat(lease, ms) => {
                format!("{:?}", store.beat(std::slice::from_ref(lease), *ms).await?[0])
            }
            Self::Mint(name, fence, hash) => format!("{:?}", store.mint(name, fence, hash).await?),
            Self::Report(name, right, it) => format!("{:?}", store.report(name, right, it).await?),
            Self::Change(change) => {
                format!("{:?}", store.change(std::slice::from_ref(change)).await?[0])
            }
            Self::Due(slot, most) => format!("{:?}", store.due(*slot, *most).await?),
            Self::Untimed(name, at) => format!("{:?}", store.untimed(name, *at).await?),
            Self::Redispatch(name, seen, ms, payload) => {
                format!("{:?}", store.redispatch(name, *seen, *ms, payload.as_bytes()).await?)
            }
            Self::Dispatched(name, number) => {
                format!("{:?}", store.dispatched(&[(name.clone(), *number)]).await?)
            }
            Self::Parked(slot, job_type, most) => {
                format!("{:?}", store.parked(*slot, job_type.as_str(), *most).await?)
            }
            Self::Subscribe(name, it, otherwise) => {
                subscribed(&store.subscribe(name, it, otherwise).await?)
            }
            Self::Wait(waits) => format!("{:?}", store.wait(&waits.waiter()).await?),
            Self::EndWaits(slot, most) => format!("{}", store.end_waits(*slot, *most).await?),
            Self::Receipt(name, id) => {
                let ticket = store.ticket(name).to_string();
                format!(
                    "{:?}",
                    store.post_receipt(name, "reply.shop.r", *id, &ticket, b"{}").await?
                )
            }
            Self::ReadOutbox(most) => {
                entries = twin.reader.next(*most, 0).await?;
                told_by_store(&entries)
            }
            Self::TakeOver => {
                entries = twin.reader.take_over(100, 0).await?;
                told_by_store(&entries)
            }
            Self::Settle(known, outcome) => {
                let settled = [(known.entry.clone(), outcome.clone())];
                format!("{:?}", store.settle(&settled).await?)
            }
            Self::PutOffDue(slot, ms) => {
                entries = store.put_off_due(*slot, 100, *ms).await?;
                let number = |entry: &Entry| {
                    let same = |it: &&Known| it.entry.slot == entry.slot && it.entry.id == entry.id;
                    (twin.known.iter().find(same).map(|it| it.taken.number), entry.tries)
                };
                entries.sort_by_key(number);
                told_by_store(&entries)
            }
            Self::Keep(retention) => format!("{:?}", store.keep(retention).await?),
            Self::Retire(name, horizon_ms, at_once) => {
                let record = store.read_one(name).await?.unwrap_or_default();
                let jobs = [(name.clone(), record)];
                format!("{:?}", store.retire(&jobs, *horizon_ms, *at_once).await?[0])
            }
            Self::DueToRetire(slot, most) => {
                format!("{:?}", store.due_to_retire(*slot, *most).await?)
            }
            Self::List(client, list) => {
                let first = store.list(client, list, None).await?;
                let second = store.list(client, list, first.next.clone()).await?;
                let first = page(&first.records, first.next.as_ref());
                format!("{first} {}", page(&second.records, second.next.as_ref()))
            }
            Self::Read(name) => {
                let record = store.read_one(name).await?.as_ref().map(comparable);
                let (history, payload) = (store.history(name).await?, store.payload(name).await?);
                let named = store.resolve(&[twin.ticket(name)]).await?;
                format!("{record:?} {history:?} {payload:?} {:?}", named[0])
            }
            Self::Announce(job_type) => {
                store.announce(&[(job_type.clone(), QueueName::default())]).await?;
                format!("{:?}", store.served_types().await?.contains_key(job_type))
            }
        };
        Ok(Answer { text, entries })
    }

    pub(super) fn on_model(&self, model: &mut Model, at: UnixMillis) -> Expected {
        let mut entries = Vec::new();
        let mut also = Vec::new();
        let mut counted = None;
        let (script, text) = match self {
            Self::Accept(accept, limits) => {
                ("accept", format!("{:?}", model.accept(accept, *limits, at)))
            }
            Self::Refuse(name, refusal, ms) => {
                ("refuse", format!("{:?}", model.refuse(name, refusal, *ms, at)))
            }
            Self::Void(name, ms, over) => {
                ("void", format!("{:?}", model.void(name, *ms, *over, at)))
            }
            Self::Replay(name, read_at) => {
                let read_at = read_at.get().unwrap_or(at);
                ("link", format!("{:?}", model.replay(name, read_at, at)))
            }
            Self::Claim(claim) => ("claim", format!("{:?}", model.claim(claim, at))),
            Self::Beat(lease, ms) => ("beat", format!("{:?}", model.beat(lease, *ms, at))),
            Self::Mint(name, fence, hash) => {
                ("mint", format!("{:?}", model.mint(name, fence, hash, at)))
            }
            Self::Report(name, right, report) => {
                let before = model.read(name).and_then(|it| it.revision);
                let said = model.report(name, right, report, at);
                let same = model.read(name).and_then(|it| it.revision) == before;
                counted =
                    (same && matches!(said, Reported::Held { .. })).then(|| "Same".to_owned());
                ("report", format!("{said:?}"))
            }
            Self::Change(change) => {
                let before = model.read(&change.name).and_then(|it| it.revision);
                let changed = model.change(change, at);
                let same = model.read(&change.name).and_then(|it| it.revision) == before;
                let repeated = same && matches!(changed, Changed::Applied { .. });
                counted = repeated.then(|| "Repeated".to_owned());
                ("transition", format!("{changed:?}"))
            }
            Self::Due(slot, most) => {
                let due = model.due(*slot, *most, at);
                counted = Some(some(&due));
                ("due", format!("{:?}", (at, due)))
            }
            Self::Untimed(name, seen_at) => {
                counted = Some(format!("{}", model.untimed(name, *seen_at)));
                ("untimed", "()".to_owned())
            }
            Self::Redispatch(name, seen, ms, payload) => {
                let given = model.redispatch(name, *seen, *ms, payload.as_bytes(), at);
                ("redispatch", format!("{given:?}"))
            }
            Self::Dispatched(name, number) => {
                counted = Some(format!("{}", model.dispatched(name, *number, at)));
                ("dispatched", "()".to_owned())
            }
            Self::Parked(slot, job_type, most) => {
                ("", format!("{:?}", model.parked(*slot, job_type.as_str(), *most)))
            }
            Self::Subscribe(name, it, otherwise) => {
                ("subscribe", subscribed(&model.subscribe(name, it, otherwise, at)))
            }
            Self::Wait(waits) => ("wait", format!("{:?}", model.wait(&waits.waiter(), at))),
            Self::EndWaits(slot, most) => {
                let (jobs, answered) = model.end_waits(*slot, *most, at);
                let none = jobs > 0 && answered == 0;
                counted = Some(if none { "Nobody".into() } else { word(&format!("n{answered}")) });
                if jobs == 0 {
                    counted = Some(String::new());
                } else if answered > 0 {
                    counted = Some("Some".to_owned());
                }
                ("waits_over", format!("{jobs}"))
            }
            Self::Receipt(name, id) => {
                let slot = model.slot(name);
                let ticket =
                    model.ticket_key().ticket(&name.client, &name.job_id, slot).to_string();
                model.post_receipt(name, "reply.shop.r", *id, &ticket, "{}");
                counted = Some("true".to_owned());
                ("post", "()".to_owned())
            }
            Self::ReadOutbox(most) => {
                entries = model.read_outbox(*most).into_iter().map(untried).collect();
                ("", told(&entries))
            }
            Self::TakeOver => {
                entries = model.held().into_iter().map(untried).collect();
                entries.sort_by_key(|(taken, it)| (it.slot, taken.number));
                ("", told(&entries))
            }
            Self::Settle(known, outcome) => {
                let done = model.settle(known.taken, &known.posted.message, outcome, at);
                counted = Some(format!("{done}"));
                let later = matches!(outcome, Outcome::Later(_));
                (if later { "put_off" } else { "delivered" }, "()".to_owned())
            }
            Self::PutOffDue(slot, ms) => {
                let posted = model.outbox().to_vec();
                let of = |number| posted.iter().find(|it| it.number == number).cloned();
                let all = model.put_off_due(*slot, *ms, at);
                entries = all.into_iter().filter_map(|it| Some((it, of(it.number)?))).collect();
                counted = Some(some(&entries));
                ("put_off_due", told(&entries))
            }
            Self::Keep(retention) => {
                model.keep(retention);
                counted = Some("true".to_owned());
                ("retention", "()".to_owned())
            }
            Self::Retire(name, horizon_ms, at_once) => {
                ("retire", format!("{:?}", model.retire(name, *horizon_ms, *at_once, at)))
            }
            Self::DueToRetire(slot, most) => {
                ("", format!("{:?}", model.due_to_retire(*slot, *most, at)))
            }
            Self::List(client, list) => {
                let (first, next) = model.list(client, list, None);
                let (second, last) = model.list(client, list, next.as_ref());
                counted = Some(some(&first));
                also.push(("list", if next.is_some() { "Next" } else { "Last" }.to_owned()));
                (
                    "list",
                    format!("{} {}", page(&first, next.as_ref()), page(&second, last.as_ref())),
                )
            }
            Self::Read(name) => {
                let record = model.read(name).as_ref().map(comparable);
                let (history, payload) = (model.history(name), model.payload(name));
                let slot = model.slot(name);
                let ticket = model.ticket_key().ticket(&name.client, &name.job_id, slot);
                ("", format!("{record:?} {history:?} {payload:?} {:?}", model.resolve(ticket)))
            }
            Self::Announce(job_type) => {
                model.announce(&[(job_type.clone(), QueueName::default())]);
                ("", "true".to_owned())
            }
        };
        let mut tallies = vec![(script, counted.unwrap_or_else(|| word(&text)))];
        tallies.extend(also);
        Expected { text, entries, tallies }
    }
}

fn untried(posted: Posted) -> (Taken, Posted) {
    (Taken { number: posted.number, slot: posted.slot, tries: 0 }, posted)
}
