//! A call on the model, and what that shows of the scripts.

use job::QueueName;
use model::Model;
use model::outbox::{Posted, Taken};
use protocol::UnixMillis;
use store::change::Changed;
use store::outbox::Outcome;
use store::report::Reported;

use super::answer::{Expected, comparable, page, some, subscribed, told, word};
use super::call::Call;

impl Call {
    /// What the model makes of it, for every way in which it can have been done at these instants
    /// and have been answered so. What is of one kind takes a call for each slot, and for each
    /// number of arguments, so each part is taken to have an instant of its own.
    pub(super) fn ways(
        &self,
        model: &Model,
        instants: &[i64],
        answer: &str,
    ) -> Vec<(Model, Expected)> {
        let Self::Together(calls) = self else {
            let way = |at: &i64| {
                let mut model = model.clone();
                let expected = self.on_model(&mut model, UnixMillis(*at));
                (model, expected)
            };
            return instants.iter().map(way).collect();
        };
        let mut ways = vec![(model.clone(), Expected::default())];
        for (call, line) in calls.iter().zip(answer.lines()) {
            let mut longer = Vec::new();
            for (model, before) in &ways {
                for (model, it) in call.ways(model, instants, line) {
                    // Most instants show in the answer, so few ways are left.
                    if it.text == line {
                        longer.push((model, before.clone().and(it)));
                    }
                }
            }
            ways = longer;
        }
        ways
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
            Self::Redispatch(name, seen, ms, gone) => {
                let given = model.redispatch(name, *seen, *ms, gone.map(str::as_bytes), at);
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
                counted = Some(match (jobs, answered) {
                    (0, _) => String::new(),
                    (_, 0) => "Nobody".to_owned(),
                    _ => "Some".to_owned(),
                });
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
            Self::Together(calls) => {
                let each = calls.iter().map(|call| call.on_model(model, at));
                return each.fold(Expected::default(), Expected::and);
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
