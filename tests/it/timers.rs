//! What is taken, parked, detached or renewed, and whoever does it dies or comes too late.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use broker::topology;
use harness::{World, eventually, start, within};
use job::{Event, QueueName, State};
use protocol::UnixMillis;
use serde_json::json;
use store::accept::First;
use store::change::{Change, Changed, Timer};
use store::types::Served;
use tokio::sync::Semaphore;
use worker::{Context, Failure};

use crate::claim_table::{accept, job_type, named};

/// What has run where, and what lets it end.
#[derive(Clone)]
struct Runs {
    of: Arc<Mutex<HashMap<String, Vec<&'static str>>>>,
    gate: Arc<Semaphore>,
}

impl Runs {
    fn new(through: usize) -> Self {
        Self { of: Arc::default(), gate: Arc::new(Semaphore::new(through)) }
    }

    /// A worker that says its name with every run.
    async fn worker(
        &self,
        settings: worker::Settings,
        name: &'static str,
    ) -> anyhow::Result<worker::Running> {
        let runs = self.clone();
        let handler = move |job: Context| {
            let runs = runs.clone();
            async move {
                let id = job.job_id().to_string();
                runs.of.lock().unwrap().entry(id).or_default().push(name);
                runs.gate.acquire().await?.forget();
                Ok::<_, Failure>(name)
            }
        };
        let worker = worker::Worker::new(settings).handle(job_type().as_str(), handler)?;
        start(worker).await
    }

    fn of(&self, job_id: &str) -> Vec<&'static str> {
        self.of.lock().unwrap().get(job_id).cloned().unwrap_or_default()
    }

    async fn has_begun(&self, job_id: &str) -> anyhow::Result<()> {
        let look = || async { Ok((!self.of(job_id).is_empty()).then_some(())) };
        eventually(&format!("{job_id} to begin"), look).await
    }
}

pub(crate) async fn until(
    world: &World,
    job_id: &str,
    state: State,
) -> anyhow::Result<store::Record> {
    eventually(&format!("{job_id} to be {state}"), || async {
        let record = world.record("shop", job_id).await?;
        Ok(record.filter(|record| record.state() == Some(state)))
    })
    .await
}

/// A scheduler takes two jobs that are due and dies, before it has published the one and after it
/// has published the other. Neither is lost, and neither runs twice.
#[tokio::test]
async fn h17_what_a_dead_scheduler_had_taken_is_dispatched_again_and_runs_once()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let store = world.store().await?;
    for job_id in ["A-1", "A-2"] {
        let due = First::Scheduled { payload: b"1".to_vec(), at: UnixMillis::now() };
        accept(&store, named(job_id), due).await?;
        // As the scheduler takes it, but for the timer: it comes back at once, not in a minute.
        let due = Change::new(named(job_id), job_type(), Event::Due);
        let taken = Change { redispatch: true, timer: Timer::After(0), ..due };
        let taken = store.change(&[taken.with("queue", "default")]).await?;
        assert!(matches!(taken[..], [Changed::Applied { dispatch: 2, .. }]), "{taken:?}");
    }
    let record = store.read_one(&named("A-2")).await?.unwrap_or_default();
    let message = record.work_message(QueueName::default(), 2, b"1".to_vec());
    let message = message.ok_or_else(|| anyhow::anyhow!("no job: {record:?}"))?;
    let published = message.properties(store.ticket_key());
    world.raw("admin").await?.publish(topology::WORK, "default", published, "1").await?;

    let server = world.server().await?;
    let runs = Runs::new(10);
    let worker = runs.worker(world.worker_settings(), "the worker").await?;
    for job_id in ["A-1", "A-2"] {
        let done = until(&world, job_id, State::Succeeded).await?;
        assert_eq!(
            (done.attempt.as_deref(), done.payload_bytes.as_deref()),
            (Some("1"), Some("1"))
        );
    }
    // Whatever the queue still holds is dropped before the worker ends.
    let depth = world.raw("server").await?;
    eventually("the work queue to be empty", || async {
        Ok((depth.connection.depth("counterfoil.work.default").await?.ready == 0).then_some(()))
    })
    .await?;
    worker.stop().await?;
    for job_id in ["A-1", "A-2"] {
        assert_eq!(runs.of(job_id), ["the worker"], "{job_id}");
    }
    Ok(server.stop().await?)
}

/// The registrar saw no worker for the type; the worker came and found nothing parked; then the
/// registrar parked the job. It is released all the same, because the scheduler looks again and
/// again.
#[tokio::test]
async fn h19_a_job_that_is_parked_after_its_worker_has_come_is_released() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let runs = Runs::new(10);
    let worker = runs.worker(world.worker_settings(), "the worker").await?;
    let store = world.store().await?;
    let until_then = UnixMillis::now().after(harness::DEADLINE * 10);
    let reason = "no worker has announced the type".to_owned();
    let parked = First::Parked { payload: b"1".to_vec(), until: until_then, reason };
    accept(&store, named("A-1"), parked).await?;
    let done = until(&world, "A-1", State::Succeeded).await?;
    assert_eq!(done.parked_reason, None);
    assert_eq!(store.payload(&named("A-1")).await?, None);
    worker.stop().await?;
    Ok(server.stop().await?)
}

/// Two schedulers read that a job is due. One parks it; the other one, which reads the record only
/// then, finds it parked, and used to let it expire at once: it was parked for too long, by a timer
/// that was another one's. The crash points met it. Here a timer that has run out stands for the
/// second scheduler's list.
#[tokio::test]
async fn a_job_that_was_parked_after_it_was_read_that_it_is_due_does_not_expire()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let store = world.store().await?;
    let until_then = UnixMillis::now().after(harness::DEADLINE * 10);
    let reason = "the work queue default is full".to_owned();
    let parked = First::Parked { payload: b"1".to_vec(), until: until_then, reason };
    accept(&store, named("A-1"), parked).await?;
    let client = redis::Client::open(world.redis_url())?;
    let mut redis = client.get_multiplexed_async_connection().await?;
    let (due, member) = (store.keys().due(0), named("A-1").member());
    let _: () = redis::AsyncCommands::zadd(&mut redis, &due, &member, 1).await?;
    let server = world.server().await?;
    // It is looked at: what has no meaning any more is dropped.
    eventually("the timer to be acted on", || {
        let (mut redis, due, member) = (redis.clone(), due.clone(), member.clone());
        async move {
            let score: Option<f64> =
                redis::AsyncCommands::zscore(&mut redis, &due, &member).await?;
            Ok(score.is_none().then_some(()))
        }
    })
    .await?;
    let record = world.record("shop", "A-1").await?.unwrap_or_default();
    assert_eq!(record.state(), Some(State::Parked));
    Ok(server.stop().await?)
}

/// A job of a type that nobody ever serves is not kept for ever, with its body.
#[tokio::test]
async fn h19_a_job_for_which_no_worker_comes_expires_when_its_time_is_up() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server_with(|settings| settings.parked_ms = 300).await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    let wanted = [("job-notify", "terminal")];
    shop.submit_job("none.such", "A-1", &inbox.queue, &wanted, "1").await?;
    let event = inbox.event("expired").await?;
    assert_eq!((event.text("job_id"), &event.body["done"]), ("A-1", &json!(true)));
    assert_eq!(world.store().await?.payload(&named("A-1")).await?, None);
    Ok(server.stop().await?)
}

/// The broker counts from delivery, so a message must not wait behind a long run for ever: it goes
/// back, uncounted, and another worker runs it while the long one goes on.
#[tokio::test]
async fn h20_a_message_that_waits_too_long_for_a_slot_goes_to_another_worker() -> anyhow::Result<()>
{
    let world = World::new().await?;
    let server = world.server().await?;
    let mut settings = world.worker_settings();
    settings.worker.slots = 1;
    settings.worker.detach_after_ms = 300;
    let runs = Runs::new(0);
    let busy = runs.worker(settings.clone(), "busy").await?;
    let shop = world.raw("shop").await?;
    shop.submit_job(job_type().as_str(), "A-1", "", &[], "1").await?;
    runs.has_begun("A-1").await?;
    // Detached, its message is acknowledged: the next one is delivered, and finds no free slot.
    eventually("the long run to be detached", || async {
        Ok(world.record("shop", "A-1").await?.and_then(|record| record.detached))
    })
    .await?;
    shop.submit_job(job_type().as_str(), "A-2", "", &[], "1").await?;
    let queue = topology::work_queue(&QueueName::default());
    eventually("it is delivered", || async {
        let queued = world.record("shop", "A-2").await?.is_some();
        let ready = shop.connection.depth(&queue).await?.ready;
        Ok((queued && ready == 0).then_some(()))
    })
    .await?;
    let idle = runs.worker(settings, "idle").await?;
    runs.has_begun("A-2").await?;
    assert_eq!(until(&world, "A-1", State::Running).await?.attempt.as_deref(), Some("1"));
    runs.gate.add_permits(10);
    for (job_id, name) in [("A-1", "busy"), ("A-2", "idle")] {
        let done = until(&world, job_id, State::Succeeded).await?;
        assert_eq!((runs.of(job_id), done.attempt.as_deref()), (vec![name], Some("1")), "{job_id}");
    }
    idle.stop().await?;
    busy.stop().await?;
    Ok(server.stop().await?)
}

/// Were the ledger, the lease or a question a change, delivering an event would make another event.
#[tokio::test]
async fn h25_delivering_renewing_and_asking_make_no_revision() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let runs = Runs::new(0);
    let worker = runs.worker(world.worker_settings(), "the worker").await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    let wanted = [("job-notify", "*")];
    shop.submit_job(job_type().as_str(), "A-1", &inbox.queue, &wanted, "1").await?;
    assert_eq!(inbox.event("running").await?.body["revision"], json!(2));
    let leases = Mutex::new(std::collections::BTreeSet::new());
    eventually("the lease to be renewed, and the events to be in the ledger", || async {
        let record = world.record("shop", "A-1").await?.unwrap_or_default();
        let told = record.delivered_revision.as_deref() == Some("2");
        let mut leases = leases.lock().unwrap();
        leases.extend(record.lease_until);
        Ok((told && leases.len() >= 3).then_some(()))
    })
    .await?;
    for verb in ["status", "subscribe", "status"] {
        shop.ask(verb, &inbox.queue, json!({"job_id": "A-1", "notify": "*"})).await?;
        let status = inbox.next_of("status").await?;
        assert_eq!((&status.body["revision"], status.text("state")), (&json!(2), "running"));
    }
    runs.gate.add_permits(1);
    assert_eq!(inbox.event("succeeded").await?.body["revision"], json!(3));
    eventually("the end to be in the ledger", || async {
        let record = world.record("shop", "A-1").await?.unwrap_or_default();
        Ok(record.delivered_revision.filter(|revision| revision == "3"))
    })
    .await?;
    let last = world.record("shop", "A-1").await?.unwrap_or_default();
    assert_eq!(last.revision.as_deref(), Some("3"));
    assert_eq!(world.store().await?.history(&named("A-1")).await?.len(), 3);
    world.mark(&inbox.queue, "end").await?;
    let next = loop {
        let next = inbox.next().await?;
        if next.kind != "receipt" {
            break next;
        }
    };
    assert_eq!(next.properties.message_id.as_deref(), Some("end"), "{}", next.body);
    worker.stop().await?;
    Ok(server.stop().await?)
}

/// A work message whose job has neither record nor tombstone, in the epoch in which it was sent: it
/// is kept for people, and nothing is run or recorded.
#[tokio::test]
async fn h31_a_work_message_without_a_record_brings_no_job_back_to_life() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (server, store) = (world.server().await?, world.store().await?);
    store.announce(&[Served::new(job_type(), QueueName::default())]).await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    shop.submit_job(job_type().as_str(), "A-1", &inbox.queue, &[], "1").await?;
    assert_eq!(inbox.next_of("receipt").await?.text("state"), "queued");
    let client = redis::Client::open(world.redis_url())?;
    let mut redis = client.get_multiplexed_async_connection().await?;
    let key = store.keys().job(&named("A-1"));
    let () = redis::AsyncCommands::del(&mut redis, key).await?;
    let mut dead = world.raw("admin").await?.read(topology::DEAD_QUEUE).await?;
    let runs = Runs::new(10);
    let worker = runs.worker(world.worker_settings(), "the worker").await?;
    let kept = within("the message is kept", dead.next()).await??;
    let reason = kept.properties.headers.text(protocol::headers::REASON);
    assert_eq!(reason, Some("there is no record of this job"));
    worker.stop().await?;
    assert_eq!((runs.of("A-1").len(), world.record("shop", "A-1").await?.is_some()), (0, false));
    Ok(server.stop().await?)
}
