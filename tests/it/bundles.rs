//! Several short jobs in one work message: each is what it would be alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use broker::topology;
use harness::{Raw, World, eventually, start, within};
use job::{QueueName, State};
use nodes::shared::ADMINISTRATOR;
use protocol::batch::{Entry, FROM_CLIENT};
use protocol::{HeaderValue, Submissions, headers};
use serde_json::json;
use tokio::sync::Semaphore;
use worker::{Context, Failure, Json, Running};

pub(crate) const PING: &str = "order.ping";
const PONG: &str = "order.pong";

/// Which jobs have run, in which attempts; and how many may end.
#[derive(Clone)]
pub(crate) struct Runs {
    of: Arc<Mutex<BTreeMap<String, Vec<u32>>>>,
    gate: Arc<Semaphore>,
}

impl Runs {
    pub(crate) fn new(through: usize) -> Self {
        Self { of: Arc::default(), gate: Arc::new(Semaphore::new(through)) }
    }

    /// A worker of types whose jobs are short.
    pub(crate) async fn serve(&self, world: &World, types: &[&str]) -> anyhow::Result<Running> {
        let mut worker = world.worker();
        for job_type in types {
            let runs = self.clone();
            let handler = move |Json(task): Json<String>, job: Context| {
                let runs = runs.clone();
                async move { runs.run(&task, &job).await }
            };
            worker = worker.handle(job_type, handler)?.short(job_type)?;
        }
        start(worker).await
    }

    async fn run(&self, task: &str, job: &Context) -> Result<(), Failure> {
        let id = job.job_id().to_string();
        self.of.lock().unwrap().entry(id).or_default().push(job.attempt());
        self.gate.acquire().await?.forget();
        match task {
            "fail" => Err(Failure::fail("as it was told to")),
            "again" if job.attempt() == 1 => Err(Failure::retry("as it was told to")),
            _ => Ok(()),
        }
    }

    pub(crate) fn attempts(&self) -> BTreeMap<String, Vec<u32>> {
        self.of.lock().unwrap().clone()
    }

    /// That these have run, once each, and no others.
    pub(crate) fn assert_once(&self, ids: &[String]) {
        let wanted: BTreeMap<_, _> = ids.iter().map(|id| (id.clone(), vec![1])).collect();
        assert_eq!(self.attempts(), wanted);
    }
}

/// Jobs in one message of the client's, so that they are decided, and dispatched, in one go.
async fn submit(shop: &Raw, jobs: Vec<Entry>) -> anyhow::Result<()> {
    submit_to(shop, jobs, "").await
}

/// The same, with receipts.
async fn submit_to(shop: &Raw, jobs: Vec<Entry>, reply_to: &str) -> anyhow::Result<()> {
    let mut properties = shop.properties("", reply_to);
    properties.kind = Some(FROM_CLIENT.to_owned());
    let body = Submissions { v: 1, submissions: jobs }.to_json();
    shop.submit(PING, properties, body).await
}

fn job(id: &str, task: &str) -> Entry {
    Entry::new(id, json!(task).to_string().into_bytes())
}

fn pings(count: usize) -> (Vec<String>, Vec<Entry>) {
    let ids: Vec<String> = (0..count).map(|n| format!("A-{n}")).collect();
    let jobs = ids.iter().map(|id| job(id, "")).collect();
    (ids, jobs)
}

/// So many jobs wait in one message: they are of a type that is known to be short.
pub(crate) async fn waiting(
    world: &World,
    runs: &Runs,
    count: usize,
) -> anyhow::Result<(Raw, Vec<String>)> {
    runs.serve(world, &[PING]).await?.stop().await?;
    let shop = world.raw("shop").await?;
    let (ids, jobs) = pings(count);
    submit(&shop, jobs).await?;
    until_ready(&shop, 1).await?;
    Ok((shop, ids))
}

async fn ready(shop: &Raw) -> anyhow::Result<u32> {
    Ok(shop.connection.depth(&topology::work_queue(&QueueName::default())).await?.ready)
}

/// Waits until the work queue has so many messages.
pub(crate) async fn until_ready(shop: &Raw, wanted: u32) -> anyhow::Result<()> {
    let look = || async { Ok((ready(shop).await? == wanted).then_some(())) };
    eventually(&format!("{wanted} work messages"), look).await
}

pub(crate) async fn until_all(world: &World, ids: &[String], wanted: State) -> anyhow::Result<()> {
    for id in ids {
        let record = || async {
            let record = world.record("shop", id).await?.unwrap_or_default();
            Ok(record.state().filter(|state| *state == wanted))
        };
        eventually(&format!("{id} to be {wanted}"), record).await?;
    }
    Ok(())
}

/// Nothing of the queue is left unsettled: what a worker holds returns when it ends.
pub(crate) async fn end(shop: &Raw, worker: Running) -> anyhow::Result<()> {
    worker.stop().await?;
    assert_eq!(ready(shop).await?, 0, "a message was not settled");
    Ok(())
}

/// Twenty in two messages; and what the broker has to tell apart, or what is large, alone.
#[tokio::test]
async fn short_jobs_travel_together_and_each_comes_to_its_own_end() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let runs = Runs::new(100);
    runs.serve(&world, &[PING]).await?.stop().await?;
    let shop = world.raw("shop").await?;
    let (mut ids, mut jobs) = pings(18);
    jobs.extend([job("fails", "fail"), job("tries-again", "again")]);
    let high = [(headers::PRIORITY.to_owned(), json!("high"))];
    jobs.push(Entry { headers: high.into(), ..job("first", "") });
    jobs.push(job("large", &"x".repeat(5000)));
    ids.extend(["first", "large"].map(str::to_owned));
    submit(&shop, jobs).await?;
    until_ready(&shop, 4).await?;
    let worker = runs.serve(&world, &[PING]).await?;
    until_all(&world, &ids, State::Succeeded).await?;
    until_all(&world, &["fails".to_owned()], State::Failed).await?;
    until_all(&world, &["tries-again".to_owned()], State::Succeeded).await?;
    let mut attempts = runs.attempts();
    assert_eq!(attempts.remove("tries-again"), Some(vec![1, 2]));
    assert!(attempts.len() == 21 && attempts.values().all(|of| *of == [1]), "{attempts:?}");
    end(&shop, worker).await?;
    Ok(server.stop().await?)
}

#[tokio::test]
async fn jobs_of_a_type_that_nobody_calls_short_travel_alone() -> anyhow::Result<()> {
    let world = World::new().await?;
    let said = world.worker().short(PING).map(drop).unwrap_err();
    assert_eq!(said.to_string(), r#"the type "order.ping" has no handler yet"#);
    let server = world.server().await?;
    let runs = Runs::new(100);
    runs.serve(&world, &[PING]).await?.stop().await?;
    let handler = || async { Ok::<_, Failure>(()) };
    // The last announcement holds.
    start(world.worker().handle(PING, handler)?).await?.stop().await?;
    let known = || async {
        let types = world.store().await?.served_types().await?;
        Ok(types.values().all(|served| !served.is_short).then_some(()))
    };
    eventually("the announcement", known).await?;
    let shop = world.raw("shop").await?;
    let (ids, jobs) = pings(5);
    // A server looks twice a second.
    let server = {
        server.stop().await?;
        world.server().await?
    };
    submit(&shop, jobs).await?;
    until_ready(&shop, 5).await?;
    let worker = start(world.worker().handle(PING, handler)?).await?;
    until_all(&world, &ids, State::Succeeded).await?;
    end(&shop, worker).await?;
    Ok(server.stop().await?)
}

/// After a failure of the server's connection a message may be there twice.
#[tokio::test]
async fn a_copy_of_a_message_of_several_jobs_runs_none_of_them_again() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let runs = Runs::new(100);
    let (shop, ids) = waiting(&world, &runs, 7).await?;
    let hands = world.raw(ADMINISTRATOR).await?;
    let queue = topology::work_queue(&QueueName::default());
    let mut held = hands.connection.consumer(&queue, 2).await?;
    let message = within("the message", held.next_chunk(1)).await??.remove(0);
    assert_eq!(message.properties.headers.get(headers::JOBS), Some(&HeaderValue::Int(7)));
    hands.publish(topology::DEFAULT, &queue, message.properties, message.body).await?;
    hands.connection.close().await;
    until_ready(&shop, 2).await?;
    let worker = runs.serve(&world, &[PING]).await?;
    until_all(&world, &ids, State::Succeeded).await?;
    until_ready(&shop, 0).await?;
    end(&shop, worker).await?;
    runs.assert_once(&ids);
    Ok(server.stop().await?)
}

/// What is done is done; what runs goes on; what waited for a slot runs when the message comes
/// again.
#[tokio::test]
async fn a_worker_that_loses_its_connection_amid_a_message_runs_each_job_once() -> anyhow::Result<()>
{
    let mut world = World::new().await?;
    world.settings.worker.slots = 2;
    let server = world.server().await?;
    let runs = Runs::new(1);
    let (_, ids) = waiting(&world, &runs, 6).await?;
    let worker = runs.serve(&world, &[PING]).await?;
    let begun = || async { Ok((runs.attempts().len() == 3).then_some(())) };
    eventually("one to end and two to run", begun).await?;
    world.rabbitmqctl(&["close_all_connections", "-p", &world.name, "for the test"]).await?;
    runs.gate.add_permits(10);
    until_all(&world, &ids, State::Succeeded).await?;
    let shop = world.raw("shop").await?;
    until_ready(&shop, 0).await?;
    end(&shop, worker).await?;
    runs.assert_once(&ids);
    Ok(server.stop().await?)
}

/// Its worker is busy with the first. The others must not wait for that one, nor for the broker to
/// lose its patience: they go back, and the first is detached.
#[tokio::test]
async fn jobs_that_wait_too_long_for_a_slot_go_back_from_behind_one_that_runs() -> anyhow::Result<()>
{
    let mut world = World::new().await?;
    world.settings.worker.slots = 1;
    world.settings.worker.detach_after_ms = 500;
    let server = world.server().await?;
    let (first, second) = (Runs::new(0), Runs::new(100));
    let (shop, ids) = waiting(&world, &first, 4).await?;
    let busy = first.serve(&world, &[PING]).await?;
    let begun = || async { Ok((first.attempts().len() == 1).then_some(())) };
    eventually("the first to run", begun).await?;
    let free = second.serve(&world, &[PING]).await?;
    until_all(&world, &ids[1..], State::Succeeded).await?;
    first.gate.add_permits(1);
    until_all(&world, &ids[..1], State::Succeeded).await?;
    free.stop().await?;
    end(&shop, busy).await?;
    first.assert_once(&ids[..1]);
    second.assert_once(&ids[1..]);
    Ok(server.stop().await?)
}

/// Were they together, either worker would give the message back for ever, for the sake of the jobs
/// that it does not serve and the other one has done.
#[tokio::test]
async fn short_jobs_of_two_types_travel_apart_so_that_each_worker_has_what_it_serves()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let (first, second) = (Runs::new(100), Runs::new(100));
    first.serve(&world, &[PING, PONG]).await?.stop().await?;
    let shop = world.raw("shop").await?;
    let (pings, mut jobs) = pings(4);
    let pongs: Vec<String> = (0..3).map(|n| format!("B-{n}")).collect();
    for (place, id) in pongs.iter().enumerate() {
        jobs.insert(2 * place, Entry { r#type: Some(PONG.to_owned()), ..job(id, "") });
    }
    submit(&shop, jobs).await?;
    until_ready(&shop, 2).await?;
    let one = first.serve(&world, &[PING]).await?;
    until_all(&world, &pings, State::Succeeded).await?;
    let other = second.serve(&world, &[PONG]).await?;
    until_all(&world, &pongs, State::Succeeded).await?;
    one.stop().await?;
    end(&shop, other).await?;
    first.assert_once(&pings);
    second.assert_once(&pongs);
    Ok(server.stop().await?)
}

/// All of them are parked, with the reason, and come again alone when there is room.
#[tokio::test]
async fn short_jobs_whose_queue_is_full_are_all_parked_and_released() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let runs = Runs::new(100);
    runs.serve(&world, &[PING]).await?.stop().await?;
    let shop = world.raw("shop").await?;
    let queue = topology::work_queue(&QueueName::default());
    let policy = ["set_policy", "-p", &world.name, "full", &queue, r#"{"max-length":1}"#];
    world.rabbitmqctl(&policy).await?;
    let mut inbox = shop.inbox("a").await?;
    let (mut ids, mut states) = (Vec::new(), Vec::new());
    // How many a queue takes beyond its limit is RabbitMQ's to say.
    while !states.contains(&"parked".to_owned()) {
        anyhow::ensure!(ids.len() < 1000, "the queue is never full");
        let of: Vec<String> = (0..5).map(|n| format!("A-{}", ids.len() + n)).collect();
        let jobs = of.iter().map(|id| job(id, "")).collect();
        submit_to(&shop, jobs, &inbox.queue).await?;
        states.clear();
        for _ in &of {
            states.push(inbox.next_of("receipt").await?.text("state").to_owned());
        }
        ids.extend(of);
    }
    assert_eq!(states, ["parked"; 5]);
    world.rabbitmqctl(&["clear_policy", "-p", &world.name, "full"]).await?;
    let together = u32::try_from(ids.len() / 5 - 1)?;
    until_ready(&shop, together + 5).await?;
    let worker = runs.serve(&world, &[PING]).await?;
    until_all(&world, &ids, State::Succeeded).await?;
    end(&shop, worker).await?;
    runs.assert_once(&ids);
    Ok(server.stop().await?)
}
