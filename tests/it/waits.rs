//! Questions that are answered later, when there is something to say.

use std::time::{Duration, Instant};

use harness::{World, eventually, start};
use protocol::Code;
use serde_json::{Value, json};
use worker::{Context, Failure};

use crate::refusals::{Desk, assert_refused};

async fn wait(desk: &Desk, correlation_id: &str, body: Value) -> anyhow::Result<()> {
    let mut properties = desk.properties("");
    properties.correlation_id = Some(correlation_id.to_owned());
    let exchange = broker::topology::REQUEST;
    desk.shop.publish(exchange, "status", properties, body.to_string()).await
}

/// A worker whose jobs go on when they are told to, by a cancellation.
async fn until_cancelled(desk: &Desk) -> anyhow::Result<worker::Running> {
    let handler = |job: Context| async move {
        job.stage("waiting").await?;
        job.cancelled().await;
        Ok::<_, Failure>("done")
    };
    start(desk.world.worker().handle("patient", handler)?).await
}

async fn running(desk: &mut Desk, job_id: &str) -> anyhow::Result<u64> {
    desk.shop.submit("patient", desk.properties(job_id), "{}").await?;
    desk.inbox.next_of("receipt").await?;
    eventually("it waits", || async {
        let record = desk.world.record("shop", job_id).await?.unwrap_or_default();
        Ok(record.stage.and(store::record::number(&record.revision)))
    })
    .await
}

/// A wait is kept with the job, not as a message: it holds up nobody, and survives the server that
/// took it (H24).
#[tokio::test]
async fn h24_whoever_waits_holds_up_nobody_and_outlives_the_server() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    let worker = until_cancelled(&desk).await?;
    running(&mut desk, "A-1").await?;
    // As many as may wait for one job, which is more than an inquiry process holds at a time.
    let limit = json!({"job_id": "A-1", "wait": {"limit_ms": 60_000}});
    for n in 0..store::wait::WAITS_PER_JOB_MAX {
        wait(&desk, &format!("w{n}"), limit.clone()).await?;
    }
    let status = desk.status(json!({"job_id": "A-1"})).await?;
    assert_eq!(status.text("state"), "running");
    let crowd = desk.ask("status", &limit.to_string()).await?;
    assert_refused(&crowd, Code::Quota, "");

    desk.server.stop().await?;
    desk.server = desk.world.server().await?;
    desk.shop.ask("cancel", "", json!({"job_id": "A-1"})).await?;
    let mut answered = std::collections::BTreeSet::new();
    while answered.len() < store::wait::WAITS_PER_JOB_MAX {
        let status = desk.inbox.next_of("status").await?;
        assert_eq!((status.text("state"), &status.body["done"]), ("succeeded", &json!(true)));
        answered.insert(status.properties.correlation_id.unwrap_or_default());
    }
    worker.stop().await?;
    desk.close().await
}

#[tokio::test]
async fn a_wait_past_a_revision_is_answered_by_the_next_one() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    let worker = until_cancelled(&desk).await?;
    let revision = running(&mut desk, "A-1").await?;
    // What is waited for is there already.
    let past = |revision: u64| {
        json!({"job_id": "A-1", "history": true,
               "wait": {"limit_ms": 60_000, "past_revision": revision}})
    };
    let now = desk.ask("status", &past(revision - 1).to_string()).await?;
    assert_eq!(now.body["revision"], json!(revision));
    wait(&desk, "later", past(revision)).await?;
    desk.shop.ask("cancel", "", json!({"job_id": "A-1"})).await?;
    let next = desk.inbox.next_of("status").await?;
    assert_eq!(next.properties.correlation_id.as_deref(), Some("later"));
    assert!(next.body["revision"].as_u64() > Some(revision), "{}", next.body);
    assert!(next.body["history"].as_array().is_some_and(|history| !history.is_empty()));
    // An epoch that has passed is past any revision of it.
    let earlier = json!({"job_id": "A-1",
        "wait": {"limit_ms": 60_000, "past_revision": 1000, "past_epoch": 0}});
    assert_eq!(desk.ask("status", &earlier.to_string()).await?.text("answer"), "found");
    worker.stop().await?;
    desk.close().await
}

#[tokio::test]
async fn when_the_time_is_up_the_present_state_is_the_answer() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    desk.accepted("A-1").await?;
    let begun = Instant::now();
    let waiting = r#"{"job_id":"A-1","wait":{"limit_ms":400}}"#;
    let status = desk.ask("status", waiting).await?;
    assert!(begun.elapsed() >= Duration::from_millis(400));
    assert_eq!((status.text("state"), &status.body["done"]), ("parked", &json!(false)));
    // Nothing of it is left.
    let record = desk.world.record("shop", "A-1").await?.unwrap_or_default();
    assert_eq!(record.waits, None);
    desk.close().await
}

/// There is nothing to wait for where no job is: the answer comes at once, from the line.
#[tokio::test]
async fn a_wait_for_what_is_no_job_is_answered_at_once() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    let waiting = r#"{"job_id":"A-1","wait":{"limit_ms":60000}}"#;
    assert_eq!(desk.ask("status", waiting).await?.text("answer"), "unknown");
    desk.ask("cancel", r#"{"job_id":"A-1"}"#).await?;
    assert_eq!(desk.ask("status", waiting).await?.text("answer"), "voided");
    desk.close().await
}

/// A question about a submission that stands in front of it in the line waits for its job.
#[tokio::test]
async fn a_wait_that_joined_the_line_waits_for_the_job_in_front_of_it() -> anyhow::Result<()> {
    let world = World::new().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("till").await?;
    let waits = json!({"job_id": "A-1", "wait": {"limit_ms": 60_000}});
    shop.submit_job("patient", "A-1", &inbox.queue, &[], "{}").await?;
    shop.ask("status", &inbox.queue, waits).await?;
    let server = world.server().await?;
    inbox.next_of("receipt").await?;
    eventually("it is waited for", || async {
        Ok(world.record("shop", "A-1").await?.unwrap_or_default().waits)
    })
    .await?;
    shop.ask("cancel", "", json!({"job_id": "A-1"})).await?;
    loop {
        let status = inbox.next_of("status").await?;
        if status.text("answer") != "pending" {
            assert_eq!(status.text("state"), "cancelled", "{}", status.body);
            break;
        }
    }
    Ok(server.stop().await?)
}

/// A correlation id is the client's own: only the same question is the same wait.
#[tokio::test]
async fn two_waits_for_different_things_are_both_answered() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    desk.accepted("A-1").await?;
    wait(&desk, "same", json!({"job_id": "A-1", "wait": {"limit_ms": 60_000}})).await?;
    eventually("it is waited for", || async {
        Ok(desk.world.record("shop", "A-1").await?.unwrap_or_default().waits)
    })
    .await?;
    let soon = json!({"job_id": "A-1", "wait": {"limit_ms": 300, "past_revision": 1}});
    wait(&desk, "same", soon).await?;
    assert_eq!(desk.inbox.next_of("status").await?.body["done"], json!(false));
    desk.shop.ask("cancel", "", json!({"job_id": "A-1"})).await?;
    assert_eq!(desk.inbox.next_of("status").await?.text("state"), "cancelled");
    desk.close().await
}

/// While nothing can be said, a client that waits asks now and then, and not as fast as it can.
#[tokio::test]
async fn a_client_that_waits_does_not_hurry_while_the_store_is_away() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.raw("server").await?;
    let mut questions = server.read(broker::topology::INQUIRY_QUEUE).await?;
    let client = world.client("shop")?;
    let waiting = client.wait("A-1", Duration::from_secs(2), |_| {});
    tokio::pin!(waiting);
    let mut asked = 0;
    loop {
        let question = tokio::select! {
            answer = &mut waiting => {
                assert_eq!(answer?.answer, protocol::AnswerWord::Unavailable);
                break;
            }
            question = questions.next() => question?,
        };
        asked += 1;
        let answer = match asked {
            1 => json!({"v": 1, "answer": "found", "job_id": "A-1", "state": "running",
                        "done": false, "epoch": 1, "revision": 2}),
            _ => json!({"v": 1, "answer": "unavailable", "job_id": "A-1",
                        "as_of": "2026-01-31T12:00:00.000Z", "retry_after_ms": 1000}),
        };
        let properties = protocol::Properties {
            kind: Some("status".to_owned()),
            correlation_id: question.properties.correlation_id,
            ..protocol::Properties::default()
        };
        let to = question.properties.reply_to.unwrap_or_default();
        server.publish(broker::topology::DEFAULT, &to, properties, answer.to_string()).await?;
    }
    assert!((2..=8).contains(&asked), "{asked} questions in two seconds");
    Ok(())
}

/// `status --wait` gave up with "no answer" after ten seconds of a server that was being restarted.
#[tokio::test]
async fn a_client_that_waits_outlasts_a_server_that_is_away() -> anyhow::Result<()> {
    let world = World::new().await?;
    let looking = world.raw("server").await?.connection;
    let mut settings = world.client_settings("shop");
    settings.client.answer_timeout_ms = 500;
    let shop = client::Client::open(settings)?;
    shop.submit(client::Submission::new("demo.echo", "1").job_id("A-1")).await?;
    let waiting = shop.wait("A-1", Duration::from_secs(60), |_| {});
    let serving = async {
        eventually("a third question", || async {
            let asked = looking.depth(broker::topology::INQUIRY_QUEUE).await?.ready;
            Ok((asked >= 3).then_some(()))
        })
        .await?;
        Ok::<_, anyhow::Error>((world.server().await?, world.demo_worker().await?))
    };
    let (done, (server, worker)) = futures_util::try_join!(async { Ok(waiting.await?) }, serving)?;
    assert_eq!(done.state.as_deref(), Some("succeeded"));
    // And nothing is made up when it never comes back.
    worker.stop().await?;
    server.stop().await?;
    let never = shop.wait("A-2", Duration::from_millis(900), |_| {}).await;
    assert!(matches!(never, Err(client::Error::NoAnswer(_))), "{never:?}");
    Ok(())
}

/// The answers to those who wait go through the outbox, so they are bounded with it (H21).
#[tokio::test]
async fn nobody_waits_whose_outbox_is_full() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    world.settings.redis.outbox_per_client_max = 1;
    let is_ours = |role: &server::Role| *role != server::Role::Notifier;
    let server = world.server_with(|settings| settings.roles.retain(is_ours)).await?;
    let shop = world.raw("shop").await?;
    let inbox = shop.inbox("till").await?;
    let mut desk = Desk { world, server, shop, inbox };
    // The event of its acceptance waits in the outbox, which nobody empties.
    let headers = [("job-notify", "parked")];
    desk.shop.submit_job("nobody.serves", "A-1", &desk.inbox.queue, &headers, "1").await?;
    desk.inbox.next_of("receipt").await?;
    wait(&desk, "late", json!({"job_id": "A-1", "wait": {"limit_ms": 60_000}})).await?;
    let refusal = desk.inbox.next_of("refusal").await?;
    assert_eq!(refusal.text("code"), Code::Quota.as_str(), "{}", refusal.body);
    desk.close().await
}
