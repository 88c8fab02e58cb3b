//! A line that takes nothing more.

use harness::{World, eventually};
use serde_json::json;

/// A request that nobody awaits an answer of waits until the line has room. It keeps nobody else
/// waiting, and is carried out in the end (H10).
#[tokio::test]
async fn a_request_without_reply_queue_holds_up_nobody_while_the_line_is_full() -> anyhow::Result<()>
{
    let world = World::new().await?;
    let server = world.server().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    shop.submit_job("none.such", "A-1", &inbox.queue, &[], "{}").await?;
    inbox.next_of("receipt").await?;
    server.stop().await?;

    // Nobody empties the line.
    let inquiry = world.server_with(|it| it.roles = vec![server::Role::Inquiry]).await?;
    let policy = ["set_policy", "-p", &world.name, "full", "^counterfoil.intake$"];
    let limit = [r#"{"max-length":1}"#, "--apply-to", "queues"];
    world.rabbitmqctl(&[&policy[..], &limit].concat()).await?;
    eventually("the line is full", || async {
        Ok(shop.submit_job("none.such", "B", "", &[], "{}").await.is_err().then_some(()))
    })
    .await?;
    shop.ask("cancel", "", json!({"job_id": "new"})).await?;
    for _ in 0..20 {
        shop.ask("status", &inbox.queue, json!({"job_id": "A-1"})).await?;
        assert_eq!(inbox.next_of("status").await?.text("state"), "parked");
    }

    let others =
        world.server_with(|it| it.roles.retain(|role| *role != server::Role::Inquiry)).await?;
    eventually("it is carried out", || async {
        let record = world.record("shop", "new").await?;
        Ok(record.filter(|record| record.kind() == Some(store::RecordKind::Voided)))
    })
    .await?;
    inquiry.stop().await?;
    Ok(others.stop().await?)
}
