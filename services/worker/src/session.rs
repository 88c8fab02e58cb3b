//! One session of connections after another; runs outlive them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use broker::{Connection, Publisher, topology};
use faults::{Point, crash_point};
use job::QueueName;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::candidates::{Candidate, decode};
use crate::claims::{Gate, claim};
use crate::runs::Settle;
use crate::settling::settle;
use crate::shared::Shared;

/// What a worker announces is announced again so often: a store may lose its last second.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(5);

/// How long the last acknowledgements may take.
const SETTLE: Duration = Duration::from_secs(5);

/// Serves the queues until a connection fails or the worker is told to stop reading. `ready` is
/// called when all queues are served.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    stop_reading: &CancellationToken,
    finished: &CancellationToken,
    ready: impl FnOnce(),
) -> Result<(), Error> {
    let consume = Connection::open(&shared.settings.amqp, "counterfoil worker").await?;
    // For dead letters only: nothing that a blocked broker would hold up.
    let publish = Connection::open(&shared.settings.amqp, "counterfoil worker, letters").await?;
    let served = serve_on(shared, &consume, &publish, stop_reading, finished, ready).await;
    consume.close().await;
    publish.close().await;
    served
}

async fn serve_on(
    shared: &Arc<Shared>,
    consume: &Connection,
    publish: &Connection,
    stop_reading: &CancellationToken,
    finished: &CancellationToken,
    ready: impl FnOnce(),
) -> Result<(), Error> {
    let declare = shared.settings.amqp.declare;
    if declare {
        consume.declare_topology(&[]).await?;
    }
    let ended = stop_reading.child_token();
    let mut queues = JoinSet::new();
    for queue in shared.registry.queues() {
        if declare {
            consume.declare_work_queue(&queue).await?;
        } else {
            consume.check_work_queue(&queue).await?;
        }
        let name = topology::work_queue(&queue);
        let consumer = consume.consumer(&name, shared.settings.worker.slots).await?;
        let serving = Queue {
            shared: Arc::clone(shared),
            queue,
            consumer,
            dead: publish.publisher().await?,
            stop: ended.clone(),
            drains: stop_reading.clone(),
            finished: finished.clone(),
        };
        queues.spawn(serving.run());
    }
    // Only now: a job that is released for this worker must find its queue. A store that is away
    // for a moment is told at the next tick.
    if let Err(error) = shared.store.announce(&shared.registry.served()).await {
        tracing::debug!(%error, "announcing types");
    }
    ready();
    let announcing = shared.clone();
    let mut first_error = None;
    let mut announce = tokio::time::interval(ANNOUNCE_EVERY);
    announce.tick().await;
    loop {
        tokio::select! {
            done = queues.join_next() => match done {
                None => break,
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => {
                    first_error.get_or_insert(error);
                    ended.cancel();
                }
                Some(Err(_)) => {
                    first_error.get_or_insert(Error::Panicked);
                    ended.cancel();
                }
            },
            () = publish.failed() => {
                first_error.get_or_insert(Error::Broker(broker::Error::Gone));
                ended.cancel();
                while queues.join_next().await.is_some() {}
                break;
            }
            _ = announce.tick() => {
                if let Err(error) = announcing.store.announce(&announcing.registry.served()).await {
                    tracing::debug!(%error, "announcing types");
                }
            }
        }
    }
    first_error.map_or(Ok(()), Err)
}

struct Queue {
    shared: Arc<Shared>,
    queue: QueueName,
    consumer: broker::Consumer,
    dead: Publisher,
    /// No further message is read.
    stop: CancellationToken,
    /// That is because the worker is to end, and not because the other connection has failed.
    drains: CancellationToken,
    /// Nothing runs any more that could want to acknowledge.
    finished: CancellationToken,
}

impl Queue {
    async fn run(mut self) -> Result<(), Error> {
        let (acks, settling) = mpsc::unbounded_channel();
        let acker = self.consumer.acker();
        let mut settler = tokio::spawn(settle(acker, settling));
        let read = self.read(&acks).await;
        drop(acks);
        if read.is_ok() && self.drains.is_cancelled() {
            // Runs go on and acknowledge on this channel, until the worker has drained.
            self.finished.cancelled().await;
            // The task ends when the last delivery is settled.
            if tokio::time::timeout(SETTLE, &mut settler).await.is_err() {
                tracing::debug!(queue = %self.queue, "a delivery was not settled: it comes again");
            }
        }
        settler.abort();
        self.consumer.close().await;
        read
    }

    async fn read(&mut self, acks: &mpsc::UnboundedSender<Settle>) -> Result<(), Error> {
        let slots = usize::from(self.shared.settings.worker.slots);
        loop {
            let chunk = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                chunk = self.consumer.next_chunk(slots) => chunk?,
            };
            crash_point(Point::WorkRead);
            let decoded = |delivery| decode(&self.shared, &self.queue, delivery, acks, &self.dead);
            let mut waiting: VecDeque<_> = chunk.into_iter().flat_map(decoded).collect();
            while !waiting.is_empty() {
                let taken = tokio::select! {
                    taken = self.take(&mut waiting) => taken,
                    () = self.stop.cancelled() => return Ok(()),
                };
                let gate = tokio::select! {
                    gate = Gate::share(&self.shared) => gate,
                    () = self.stop.cancelled() => return Ok(()),
                };
                claim(&self.shared, taken, gate, &self.stop).await;
            }
        }
    }

    /// Takes as many jobs as there are free slots, at least one. What has waited too long for one
    /// goes back, with what came behind it: another worker may have one, and the broker does not
    /// wait for ever.
    async fn take(&self, waiting: &mut VecDeque<Candidate>) -> Vec<Candidate> {
        let limit = Duration::from_millis(self.shared.settings.worker.detach_after_ms);
        let mut taken = Vec::new();
        while !waiting.is_empty() {
            let slots = Arc::clone(&self.shared.slots);
            let permit = if taken.is_empty() {
                let until = waiting[0].delivered_at + limit;
                let Ok(permit) = tokio::time::timeout_at(until, slots.acquire_owned()).await else {
                    waiting.drain(..).for_each(Candidate::give_back);
                    break;
                };
                permit
            } else {
                match slots.try_acquire_owned() {
                    Ok(permit) => Ok(permit),
                    Err(_) => break,
                }
            };
            // The semaphore is never closed.
            let (Ok(permit), Some(candidate)) = (permit, waiting.pop_front()) else { break };
            taken.push(candidate.with(permit));
        }
        taken
    }
}
