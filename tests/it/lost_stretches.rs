//! What is said after the store has lost its last writes, by processes that remember them and by
//! processes that do not.

use std::sync::Arc;

use harness::{World, start};
use serde_json::json;
use tokio::sync::Semaphore;
use worker::{Context, Failure};

use crate::interleavings::not_pending;
use crate::rolled_back::{Power, begun, held};

/// Server and store lose their power together, so nobody is left who remembers what was accepted.
/// The store's own run tells: the negative says that it may be a loss, and goes on saying so; what
/// is sent again is accepted, as the same job (H5).
#[tokio::test]
async fn h5_a_loss_is_noticed_though_everybody_was_restarted_with_the_store() -> anyhow::Result<()>
{
    let mut world = World::new().await?;
    let mut power = Power::of(&mut world)?;
    let server = world.server().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    shop.ask("status", &inbox.queue, json!({ "job_id": "A-1" })).await?;
    let before = not_pending(&mut inbox).await?;
    assert_eq!((before.text("answer"), before.body.get("lost_between")), ("unknown", None));
    let written = power.written().await?;
    shop.submit_job("none.such", "A-1", &inbox.queue, &[], "1").await?;
    let first = inbox.next_of("receipt").await?;
    server.stop().await?;
    power.is_lost_since(written)?;

    let server = world.server().await?;
    for _ in 0..3 {
        shop.ask("status", &inbox.queue, json!({ "job_id": "A-1" })).await?;
        let status = not_pending(&mut inbox).await?;
        assert_eq!(status.text("answer"), "unknown", "{}", status.body);
        let lost = status.body["lost_between"].as_array().cloned().unwrap_or_default();
        let accepted_at = Some(first.text("accepted_at"));
        assert_eq!(lost.len(), 2, "{}", status.body);
        assert!(lost[1].as_str() > accepted_at, "{}", status.body);
    }
    shop.submit_job("none.such", "A-1", &inbox.queue, &[], "1").await?;
    let again = inbox.next_of("receipt").await?;
    assert_eq!((&again.body["duplicate"], &again.body["epoch"]), (&json!(false), &json!(2)));
    assert_eq!(again.text("ticket"), first.text("ticket"));
    Ok(server.stop().await?)
}

/// How a job goes on of which nothing was heard since the loss may be lost with it. Every answer
/// that shows such a job says so; a list and a second receipt used to leave it out.
#[tokio::test]
async fn h5_a_list_and_a_second_receipt_say_too_that_the_last_of_a_job_may_be_lost()
-> anyhow::Result<()> {
    let mut world = World::new().await?;
    let mut power = Power::of(&mut world)?;
    let server = world.server().await?;
    // There is a queue, and nobody who takes from it.
    held(&world).await?.0.stop().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    shop.submit_job("order.place", "A-1", &inbox.queue, &[], "1").await?;
    let first = inbox.next_of("receipt").await?;
    assert_eq!(first.body.get("lost_between"), None, "{}", first.body);
    let written = power.written().await?;
    server.stop().await?;
    power.is_lost_since(written)?;

    let server = world.server().await?;
    let is_said = |status: &serde_json::Value| status["lost_between"].as_array().map(Vec::len);
    shop.ask("list", &inbox.queue, json!({})).await?;
    let list = inbox.next_of("status").await?;
    assert_eq!(is_said(&list.body["jobs"][0]), Some(2), "{}", list.body);
    shop.submit_job("order.place", "A-1", &inbox.queue, &[], "1").await?;
    let second = inbox.next_of("receipt").await?;
    assert_eq!(second.body["duplicate"], json!(true), "{}", second.body);
    assert_eq!(is_said(&second.body), Some(2), "{}", second.body);
    Ok(server.stop().await?)
}

/// A client has seen revisions that the store has forgotten, and the job's end gets one of these
/// numbers again: it is another event, and newer, for its epoch is (H5).
#[tokio::test]
async fn h5_an_end_that_gets_a_forgotten_revision_is_another_event_and_newer() -> anyhow::Result<()>
{
    let mut world = World::new().await?;
    let mut power = Power::of(&mut world)?;
    let server = world.server().await?;
    let (started, through) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let handler = {
        let (started, through) = (Arc::clone(&started), Arc::clone(&through));
        move |job: Context| {
            let (started, through) = (Arc::clone(&started), Arc::clone(&through));
            async move {
                started.add_permits(1);
                through.acquire().await?.forget();
                for percent in [10, 20, 30] {
                    job.progress(percent, "").await?;
                }
                through.acquire().await?.forget();
                Ok::<_, Failure>("done")
            }
        }
    };
    let worker = start(world.worker().handle("slow", handler)?).await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    let wanted = [("job-notify", "progress,terminal")];
    shop.submit_job("slow", "A-1", &inbox.queue, &wanted, "1").await?;
    begun(&started).await?;
    let written = power.written().await?;
    through.add_permits(1);
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(inbox.event("progress").await?);
    }
    power.is_lost_since(written)?;
    through.add_permits(1);
    let end = inbox.event("succeeded").await?;
    let order =
        |event: &harness::Message| (event.body["epoch"].as_u64(), event.body["revision"].as_u64());
    let id = |event: &harness::Message| event.properties.message_id.clone();
    assert!(seen.iter().any(|event| event.body["revision"] == end.body["revision"]));
    for event in &seen {
        assert!(order(event) < order(&end), "{} {}", event.body, end.body);
        assert_ne!(id(event), id(&end));
    }
    worker.stop().await?;
    Ok(server.stop().await?)
}
