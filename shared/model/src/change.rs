//! What happens to a recorded job: the table in [`job::state`] says what follows from an event, and
//! here stands who may say it and what else it changes.

use job::{JobType, State};
use protocol::UnixMillis;
use store::JobName;
use store::change::{AFTER_MS_MAX, Change, Changed, Right, Timer, Unless};

use crate::Model;
use crate::following::{Happened, first_of};
use crate::standing::Standing;

/// The last finished jobs of a type that are remembered.
const RECENT_MAX: usize = 1000;

/// Whether whoever speaks has the right to. A right that is empty is the server's own.
pub(crate) fn is_held(job: &Standing, right: &Right) -> bool {
    match right {
        Right::Server => true,
        Right::Fence(fence) => fence.is_empty() || job.fields.text("fence") == Some(fence),
        Right::Report(hash) => hash.is_empty() || job.fields.text("report_hash") == Some(hash),
    }
}

/// A run for which no message comes again, or need not.
fn is_watched(job: &Standing) -> bool {
    job.fields.has("detached") || job.fields.has("cancel_requested")
}

/// A line of the timeline is one line, and not a long one.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}

impl Model {
    /// Applies an event to a job.
    ///
    /// 1. Who has no right, or speaks of another dispatch, or of a lease that is renewed, is stale.
    /// 2. Where the table has no step from the job's state, the event is illegal; unless it comes
    ///    from whoever has the right and has led here: then it is the same event again.
    /// 3. An event that gives way to a cancellation does so.
    /// 4. Else the job is where the table says, one revision later, with what follows from that.
    pub fn change(&mut self, change: &Change, at: UnixMillis) -> Changed {
        self.expire(at);
        let name = &change.name;
        let Some(job) = self.standings.get_mut(name).filter(|it| it.is_job()) else {
            return Changed::Missing;
        };
        let Some(state) = job.state() else { return Changed::Missing };
        let dispatch = job.fields.count("dispatch");
        let leased = job.fields.number("lease_until").unwrap_or(0) > at.0;
        if !is_held(job, &change.right)
            || change.dispatch.is_some_and(|wanted| wanted != dispatch)
            || (matches!(change.unless, Unless::Leased | Unless::Unwatched) && leased)
            || (change.unless == Unless::Unwatched && !is_watched(job))
        {
            return Changed::Stale;
        }
        let steps: Vec<(State, State)> = job::state::steps(change.event)
            .filter(|(from, _)| Some(*from) != change.except_from)
            .collect();
        let Some((_, to)) = steps.iter().copied().find(|(from, _)| *from == state) else {
            let has_led_here = steps.iter().any(|(_, to)| *to == state);
            if has_led_here && change.right != Right::Server {
                let revision = job.fields.count("revision");
                return Changed::Applied { state, revision, dispatch };
            }
            return Changed::Illegal { state };
        };
        if change.unless == Unless::CancelAsked && job.fields.has("cancel_requested") {
            return Changed::CancelAsked;
        }
        let attempt = job.fields.count("attempt");
        apply(job, change, (state, to), self.epoch, at);
        let revision = job.fields.count("revision");
        let dispatch = job.fields.count("dispatch");
        if to.is_terminal() {
            self.finish(name, &change.job_type, to, at);
        }
        let detail = one_line(&change.detail);
        self.follow(name, &Happened { attempt, detail, ..Happened::new(change.event, to) }, at);
        Changed::Applied { state: to, revision, dispatch }
    }

    /// A finished job is kept for as long as it says itself, or its type and outcome, or its
    /// outcome; and it is one of the last of its type.
    fn finish(&mut self, name: &JobName, job_type: &JobType, state: State, at: UnixMillis) {
        let slot = self.keys.slot(name);
        let Some(job) = self.standings.get_mut(name) else { return };
        let by_type = job.fields.text("type").unwrap_or_default();
        let by_deployment = self.retention.as_ref().and_then(|kept| {
            kept.by_type
                .get(by_type)
                .and_then(|by_state| by_state.get(&state))
                .or_else(|| kept.by_state.get(&state))
                .copied()
        });
        let keep_ms = job.fields.number("keep_ms").or(by_deployment);
        job.fields.set("finished_at", at.0);
        job.fields.set_some("expires_at", keep_ms.map(|ms| at.0.saturating_add_unsigned(ms)));
        let recent = self.recent.entry((slot, job_type.clone())).or_default();
        recent.push_front(name.clone());
        recent.truncate(RECENT_MAX);
    }
}

/// Writes a change into the record.
fn apply(
    job: &mut Standing,
    change: &Change,
    (from, to): (State, State),
    epoch: u64,
    at: UnixMillis,
) {
    let deadline = job.fields.number("deadline");
    let lease_until = job.fields.number("lease_until");
    let was_detached = job.fields.has("detached");
    let was_watched = is_watched(job);
    let revision = job.fields.count("revision") + 1;
    let dispatch = job.fields.count("dispatch") + 1;
    job.fields.set("state", to);
    job.fields.set("revision", revision);
    job.fields.set("changed_at", at.0);
    job.fields.set("epoch", epoch);
    for (field, value) in &change.set {
        job.fields.put(field, value.clone());
    }
    if change.redispatch {
        job.fields.set("dispatch", dispatch);
        job.fields.set("dispatched_at", at.0);
    }
    let due = match change.timer {
        Timer::None => None,
        Timer::After(ms) => Some(at.0.saturating_add_unsigned(ms.min(AFTER_MS_MAX))),
        Timer::At(then) => Some(then.0),
        Timer::NowIfDetached => was_detached.then_some(at.0),
        Timer::LeaseEnd => None,
    };
    job.fields.set_some("due_at", due);
    job.fields.remove(change.delete);
    // A run that goes on, and is detached or asked to stop: the scheduler watches its lease.
    let is_watched = was_watched || change.timer == Timer::LeaseEnd;
    let due = due.or(lease_until.filter(|_| is_watched && to == from));
    job.timer = if to.is_terminal() { None } else { first_of(due, deadline) };
    if to != from {
        job.since = at.0;
    }
}
