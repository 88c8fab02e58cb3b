//! Subscriptions after the fact: other changes, another queue, what was not delivered.

use broker::topology;
use harness::{Inbox, World, eventually, start};
use protocol::Code;
use serde_json::{Value, json};
use worker::{Context, Failure};

use crate::refusals::{Desk, assert_refused};

/// A worker whose jobs report a stage and then go on until they are cancelled.
async fn patient(world: &World) -> anyhow::Result<worker::Running> {
    let handler = |job: Context| async move {
        job.stage("packed").await?;
        job.progress(50, "half way").await?;
        job.cancelled().await;
        Ok::<_, Failure>("done")
    };
    start(world.worker().handle("patient", handler)?).await
}

async fn until_progress(world: &World, job_id: &str) -> anyhow::Result<()> {
    eventually("it waits", || async {
        Ok(world.record("shop", job_id).await?.unwrap_or_default().progress)
    })
    .await
    .map(drop)
}

async fn subscribe(desk: &mut Desk, options: Value) -> anyhow::Result<harness::Message> {
    desk.shop
        .publish(topology::REQUEST, "subscribe", desk.properties(""), options.to_string())
        .await?;
    let kinds = ["status", "refusal"];
    desk.inbox.next_of_any(&kinds).await
}

/// The words of the next events, up to the final one.
async fn words(inbox: &mut Inbox) -> anyhow::Result<String> {
    let mut words = Vec::new();
    loop {
        let event = inbox.next_of("event").await?;
        words.push(event.text("event").to_owned());
        if event.body["done"] == json!(true) {
            return Ok(words.join(" "));
        }
    }
}

#[tokio::test]
async fn a_job_that_nobody_listened_to_is_listened_to_from_now_on() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    let worker = patient(&desk.world).await?;
    desk.shop.submit("patient", desk.properties("A-1"), "{}").await?;
    desk.inbox.next_of("receipt").await?;
    until_progress(&desk.world, "A-1").await?;
    let mut other = desk.shop.inbox("other").await?;
    let options = json!({"job_id": "A-1", "notify": "terminal", "notify_to": other.queue});
    let status = subscribe(&mut desk, options).await?;
    assert_eq!((status.kind.as_str(), status.text("state")), ("status", "running"));
    let ledger = &status.body["notifications"];
    assert_eq!(ledger["to"], json!(other.queue));
    assert_eq!(ledger["changes"], json!(["succeeded", "failed", "cancelled", "expired"]));
    desk.shop.ask("cancel", "", json!({"job_id": "A-1"})).await?;
    assert_eq!(words(&mut other).await?, "succeeded");
    worker.stop().await?;
    desk.close().await
}

/// Only the changes are given, or only the queue: the other stays.
#[tokio::test]
async fn what_a_subscription_does_not_name_stays_as_it_was() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    let queue = desk.inbox.queue.clone();
    desk.shop.submit_job("none.such", "A-1", &queue, &[("job-notify", "cancelled")], "").await?;
    desk.inbox.next_of("receipt").await?;
    let other = desk.shop.inbox("other").await?.queue;
    let status = subscribe(&mut desk, json!({"job_id": "A-1", "notify_to": other})).await?;
    let ledger = status.body["notifications"].clone();
    assert_eq!((&ledger["to"], &ledger["changes"]), (&json!(other), &json!(["cancelled"])));
    let status = subscribe(&mut desk, json!({"job_id": "A-1", "notify": "expired"})).await?;
    let ledger = status.body["notifications"].clone();
    assert_eq!((&ledger["to"], &ledger["changes"]), (&json!(other), &json!(["expired"])));
    let status = subscribe(&mut desk, json!({"job_id": "A-1", "notify": ""})).await?;
    assert_eq!(status.body.get("notifications"), None);
    desk.close().await
}

/// Stored and read in one step: whatever the moment, the final state is either in the answer or
/// pushed afterwards (H24).
#[tokio::test]
async fn h24_a_subscription_during_the_last_change_misses_nothing() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    let worker = desk.world.demo_worker().await?;
    let mut pushed = 0;
    for n in 0..40 {
        let job_id = format!("A-{n}");
        desk.shop.submit("demo.echo", desk.properties(&job_id), "1").await?;
        // Somewhere between the acceptance and the end.
        for _ in 0..n {
            tokio::task::yield_now().await;
        }
        let status = subscribe(&mut desk, json!({"job_id": job_id, "notify": "terminal"})).await?;
        assert_eq!(status.text("answer"), "found", "{}", status.body);
        if status.body["done"] != json!(true) {
            let event = desk.inbox.next_of("event").await?;
            assert_eq!(event.text("job_id"), job_id);
            assert!(event.body["revision"].as_u64() > status.body["revision"].as_u64());
            pushed += 1;
        }
    }
    assert!(pushed > 0, "every job was done before it was subscribed to: nothing was tested");
    worker.stop().await?;
    desk.close().await
}

/// An unknown id goes down the line, behind the submissions in front of it (H24).
#[tokio::test]
async fn h24_a_subscription_waits_in_the_line_for_the_submission_in_front_of_it()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("till").await?;
    shop.submit_job("none.such", "A-1", "", &[], "{}").await?;
    shop.ask("subscribe", &inbox.queue, json!({"job_id": "A-1", "notify": "cancelled"})).await?;
    shop.ask("subscribe", &inbox.queue, json!({"job_id": "A-2", "notify": "cancelled"})).await?;
    let server = world.server().await?;
    let mut answers = std::collections::BTreeMap::new();
    while answers.len() < 2 {
        let status = inbox.next_of("status").await?;
        if status.text("answer") != "pending" {
            let answer = status.text("answer").to_owned();
            answers.insert(status.text("job_id").to_owned(), answer);
        }
    }
    let expected = [("A-1", "found"), ("A-2", "unknown")];
    assert_eq!(answers, expected.map(|(id, word)| (id.to_owned(), word.to_owned())).into());
    // Where the submission named no queue, the subscription's own reply queue is the destination.
    shop.ask("cancel", "", json!({"job_id": "A-1"})).await?;
    assert_eq!(inbox.event("cancelled").await?.text("job_id"), "A-1");
    Ok(server.stop().await?)
}

/// From the oldest that was given up (H21).
#[tokio::test]
async fn what_was_undeliverable_is_delivered_again_to_another_queue() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    let worker = patient(&desk.world).await?;
    let headers = [("job-notify", "*"), ("job-notify-to", "reply.shop.nowhere")];
    let queue = desk.inbox.queue.clone();
    desk.shop.submit_job("patient", "A-1", &queue, &headers, "{}").await?;
    desk.inbox.next_of("receipt").await?;
    until_progress(&desk.world, "A-1").await?;
    // queued, running, stage, progress
    let given_up = eventually("all are given up", || async {
        let record = desk.world.record("shop", "A-1").await?.unwrap_or_default();
        Ok(record.undeliverable.filter(|count| count == "4").and(record.undeliverable_from))
    })
    .await?;
    assert_eq!(given_up, "1");
    desk.status_ledger("A-1", 4).await?;

    let mut other = desk.shop.inbox("other").await?;
    let options = json!({"job_id": "A-1", "notify_to": other.queue, "redeliver": true});
    let status = subscribe(&mut desk, options).await?;
    assert_eq!(status.body["notifications"].get("undeliverable"), None, "{}", status.body);
    let mut revisions = Vec::new();
    for word in ["queued", "running", "stage", "progress"] {
        let event = other.next_of("event").await?;
        assert_eq!(event.text("event"), word, "{}", event.body);
        match word {
            "stage" => assert_eq!(event.text("stage"), "packed"),
            "progress" => {
                assert_eq!(event.body["progress"], json!(50));
                assert_eq!(event.text("progress_note"), "half way");
            }
            _ => {}
        }
        revisions.push(event.body["revision"].as_u64());
    }
    assert!(revisions.is_sorted(), "{revisions:?}");
    desk.shop.ask("cancel", "", json!({"job_id": "A-1"})).await?;
    assert!(words(&mut other).await?.ends_with("succeeded"));
    worker.stop().await?;
    desk.close().await
}

/// The final state too, of a job that is long done.
#[tokio::test]
async fn the_end_of_a_job_is_delivered_again_with_its_result() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    let worker = desk.world.demo_worker().await?;
    let headers = [("job-notify", "terminal"), ("job-notify-to", "reply.shop.nowhere")];
    let queue = desk.inbox.queue.clone();
    desk.shop.submit_job("demo.echo", "A-1", &queue, &headers, r#"{"a":1}"#).await?;
    eventually("it is given up", || async {
        Ok(desk.world.record("shop", "A-1").await?.unwrap_or_default().undeliverable)
    })
    .await?;
    let options = json!({"job_id": "A-1", "notify_to": queue, "redeliver": true});
    let status = subscribe(&mut desk, options).await?;
    assert_eq!(status.text("state"), "succeeded");
    let event = desk.inbox.next_of("event").await?;
    assert_eq!((event.text("event"), &event.body["result"]), ("succeeded", &json!({"a": 1})));
    assert_eq!(event.body["done"], json!(true));
    assert_eq!(event.properties.message_id, Some(format!("{}/1.3", event.text("ticket"))));
    worker.stop().await?;
    desk.close().await
}

/// One guard for every name that a client gives (H8).
#[tokio::test]
async fn a_subscription_to_a_queue_that_is_not_the_clients_is_refused() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    desk.accepted("A-1").await?;
    let to = |queue: &str| json!({"job_id": "A-1", "notify": "terminal", "notify_to": queue});
    let direct = "amq.rabbitmq.reply-to";
    for queue in ["reply.till.a", "counterfoil.intake", "counterfoil.work.default", "", direct] {
        let refused = subscribe(&mut desk, to(queue)).await?;
        assert_refused(&refused, Code::ReplyToNotAllowed, "");
    }
    for options in [json!({"job_id": "A-1"}), json!({"job_id": "A-1", "notify": "done"})] {
        let refused = subscribe(&mut desk, options).await?;
        assert_refused(&refused, Code::BadRequest, "");
    }
    assert_eq!(desk.world.record("shop", "A-1").await?.unwrap_or_default().notify, None);
    desk.close().await
}

/// Events need a ledger: where the receipt went by direct reply-to, they go to the queue that the
/// subscription's own answer goes to.
#[tokio::test]
async fn a_job_submitted_by_direct_reply_to_is_listened_to_in_a_queue() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    // A process of a node that has gone: nobody gets the receipt.
    let direct = "amq.rabbitmq.reply-to.g1h3C3JhYmJpdEBnb25lAAAAAAAAAAAAAAAA.AAAA";
    desk.shop.submit_job("none.such", "A-1", direct, &[], "{}").await?;
    eventually("it is accepted", || desk.world.record("shop", "A-1")).await?;
    let status = subscribe(&mut desk, json!({"job_id": "A-1", "notify": "cancelled"})).await?;
    assert_eq!(status.body["notifications"]["to"], json!(desk.inbox.queue), "{}", status.body);
    desk.shop.ask("cancel", "", json!({"job_id": "A-1"})).await?;
    assert_eq!(desk.inbox.event("cancelled").await?.text("job_id"), "A-1");
    desk.close().await
}

/// Only progress is a number with a note; a stage is a text, whatever it begins with.
#[tokio::test]
async fn a_stage_that_begins_with_a_number_is_delivered_again_as_it_was() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    let handler = |job: Context| async move {
        job.stage("3 of 5 packed").await?;
        Ok::<_, Failure>("done")
    };
    let worker = start(desk.world.worker().handle("pack", handler)?).await?;
    let headers = [("job-notify", "stage"), ("job-notify-to", "reply.shop.nowhere")];
    let queue = desk.inbox.queue.clone();
    desk.shop.submit_job("pack", "A-1", &queue, &headers, "{}").await?;
    eventually("it is given up", || async {
        Ok(desk.world.record("shop", "A-1").await?.unwrap_or_default().undeliverable)
    })
    .await?;
    let options = json!({"job_id": "A-1", "notify_to": queue, "redeliver": true});
    subscribe(&mut desk, options).await?;
    let event = desk.inbox.event("stage").await?;
    assert_eq!(event.text("stage"), "3 of 5 packed", "{}", event.body);
    worker.stop().await?;
    desk.close().await
}

/// What does not fit into a client's outbox is joined into a gap, and the gap is stated (P7).
#[tokio::test]
async fn what_does_not_fit_when_it_is_delivered_again_is_a_stated_gap() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    world.settings.redis.outbox_per_client_max = 1;
    world.settings.server.deliver_tries = 1;
    let server = world.server().await?;
    let worker = world.demo_worker().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    shop.submit_job("demo.echo", "A-1", "", &[], "{}").await?;
    eventually("it is done", || async {
        let record = world.record("shop", "A-1").await?.unwrap_or_default();
        Ok(record.state().filter(|state| state.is_terminal()))
    })
    .await?;
    let options = json!({"job_id": "A-1", "notify": "*", "redeliver": true});
    shop.ask("subscribe", &inbox.queue, options).await?;
    assert_eq!(inbox.event("queued").await?.body["revision"], json!(1));
    let last = inbox.event("succeeded").await?;
    assert_eq!((&last.body["revision"], &last.body["gap_from"]), (&json!(3), &json!(2)));
    worker.stop().await?;
    Ok(server.stop().await?)
}

/// What was under way to a queue that was replaced was given up later, and counted against the
/// queue that had got everything.
#[tokio::test]
async fn what_is_given_up_for_an_earlier_queue_is_not_held_against_the_present_one()
-> anyhow::Result<()> {
    let slow = |settings: &mut server::Settings| {
        settings.deliver_tries = 4;
        settings.deliver_backoff_ms = 300;
    };
    let mut desk = Desk::with(slow).await?;
    let worker = desk.world.demo_worker().await?;
    let headers = [("job-notify", "terminal"), ("job-notify-to", "reply.shop.nowhere")];
    let queue = desk.inbox.queue.clone();
    desk.shop.submit_job("demo.echo", "A-1", &queue, &headers, "1").await?;
    desk.inbox.next_of("receipt").await?;
    eventually("it is done", || async {
        let record = desk.world.record("shop", "A-1").await?.unwrap_or_default();
        Ok(record.state().filter(|state| state.is_terminal()))
    })
    .await?;
    let options = json!({"job_id": "A-1", "notify_to": queue, "redeliver": true});
    subscribe(&mut desk, options).await?;
    desk.inbox.event("succeeded").await?;
    let (store, client) = (desk.world.store().await?, job::ClientName::parse("shop")?);
    eventually("the outbox is empty", || async {
        Ok((store.outbox_waiting(&client).await? == 0).then_some(()))
    })
    .await?;
    let status = desk.status(json!({"job_id": "A-1"})).await?;
    let ledger = &status.body["notifications"];
    assert_eq!((&ledger["delivered_revision"], ledger.get("undeliverable")), (&json!(3), None));
    worker.stop().await?;
    desk.close().await
}

/// A final state is pushed however much waits for the client, so asking for it again and again
/// would fill the store (H21).
#[tokio::test]
async fn nothing_is_pushed_again_while_the_outbox_is_full() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    world.settings.redis.outbox_per_client_max = 2;
    let is_ours = |role: &server::Role| *role != server::Role::Notifier;
    let server = world.server_with(|settings| settings.roles.retain(is_ours)).await?;
    let worker = world.demo_worker().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    shop.submit_job("demo.echo", "A-1", "", &[], "1").await?;
    eventually("it is done", || async {
        let record = world.record("shop", "A-1").await?.unwrap_or_default();
        Ok(record.state().filter(|state| state.is_terminal()))
    })
    .await?;
    for kind in ["status", "status", "refusal", "refusal"] {
        let options = json!({"job_id": "A-1", "notify": "terminal", "redeliver": true});
        shop.ask("subscribe", &inbox.queue, options).await?;
        let answer = inbox.next().await?;
        assert_eq!(answer.kind, kind, "{}", answer.body);
        if kind == "refusal" {
            assert_eq!(answer.text("code"), "quota");
        }
    }
    worker.stop().await?;
    Ok(server.stop().await?)
}
