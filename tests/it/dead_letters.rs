//! What cannot be processed: answered where it can be, kept with its reason, never a loop. And what
//! a client writes into its messages to look like someone else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, ensure};
use broker::{Connection, topology};
use harness::{Inbox, Message, Raw, World, eventually, start};
use job::QueueName;
use lapin::types::{AMQPValue, FieldArray, FieldTable};
use protocol::work::Spec;
use protocol::{HeaderValue, Properties, WorkMessage, headers};
use serde_json::json;
use store::RecordKind;
use worker::Failure;

use crate::reply_queues::Stock;

const TYPE: &str = "order.place";

/// A kept message: reason, exchange, routing key, client, in this order.
fn marks(kept: &Message) -> [&str; 4] {
    [headers::REASON, headers::DEAD_EXCHANGE, headers::DEAD_ROUTING_KEY, headers::CLIENT]
        .map(|name| kept.properties.headers.text(name).unwrap_or_default())
}

/// The next kept message is about this id, with these marks; the reason begins as given.
pub(crate) async fn kept(dead: &mut Inbox, id: &str, wanted: [&str; 4]) -> anyhow::Result<()> {
    let kept = dead.next().await?;
    let [reason, exchange, routing_key, client] = marks(&kept);
    let about = kept.properties.message_id.as_deref().unwrap_or_default();
    ensure!(about == id, "{about} and not {id}: {reason}");
    ensure!(reason.starts_with(wanted[0]), "{id}: {reason}");
    assert_eq!([exchange, routing_key, client], wanted[1..], "{id}");
    Ok(())
}

/// A message that is kept and nothing else: what stands in front of it is all there is.
pub(crate) async fn nothing_more(shop: &Raw, dead: &mut Inbox) -> anyhow::Result<()> {
    for (exchange, key) in [(topology::SUBMIT, TYPE), (topology::REQUEST, "status")] {
        let end = Properties { user_id: None, ..shop.properties("end", "") };
        shop.publish(exchange, key, end, "").await?;
        kept(dead, "end", ["invalid_client: ", exchange, key, ""]).await?;
    }
    for queue in [topology::INTAKE_QUEUE, topology::INQUIRY_QUEUE, topology::DEAD_QUEUE] {
        let empty = eventually(queue, || async {
            Ok((shop.connection.depth(queue).await?.ready == 0).then_some(()))
        });
        empty.await?;
    }
    Ok(())
}

fn with(mut properties: Properties, name: &'static str, value: &str) -> Properties {
    properties.headers.push(name, HeaderValue::Text(value.to_owned()));
    properties
}

/// Nobody can be told, and nothing can be recorded (H11).
#[tokio::test]
async fn a_submission_without_client_or_id_is_kept_once_with_its_reason() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("till").await?;
    let mut dead = world.raw("admin").await?.read(topology::DEAD_QUEUE).await?;
    let nobody = Properties { user_id: None, ..shop.properties("A-1", &inbox.queue) };
    shop.submit(TYPE, nobody, "{}").await?;
    shop.submit("No Type", shop.properties("~", ""), vec![0, 159, 146, 150]).await?;
    shop.submit_job(TYPE, "A-2", &inbox.queue, &[], "{}").await?;
    assert_eq!(inbox.next().await?.text("job_id"), "A-2");
    kept(&mut dead, "A-1", ["invalid_client: ", topology::SUBMIT, TYPE, ""]).await?;
    kept(&mut dead, "~", ["invalid_id: ", topology::SUBMIT, "No Type", "shop"]).await?;
    nothing_more(&shop, &mut dead).await?;
    Ok(server.stop().await?)
}

/// A body that is no request is answered, and kept as well.
#[tokio::test]
async fn a_request_that_cannot_be_parsed_is_answered_and_kept_once() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("till").await?;
    let mut dead = world.raw("admin").await?.read(topology::DEAD_QUEUE).await?;
    for (id, reply_to) in [("Q-1", ""), ("Q-2", inbox.queue.as_str())] {
        shop.publish(topology::REQUEST, "cancel", shop.properties(id, reply_to), "{").await?;
        kept(&mut dead, id, ["bad_request: ", topology::REQUEST, "cancel", "shop"])
            .await
            .with_context(|| format!("{id}, reply_to {reply_to:?}"))?;
    }
    assert_eq!(inbox.next().await?.text("code"), "bad_request");
    nothing_more(&shop, &mut dead).await?;
    Ok(server.stop().await?)
}

/// Its id is a job's, whose record stays; its reply queue is another's. Nothing is dropped
/// silently.
#[tokio::test]
async fn a_refusal_that_is_neither_answered_nor_recorded_is_kept() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("till").await?;
    let mut dead = world.raw("admin").await?.read(topology::DEAD_QUEUE).await?;
    for _ in 0..2 {
        shop.submit_job(TYPE, "A-1", &inbox.queue, &[], "{}").await?;
        assert_eq!(inbox.next().await?.kind, "receipt");
        shop.submit_job(TYPE, "A-1", "reply.till.a", &[], "other").await?;
    }
    for _ in 0..2 {
        kept(&mut dead, "A-1", ["reply_to_not_allowed: ", topology::SUBMIT, TYPE, "shop"]).await?;
    }
    nothing_more(&shop, &mut dead).await?;
    Ok(server.stop().await?)
}

/// What a broker has dead-lettered names whoever published it first, so it is nobody's (H8).
#[tokio::test]
async fn a_message_with_a_history_of_dead_letters_is_nobodys() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("till").await?;
    let mut dead = world.raw("admin").await?.read(topology::DEAD_QUEUE).await?;
    let died = with(shop.properties("A-1", &inbox.queue), headers::X_DEATH, "once");
    for (exchange, key) in [(topology::SUBMIT, TYPE), (topology::REQUEST, "cancel")] {
        shop.publish(exchange, key, died.clone(), r#"{"job_id":"A-1"}"#).await?;
        kept(&mut dead, "A-1", ["invalid_client: ", exchange, key, "shop"]).await?;
    }
    shop.ask("status", &inbox.queue, json!({"job_id": "A-1"})).await?;
    assert_eq!(inbox.next().await?.text("answer"), "unknown");
    nothing_more(&shop, &mut dead).await?;
    Ok(server.stop().await?)
}

/// Every header of the server's own, on a submission, a question and a cancellation (H8).
#[tokio::test]
async fn a_client_with_our_headers_stays_itself() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let (shop, till) = (world.raw("shop").await?, world.raw("till").await?);
    let (mut inbox, mut other) = (shop.inbox("a").await?, till.inbox("a").await?);
    till.submit_job(TYPE, "A-1", &other.queue, &[], "till's").await?;
    assert_eq!(other.next().await?.text("client"), "till");
    let forged = |id: &str| {
        let mut properties = with(shop.properties(id, &inbox.queue), headers::CLIENT, "till");
        properties = with(properties, headers::JOB_ID, "A-1");
        properties = with(properties, headers::DEAD_EXCHANGE, topology::LINE);
        for name in [headers::SPEC, headers::SEAL, headers::REASON, headers::DELIVERY_COUNT] {
            properties = with(properties, name, "9");
        }
        properties
    };
    shop.submit(TYPE, forged("A-2"), "shop's").await?;
    let (forged_1, forged_3) = (forged("A-1"), forged("A-3"));
    let receipt = inbox.next().await?;
    assert_eq!((receipt.text("client"), receipt.text("job_id")), ("shop", "A-2"));
    assert!(receipt.properties.headers.is_empty(), "{:?}", receipt.properties.headers);
    // Verb by verb as an inquiry process would write it for the line.
    let body = r#"{"job_id":"A-1","verb":"cancel","client":"till"}"#;
    shop.publish(topology::REQUEST, "status", forged_1.clone(), body).await?;
    let answer = inbox.next().await?;
    assert_eq!((answer.text("answer"), answer.text("client")), ("unknown", "shop"));
    shop.publish(topology::REQUEST, "cancel", forged_1, body).await?;
    let answer = inbox.next().await?;
    assert_eq!((answer.text("answer"), answer.text("client")), ("voided", "shop"));
    shop.submit("cancel", forged_3, r#"{"verb":"cancel"}"#).await?;
    let receipt = inbox.next().await?;
    assert_eq!((receipt.kind.as_str(), receipt.text("client")), ("receipt", "shop"));
    till.ask("status", &other.queue, json!({"job_id": "A-1"})).await?;
    let untouched = other.next().await?;
    assert_eq!((untouched.text("state"), &untouched.body["revision"]), ("parked", &json!(1)));
    Ok(server.stop().await?)
}

/// RabbitMQ routes a message to what its CC and BCC headers name as well; none of ours has them.
#[tokio::test]
async fn carbon_copies_are_not_copied_into_our_messages() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let worker = world.demo_worker().await?;
    let (shop, till) = (world.raw("shop").await?, world.raw("till").await?);
    let (mut inbox, mut foreign) = (shop.inbox("a").await?, till.inbox("a").await?);
    let mut dead = world.raw("admin").await?.read(topology::DEAD_QUEUE).await?;
    let stock = Stock::open(&world, "shop").await?;
    let copies = FieldArray::from(vec![AMQPValue::LongString(foreign.queue.as_str().into())]);
    let mut table = FieldTable::default();
    table.insert("CC".into(), AMQPValue::FieldArray(copies.clone()));
    table.insert("BCC".into(), AMQPValue::FieldArray(copies));
    table.insert("job-notify".into(), AMQPValue::LongString("*".into()));
    let about = |id: &str| {
        let properties = stock.properties().with_message_id(id.into()).with_headers(table.clone());
        properties.with_reply_to(inbox.queue.as_str().into())
    };
    let (good, refused, unread, asked) = (about("A-1"), about("A-2"), about("~"), about("q"));
    stock.publish(topology::SUBMIT, "demo.echo", good, b"{}").await?;
    assert_eq!(inbox.event("succeeded").await?.text("job_id"), "A-1");
    stock.publish(topology::SUBMIT, "No Type", refused, b"{}").await?;
    assert_eq!(inbox.next_of("refusal").await?.text("code"), "invalid_type");
    stock.publish(topology::SUBMIT, "demo.echo", unread, b"{}").await?;
    kept(&mut dead, "~", ["invalid_id: ", topology::SUBMIT, "demo.echo", "shop"]).await?;
    stock.publish(topology::REQUEST, "status", asked, br#"{"job_id":"A-9"}"#).await?;
    assert_eq!(inbox.next_of("status").await?.text("answer"), "unknown");
    world.mark(&foreign.queue, "end").await?;
    assert_eq!(foreign.next().await?.properties.message_id.as_deref(), Some("end"));
    worker.stop().await?;
    Ok(server.stop().await?)
}

/// Without the deployment's seal a work message is nobody's, however well it is made (H31).
#[tokio::test]
async fn a_work_message_that_the_server_did_not_seal_is_not_run() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let count = move || {
        let counted = Arc::clone(&counted);
        async move { Ok::<_, Failure>(counted.fetch_add(1, Ordering::SeqCst) + 1) }
    };
    let worker = start(world.worker().handle(TYPE, count)?).await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    let mut dead = world.raw("admin").await?.read(topology::DEAD_QUEUE).await?;
    let (client, job_id) = (job::ClientName::parse("till")?, job::JobId::parse("A-1")?);
    let guessed = job::TicketKey::new(b"a guess");
    let message = WorkMessage {
        ticket: guessed.ticket(&client, &job_id, 0),
        client,
        job_id,
        job_type: job::JobType::parse(TYPE)?,
        queue: QueueName::default(),
        dispatch: 1,
        epoch: 1,
        spec: Spec::default(),
        body: b"{}".to_vec(),
    };
    let sealed = Properties { user_id: None, ..message.properties(&guessed) };
    let id = sealed.message_id.clone().context("an id")?;
    let queue = topology::work_queue(&message.queue);
    // With a right that no client has.
    let admin = world.raw("admin").await?;
    let bare = admin.properties("A-1", &inbox.queue);
    let reason = "not a work message of this deployment: ";
    for (exchange, key) in [(topology::WORK, "default"), (topology::DEFAULT, queue.as_str())] {
        admin.publish(exchange, key, bare.clone(), "{}").await?;
        kept(&mut dead, "A-1", [reason, exchange, key, "admin"]).await?;
        admin.publish(exchange, key, sealed.clone(), "{}").await?;
        kept(&mut dead, &id, [reason, exchange, key, ""]).await?;
    }
    shop.submit_job(TYPE, "A-2", &inbox.queue, &[("job-notify", "succeeded")], "{}").await?;
    assert_eq!(inbox.event("succeeded").await?.body["result"], json!(1));
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert!(world.record("till", "A-1").await?.is_none());
    assert!(world.record("shop", "A-1").await?.is_none());
    nothing_more(&shop, &mut dead).await?;
    worker.stop().await?;
    Ok(server.stop().await?)
}

/// Sent while no server runs, with an expiration, so that the broker drops it unread.
async fn expired(world: &World, exchange: &'static str, key: &str) -> anyhow::Result<Raw> {
    let connection = Connection::open(&world.amqp("server"), "a test").await?;
    let shop = world.raw("shop").await?;
    let mortal =
        Properties { expiration: Some("1".to_owned()), ..shop.properties("A-1", "reply.shop.a") };
    shop.publish(exchange, key, mortal, r#"{"job_id":"A-2"}"#).await?;
    let dropped = eventually("the broker drops it", || async {
        let depth = connection.depth(topology::DROPPED_QUEUE).await?;
        Ok((depth.ready == 1).then_some(()))
    });
    dropped.await?;
    connection.close().await;
    Ok(shop)
}

/// It was confirmed, so it is not unknown (H7).
#[tokio::test]
async fn a_submission_that_expires_unread_is_recorded_as_refused() -> anyhow::Result<()> {
    let world = World::new().await?;
    let shop = expired(&world, topology::SUBMIT, TYPE).await?;
    let server = world.server().await?;
    let mut inbox = shop.inbox("a").await?;
    let mut dead = world.raw("admin").await?.read(topology::DEAD_QUEUE).await?;
    let reason = "dropped by the broker before it was read";
    kept(&mut dead, "A-1", [reason, topology::SUBMIT, TYPE, "shop"]).await?;
    shop.ask("status", &inbox.queue, json!({"job_id": "A-1"})).await?;
    let status = inbox.next().await?;
    assert_eq!((status.text("answer"), status.text("code")), ("refused", "bad_header"));
    shop.submit_job(TYPE, "A-1", &inbox.queue, &[], "{}").await?;
    assert_eq!(inbox.next().await?.body["duplicate"], json!(false));
    nothing_more(&shop, &mut dead).await?;
    Ok(server.stop().await?)
}

/// A request is no submission: that its message id looks like a job's refuses nothing.
#[tokio::test]
async fn a_request_that_expires_unread_is_kept_and_refuses_no_job() -> anyhow::Result<()> {
    let world = World::new().await?;
    let shop = expired(&world, topology::REQUEST, "status").await?;
    let server = world.server().await?;
    let mut dead = world.raw("admin").await?.read(topology::DEAD_QUEUE).await?;
    kept(&mut dead, "A-1", ["dropped by the broker", topology::REQUEST, "status", "shop"]).await?;
    for id in ["A-1", "A-2"] {
        let record = world.record("shop", id).await?;
        assert_eq!(record.and_then(|record| record.kind()), None::<RecordKind>, "{id}");
    }
    nothing_more(&shop, &mut dead).await?;
    Ok(server.stop().await?)
}
