//! What is said of an identifier, and what is not.

use harness::World;
use protocol::{Code, HeaderValue, Properties, headers};
use redis::AsyncCommands as _;
use serde_json::json;

use crate::refusals::{Desk, assert_says};

/// A refusal is recorded, so that what was confirmed and refused is not unknown, also to a client
/// that named no queue, or a forbidden one, and could not be told (H11).
#[tokio::test]
async fn h11_what_was_confirmed_and_refused_is_not_unknown() -> anyhow::Result<()> {
    let mut desk = Desk::with(|settings| {
        settings.payload_bytes_max = 10;
        settings.unfinished_per_client_max = 1;
    })
    .await?;
    let header = |name: &'static str, value: &str| {
        let mut properties = desk.shop.properties("", "");
        properties.headers.push(name, HeaderValue::Text(value.to_owned()));
        properties
    };
    let plain = desk.shop.properties("", "");
    let elsewhere = Properties { reply_to: Some("reply.till.a".into()), ..plain.clone() };
    let cases = [
        (Code::BadHeader, header(headers::DEADLINE, "tomorrow"), "{}"),
        (Code::BadHeader, Properties { priority: Some(0), ..plain.clone() }, "{}"),
        (Code::UnknownVersion, header(headers::PROTOCOL, "2"), "{}"),
        (Code::PayloadTooLarge, plain.clone(), "a longer body"),
        (Code::ReplyToNotAllowed, elsewhere, "{}"),
        (Code::ReplyToNotAllowed, header(headers::NOTIFY_TO, "counterfoil.intake"), "{}"),
        (Code::Forgotten, Properties { timestamp: Some(1), ..plain.clone() }, "{}"),
    ];
    for (n, (code, properties, body)) in cases.into_iter().enumerate() {
        let job_id = format!("A-{n}");
        let properties = Properties { message_id: Some(job_id.clone()), ..properties };
        desk.shop.submit("order.place", properties, body).await?;
        let status = desk.status(json!({"job_id": job_id})).await?;
        assert_eq!(status.kind, "status");
        assert_says(&status, code);
    }
    desk.accepted("first").await?;
    desk.shop.submit_job("order.place", "second", "", &[], "{}").await?;
    assert_says(&desk.status(json!({"job_id": "second"})).await?, Code::Quota);
    desk.close().await
}

/// A ticket exists only after its record, so there is no line to wait in; and a genuine one without
/// a record is never "unknown": it was lost or retired. Only an inquiry process runs here (H34).
#[tokio::test]
async fn h34_a_genuine_ticket_without_a_record_is_forgotten_and_an_invented_one_is_unknown()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let whole = world.server().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    shop.submit_job("order.place", "A-1", &inbox.queue, &[], "{}").await?;
    let ticket = inbox.next_of("receipt").await?.text("ticket").to_owned();
    whole.stop().await?;

    let only_inquiry =
        world.server_with(|settings| settings.roles = vec![server::Role::Inquiry]).await?;
    let store = world.store().await?;
    let name = store::JobName {
        client: job::ClientName::parse("shop")?,
        job_id: job::JobId::parse("A-1")?,
    };
    let client = redis::Client::open(world.redis_url())?;
    let mut redis = client.get_multiplexed_async_connection().await?;
    let keys = store.keys();
    let parsed = job::Ticket::parse(&ticket).unwrap();
    let () = redis.del(&[keys.job(&name), keys.ticket(parsed)]).await?;
    let invented = "000054a8-6f1f-8e5b-9d0a-2f6f6f0c7a31";
    for (ticket, word) in [(ticket.as_str(), "forgotten"), (invented, "unknown")] {
        shop.ask("status", &inbox.queue, json!({"ticket": ticket})).await?;
        let status = inbox.next_of("status").await?;
        assert_eq!((status.text("ticket"), status.text("answer")), (ticket, word));
    }
    Ok(only_inquiry.stop().await?)
}

/// The stretch that a store has lost is said with the negatives that it could make false (H34).
#[tokio::test]
async fn h34_a_genuine_ticket_of_a_lost_record_is_told_with_the_stretch_that_was_lost()
-> anyhow::Result<()> {
    let mut world = World::new().await?;
    let mut redis = world.own_redis(nodes::Fsync::Everysec)?;
    let server = world.server().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    shop.submit_job("order.place", "A-1", &inbox.queue, &[], "{}").await?;
    let receipt = inbox.next_of("receipt").await?;
    let ticket = receipt.text("ticket").to_owned();
    // It comes back without what it had written last: here, without anything.
    redis.kill();
    std::fs::remove_dir_all(world.directory.join("redis/appendonlydir"))?;
    redis.start_again()?;
    let mut answer;
    loop {
        shop.ask("status", &inbox.queue, json!({"ticket": ticket})).await?;
        answer = inbox.next_of("status").await?;
        if answer.text("answer") != "unavailable" {
            break;
        }
    }
    assert_eq!(answer.text("answer"), "forgotten", "{}", answer.body);
    let lost = answer.body["lost_between"].as_array().cloned().unwrap_or_default();
    assert_eq!(lost.len(), 2, "{}", answer.body);
    assert!(lost[1].as_str() > Some(receipt.text("accepted_at")));
    // The same id again is the same job, with the same ticket.
    shop.submit_job("order.place", "A-1", &inbox.queue, &[], "{}").await?;
    assert_eq!(inbox.next_of("receipt").await?.text("ticket"), ticket);
    server.stop().await?;
    redis.stop();
    Ok(())
}
