//! The one thread: submit, receipt, run, event, answer.

use harness::World;
use serde_json::json;

#[tokio::test]
async fn a_job_is_accepted_run_and_told_of() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let worker = world.demo_worker().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("till").await?;
    shop.submit_job("demo.echo", "A-1", &inbox.queue, &[("job-notify", "*")], r#"{"n":1}"#).await?;
    let receipt = inbox.next_of("receipt").await?;
    println!("{}", receipt.body);
    let event = inbox.event("succeeded").await?;
    println!("{}", event.body);
    shop.ask("status", &inbox.queue, json!({"job_id": "A-1", "history": true})).await?;
    let status = inbox.next_of("status").await?;
    println!("{}", status.body);
    assert_eq!(status.text("state"), "succeeded");
    shop.ask("status", &inbox.queue, json!({"job_id": "A-2"})).await?;
    let status = inbox.next_of("status").await?;
    assert_eq!(status.text("answer"), "unknown");
    worker.stop().await?;
    server.stop().await?;
    Ok(())
}
