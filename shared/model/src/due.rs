//! When the scheduler looks at a job, and what it does with a queued one that nobody has started.

use job::State;
use protocol::UnixMillis;
use store::JobName;
use store::due::Redispatched;

use crate::Model;
use crate::following::first_of;
use crate::standing::Standing;

impl Model {
    /// Jobs of a slot whose timer has run out, oldest first.
    pub fn due(&self, slot: u16, most: usize, at: UnixMillis) -> Vec<JobName> {
        self.until(at, most, |name, it| it.timer.filter(|_| self.keys.slot(name) == slot))
    }

    /// The names of those whose instant has passed, oldest first, then by name.
    pub(crate) fn until(
        &self,
        at: UnixMillis,
        most: usize,
        instant: impl Fn(&JobName, &Standing) -> Option<i64>,
    ) -> Vec<JobName> {
        let timed = self.standings.iter().filter_map(|(name, it)| Some((instant(name, it)?, name)));
        first_passed(timed, most, at)
    }

    /// Gives a queued job that still carries the number that was seen its next one, and looks at it
    /// again later. Without a payload there is nothing to send, so the number stays good. A run
    /// whose message is gone is detached.
    pub fn redispatch(
        &mut self,
        name: &JobName,
        seen: u64,
        again_after_ms: u64,
        gone: Option<&[u8]>,
        at: UnixMillis,
    ) -> Redispatched {
        self.expire(at);
        let carries = |it: &&mut Standing| it.fields.count("dispatch") == seen;
        let Some(job) = self.standings.get_mut(name).filter(carries) else {
            return Redispatched::Not;
        };
        if job.is_in(State::Running) {
            let Some(payload) = gone else { return Redispatched::Not };
            if !job.fields.has("detached") {
                job.fields.put("payload", payload);
                job.fields.set("detached", 1);
                let lease = job.fields.number("lease_until");
                job.timer = first_of(lease, job.fields.number("deadline"));
            }
            return Redispatched::Watched;
        }
        if let Some(payload) = gone.filter(|_| job.is_in(State::Queued)) {
            job.fields.put("payload", payload);
        }
        if !job.is_in(State::Queued) || !job.fields.has("payload") {
            return Redispatched::Not;
        }
        job.fields.set("dispatch", seen + 1);
        job.fields.set("dispatched_at", at.0);
        let again = at.0.saturating_add_unsigned(again_after_ms);
        job.timer = first_of(Some(again), job.fields.number("deadline"));
        Redispatched::Under(seen + 1)
    }

    /// The broker has confirmed a dispatch: what is in the queue is not here. Whether that was the
    /// number that is out.
    pub fn dispatched(&mut self, name: &JobName, number: u64, at: UnixMillis) -> bool {
        self.expire(at);
        let Some(job) = self.queued(name, number) else { return false };
        // Claimed since, and queued again under the same number: the payload is of that run.
        if !job.fields.has("dispatched_at") {
            return false;
        }
        job.fields.remove(&["payload", "due_at"]);
        job.timer = first_of(None, job.fields.number("deadline"));
        true
    }

    fn queued(&mut self, name: &JobName, dispatch: u64) -> Option<&mut Standing> {
        let of_this =
            |it: &&mut Standing| it.is_in(State::Queued) && it.fields.count("dispatch") == dispatch;
        self.standings.get_mut(name).filter(of_this)
    }

    /// Drops a timer that was not set anew since it was seen. Whether there was one.
    pub fn untimed(&mut self, name: &JobName, seen_at: UnixMillis) -> bool {
        let timer = self.standings.get_mut(name).map(|it| &mut it.timer);
        let passed = timer.filter(|timer| timer.is_some_and(|timer| timer <= seen_at.0));
        passed.map(|timer| *timer = None).is_some()
    }

    /// Parked jobs of a type, oldest first.
    pub fn parked(&self, slot: u16, job_type: &str, most: usize) -> Vec<JobName> {
        let parked = |name: &JobName, it: &Standing| {
            let is_one = it.is_in(State::Parked)
                && it.fields.text("type") == Some(job_type)
                && self.keys.slot(name) == slot;
            is_one.then_some(it.since)
        };
        self.until(UnixMillis(i64::MAX), most, parked)
    }
}

/// Those whose instant has passed, oldest first; of one instant by their members' bytes.
pub(crate) fn first_passed<'a>(
    timed: impl Iterator<Item = (i64, &'a JobName)>,
    most: usize,
    at: UnixMillis,
) -> Vec<JobName> {
    let passed = timed.filter(|(instant, _)| *instant <= at.0);
    let mut found: Vec<_> = passed.map(|(it, name)| (it, name.member(), name)).collect();
    found.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    found.into_iter().take(most).map(|(_, _, name)| name.clone()).collect()
}
