//! Cancelling a job that is recorded. A waiting job is cancelled at once; a running one is asked,
//! and its handler decides.

use job::{Event, State};
use store::change::{Change, Changed, Timer};
use store::{JobName, Record, RecordKind, Store};

/// Cancels, and returns the record as it is then; `None` if there is none.
pub(crate) async fn cancel(store: &Store, name: &JobName) -> Result<Option<Record>, store::Error> {
    // A job may move between the look and the change; it moves only so often.
    for _ in 0..10 {
        let Some(record) = store.read_one(name).await? else { return Ok(None) };
        let (Some(RecordKind::Job), Some(state), Some(job_type)) =
            (record.kind(), record.state(), record.job_type())
        else {
            return Ok(Some(record));
        };
        let asked = state == State::Running && record.cancel_requested.is_some();
        if state.is_terminal() || asked {
            return Ok(Some(record));
        }
        let change = if state == State::Running {
            // Its worker may be gone, and its message too if the store was rolled back; nothing
            // shows that any more once this is written. So the scheduler watches the lease.
            let asked = Change::new(name.clone(), job_type, Event::CancelAsked);
            Change { timer: Timer::LeaseEnd, ..asked }.with("cancel_requested", "1")
        } else {
            Change {
                except_from: Some(State::Running),
                delete: &["payload", "due_at"],
                ..Change::new(name.clone(), job_type, Event::Cancelled)
            }
        };
        let changed = store.change(std::slice::from_ref(&change)).await?;
        if matches!(changed[..], [Changed::Applied { .. }]) {
            return store.read_one(name).await;
        }
    }
    Err(store::Error::Unexpected(format!("{} does not stand still", name.member())))
}
