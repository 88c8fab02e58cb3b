//! A call on the real store.

use job::QueueName;
use store::accept::Accept;
use store::change::Change;
use store::claim::Claim;
use store::outbox::Entry;
use store::replay::Replayed;
use store::types::Served;
use store::{Record, Store};

use super::answer::{Answer, comparable, page, subscribed, told_by_store};
use super::call::Call;
use super::look::Difference;
use super::twin::{Known, Twin};

impl Call {
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
            Self::Redispatch(name, seen, ms, gone) => {
                let gone = gone.map(str::as_bytes);
                format!("{:?}", store.redispatch(name, *seen, *ms, gone).await?)
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
            Self::Together(calls) => together(store, calls).await?,
            Self::Announce(job_type) => {
                let served = Served::new(job_type.clone(), QueueName::default());
                store.announce(&[served]).await?;
                format!("{:?}", store.served_types().await?.contains_key(job_type))
            }
        };
        Ok(Answer { text, entries })
    }
}

/// Calls of one kind, as one; an answer a line.
async fn together(store: &Store, calls: &[Call]) -> Result<String, store::Error> {
    let (mut accepts, mut claims, mut changes) = (vec![], vec![], vec![]);
    let (mut limits, mut leases, mut lease_ms) = (None, vec![], 0);
    for call in calls {
        match call {
            Call::Accept(it, of_all) => {
                accepts.push(Accept::clone(it));
                limits = Some(*of_all);
            }
            Call::Claim(it) => claims.push(Claim::clone(it)),
            Call::Beat(it, ms) => {
                leases.push(it.clone());
                lease_ms = *ms;
            }
            Call::Change(it) => changes.push(Change::clone(it)),
            _ => unreachable!("no kind that is called for several jobs"),
        }
    }
    let mut text = String::new();
    if let Some(limits) = limits {
        text += &lines(&store.accept(&accepts, limits).await?);
    }
    // Asked for nothing, these answer nothing.
    text += &lines(&store.claim(&claims).await?);
    text += &lines(&store.beat(&leases, lease_ms).await?);
    text += &lines(&store.change(&changes).await?);
    Ok(text)
}

fn lines<T: std::fmt::Debug>(answers: &[T]) -> String {
    answers.iter().map(|answer| format!("{answer:?}\n")).collect()
}
