//! What is done about a job that is recorded, whoever asks: an inquiry process, or the registrar
//! when a question gets to the end of the line.

use protocol::request::{Subscribe, Wait};
use protocol::{Answer, Ask, Code, Destination, Kind, Refusal, UnixMillis};
use store::subscribe::Subscribed;
use store::wait::{WAITS_PER_JOB_MAX, Waiter, Waiting};
use store::{JobName, Record, RecordKind, Retired, Store};

use crate::answers;
use crate::cancel::cancel;

/// Why nothing more is put into a client's outbox on its request.
const OUTBOX_FULL: &str = "too much waits to be delivered to this client already";

/// Who asks, and what.
pub(crate) struct Asked<'a> {
    pub(crate) ask: &'a Ask,
    pub(crate) name: &'a JobName,
    pub(crate) reply_to: Option<&'a Destination>,
    pub(crate) correlation_id: Option<&'a str>,
    /// How long the tombstone of an erased job lives.
    pub(crate) horizon_ms: u64,
}

/// What has come of it.
pub(crate) enum Done {
    /// To be answered now.
    Answered(Kind, Box<Answer>),
    /// The answer comes by the outbox.
    Later,
    /// Nothing is recorded any more.
    Missing,
}

impl Done {
    fn refused(name: &JobName, code: Code, message: impl Into<String>) -> Self {
        let answer = Answer {
            job_id: Some(name.job_id.as_str().to_owned()),
            ..Answer::refused(&Refusal::new(code, message))
        };
        Self::Answered(Kind::Refusal, Box::new(answer))
    }
}

impl Asked<'_> {
    /// Carries the request out, for what was recorded a moment ago.
    pub(crate) async fn carry_out(
        &self,
        store: &Store,
        record: Record,
        as_of: UnixMillis,
    ) -> Result<Done, store::Error> {
        if record.kind() != Some(RecordKind::Job) {
            return self.answer(store, &record, as_of).await;
        }
        match self.ask {
            Ask::Status(status) => match status.wait {
                Some(wait) => self.wait(store, record, as_of, wait).await,
                None => self.answer(store, &record, as_of).await,
            },
            Ask::Cancel => match cancel(store, self.name).await? {
                Some(record) => self.answer(store, &record, as_of).await,
                None => Ok(Done::Missing),
            },
            Ask::Subscribe(subscribe) => self.subscribe(store, subscribe).await,
            Ask::Erase => self.erase(store, record).await,
        }
    }

    async fn answer(
        &self,
        store: &Store,
        record: &Record,
        as_of: UnixMillis,
    ) -> Result<Done, store::Error> {
        let history = if self.ask.wants_history() && record.kind() == Some(RecordKind::Job) {
            Some(store.history(self.name).await?)
        } else {
            None
        };
        let (kind, answer) = answers::found(store, record, as_of, history);
        Ok(Done::Answered(kind, Box::new(answer)))
    }

    async fn answer_anew(&self, store: &Store) -> Result<Done, store::Error> {
        let (as_of, mut records) = store.read(std::slice::from_ref(self.name)).await?;
        match records.pop().flatten() {
            Some(record) => self.answer(store, &record, as_of).await,
            None => Ok(Done::Missing),
        }
    }

    async fn wait(
        &self,
        store: &Store,
        record: Record,
        as_of: UnixMillis,
        wait: Wait,
    ) -> Result<Done, store::Error> {
        // Nobody could be told.
        let Some(to) = self.reply_to else { return self.answer(store, &record, as_of).await };
        let waiter = Waiter {
            name: self.name,
            wait,
            to: to.name(),
            correlation_id: self.correlation_id,
            history: self.ask.wants_history(),
        };
        match store.wait(&waiter).await? {
            Waiting::Waiting => Ok(Done::Later),
            Waiting::Now => self.answer_anew(store).await,
            Waiting::Full => {
                let message = format!("{WAITS_PER_JOB_MAX} requests wait for this job already");
                Ok(Done::refused(self.name, Code::Quota, message))
            }
            Waiting::Busy => Ok(Done::refused(self.name, Code::Quota, OUTBOX_FULL)),
        }
    }

    async fn subscribe(&self, store: &Store, subscribe: &Subscribe) -> Result<Done, store::Error> {
        // Direct reply-to takes no events.
        let own = self.reply_to.filter(|to| matches!(to, Destination::Queue(_)));
        let otherwise_to = own.map(Destination::name).unwrap_or_default();
        match store.subscribe(self.name, subscribe, otherwise_to).await? {
            Subscribed::Stored(as_of, record) => self.answer(store, &record, as_of).await,
            Subscribed::Nowhere => {
                let message = "notify names changes, and no queue was ever named for this job";
                Ok(Done::refused(self.name, Code::BadRequest, message))
            }
            Subscribed::Busy => Ok(Done::refused(self.name, Code::Quota, OUTBOX_FULL)),
            Subscribed::NoJob => self.answer_anew(store).await,
        }
    }

    async fn erase(&self, store: &Store, record: Record) -> Result<Done, store::Error> {
        let job = (self.name.clone(), record);
        match store.retire(std::slice::from_ref(&job), self.horizon_ms, true).await?[..] {
            [Retired::Unfinished(state)] => {
                let message = format!(
                    "the job is {state}; only what is finished can be erased. Cancel it first, \
                     and wait for its end"
                );
                Ok(Done::refused(self.name, Code::NotPermitted, message))
            }
            _ => self.answer_anew(store).await,
        }
    }
}
