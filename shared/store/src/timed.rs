//! When the store ran a call, by its own clock: for tests that hold its answers against the rules.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use protocol::UnixMillis;
use redis::{Pipeline, Value};

use crate::Error;
use crate::read::store_time;

/// The instants before and after each round trip.
type Spans = Arc<Mutex<Vec<(UnixMillis, UnixMillis)>>>;

tokio::task_local! {
    static SPANS: Spans;
}

/// Awaits calls of a store, and says for each of their round trips within which two instants of the
/// store's clock it was carried out; nearly always that is one millisecond. A reader of the outbox
/// has a connection of its own and is not timed.
pub async fn timed<T>(calls: impl Future<Output = T>) -> (T, Vec<(UnixMillis, UnixMillis)>) {
    let spans = Spans::default();
    let answer = SPANS.scope(Arc::clone(&spans), calls).await;
    let spans = std::mem::take(&mut *spans.lock().unwrap_or_else(PoisonError::into_inner));
    (answer, spans)
}

/// The pipeline between two looks at the clock, if somebody wants to know.
pub(crate) fn between_looks(pipeline: Cow<'_, Pipeline>) -> Cow<'_, Pipeline> {
    if SPANS.try_with(|_| ()).is_err() {
        return pipeline;
    }
    let mut timed = Pipeline::with_capacity(pipeline.len() + 2);
    timed.cmd("TIME");
    for command in pipeline.cmd_iter() {
        timed.add_command(command.clone());
    }
    timed.cmd("TIME");
    Cow::Owned(timed)
}

/// Notes what the clock said, and takes it out of the answers.
pub(crate) fn noted(mut values: Vec<Value>) -> Result<Vec<Value>, Error> {
    let Ok(spans) = SPANS.try_with(Arc::clone) else { return Ok(values) };
    let after = store_time(values.pop())?;
    let before = store_time(Some(values.remove(0)))?;
    spans.lock().unwrap_or_else(PoisonError::into_inner).push((before, after));
    Ok(values)
}
