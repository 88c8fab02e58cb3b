//! From an operation to a call: what "the present fence" and the like are, is looked up in the
//! model.

use std::cell::Cell;
use std::collections::BTreeMap;

use job::{JobType, QueueName, State};
use protocol::request::{List, Subscribe, Wait};
use protocol::work::Spec;
use protocol::{Code, Refusal};
use store::Retention;
use store::accept::{Accept, First as FirstState, Limits};
use store::change::{Change, Right, Timer as When};
use store::claim::{Claim, Lease};
use store::outbox::Outcome;
use store::report::Report;

use super::call::{Call, Waits};
use super::cast::{LONG_MS, client, digest, job_type, name, token};
use super::operation::{Changing, First, Name, Op, Settled, Speaker, Timer};
use super::twin::Twin;

impl Twin {
    /// The call that an operation is now; nothing if there is nothing that it could be about.
    pub(super) fn resolve(&self, op: &Op) -> Option<Call> {
        let slot = |of: &Name| self.store.keys().slot(&name(*of));
        Some(match op.clone() {
            Op::Accept { .. } => return self.accept(op),
            Op::Refuse { name: of, keep_ms } => {
                let refusal = Refusal::new(Code::BadHeader, "not like this");
                Call::Refuse(name(of), refusal, keep_ms)
            }
            Op::Void { name: of, keep_ms, though_refused } => {
                Call::Void(name(of), keep_ms, though_refused)
            }
            Op::Replay { name: of } => Call::Replay(name(of), Cell::new(None)),
            Op::Claim { .. } => return self.claim(op),
            Op::Beat { name: of, fence, lease_ms, detach } => {
                let detach = detach.then(|| b"body".to_vec());
                Call::Beat(Lease { name: name(of), fence: self.fence(of, fence), detach }, lease_ms)
            }
            Op::Mint { name: of, fence, token: number } => {
                Call::Mint(name(of), self.fence(of, fence), token(number))
            }
            Op::Stage { name: of, speaker, stage } => {
                Call::Report(name(of), self.right(of, speaker), Report::Stage(stage.to_owned()))
            }
            Op::Progress { name: of, speaker, percent, note } => {
                let report = Report::Progress(percent, note.to_owned());
                Call::Report(name(of), self.right(of, speaker), report)
            }
            Op::Change { name: of, change } => self.change(of, &change),
            Op::Due { most } => Call::Due(slot(&0), most),
            Op::Untimed { name: of, seen_at } => Call::Untimed(name(of), self.instant(seen_at)),
            Op::Redispatch { name: of, seen, again_after_ms, gone } => {
                Call::Redispatch(name(of), self.number(of, seen), again_after_ms, gone)
            }
            Op::Dispatched { name: of, number } => {
                Call::Dispatched(name(of), self.number(of, number))
            }
            Op::Parked { body, most } => Call::Parked(slot(&0), job_type(body), most),
            Op::Subscribe { name: of, notify, notify_to, redeliver, otherwise_to } => {
                let (notify, notify_to) = (notify.map(Into::into), notify_to.map(Into::into));
                Call::Subscribe(name(of), Subscribe { notify, notify_to, redeliver }, otherwise_to)
            }
            Op::Wait { name: of, limit_ms, past_revision, past_epoch, correlation_id, history } => {
                let past_epoch = past_epoch.filter(|_| past_revision.is_some());
                let wait = Wait { limit_ms, past_revision, past_epoch };
                Call::Wait(Waits { name: name(of), wait, correlation_id, history })
            }
            Op::EndWaits { most } => Call::EndWaits(slot(&0), most),
            Op::Receipt { name: of, correlation_id } => Call::Receipt(name(of), correlation_id),
            Op::ReadOutbox { most } => Call::ReadOutbox(most),
            Op::TakeOver => Call::TakeOver,
            // One of the last that were read.
            Op::Settle { which, outcome } => {
                let known = self.known.iter().rev().nth(which).or(self.known.last())?.clone();
                let outcome = match outcome {
                    Settled::Delivered => Outcome::Delivered,
                    Settled::Later(ms) => Outcome::Later(ms),
                    Settled::Undeliverable(reason) => Outcome::Undeliverable(reason.to_owned()),
                };
                Call::Settle(Box::new(known), outcome)
            }
            Op::PutOffDue { hold_ms } => Call::PutOffDue(slot(&0), hold_ms),
            Op::Keep => Call::Keep(retention()),
            Op::Retire { name: of, horizon_ms, at_once } => {
                Call::Retire(name(of), horizon_ms, at_once)
            }
            Op::DueToRetire { most } => Call::DueToRetire(slot(&0), most),
            Op::List { client: of, tag, state, limit } => {
                let list = List {
                    states: state.into_iter().collect(),
                    job_type: None,
                    tag: tag.map(Into::into),
                    after: None,
                    before: None,
                    limit,
                    page: None,
                };
                Call::List(client(of), Box::new(list))
            }
            Op::Read { name: of } => Call::Read(name(of)),
            Op::Announce { body } => Call::Announce(job_type(body)),
            Op::Together(ops) => self.together(&ops),
            Op::Reopen | Op::Chatter { .. } | Op::Crowd { .. } => return None,
        })
    }

    /// What is "present" is so before the first of them.
    fn together(&self, ops: &[Op]) -> Call {
        let mut calls: Vec<Call> = ops.iter().filter_map(|op| self.resolve(op)).collect();
        if let Some((first, others)) = calls.split_first_mut() {
            others.iter_mut().for_each(|call| call.as_for(first));
        }
        Call::Together(calls)
    }

    pub(super) fn chatter(&self, of: Name, n: usize) -> Call {
        let right = self.right(of, Speaker::Run(super::operation::Fence::Current));
        Call::Report(name(of), right, Report::Stage(format!("stage {n}")))
    }

    pub(super) fn crowd(&self, of: Name) -> Call {
        let wait = Wait { limit_ms: LONG_MS, past_revision: None, past_epoch: None };
        Call::Wait(Waits { name: name(of), wait, correlation_id: None, history: false })
    }

    fn accept(&self, op: &Op) -> Option<Call> {
        let Op::Accept { name: of, body, first, nonce, redelivered, too_old, dispatch, .. } = op
        else {
            return None;
        };
        let Op::Accept { duplicate_age_ms, unfinished_max, asked, .. } = op else { return None };
        let payload = b"body".to_vec();
        let spec = Spec {
            notify: asked.notify.to_owned(),
            notify_to: asked.notify_to.map(Into::into),
            reply_to: asked.reply_to.map(Into::into),
            correlation_id: asked.correlation_id.map(Into::into),
            batch: asked.batch,
            deadline: asked.deadline.map(|when| self.instant(when)),
            keep_ms: asked.keep_ms,
            max_attempts: asked.max_attempts,
            tags: asked.tags.iter().map(|tag| (*tag).to_owned()).collect(),
            origin: Some("10.0.0.1".to_owned()),
            timestamp: Some(1),
            ..Spec::default()
        };
        let first = match first {
            First::Queued => FirstState::Queued,
            First::Scheduled(at) => FirstState::Scheduled { payload, at: self.instant(*at) },
            First::Parked(until) => {
                let reason = "nobody serves it".to_owned();
                FirstState::Parked { payload, until: self.instant(*until), reason }
            }
        };
        let accept = Accept {
            name: name(*of),
            job_type: job_type(*body),
            queue: QueueName::default(),
            spec,
            digest: digest(*body),
            first,
            nonce: nonce.to_string(),
            redelivered: *redelivered,
            payload_bytes: 4,
            dispatch: *dispatch,
            is_too_old: *too_old,
            replay_of: None,
        };
        let limits =
            Limits { duplicate_age_ms: *duplicate_age_ms, unfinished_max: *unfinished_max };
        Some(Call::Accept(Box::new(accept), limits))
    }

    fn claim(&self, op: &Op) -> Option<Call> {
        let Op::Claim { name: of, dispatch, redelivered, owner, nonce, lease_ms, .. } = op else {
            return None;
        };
        let Op::Claim { idle, attempts_max, alone_after, not_here, .. } = op else { return None };
        Some(Call::Claim(Box::new(Claim {
            name: name(*of),
            job_type: self.type_of(*of),
            dispatch: self.number(*of, *dispatch),
            redelivered: *redelivered,
            owner: format!("worker-{owner}"),
            nonce: nonce.to_string(),
            lease_ms: *lease_ms,
            idle: *idle,
            attempts_max: *attempts_max,
            alone_after: *alone_after,
            not_here: *not_here,
            payload: b"body".to_vec(),
        })))
    }

    fn change(&self, of: Name, change: &Changing) -> Call {
        let set = change.set.iter().map(|(field, value)| (*field, value.as_bytes().to_vec()));
        Call::Change(Box::new(Change {
            right: self.right(of, change.speaker),
            dispatch: change.dispatch.map(|number| self.number(of, number)),
            except_from: change.except_from,
            unless: change.unless,
            redispatch: change.redispatch,
            timer: match change.timer {
                Timer::None => When::None,
                Timer::After(ms) => When::After(ms),
                Timer::At(when) => When::At(self.instant(when)),
                Timer::NowIfDetached => When::NowIfDetached,
                Timer::LeaseEnd => When::LeaseEnd,
            },
            detail: change.detail.to_owned(),
            set: set.collect(),
            delete: change.delete,
            ..Change::new(name(of), self.type_of(of), change.event)
        }))
    }

    /// Whoever changes a job has read its type.
    fn type_of(&self, of: Name) -> JobType {
        let recorded = self.model.read(&name(of)).and_then(|record| record.job_type());
        recorded.unwrap_or_else(|| job_type(0))
    }

    fn right(&self, of: Name, speaker: Speaker) -> Right {
        match speaker {
            Speaker::Server => Right::Server,
            Speaker::Run(fence) => Right::Fence(self.fence(of, fence)),
            Speaker::Outside(number) => Right::Report(token(number)),
        }
    }
}

/// By outcome, and one type otherwise; jobs that expire are kept for ever.
fn retention() -> Retention {
    let by_state =
        [State::Succeeded, State::Failed, State::Cancelled].map(|state| (state, LONG_MS));
    let by_type = BTreeMap::from([(State::Succeeded, 0), (State::Cancelled, 2 * LONG_MS)]);
    Retention {
        by_state: by_state.into(),
        by_type: BTreeMap::from([(job_type(1).to_string(), by_type)]),
    }
}
