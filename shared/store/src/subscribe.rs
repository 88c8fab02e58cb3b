//! Changing what is pushed of a recorded job, and where.

use job::{Event, Subscription};
use protocol::UnixMillis;
use protocol::request::Subscribe;
use redis::Value;

use crate::each::JobCall;
use crate::keys::JobName;
use crate::record::Record;
use crate::reply::Reply;
use crate::retire::final_states;
use crate::scripts;
use crate::{Error, Store};

/// What became of a subscription.
#[derive(Debug, Clone)]
pub enum Subscribed {
    /// It is stored; this is the record in the same instant. What comes later is pushed.
    Stored(UnixMillis, Box<Record>),
    /// Changes are named, and no queue, neither here nor at the submission.
    Nowhere,
    /// Too much waits to be delivered to this client for anything to be pushed again.
    Busy,
    /// No job is recorded.
    NoJob,
}

impl Store {
    /// Changes a job's subscription. `otherwise_to` is used where no queue was ever named.
    ///
    /// # Errors
    /// It is not known whether it is changed: call again; what is pushed again may come twice.
    pub async fn subscribe(
        &self,
        name: &JobName,
        subscribe: &Subscribe,
        otherwise_to: &str,
    ) -> Result<Subscribed, Error> {
        let words =
            [(Event::Staged, Subscription::STAGE), (Event::Progressed, Subscription::PROGRESS)]
                .map(|(event, word)| format!("{event}={word}"))
                .join(",");
        let call = || {
            JobCall::new(self.keys().slot(name), self.change_keys(name))
                .arg(u8::from(subscribe.notify.is_some()))
                .arg(subscribe.notify.as_deref().unwrap_or_default())
                .arg(subscribe.notify_to.as_deref().unwrap_or_default())
                .arg(otherwise_to)
                .arg(u8::from(subscribe.redeliver))
                .arg(final_states())
                .arg(words.as_str())
                .arg(self.settings().outbox_per_client_max)
                .arg(Record::FIELDS)
        };
        let answers = self.each(&scripts::SUBSCRIBE, |_| vec![call()]).await?;
        let answer = answers.into_iter().next().unwrap_or_default();
        let Value::Array(mut parts) = answer else { return Err(Error::unexpected(answer)) };
        let values = parts.split_off(parts.len().min(2));
        let reply = Reply::new(Value::Array(parts))?;
        match reply.word() {
            "changed" => {
                let record = Record::from_values(values)?;
                Ok(Subscribed::Stored(UnixMillis(reply.parse(1)?), Box::new(record)))
            }
            "nowhere" => Ok(Subscribed::Nowhere),
            "busy" => Ok(Subscribed::Busy),
            _ => Ok(Subscribed::NoJob),
        }
    }
}
