//! Every message from the server has one flat JSON body, and its kind in the AMQP `type` property.

use job::State;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::properties::{Headers, Properties};
use crate::refusal::Refusal;
use crate::time::UnixMillis;

/// The kinds of message that a client receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The job is recorded durably.
    Receipt,
    /// The answer to a question.
    Status,
    /// A change that was to be pushed.
    Event,
    /// Something was not done.
    Refusal,
}

impl Kind {
    /// The AMQP `type` property.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Receipt => "receipt",
            Self::Status => "status",
            Self::Event => "event",
            Self::Refusal => "refusal",
        }
    }

    /// The kind of a received message.
    pub fn of(properties: &Properties) -> Option<Self> {
        properties.kind.as_deref().and_then(Self::parse)
    }

    /// The kind that a word stands for.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Receipt, Self::Status, Self::Event, Self::Refusal]
            .into_iter()
            .find(|kind| word == kind.as_str())
    }
}

/// What is known of the identifier. `state` comes only with [`AnswerWord::Found`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerWord {
    /// There is a record; its state is in the answer.
    Found,
    /// No submission that was confirmed before the question was carries this id.
    Unknown,
    /// It was a job once; its record has been retired.
    Forgotten,
    /// The id was made unusable before any submission arrived.
    Voided,
    /// A submission of this id was refused; the reason is in the answer.
    Refused,
    /// The store cannot be asked, or something in front in the line is undecided: ask again.
    Unavailable,
    /// The line is long; the final answer follows.
    Pending,
}

/// One entry of a job's timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The revision that the change made.
    pub revision: u64,
    /// When, by the store's clock.
    pub at: UnixMillis,
    /// What happened.
    pub event: String,
    /// The state after it.
    pub state: String,
    /// The attempt that was running.
    pub attempt: u32,
    /// The stage, the note or the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What has become of the events of a job: the delivery ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Notifications {
    /// The queue.
    pub to: String,
    /// The changes that are pushed there, each word spelled out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// The newest revision that the broker has confirmed into the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_revision: Option<u64>,
    /// How many events could not be delivered.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub undeliverable: u64,
    /// The oldest revision of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undeliverable_from: Option<u64>,
    /// Why the last one could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

macro_rules! answer {
    ($($(#[$doc:meta])* $field:ident: $type:ty,)*) => {
        /// The body of a receipt, a status, an event or a refusal. A field that does not apply is
        /// absent.
        #[derive(Debug, Clone, Serialize, Deserialize)]
        pub struct Answer {
            /// The protocol's version, 1.
            pub v: u32,
            /// What is known of the identifier.
            pub answer: AnswerWord,
            $(
                $(#[$doc])*
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $field: Option<$type>,
            )*
        }

        impl Answer {
            /// An answer of which nothing but the word is said.
            pub fn new(answer: AnswerWord) -> Self {
                Self { v: crate::VERSION, answer, $($field: None,)* }
            }
        }
    };
}

answer! {
    /// The client's identifier.
    job_id: String,
    /// The server's identifier.
    ticket: String,
    /// Who owns the job.
    client: String,
    /// What is to be done.
    r#type: String,
    /// The work queue.
    queue: String,
    /// Where the job is.
    state: String,
    /// Whether the state is final.
    done: bool,
    /// The change that an event tells of: a state, `stage` or `progress`.
    event: String,
    /// Grows by one when the store was rolled back. Order is (epoch, revision).
    epoch: u64,
    /// Grows by one with each change.
    revision: u64,
    /// The first of a run of changes that were joined into this event.
    gap_from: u64,
    /// How many attempts were started.
    attempt: u32,
    /// What the processing says it is at.
    stage: String,
    /// Percent, 0 to 100.
    progress: u8,
    /// A note beside the progress.
    progress_note: String,
    /// The handler's result.
    result: Box<RawValue>,
    /// Why it failed, in words.
    error: String,
    /// Whether a client has asked a running job to stop.
    cancel_requested: bool,
    /// Why the job is parked.
    parked_reason: String,
    /// The machine or label that made the identifier.
    origin: String,
    /// Words to find the job by.
    tags: Vec<String>,
    /// When it was accepted.
    accepted_at: UnixMillis,
    /// When it last changed.
    changed_at: UnixMillis,
    /// When the last attempt was started.
    started_at: UnixMillis,
    /// When it reached its final state.
    finished_at: UnixMillis,
    /// Not to be run before.
    not_before: UnixMillis,
    /// Expires when it is not done by then.
    deadline: UnixMillis,
    /// When the scheduler will dispatch it.
    due_at: UnixMillis,
    /// When its record will be retired, or what is left of it will go.
    expires_at: UnixMillis,
    /// When its record was retired.
    retired_at: UnixMillis,
    /// The final state that a retired job had.
    outcome: String,
    /// The job that this one repeats.
    replay_of: String,
    /// The job that repeats this one.
    replayed_as: String,
    /// When the store was asked.
    as_of: UnixMillis,
    /// Whether an earlier submission of this id was accepted already.
    duplicate: bool,
    /// What a crash of the store can lose: `fsync`, `replicated`, `everysec` or `none`.
    durability: String,
    /// How long one id remains one job, in milliseconds from acceptance.
    horizon_ms: u64,
    /// Headers that looked like ours and are none.
    ignored: Vec<String>,
    /// The timeline, oldest first.
    history: Vec<HistoryEntry>,
    /// What has become of the events.
    notifications: Notifications,
    /// The jobs of a list, newest first.
    jobs: Vec<Answer>,
    /// Where a list goes on; absent at its end.
    next_page: String,
    /// A stretch of time that the store has lost and that could hold this id.
    lost_between: [UnixMillis; 2],
    /// The refusal's code.
    code: String,
    /// A sentence for a person.
    message: String,
    /// Whether the same message may be accepted later.
    retryable: bool,
    /// What the sender does about it.
    action: String,
    /// Milliseconds to wait before asking again.
    retry_after_ms: u64,
}

impl Answer {
    /// An answer for a refusal.
    pub fn refused(refusal: &Refusal) -> Self {
        Self {
            code: Some(refusal.code.as_str().to_owned()),
            message: Some(refusal.message.clone()),
            retryable: Some(refusal.code.is_retryable()),
            action: Some(refusal.code.action().to_owned()),
            ..Self::new(AnswerWord::Refused)
        }
    }

    /// The state, where the word is one of version 1.
    pub fn state(&self) -> Option<State> {
        self.state.as_deref()?.parse().ok()
    }

    /// The body.
    pub fn to_json(&self) -> Vec<u8> {
        // Every field is a text, a number, a list of these or JSON already.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The properties to publish it with.
    pub fn properties(&self, kind: Kind, correlation_id: Option<String>) -> Properties {
        let mut properties = Properties {
            persistent: kind != Kind::Status,
            content_type: Some("application/json".to_owned()),
            kind: Some(kind.as_str().to_owned()),
            correlation_id,
            ..Properties::default()
        };
        if kind == Kind::Event {
            properties.message_id = Some(self.event_id());
            properties.headers = self.cloud_event();
        }
        properties
    }

    /// The identifier of an event: the same for each delivery of the same change.
    fn event_id(&self) -> String {
        format!(
            "{}/{}.{}",
            self.ticket.as_deref().unwrap_or_default(),
            self.epoch.unwrap_or_default(),
            self.revision.unwrap_or_default()
        )
    }

    /// CloudEvents 1.0 attributes in binary mode, with the prefix of its AMQP binding.
    fn cloud_event(&self) -> Headers {
        let mut headers = Headers::default();
        headers.push_text("cloudEvents_specversion", "1.0");
        headers.push_text("cloudEvents_id", self.event_id());
        let client = self.client.as_deref().unwrap_or_default();
        headers.push_text("cloudEvents_source", format!("/counterfoil/{client}"));
        let event = self.event.as_deref().unwrap_or_default();
        headers.push_text("cloudEvents_type", format!("counterfoil.job.{event}"));
        headers.push_text("cloudEvents_subject", self.job_id.clone().unwrap_or_default());
        if let Some(at) = self.changed_at {
            headers.push_text("cloudEvents_time", at.to_string());
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Code;

    #[test]
    fn an_answer_holds_only_what_applies_and_is_read_back() {
        let unknown = Answer { job_id: Some("A-1".into()), ..Answer::new(AnswerWord::Unknown) };
        assert_eq!(
            String::from_utf8(unknown.to_json()).unwrap(),
            r#"{"v":1,"answer":"unknown","job_id":"A-1"}"#
        );
        let mut found = Answer::new(AnswerWord::Found);
        found.state = Some("succeeded".into());
        found.result = Some(RawValue::from_string(r#"{"total":1.50}"#.into()).unwrap());
        let read: Answer = serde_json::from_slice(&found.to_json()).unwrap();
        assert_eq!(read.state(), Some(State::Succeeded));
        assert_eq!(read.result.unwrap().get(), r#"{"total":1.50}"#);
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let answer = Answer::refused(&Refusal::new(Code::IdConflict, "other digest"));
        assert_eq!(answer.code.as_deref(), Some("id_conflict"));
        assert_eq!(answer.retryable, Some(false));
        assert!(answer.action.unwrap().starts_with("Use a new id"));
    }

    #[test]
    fn an_event_has_the_same_id_each_time_it_is_delivered() {
        let mut event = Answer::new(AnswerWord::Found);
        event.ticket = Some("t".into());
        event.epoch = Some(1);
        event.revision = Some(7);
        let properties = event.properties(Kind::Event, None);
        assert_eq!(properties.message_id.as_deref(), Some("t/1.7"));
        assert_eq!(properties.headers.text("cloudEvents_id"), Some("t/1.7"));
    }
}
