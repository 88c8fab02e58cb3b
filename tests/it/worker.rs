//! Handlers, and what happens when their worker goes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use client::Submission;
use harness::{Process, World, eventually, start, within};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Notify;
use worker::{Context, Failure, Json};

const LONG: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
struct Order {
    qty: u32,
}

#[tokio::test]
async fn a_typed_handler_gets_its_arguments_and_reports_stages_and_progress() -> anyhow::Result<()>
{
    async fn place(Json(order): Json<Order>, job: Context) -> Result<u32, Failure> {
        job.stage("stock-reserved").await?;
        job.progress(50, "half").await?;
        Ok(order.qty * 2)
    }
    let world = World::new().await?;
    let server = world.server().await?;
    world.work_queue("orders").await?;
    let worker = start(world.worker().handle_on("order.place", "orders", None, place)?).await?;
    let shop = world.client("shop")?;
    let order = Submission::new("order.place", r#"{"qty":21}"#).job_id("A-1");
    shop.submit(order).await?.accepted().await?;
    let done = shop.wait("A-1", LONG, |_| {}).await?;
    assert_eq!(done.result.as_ref().map(|r| r.get()), Some("42"));
    assert_eq!(done.queue.as_deref(), Some("orders"));
    assert_eq!((done.stage.as_deref(), done.progress), (Some("stock-reserved"), Some(50)));
    assert_eq!(done.progress_note.as_deref(), Some("half"));
    worker.stop().await?;
    Ok(server.stop().await?)
}

#[tokio::test]
async fn a_body_that_a_handler_cannot_read_fails_at_once_and_says_why() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let handler = |Json(order): Json<Order>| async move { Ok::<_, Failure>(order.qty) };
    let worker = start(world.worker().handle("order.place", handler)?).await?;
    let shop = world.client("shop")?;
    shop.submit(Submission::new("order.place", "no JSON").job_id("A-1")).await?;
    let failed = eventually("the job to fail", || async {
        let record = world.record("shop", "A-1").await?.unwrap_or_default();
        Ok((record.state.as_deref() == Some("failed")).then_some(record))
    })
    .await?;
    assert!(failed.error.unwrap_or_default().starts_with("the body is not the JSON wanted"));
    assert_eq!(failed.attempt.as_deref(), Some("1"));
    worker.stop().await?;
    Ok(server.stop().await?)
}

#[tokio::test]
async fn a_panic_is_a_failed_attempt_and_the_worker_goes_on() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let handler = |job: Context| async move {
        assert!(job.attempt() > 1, "a bug in the handler");
        Ok::<_, Failure>("done")
    };
    let worker = start(world.worker().handle("buggy", handler)?).await?;
    let shop = world.client("shop")?;
    shop.submit(Submission::new("buggy", "1").job_id("A-1")).await?.accepted().await?;
    let done = shop.wait("A-1", LONG, |_| {}).await?;
    assert_eq!((done.state.as_deref(), done.attempt), (Some("succeeded"), Some(2)));
    let errored = done.history.unwrap_or_default();
    let errored = errored.iter().find(|entry| entry.event == "errored");
    let detail = errored.and_then(|entry| entry.detail.clone()).unwrap_or_default();
    assert_eq!(detail, "the handler panicked: a bug in the handler");
    worker.stop().await?;
    Ok(server.stop().await?)
}

#[tokio::test]
async fn a_time_limit_and_a_deadline_end_a_run() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (server, worker) = (world.server().await?, world.demo_worker().await?);
    let shop = world.client("shop")?;
    let sleep =
        || Submission::new("demo.sleep", r#"{"ms":600000}"#).header("job-max-attempts", "1");
    let soon = protocol::UnixMillis::now().after(Duration::from_millis(700)).to_string();
    shop.submit(sleep().job_id("A-1").header("job-timeout-ms", "200")).await?.accepted().await?;
    shop.submit(sleep().job_id("A-2").header("job-deadline", soon)).await?.accepted().await?;
    let limited = shop.wait("A-1", LONG, |_| {}).await?;
    assert_eq!(limited.error.as_deref(), Some("not done within 200 ms"));
    let expired = shop.wait("A-2", LONG, |_| {}).await?;
    assert_eq!(expired.state.as_deref(), Some("expired"));
    worker.stop().await?;
    Ok(server.stop().await?)
}

/// Neither is lost, and neither is run before it may be (H19).
#[tokio::test]
async fn a_scheduled_job_waits_for_its_time_and_a_parked_one_for_its_worker() -> anyhow::Result<()>
{
    let world = World::new().await?;
    let server = world.server().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    let at = protocol::UnixMillis::now().after(Duration::from_millis(1500));
    let later = [("job-not-before", at.to_string()), ("job-notify", "*".to_owned())];
    let later = later.each_ref().map(|(name, value)| (*name, value.as_str()));
    shop.submit_job("demo.echo", "A-1", &inbox.queue, &later, "1").await?;
    shop.submit_job("demo.echo", "A-2", &inbox.queue, &[("job-notify", "*")], "1").await?;
    let mut states = BTreeSet::new();
    for _ in 0..2 {
        states.insert(inbox.next_of("receipt").await?.text("state").to_owned());
    }
    assert_eq!(states, ["parked", "scheduled"].map(str::to_owned).into());
    let worker = world.demo_worker().await?;
    let released = inbox.event("succeeded").await?;
    assert_eq!(released.text("job_id"), "A-2");
    let due = inbox.event("succeeded").await?;
    assert_eq!(due.text("job_id"), "A-1");
    let started = world.record("shop", "A-1").await?.unwrap_or_default().started_at;
    assert!(started.unwrap_or_default() >= at.0.to_string());
    worker.stop().await?;
    Ok(server.stop().await?)
}

#[tokio::test]
async fn a_running_job_is_asked_to_stop_and_a_waiting_one_is_cancelled_at_once()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let (server, worker) = (world.server().await?, world.demo_worker().await?);
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    let wanted = [("job-notify", "running,terminal")];
    shop.submit_job("demo.sleep", "A-1", &inbox.queue, &wanted, r#"{"ms":600000}"#).await?;
    inbox.event("running").await?;
    shop.ask("cancel", &inbox.queue, json!({ "job_id": "A-1" })).await?;
    let asked = inbox.next_of("status").await?;
    assert_eq!((asked.text("state"), &asked.body["cancel_requested"]), ("running", &json!(true)));
    inbox.event("cancelled").await?;

    let far = [("job-not-before", "2100-01-01T00:00:00Z"), ("job-notify", "terminal")];
    shop.submit_job("demo.echo", "A-2", &inbox.queue, &far, "1").await?;
    inbox.next_of("receipt").await?;
    shop.ask("cancel", &inbox.queue, json!({ "job_id": "A-2" })).await?;
    assert_eq!(inbox.next_of("status").await?.text("state"), "cancelled");
    worker.stop().await?;
    Ok(server.stop().await?)
}

/// The job of a worker that is killed is finished by the next one, in a second attempt, alone.
#[tokio::test]
async fn a_killed_workers_job_is_finished_by_the_next() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let environment = world.environment("worker");
    let worker = || Process::start("counterfoil", &["worker"], &environment, &world.directory);
    let (first, mut says) = worker()?;
    says.until("working").await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    let wanted = [("job-notify", "running,progress,terminal")];
    shop.submit_job("demo.sleep", "A-1", &inbox.queue, &wanted, r#"{"ms":2000}"#).await?;
    inbox.event("progress").await?;
    first.kill().await?;
    let (second, mut says) = worker()?;
    says.until("working").await?;
    let again = inbox.event("running").await?;
    assert_eq!(again.body["attempt"], 2);
    let done = inbox.event("succeeded").await?;
    assert_eq!(done.body["attempt"], 2);
    assert_eq!(second.terminate().await?, Some(0));
    Ok(server.stop().await?)
}

/// A job whose worker dies each time stops after its limit, and says why; a neighbour that ran
/// beside it the first time still has attempts left (H12).
#[tokio::test]
async fn promise_08_a_job_that_kills_its_worker_stops_after_its_limit() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let environment = world.environment("worker");
    let shop = world.raw("shop").await?;
    let (mut inbox, mut beside) = (shop.inbox("a").await?, shop.inbox("b").await?);
    let wanted = [("job-notify", "running,terminal"), ("job-max-attempts", "2")];
    shop.submit_job("demo.sleep", "A-1", &inbox.queue, &wanted, r#"{"ms":600000}"#).await?;
    let wanted = [("job-notify", "running,terminal")];
    shop.submit_job("demo.sleep", "B-1", &beside.queue, &wanted, r#"{"ms":1000}"#).await?;
    for attempt in 1..=2 {
        let (worker, _) =
            Process::start("counterfoil", &["worker"], &environment, &world.directory)?;
        assert_eq!(inbox.event("running").await?.body["attempt"], attempt);
        if attempt == 1 {
            beside.event("running").await?;
        }
        worker.kill().await?;
    }
    let last = world.demo_worker().await?;
    let failed = inbox.event("failed").await?;
    assert_eq!(failed.body["attempt"], 2);
    assert!(failed.text("error").contains("ended without an outcome"), "{}", failed.body);
    let done = beside.event("succeeded").await?;
    assert!(done.body["attempt"].as_u64() <= Some(3), "{}", done.body);
    last.stop().await?;
    Ok(server.stop().await?)
}

/// A worker that is told to stop lets its jobs finish; what takes too long is given back,
/// uncounted, and finished elsewhere (H13).
#[tokio::test]
async fn a_draining_worker_gives_back_what_it_cannot_finish() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    world.settings.worker.drain_ms = 300;
    let server = world.server().await?;
    let (started, runs) = (Arc::new(Notify::new()), Arc::new(AtomicU32::new(0)));
    let handler = {
        let (started, runs) = (Arc::clone(&started), Arc::clone(&runs));
        move || {
            let (started, runs) = (Arc::clone(&started), Arc::clone(&runs));
            async move {
                if runs.fetch_add(1, Ordering::SeqCst) == 0 {
                    started.notify_one();
                    std::future::pending::<()>().await;
                }
                Ok::<_, Failure>("done")
            }
        }
    };
    let first = start(world.worker().handle("slow", handler.clone())?).await?;
    let shop = world.client("shop")?;
    shop.submit(Submission::new("slow", "1").job_id("A-1")).await?.accepted().await?;
    within("the first run", started.notified()).await?;
    first.stop().await?;
    let second = start(world.worker().handle("slow", handler)?).await?;
    let done = shop.wait("A-1", LONG, |_| {}).await?;
    assert_eq!((done.state.as_deref(), done.attempt), (Some("succeeded"), Some(1)));
    let events: Vec<String> =
        done.history.unwrap_or_default().into_iter().map(|entry| entry.event).collect();
    assert_eq!(events, ["accepted", "started", "given_back", "started", "succeeded"]);
    second.stop().await?;
    Ok(server.stop().await?)
}

/// A long run is detached from its message, which is acknowledged; its result is recorded all the
/// same, and the message does not come again (H20).
#[tokio::test]
async fn a_long_run_no_longer_depends_on_its_message() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    world.settings.worker.detach_after_ms = 100;
    let (server, worker) = (world.server().await?, world.demo_worker().await?);
    let shop = world.client("shop")?;
    let sleep = Submission::new("demo.sleep", r#"{"ms":2500}"#).job_id("A-1");
    shop.submit(sleep).await?.accepted().await?;
    let detached = eventually("the run to be detached", || async {
        let record = world.record("shop", "A-1").await?.unwrap_or_default();
        Ok(record.detached.is_some().then_some(record))
    })
    .await?;
    assert_eq!(detached.state.as_deref(), Some("running"));
    let done = shop.wait("A-1", LONG, |_| {}).await?;
    assert_eq!((done.state.as_deref(), done.attempt), (Some("succeeded"), Some(1)));
    worker.stop().await?;
    let depth = world.raw("server").await?.connection.depth("counterfoil.work.default").await?;
    assert_eq!(depth.ready, 0);
    Ok(server.stop().await?)
}

#[tokio::test]
async fn a_type_that_another_worker_of_the_queue_serves_finds_it() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let a = start(world.worker().handle("type.a", || async { Ok::<_, Failure>("a") })?).await?;
    let b = start(world.worker().handle("type.b", || async { Ok::<_, Failure>("b") })?).await?;
    let shop = world.client("shop")?;
    for n in 0..10 {
        for (job_type, result) in [("type.a", r#""a""#), ("type.b", r#""b""#)] {
            let id = format!("{job_type}-{n}");
            shop.submit(Submission::new(job_type, "1").job_id(&id)).await?.accepted().await?;
            let done = shop.wait(id.as_str(), LONG, |_| {}).await?;
            assert_eq!(done.result.as_ref().map(|r| r.get()), Some(result));
        }
    }
    a.stop().await?;
    b.stop().await?;
    Ok(server.stop().await?)
}
