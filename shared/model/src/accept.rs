//! How an identifier gets its first record: a job, a refusal, or a void.

use job::State;
use protocol::work::Spec;
use protocol::{Refusal, UnixMillis};
use store::accept::{Accept, Accepted, First, Limits};
use store::replay::Replayed;
use store::{JobName, RecordKind};

use crate::Model;
use crate::following::{Happened, first_of};
use crate::standing::{Fields, Standing};

impl Model {
    /// Records a submission, or says what stands under its identifier already.
    ///
    /// 1. A void stays void.
    /// 2. Another digest under the same identifier is a conflict, also with a tombstone.
    /// 3. The same digest as a tombstone's is forgotten.
    /// 4. The same digest as a job's is the job: the first answer again if this is the same call
    ///    again, the same dispatch again if it may be that no message is out, else a duplicate.
    /// 5. What is older than the horizon, or beyond the client's quota, is not recorded.
    /// 6. A refusal gives way.
    pub fn accept(&mut self, submission: &Accept, limits: Limits, at: UnixMillis) -> Accepted {
        self.expire(at);
        let name = &submission.name;
        let digest = submission.digest.as_str();
        let known = self.standings.get_mut(name);
        let recorded = known.as_ref().and_then(|it| it.fields.text("digest")).map(str::to_owned);
        match known.as_ref().and_then(|it| it.kind()) {
            Some(RecordKind::Voided) => return Accepted::Voided,
            Some(RecordKind::Job | RecordKind::Retired) if recorded.as_deref() != Some(digest) => {
                return Accepted::Conflict { digest: recorded.unwrap_or_default() };
            }
            Some(RecordKind::Retired) => return Accepted::Forgotten,
            Some(RecordKind::Job) => {
                let epoch = self.epoch;
                return known
                    .map_or(Accepted::Duplicate, |it| repeated(it, submission, limits, epoch, at));
            }
            Some(RecordKind::Refused) | None => {}
        }
        if submission.is_too_old {
            return Accepted::TooOld;
        }
        let unfinished = self.unfinished(self.keys.slot(name), &name.client);
        if limits.unfinished_max > 0 && unfinished >= limits.unfinished_max {
            return Accepted::Quota;
        }
        let state = first_state(&submission.first);
        let standing = self.first_record(submission, state, at);
        self.standings.insert(name.clone(), standing);
        let event = submission.first.event();
        self.follow(name, &Happened { attempt: 0, ..Happened::new(event, state) }, at);
        Accepted::New { at, state }
    }

    fn first_record(&self, submission: &Accept, state: State, at: UnixMillis) -> Standing {
        let Accept { name, spec, first, .. } = submission;
        let mut fields = Fields::default();
        fields.set("record", "job");
        fields.set("client", &name.client);
        fields.set("job_id", &name.job_id);
        let slot = self.keys.slot(name);
        fields.set("ticket", self.ticket_key.ticket(&name.client, &name.job_id, slot));
        fields.set("type", &submission.job_type);
        fields.set("queue", &submission.queue);
        fields.set("digest", &submission.digest);
        fields.set("payload_bytes", submission.payload_bytes);
        fields.set("state", state);
        fields.set("revision", 1);
        fields.set("epoch", self.epoch);
        fields.set("attempt", 0);
        fields.set("dispatch", submission.dispatch);
        // No run has the right to write: the first one gets number 1.
        fields.set("fence", format!("0-{}", submission.nonce));
        fields.set("accepted_at", at.0);
        fields.set("changed_at", at.0);
        fields.set_some("replay_of", submission.replay_of.as_ref());
        asked_for(&mut fields, spec);
        let due = match first {
            First::Queued => None,
            First::Scheduled { payload, at } => {
                fields.put("payload", payload.clone());
                Some(at.0)
            }
            First::Parked { payload, until, reason } => {
                fields.put("payload", payload.clone());
                fields.set("parked_reason", reason);
                Some(until.0)
            }
        };
        fields.set_some("due_at", due);
        let deadline = spec.deadline.map(|deadline| deadline.0);
        let timer = first_of(due, deadline);
        Standing { fields, since: at.0, timer, ..Standing::default() }
    }

    /// Records a refusal for so long. Only over nothing, or over another refusal.
    pub fn refuse(
        &mut self,
        name: &JobName,
        refusal: &Refusal,
        keep_ms: u64,
        at: UnixMillis,
    ) -> bool {
        self.expire(at);
        let known = self.standings.get(name).and_then(Standing::kind);
        if !matches!(known, None | Some(RecordKind::Refused)) {
            return false;
        }
        let mut fields = Fields::default();
        fields.set("record", "refused");
        fields.set("client", &name.client);
        fields.set("job_id", &name.job_id);
        fields.set("code", refusal.code.as_str());
        fields.set("message", &refusal.message);
        fields.set("refused_at", at.0);
        let goes_at = Some(at.0.saturating_add_unsigned(keep_ms));
        self.standings.insert(name.clone(), Standing { fields, goes_at, ..Standing::default() });
        self.expire(at);
        true
    }

    /// Makes an identifier unusable, for so long (0: for ever). Only over nothing, or, if that is
    /// wanted, over a refusal. Whether it is unusable now.
    pub fn void(
        &mut self,
        name: &JobName,
        keep_ms: u64,
        though_refused: bool,
        at: UnixMillis,
    ) -> bool {
        self.expire(at);
        match self.standings.get(name).and_then(Standing::kind) {
            None => {}
            Some(RecordKind::Refused) if though_refused => {}
            Some(kind) => return kind == RecordKind::Voided,
        }
        let mut fields = Fields::default();
        fields.set("record", "voided");
        fields.set("client", &name.client);
        fields.set("job_id", &name.job_id);
        fields.set("voided_at", at.0);
        let goes_at = (keep_ms > 0).then(|| at.0.saturating_add_unsigned(keep_ms));
        fields.set_some("expires_at", goes_at);
        self.standings.insert(name.clone(), Standing { fields, goes_at, ..Standing::default() });
        true
    }

    /// Runs a finished job again, as a new job that is due at once and names the old one, as the
    /// old one names it. What was said of time was said of the first run. The job is read first, so
    /// it is due when it was read.
    pub fn replay(&mut self, name: &JobName, read_at: UnixMillis, at: UnixMillis) -> Replayed {
        self.expire(at);
        let Some(old) = self.standings.get(name).filter(|it| it.is_job()) else {
            return Replayed::NoJob;
        };
        let record = old.record();
        let digest = record.digest.as_deref().and_then(job::Digest::parse);
        let (Some(job_type), Some(digest)) = (record.job_type(), digest) else {
            return Replayed::NoJob;
        };
        if !old.is_finished() {
            return Replayed::Unfinished;
        }
        let Some(payload) = old.fields.bytes("payload").map(<[u8]>::to_vec) else {
            return Replayed::NoPayload;
        };
        let again = JobName { client: name.client.clone(), job_id: name.job_id.replayed() };
        let accept = Accept {
            name: again.clone(),
            job_type,
            queue: job::QueueName::default(),
            spec: Spec { not_before: None, deadline: None, ..record.spec() },
            digest,
            payload_bytes: payload.len(),
            first: First::Scheduled { payload, at: read_at },
            nonce: format!("replay-of-{}", name.job_id),
            redelivered: false,
            dispatch: 1,
            is_too_old: false,
            replay_of: Some(name.job_id.clone()),
        };
        match self.accept(&accept, Limits::default(), at) {
            Accepted::New { .. } | Accepted::Duplicate => {}
            _ => return Replayed::UsedUp(again),
        }
        if let Some(old) = self.standings.get_mut(name) {
            old.fields.set("replayed_as", &again.job_id);
        }
        Replayed::As(again)
    }
}

/// A submission of a job that is recorded.
fn repeated(
    known: &mut Standing,
    submission: &Accept,
    limits: Limits,
    epoch: u64,
    at: UnixMillis,
) -> Accepted {
    let fields = &mut known.fields;
    let accepted_at: i64 = fields.number("accepted_at").unwrap_or_default();
    let state = first_state(&submission.first);
    let of_this_call = format!("0-{}", submission.nonce);
    if fields.text("fence") == Some(&of_this_call) && fields.number("state") == Some(state) {
        return Accepted::New { at: UnixMillis(accepted_at), state };
    }
    let Some(patience_ms) = limits.duplicate_age_ms else { return Accepted::Duplicate };
    let is_older = fields.count("epoch") != epoch;
    let dispatch = fields.count("dispatch");
    if fields.number("state") == Some(State::Queued) {
        let waited = at.0 - fields.number("dispatched_at").unwrap_or(accepted_at);
        let is_old = i64::try_from(patience_ms).is_ok_and(|patience| waited > patience);
        let never_claimed = fields.count("attempt") == 0;
        if is_older || (never_claimed && (submission.redelivered || is_old)) {
            fields.set("dispatched_at", at.0);
            return Accepted::Redispatch { dispatch };
        }
    }
    // Left by its worker before the store was rolled back.
    let lease_until: i64 = fields.number("lease_until").unwrap_or(0);
    let is_left = fields.number("state") == Some(State::Running)
        && !fields.has("detached")
        && lease_until <= at.0;
    if is_older && is_left { Accepted::Redispatch { dispatch } } else { Accepted::Duplicate }
}

fn first_state(first: &First) -> State {
    match first {
        First::Queued => State::Queued,
        First::Scheduled { .. } => State::Scheduled,
        First::Parked { .. } => State::Parked,
    }
}

/// What the client asked for beside type and body. What is empty is not recorded.
fn asked_for(fields: &mut Fields, spec: &Spec) {
    let texts = [
        ("reply_to", spec.reply_to.clone()),
        ("correlation_id", spec.correlation_id.clone()),
        ("notify", Some(spec.notify.clone())),
        ("notify_to", spec.notify_to.clone()),
        ("priority", spec.priority.clone()),
        ("tags", Some(spec.tags.join(","))),
        ("origin", spec.origin.clone()),
        ("content_type", spec.content_type.clone()),
        ("content_encoding", spec.content_encoding.clone()),
        ("app_id", spec.app_id.clone()),
        ("traceparent", spec.traceparent.clone()),
        ("tracestate", spec.tracestate.clone()),
    ];
    for (name, text) in texts {
        fields.set_some(name, text.filter(|text| !text.is_empty()));
    }
    fields.set_some("batch", spec.batch.then_some(1));
    fields.set_some("not_before", spec.not_before.map(|it| it.0));
    fields.set_some("deadline", spec.deadline.map(|it| it.0));
    fields.set_some("timeout_ms", spec.timeout_ms);
    fields.set_some("max_attempts", spec.max_attempts);
    fields.set_some("keep_ms", spec.keep_ms);
    fields.set_some("timestamp", spec.timestamp);
}
