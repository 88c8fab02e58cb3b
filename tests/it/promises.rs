//! The promises of `docs/PROMISES.md`, 1 to 8.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use client::ask::Subject;
use client::{AnswerWord, Standing, Submission};
use harness::{World, eventually, start, within};
use serde_json::json;
use tokio::sync::Notify;
use worker::{Context, Failure};

const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn promise_01_what_submit_returned_is_sent_until_a_receipt_arrives_by_whoever_recovers()
-> anyhow::Result<()> {
    // A client journals while no broker can be reached, and is gone; another process recovers.
    let world = World::new().await?;
    let mut away = world.client_settings("shop");
    away.amqp.url = "amqp://shop:secret@127.0.0.1:1/".to_owned();
    let first = client::Client::open(away)?;
    first.submit(Submission::new("demo.echo", "1").job_id("A-1")).await?;
    drop(first);

    let server = world.server().await?;
    let second = world.client("shop")?;
    let recovered = second.recover().await?;
    assert_eq!(recovered.len(), 1);
    assert_eq!(recovered[0].answer.answer, AnswerWord::Unknown);
    let sent = recovered[0].sent_again.as_ref().map(|s| s.accepted());
    let receipt = sent.ok_or_else(|| anyhow::anyhow!("not sent again"))?.await?;
    assert_eq!(receipt.duplicate, Some(false));
    second.journal().flush().await;
    let entry = &second.journal().entries(&[])?[0];
    assert_eq!((entry.standing, entry.body.as_slice()), (Standing::Accepted, b"1".as_slice()));
    Ok(server.stop().await?)
}

#[tokio::test]
async fn promise_01_a_confirm_alone_does_not_end_the_sending() -> anyhow::Result<()> {
    // The broker confirms while no server runs; the receipt comes when one does.
    let world = World::new().await?;
    let shop = world.client("shop")?;
    let submitted = shop.submit(Submission::new("demo.echo", "1").job_id("A-1")).await?;
    submitted.confirmed().await?;
    shop.journal().flush().await;
    let server = world.server().await?;
    within("the receipt", submitted.accepted()).await??;
    Ok(server.stop().await?)
}

#[tokio::test]
async fn promise_02_a_receipt_means_that_the_record_survives_a_crash_of_the_store()
-> anyhow::Result<()> {
    // A Redis of its own with appendfsync always, killed right after the receipt.
    let mut world = World::new().await?;
    let mut redis = world.own_redis(nodes::Fsync::Always)?;
    let server = world.server().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    for n in 0..20 {
        shop.submit_job("demo.echo", &format!("A-{n}"), &inbox.queue, &[], "1").await?;
        let receipt = inbox.next_of("receipt").await?;
        assert_eq!(receipt.text("durability"), "fsync");
    }
    redis.kill();
    redis.start_again()?;
    for n in 0..20 {
        let record = eventually("the store", || async {
            Ok(world.record("shop", &format!("A-{n}")).await.ok())
        })
        .await?;
        assert_eq!(record.and_then(|r| r.state).as_deref(), Some("parked"));
    }
    server.stop().await?;
    redis.stop();
    Ok(())
}

#[tokio::test]
async fn promise_03_one_id_is_one_job_from_however_many_processes() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let worker = world.worker().handle("count", move || {
        let runs = Arc::clone(&counted);
        async move { Ok::<_, Failure>(runs.fetch_add(1, Ordering::SeqCst)) }
    })?;
    let worker = start(worker).await?;
    let mut tickets = Vec::new();
    for process in 0..5 {
        let mut settings = world.client_settings("shop");
        settings.client.journal = world.directory.join(format!("{process}.db"));
        let shop = client::Client::open(settings)?;
        let submitted = shop.submit(Submission::new("count", "1").job_id("A-1")).await?;
        tickets.push(submitted.accepted().await?.ticket);
        shop.wait("A-1", LONG, |_| {}).await?;
    }
    tickets.dedup();
    assert_eq!(tickets.len(), 1);
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    worker.stop().await?;
    Ok(server.stop().await?)
}

#[tokio::test]
async fn promise_04_either_id_answers_to_any_reply_queue_of_the_client() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let shop = world.raw("shop").await?;
    let mut first = shop.inbox("first").await?;
    shop.submit_job("demo.echo", "A-1", &first.queue, &[], "1").await?;
    let ticket = first.next_of("receipt").await?.text("ticket").to_owned();
    let elsewhere = world.raw("shop").await?;
    let mut second = elsewhere.inbox("second").await?;
    for asked in [json!({ "job_id": "A-1" }), json!({ "ticket": ticket })] {
        elsewhere.ask("status", &second.queue, asked).await?;
        assert_eq!(second.next_of("status").await?.text("answer"), "found");
    }
    // Another client's question with the same ids finds nothing, and learns nothing.
    let till = world.raw("till").await?;
    let mut inbox = till.inbox("a").await?;
    for asked in [json!({ "job_id": "A-1" }), json!({ "ticket": ticket })] {
        till.ask("status", &inbox.queue, asked).await?;
        assert_eq!(inbox.next_of("status").await?.text("answer"), "unknown");
    }
    Ok(server.stop().await?)
}

#[tokio::test]
async fn promise_05_unknown_is_said_only_behind_every_earlier_submission() -> anyhow::Result<()> {
    // Submissions and questions are confirmed before a server runs, so that the line is long; each
    // question about a submitted id finds it, each about another id is unknown.
    let world = World::new().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    for n in 0..100 {
        shop.submit_job("demo.echo", &format!("A-{n}"), "", &[], "1").await?;
        shop.ask("status", &inbox.queue, json!({ "job_id": format!("A-{n}") })).await?;
        shop.ask("status", &inbox.queue, json!({ "job_id": format!("B-{n}") })).await?;
    }
    let server = world.server().await?;
    let mut answered = 0;
    while answered < 200 {
        let status = inbox.next_of("status").await?;
        let expected = if status.text("job_id").starts_with('A') { "found" } else { "unknown" };
        if status.text("answer") != "pending" {
            assert_eq!(status.text("answer"), expected, "{}", status.body);
            answered += 1;
        }
    }
    Ok(server.stop().await?)
}

#[tokio::test]
async fn promise_06_revisions_only_grow_and_a_final_state_stays() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (server, worker) = (world.server().await?, world.demo_worker().await?);
    let shop = world.client("shop")?;
    let sleep = Submission::new("demo.sleep", r#"{"ms":200}"#).job_id("A-1");
    shop.submit(sleep).await?.accepted().await?;
    let mut seen = Vec::new();
    let done = shop.wait("A-1", LONG, |answer| seen.push(answer.revision)).await?;
    assert!(seen.is_sorted(), "{seen:?}");
    let history = done.history.unwrap_or_default();
    assert!(history.iter().map(|entry| entry.revision).is_sorted());
    let cancelled = shop.cancel("A-1").await?;
    assert_eq!(cancelled.state.as_deref(), Some("succeeded"));
    assert_eq!(cancelled.revision, done.revision);
    worker.stop().await?;
    Ok(server.stop().await?)
}

#[tokio::test]
async fn promise_07_what_cannot_be_delivered_is_recorded_and_the_job_is_unaffected()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let (server, worker) = (world.server().await?, world.demo_worker().await?);
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    let nowhere = [("job-notify", "terminal"), ("job-notify-to", "reply.shop.nobody")];
    shop.submit_job("demo.echo", "A-1", &inbox.queue, &nowhere, "1").await?;
    inbox.next_of("receipt").await?;
    let record = eventually("the ledger to say so", || async {
        let record = world.record("shop", "A-1").await?.unwrap_or_default();
        Ok(record.undeliverable.is_some().then_some(record))
    })
    .await?;
    assert_eq!(record.undeliverable.as_deref(), Some("1"));
    assert_eq!(record.undeliverable_reason.as_deref(), Some("there is no such queue"));
    assert_eq!(record.state.as_deref(), Some("succeeded"));
    shop.ask("status", &inbox.queue, json!({ "job_id": "A-1" })).await?;
    let status = inbox.next_of("status").await?;
    assert_eq!(status.body["notifications"]["undeliverable"], 1);
    worker.stop().await?;
    Ok(server.stop().await?)
}

#[tokio::test]
async fn promise_08_a_superseded_attempts_writes_are_refused() -> anyhow::Result<()> {
    // The first worker loses its lease while its handler waits; the second runs the job; then the
    // first one reports and returns, and neither is written.
    let world = World::new().await?;
    let server = world.server().await?;
    let (stuck, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let store = world.store().await?;
    let handler = {
        let (stuck, go_on) = (Arc::clone(&stuck), Arc::clone(&go_on));
        move |job: Context| {
            let (stuck, go_on) = (Arc::clone(&stuck), Arc::clone(&go_on));
            async move {
                if job.attempt() == 1 {
                    stuck.notify_one();
                    go_on.notified().await;
                    job.stage("too late").await?;
                    return Ok("first".to_owned());
                }
                Ok::<_, Failure>("second".to_owned())
            }
        }
    };
    let worker = start(world.worker().handle("slow", handler)?).await?;
    let shop = world.client("shop")?;
    shop.submit(Submission::new("slow", "1").job_id("A-1")).await?.accepted().await?;
    within("the first attempt", stuck.notified()).await?;
    // What the scheduler does when a lease ends, done by hand: the fence of attempt 1 is over.
    let name = store::JobName {
        client: job::ClientName::parse("shop")?,
        job_id: job::JobId::parse("A-1")?,
    };
    let record = store.read_one(&name).await?.unwrap_or_default();
    let fence = record.fence.clone().unwrap_or_default();
    let lost = store::change::Change {
        redispatch: true,
        timer: store::change::Timer::After(0),
        delete: &["owner", "lease_until"],
        ..store::change::Change::new(name.clone(), job::JobType::parse("slow")?, job::Event::Lost)
    };
    store.change(&[lost.with("payload", "1").with("queue", "default")]).await?;
    let done = shop.wait("A-1", LONG, |_| {}).await?;
    assert_eq!(done.result.as_ref().map(|r| r.get()), Some(r#""second""#));
    go_on.notify_one();
    let late = store::report::Report::Stage("too late".to_owned());
    let refused = store.report(&name, &store::change::Right::Fence(fence), &late).await?;
    assert_eq!(refused, store::report::Reported::Lost);
    worker.stop().await?;
    let last = shop.status(Subject::Id("A-1".to_owned())).await?;
    assert_eq!((last.revision, last.stage), (done.revision, None));
    assert_eq!(last.attempt, Some(2));
    Ok(server.stop().await?)
}

#[tokio::test]
async fn promise_08_a_job_that_fails_every_time_stops_after_its_limit() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (server, worker) = (world.server().await?, world.demo_worker().await?);
    let shop = world.client("shop")?;
    let fail = Submission::new("demo.fail", "{}").header("job-max-attempts", "3").job_id("A-1");
    shop.submit(fail).await?.accepted().await?;
    let done = shop.wait("A-1", LONG, |_| {}).await?;
    assert_eq!((done.state.as_deref(), done.attempt), (Some("failed"), Some(3)));
    let history = done.history.unwrap_or_default();
    let events: Vec<&str> = history.iter().map(|entry| entry.event.as_str()).collect();
    let attempt = ["started", "errored", "due"];
    assert_eq!(events, [&["accepted"][..], &attempt, &attempt, &["started", "failed"]].concat());
    worker.stop().await?;
    Ok(server.stop().await?)
}

/// A session that fails leaves no connection behind, whose exclusive queue the next one could not
/// have: a client that published before the exchanges were there was locked out for good.
#[tokio::test]
async fn promise_01_a_client_that_comes_before_the_exchanges_goes_on_when_they_are_there()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let url = world.amqp_url("admin");
    let admin = lapin::Connection::connect(&url, lapin::ConnectionProperties::default()).await?;
    let channel = admin.create_channel().await?;
    channel.exchange_delete("counterfoil.submit".into(), Default::default()).await?;
    let shop = world.client("shop")?;
    let submitted = shop.submit(Submission::new("demo.echo", "1").job_id("A-1")).await?;
    // Refused, with its channel, at least once.
    let early = tokio::time::timeout(Duration::from_secs(2), submitted.accepted()).await;
    assert!(early.is_err(), "{early:?}");
    world.raw("admin").await?.connection.declare_topology(&[]).await?;
    let server = world.server().await?;
    within("the receipt", submitted.accepted()).await??;
    Ok(server.stop().await?)
}
