//! A list can hold what no message of its own could carry, and can be lost as a whole: neither
//! stops the line, and nothing of it is unknown that was confirmed.

use broker::topology;
use harness::{Inbox, Message, Raw, World, eventually};
use protocol::batch::{HEADERS_BYTES_MAX, HEADERS_MAX, SUBMISSIONS_BYTES_MAX};
use protocol::{Code, HeaderValue, Properties, headers};
use serde_json::json;

use crate::batches::{list, of_list};
use crate::dead_letters::{kept, nothing_more};
use crate::refusals::{Desk, TYPE, assert_refused, assert_says};

/// A name of AMQP has at most 255 bytes, and what tells of a refusal must fit into a frame. Such a
/// list was kept in the line for ever, and everything behind it.
#[tokio::test]
async fn what_no_message_could_carry_is_refused_and_the_line_goes_on() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    let mut dead = desk.world.raw("admin").await?.read(topology::DEAD_QUEUE).await?;
    let (long, huge) = ("x".repeat(256), "x".repeat(300_000));
    let lists = [
        list(&[json!({"job_id": long})]),
        list(&[json!({"job_id": huge})]),
        list(&[json!({"job_id": "A-1"}), json!({"job_id": "~", "correlation_id": long})]),
        list(&[json!({"job_id": "A-1", "correlation_id": long})]),
        list(&[json!({"job_id": "A-1", "type": huge})]),
        list(&[json!({"job_id": "A-1", "content_type": long})]),
        list(&[json!({"job_id": "A-1", "content_encoding": huge})]),
        list(&[json!({"job_id": huge, "body_base64": "A"})]),
        list(&[json!({"job_id": huge, "body": "", "body_base64": ""})]),
        json!({"v": huge, "submissions": []}).to_string(),
        json!({"v": 1, "submissions": huge}).to_string(),
        json!({"v": 2, "submissions": [{"job_id": "A-1"}]}).to_string(),
        list(&[json!({"job_id": "A-1", "headers": many_headers(HEADERS_MAX + 1)})]),
        list(&[json!({"job_id": "A-1", "body": "x".repeat(SUBMISSIONS_BYTES_MAX)})]),
    ];
    for (n, list) in lists.into_iter().enumerate() {
        let correlation_id = Some(format!("about {n}"));
        let message_id = Some("the list".to_owned());
        let common = of_list(&desk.shop, &desk.inbox.queue);
        desk.shop.submit(TYPE, Properties { correlation_id, message_id, ..common }, list).await?;
        let refusal = desk.inbox.next().await?;
        assert_refused(&refusal, Code::BadRequest, &n.to_string());
        assert!(refusal.text("message").len() < 2000);
        kept(&mut dead, "the list", ["bad_request: ", topology::SUBMIT, TYPE, "shop"]).await?;
    }
    let most = list(&[json!({"job_id": "A-2", "headers": many_headers(HEADERS_MAX)})]);
    desk.shop.submit(TYPE, of_list(&desk.shop, &desk.inbox.queue), most).await?;
    assert_eq!(desk.inbox.next_of("receipt").await?.text("job_id"), "A-2");
    desk.accepted("A-1").await?;
    nothing_more(&desk.shop, &mut dead).await?;
    desk.close().await
}

/// Headers that mean nothing. A hundred thousand of them kept the registrar busy for minutes.
fn many_headers(count: usize) -> serde_json::Map<String, serde_json::Value> {
    (0..count).map(|n| (format!("x-{n}"), json!(n))).collect()
}

/// Each submission of a list gets the headers of the message, which may fill a frame.
#[tokio::test]
async fn a_list_whose_own_headers_are_many_or_long_is_refused() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    let many = (0..=HEADERS_MAX).map(|n| (format!("x-{n}"), "1".to_owned())).collect();
    let long = vec![("x-long".to_owned(), "x".repeat(HEADERS_BYTES_MAX))];
    for own in [many, long] {
        let mut properties = of_list(&desk.shop, &desk.inbox.queue);
        for (name, text) in own {
            properties.headers.push(name, HeaderValue::Text(text));
        }
        desk.shop.submit(TYPE, properties, two()).await?;
        let refusal = desk.inbox.next().await?;
        assert_says(&refusal, Code::BadRequest);
    }
    for id in ["A-1", "A-2"] {
        let status = told(&desk.shop, &mut desk.inbox, id).await?;
        assert_eq!(status.text("answer"), "unknown");
    }
    desk.close().await
}

/// It goes into the work message, whose headers are one frame. One submission was enough.
#[tokio::test]
async fn trace_context_that_no_work_message_could_carry_is_passed_over() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    let worker = desk.world.demo_worker().await?;
    let (queue, trace) = (desk.inbox.queue.clone(), "\"".repeat(70_000));
    let tracestate = [(headers::TRACESTATE, trace.as_str())];
    desk.shop.submit_job("demo.echo", "A-1", &queue, &tracestate, "{}").await?;
    let list = list(&[json!({"job_id": "A-2", "headers": {"traceparent": "x".repeat(200_000)}})]);
    desk.shop.submit("demo.echo", of_list(&desk.shop, &queue), list).await?;
    for id in ["A-1", "A-2"] {
        assert_eq!(desk.inbox.next_of("receipt").await?.text("job_id"), id);
    }
    for id in ["A-1", "A-2"] {
        let record = desk.world.record("shop", id).await?.unwrap_or_default();
        assert_eq!((record.traceparent, record.tracestate), (None, None));
        let done = desk.status(json!({"job_id": id, "wait": {"limit_ms": 30_000}})).await?;
        assert_eq!(done.text("state"), "succeeded");
    }
    worker.stop().await?;
    desk.close().await
}

/// Neither of the two is unknown: they were confirmed. The message's own id is nobody's.
pub(crate) async fn both_are_refused(shop: &Raw, inbox: &mut Inbox) -> anyhow::Result<()> {
    for id in ["A-1", "A-2"] {
        let status = told(shop, inbox, id).await?;
        assert_says(&status, Code::BadHeader);
        assert_eq!(status.text("job_id"), id);
    }
    assert_eq!(told(shop, inbox, "the-list").await?.text("answer"), "unknown");
    Ok(())
}

/// The final answer: the line may just have nobody who works on it.
async fn told(shop: &Raw, inbox: &mut Inbox, id: &str) -> anyhow::Result<Message> {
    shop.ask("status", &inbox.queue, json!({"job_id": id})).await?;
    loop {
        let status = inbox.next_of("status").await?;
        if status.text("answer") != "pending" {
            return Ok(status);
        }
    }
}

pub(crate) fn two() -> String {
    list(&["A-1", "A-2"].map(|id| json!({"job_id": id, "body": "{}"})))
}

#[tokio::test]
async fn a_list_that_expires_unread_is_recorded_as_refused() -> anyhow::Result<()> {
    let world = World::new().await?;
    let connection = broker::Connection::open(&world.amqp("server"), "a test").await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("till").await?;
    let mortal = Properties {
        expiration: Some("1".to_owned()),
        message_id: Some("the-list".to_owned()),
        ..of_list(&shop, &inbox.queue)
    };
    shop.submit(TYPE, mortal, two()).await?;
    eventually("the broker drops it", || async {
        let depth = connection.depth(topology::DROPPED_QUEUE).await?;
        Ok((depth.ready == 1).then_some(()))
    })
    .await?;
    let server = world.server().await?;
    let mut dead = world.raw("admin").await?.read(topology::DEAD_QUEUE).await?;
    let reason = "dropped by the broker before it was read";
    kept(&mut dead, "the-list", [reason, topology::SUBMIT, TYPE, "shop"]).await?;
    both_are_refused(&shop, &mut inbox).await?;
    Ok(server.stop().await?)
}
