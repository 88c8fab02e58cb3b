//! Running a finished job again (H14).

use harness::{World, eventually};
use serde_json::json;
use store::JobName;
use store::replay::Replayed;

fn name(job_id: &str) -> anyhow::Result<JobName> {
    let client = job::ClientName::parse("shop")?;
    Ok(JobName { client, job_id: job::JobId::parse_recorded(job_id)? })
}

/// A final state stays final: the replay is a job of its own, linked both ways.
#[tokio::test]
async fn h14_a_replay_is_a_new_job_and_the_finished_one_stays_as_it_is() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let worker = world.demo_worker().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    let headers = [("job-notify", "terminal"), ("job-max-attempts", "1")];
    shop.submit_job("demo.fail", "A-1", &inbox.queue, &headers, "{}").await?;
    let first = inbox.event("failed").await?;
    let store = world.store().await?;
    // Two operators at once, and one who repeats what failed: one replay.
    let (one, two) = (store.clone(), store.clone());
    let failed = name("A-1")?;
    let (one, two) = tokio::join!(one.replay(&failed), two.replay(&failed));
    assert_eq!(one?, Replayed::As(name("A-1~2")?));
    assert_eq!(two?, Replayed::As(name("A-1~2")?));
    let again = inbox.event("failed").await?;
    assert_eq!(again.text("job_id"), "A-1~2");
    assert_ne!(again.text("ticket"), first.text("ticket"));

    shop.ask("status", &inbox.queue, json!({"jobs": [{"job_id": "A-1"}, {"job_id": "A-1~2"}]}))
        .await?;
    for (job_id, field, other) in [("A-1", "replayed_as", "A-1~2"), ("A-1~2", "replay_of", "A-1")] {
        let status = inbox.next_of("status").await?;
        assert_eq!((status.text("job_id"), status.text(field)), (job_id, other));
        assert_eq!((status.text("state"), &status.body["attempt"]), ("failed", &json!(1)));
    }
    assert_eq!(store.replay(&name("A-1~2")?).await?, Replayed::As(name("A-1~3")?));
    // No client can take such an id.
    shop.submit_job("demo.fail", "A-1~4", &inbox.queue, &[], "{}").await?;
    assert_eq!(inbox.next_of("refusal").await?.text("code"), "invalid_id");
    worker.stop().await?;
    Ok(server.stop().await?)
}

#[tokio::test]
async fn only_a_finished_job_whose_body_is_kept_can_be_replayed() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let worker = world.demo_worker().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    let store = world.store().await?;
    assert_eq!(store.replay(&name("A-1")?).await?, Replayed::NoJob);
    shop.submit_job("none.such", "parked", &inbox.queue, &[], "{}").await?;
    inbox.next_of("receipt").await?;
    assert_eq!(store.replay(&name("parked")?).await?, Replayed::Unfinished);
    shop.submit_job("demo.echo", "A-1", &inbox.queue, &[], "{}").await?;
    eventually("it is done", || async {
        let record = world.record("shop", "A-1").await?.unwrap_or_default();
        Ok(record.state().filter(|state| state.is_terminal()))
    })
    .await?;
    assert_eq!(store.replay(&name("A-1")?).await?, Replayed::NoPayload);
    worker.stop().await?;
    Ok(server.stop().await?)
}

/// To ask again is no harm: the message that is under way stays good.
#[tokio::test]
async fn a_replay_that_is_asked_for_again_while_it_is_queued_still_runs() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let worker = world.demo_worker().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    let headers = [("job-notify", "terminal"), ("job-max-attempts", "1")];
    shop.submit_job("demo.fail", "A-1", &inbox.queue, &headers, "{}").await?;
    inbox.event("failed").await?;
    worker.stop().await?;
    let store = world.store().await?;
    let (failed, again) = (name("A-1")?, name("A-1~2")?);
    assert_eq!(store.replay(&failed).await?, Replayed::As(again.clone()));
    eventually("it is in the work queue", || async {
        let record = store.read_one(&again).await?.unwrap_or_default();
        let queued = record.state() == Some(job::State::Queued);
        Ok((queued && store.payload(&again).await?.is_none()).then_some(()))
    })
    .await?;
    assert_eq!(store.replay(&failed).await?, Replayed::As(again.clone()));
    let worker = world.demo_worker().await?;
    assert_eq!(inbox.event("failed").await?.text("job_id"), "A-1~2");
    assert_eq!(store.replay(&failed).await?, Replayed::As(again));
    worker.stop().await?;
    Ok(server.stop().await?)
}
