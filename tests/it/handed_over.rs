//! Jobs that a handler leaves to the outside world, which reports their end.

use std::time::Duration;

use harness::{Inbox, Raw, World, eventually, start};
use protocol::Code;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use worker::{Context, Failure, HandOver};

use crate::refusals::assert_says;

/// A world whose handler gives its token to the warehouse, another user of the broker.
struct Shop {
    world: World,
    server: server::Server,
    worker: worker::Running,
    shop: Raw,
    inbox: Inbox,
    warehouse: Raw,
    answers: Inbox,
    tokens: mpsc::UnboundedReceiver<String>,
}

impl Shop {
    async fn open(within: Option<Duration>) -> anyhow::Result<Self> {
        let world = World::new().await?;
        let server = world.server().await?;
        let (to_warehouse, tokens) = mpsc::unbounded_channel();
        let handler = move |job: Context| {
            let to_warehouse = to_warehouse.clone();
            async move {
                to_warehouse.send(job.report_token().await?).ok();
                Ok::<_, Failure>(within.map_or(HandOver::new(), HandOver::within))
            }
        };
        let worker = start(world.worker().handle("ship", handler)?).await?;
        let (shop, warehouse) = (world.raw("shop").await?, world.raw("till").await?);
        let (inbox, answers) = (shop.inbox("a").await?, warehouse.inbox("a").await?);
        Ok(Self { world, server, worker, shop, inbox, warehouse, answers, tokens })
    }

    /// Submits a job and returns the token that the warehouse was given.
    async fn handed_over(&mut self, job_id: &str) -> anyhow::Result<String> {
        let headers = [("job-notify", "*")];
        self.shop.submit_job("ship", job_id, &self.inbox.queue, &headers, "{}").await?;
        let event = self.inbox.event("handed_over").await?;
        assert_eq!(event.text("job_id"), job_id);
        Ok(self.tokens.recv().await.unwrap_or_default())
    }

    async fn report(&mut self, token: &str, mut what: Value) -> anyhow::Result<harness::Message> {
        what["report_token"] = json!(token);
        self.warehouse.ask("report", &self.answers.queue, what).await?;
        self.answers.next().await
    }

    async fn close(self) -> anyhow::Result<()> {
        self.worker.stop().await?;
        Ok(self.server.stop().await?)
    }
}

/// By its token, as any user of the broker (H18).
#[tokio::test]
async fn the_outside_world_finishes_a_job_that_was_handed_over_to_it() -> anyhow::Result<()> {
    let mut shop = Shop::open(None).await?;
    let token = shop.handed_over("A-1").await?;
    let record = shop.world.record("shop", "A-1").await?.unwrap_or_default();
    let secret = token.split_once('.').map_or("", |(_, secret)| secret);
    assert!(record.report_hash.is_some_and(|hash| !hash.contains(secret)));

    let said = shop.report(&token, json!({"stage": "packed", "progress": 40})).await?;
    assert_eq!((said.text("answer"), said.text("state")), ("found", "handed_over"));
    assert_eq!(shop.inbox.event("stage").await?.text("stage"), "packed");
    let done = json!({"outcome": "succeeded", "result": {"parcel": 7}});
    let said = shop.report(&token, done.clone()).await?;
    assert_eq!((said.text("state"), &said.body["done"]), ("succeeded", &json!(true)));
    // Whoever reports learns where the job is, and nothing that is its owner's (P10).
    for field in ["job_id", "client", "type", "result"] {
        assert_eq!(said.body.get(field), None, "{field}");
    }
    let event = shop.inbox.event("succeeded").await?;
    assert_eq!(event.body["result"], json!({"parcel": 7}));
    // The same again is no error; another outcome is.
    assert_eq!(shop.report(&token, done).await?.text("state"), "succeeded");
    let late = shop.report(&token, json!({"outcome": "failed"})).await?;
    assert_says(&late, Code::BadReport);
    let late = shop.report(&token, json!({"stage": "lost"})).await?;
    assert_says(&late, Code::BadReport);
    shop.close().await
}

/// The ticket is the client's to know, and gives nobody the right to report (H18).
#[tokio::test]
async fn a_report_without_the_right_token_is_refused() -> anyhow::Result<()> {
    let mut shop = Shop::open(None).await?;
    let token = shop.handed_over("A-1").await?;
    let ticket = token.split_once('.').map_or("", |(ticket, _)| ticket).to_owned();
    let record = shop.world.record("shop", "A-1").await?.unwrap_or_default();
    let hash = record.report_hash.unwrap_or_default();
    let foreign = format!("00000000-0000-8000-8000-000000000000.{}", "0".repeat(32));
    for token in [
        "",
        &ticket,
        &format!("{ticket}.{}", "0".repeat(32)),
        &format!("{ticket}.{hash}"),
        &foreign,
    ] {
        let refused = shop.report(token, json!({"outcome": "succeeded"})).await?;
        assert_says(&refused, Code::BadReport);
    }
    for what in [json!({}), json!({"outcome": "parked"}), json!({"progress": 101})] {
        let refused = shop.report(&token, what).await?;
        assert_says(&refused, Code::BadReport);
    }
    let record = shop.world.record("shop", "A-1").await?.unwrap_or_default();
    assert_eq!(record.state(), Some(job::State::HandedOver));
    shop.close().await
}

#[tokio::test]
async fn a_job_that_nobody_reports_on_expires_when_its_handler_said_so() -> anyhow::Result<()> {
    let mut shop = Shop::open(Some(Duration::from_millis(300))).await?;
    let token = shop.handed_over("A-1").await?;
    assert_eq!(shop.inbox.event("expired").await?.text("job_id"), "A-1");
    let late = shop.report(&token, json!({"outcome": "succeeded"})).await?;
    assert_says(&late, Code::BadReport);
    shop.close().await
}

#[tokio::test]
async fn a_job_that_was_handed_over_can_be_cancelled_by_its_owner() -> anyhow::Result<()> {
    let mut shop = Shop::open(None).await?;
    let token = shop.handed_over("A-1").await?;
    shop.shop.ask("cancel", "", json!({"job_id": "A-1"})).await?;
    shop.inbox.event("cancelled").await?;
    let late = shop.report(&token, json!({"outcome": "succeeded"})).await?;
    assert_says(&late, Code::BadReport);
    shop.close().await
}

/// The warehouse may be faster than the handler: it is told to come again, and nothing is lost.
#[tokio::test]
async fn a_report_before_the_handler_has_returned_is_to_be_repeated() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let (to_warehouse, mut tokens) = mpsc::unbounded_channel();
    let handler = move |job: Context| {
        let to_warehouse = to_warehouse.clone();
        async move {
            let token = job.report_token().await?;
            assert_eq!(job.report_token().await?, token, "one token for one attempt");
            to_warehouse.send(token).ok();
            job.cancelled().await;
            Ok::<_, Failure>(HandOver::new())
        }
    };
    let worker = start(world.worker().handle("ship", handler)?).await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    shop.submit_job("ship", "A-1", &inbox.queue, &[], "{}").await?;
    let token = tokens.recv().await.unwrap_or_default();
    let report = json!({"report_token": token, "outcome": "succeeded"});
    inbox.next_of("receipt").await?;
    shop.ask("report", &inbox.queue, report.clone()).await?;
    let early = inbox.next_of("status").await?;
    assert_eq!(early.text("answer"), "unavailable", "{}", early.body);
    assert!(early.body["retry_after_ms"].as_u64().is_some());
    shop.ask("cancel", "", json!({"job_id": "A-1"})).await?;
    eventually("it is handed over", || async {
        let record = world.record("shop", "A-1").await?.unwrap_or_default();
        Ok(record.state().filter(|state| *state == job::State::HandedOver))
    })
    .await?;
    shop.ask("report", &inbox.queue, report).await?;
    assert_eq!(inbox.next_of("status").await?.text("state"), "succeeded");
    worker.stop().await?;
    Ok(server.stop().await?)
}

/// Nobody could ever finish it: that is the handler's mistake, and said so.
#[tokio::test]
async fn a_hand_over_without_a_token_fails() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let handler = || async { Ok::<_, Failure>(HandOver::new()) };
    let worker = start(world.worker().handle("ship", handler)?).await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    shop.submit_job("ship", "A-1", &inbox.queue, &[("job-notify", "terminal")], "{}").await?;
    let event = inbox.event("failed").await?;
    assert!(event.text("error").contains("report token"), "{}", event.body);
    worker.stop().await?;
    Ok(server.stop().await?)
}

/// A token is of one attempt, and of one that hands over (H18).
#[tokio::test]
async fn the_token_of_an_attempt_that_did_not_hand_over_is_worth_nothing() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let (to_warehouse, mut tokens) = mpsc::unbounded_channel();
    let handler = move |job: Context| {
        let to_warehouse = to_warehouse.clone();
        async move {
            to_warehouse.send(job.report_token().await?).ok();
            match job.attempt() {
                1 => Err(Failure::retry("not this time")),
                _ => Ok("done by the handler"),
            }
        }
    };
    let worker = start(world.worker().handle("ship", handler)?).await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    shop.submit_job("ship", "A-1", &inbox.queue, &[("job-notify", "terminal")], "{}").await?;
    inbox.event("succeeded").await?;
    for _ in 0..2 {
        let token = tokens.recv().await.unwrap_or_default();
        // The result is the handler's: nobody must be told that another was taken.
        let report = json!({"report_token": token, "outcome": "succeeded", "result": "other"});
        shop.ask("report", &inbox.queue, report).await?;
        let refused = inbox.next_of_any(&["status", "refusal"]).await?;
        assert_says(&refused, Code::BadReport);
    }
    worker.stop().await?;
    Ok(server.stop().await?)
}
