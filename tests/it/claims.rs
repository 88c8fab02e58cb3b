//! One test for each of the claims 1 to 16 that `docs/CLAIMS.md` lists; 17 is in
//! `order_desk.rs`, 18 in `package.rs`.

use std::time::Duration;

use client::ask::Subject;
use client::{AnswerWord, Submission};
use harness::{World, eventually};
use serde_json::json;

const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn claim_01_processing_is_sent_with_an_identifier_that_later_asks_for_its_status()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let (server, worker) = (world.server().await?, world.demo_worker().await?);
    let shop = world.client("shop")?;
    let order = Submission::new("demo.echo", "1").job_id("A-1");
    shop.submit(order).await?.accepted().await?;
    let status = shop.wait("A-1", LONG, |_| {}).await?;
    assert_eq!(status.state.as_deref(), Some("succeeded"));
    assert_eq!(status.job_id.as_deref(), Some("A-1"));
    worker.stop().await?;
    Ok(server.stop().await?)
}

#[tokio::test]
async fn claim_02_the_client_makes_the_identifier_and_stores_it_on_disk_first() -> anyhow::Result<()>
{
    // No server, and a broker port that nobody serves: nothing but the disk can have it.
    let world = World::new().await?;
    let mut settings = world.client_settings("shop");
    settings.amqp.url = "amqp://shop:secret@127.0.0.1:1/".to_owned();
    let path = settings.client.journal.clone();
    let shop = client::Client::open(settings)?;
    let submitted = shop.submit(Submission::new("demo.echo", "1")).await?;
    let reader = rusqlite::Connection::open(&path)?;
    let (id, body): (String, Vec<u8>) =
        reader.query_row("SELECT job_id, body FROM submissions", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    assert_eq!((id.as_str(), body.as_slice()), (submitted.job_id(), b"1".as_slice()));
    Ok(())
}

#[tokio::test]
async fn claim_03_identifier_and_processing_carry_information_unique_to_the_client()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let mut settings = world.client_settings("shop");
    settings.client.origin = "till-7".to_owned();
    let shop = client::Client::open(settings)?;
    let submitted = shop.submit(Submission::new("demo.echo", "1")).await?;
    submitted.accepted().await?;
    assert!(submitted.job_id().starts_with("till-7-"), "{}", submitted.job_id());
    let record = world.record("shop", submitted.job_id()).await?.unwrap_or_default();
    assert_eq!(record.origin.as_deref(), Some("till-7"));
    Ok(server.stop().await?)
}

#[tokio::test]
async fn claim_04_that_information_is_the_clients_ip_address() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let shop = world.client("shop")?;
    let submitted = shop.submit(Submission::new("demo.echo", "1")).await?;
    submitted.accepted().await?;
    let record = world.record("shop", submitted.job_id()).await?.unwrap_or_default();
    let recorded = record.origin.unwrap_or_default();
    assert_eq!(recorded, client::find_origin("ip")?.to_string());
    // A machine without an address has its name there instead.
    if let Ok(std::net::IpAddr::V4(address)) = recorded.parse() {
        assert!(!address.is_loopback());
        let hex = format!("{:08x}-", u32::from(address));
        assert!(submitted.job_id().starts_with(&hex), "{} {hex}", submitted.job_id());
    }
    Ok(server.stop().await?)
}

#[tokio::test]
async fn claim_05_the_server_sends_a_second_identifier_and_either_or_both_ask() -> anyhow::Result<()>
{
    let world = World::new().await?;
    let server = world.server().await?;
    let shop = world.client("shop")?;
    let submitted = shop.submit(Submission::new("demo.echo", "1").job_id("A-1")).await?;
    let ticket = submitted.accepted().await?.ticket.unwrap_or_default();
    for subject in [
        Subject::Id("A-1".to_owned()),
        Subject::Ticket(ticket.clone()),
        Subject::Both("A-1".to_owned(), ticket.clone()),
    ] {
        let status = shop.status(subject).await?;
        assert_eq!((status.job_id.as_deref(), status.ticket), (Some("A-1"), Some(ticket.clone())));
    }
    Ok(server.stop().await?)
}

#[tokio::test]
async fn claim_06_the_client_says_of_which_statuses_it_is_told_without_asking() -> anyhow::Result<()>
{
    let world = World::new().await?;
    let (server, worker) = (world.server().await?, world.demo_worker().await?);
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    let wanted = [("job-notify", "running,terminal")];
    shop.submit_job("demo.echo", "A-1", &inbox.queue, &wanted, "1").await?;
    let mut told = Vec::new();
    for _ in 0..3 {
        let message = inbox.next().await?;
        told.push(if message.kind == "event" {
            message.text("event").to_owned()
        } else {
            message.kind
        });
    }
    told.sort();
    // Queued was not asked for, and no event tells of it.
    assert_eq!(told, ["receipt", "running", "succeeded"]);
    worker.stop().await?;
    Ok(server.stop().await?)
}

#[tokio::test]
async fn claim_07_the_client_names_where_the_notices_go() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (server, worker) = (world.server().await?, world.demo_worker().await?);
    let shop = world.raw("shop").await?;
    let (mut receipts, mut events) = (shop.inbox("receipts").await?, shop.inbox("events").await?);
    let wanted = [("job-notify", "terminal"), ("job-notify-to", events.queue.as_str())];
    shop.submit_job("demo.echo", "A-1", &receipts.queue, &wanted, "1").await?;
    assert_eq!(receipts.next().await?.kind, "receipt");
    let event = events.next().await?;
    assert_eq!((event.kind.as_str(), event.text("event")), ("event", "succeeded"));
    worker.stop().await?;
    Ok(server.stop().await?)
}

#[tokio::test]
async fn claim_08_one_side_sends_processing_and_identifier_the_other_answers_an_inquiry()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    shop.submit_job("demo.echo", "A-1", &inbox.queue, &[], "1").await?;
    shop.ask("status", &inbox.queue, json!({ "job_id": "A-1" })).await?;
    let status = inbox.next_of("status").await?;
    assert_eq!((status.text("answer"), status.text("job_id")), ("found", "A-1"));
    Ok(server.stop().await?)
}

#[tokio::test]
async fn claim_09_a_client_has_an_identifier_generating_and_an_enquiry_section()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let shop = world.client("shop")?;
    let first = shop.submit(Submission::new("demo.echo", "1")).await?;
    let second = shop.submit(Submission::new("demo.echo", "1")).await?;
    assert_ne!(first.job_id(), second.job_id());
    for submitted in [first, second] {
        submitted.accepted().await?;
        assert_eq!(shop.status(submitted.job_id()).await?.answer, AnswerWord::Found);
    }
    Ok(server.stop().await?)
}

#[tokio::test]
async fn claim_10_the_clients_own_information_is_part_of_every_generated_identifier()
-> anyhow::Result<()> {
    let world = World::new().await?;
    for label in ["till-1", "till-2"] {
        let mut settings = world.client_settings("shop");
        settings.client.origin = label.to_owned();
        let shop = client::Client::open(settings)?;
        let many = vec![Submission::new("demo.echo", "1"); 50];
        for submitted in shop.submit_many(many).await? {
            assert!(submitted.job_id().starts_with(&format!("{label}-")));
        }
    }
    Ok(())
}

#[tokio::test]
async fn claim_11_the_address_is_hexadecimal_in_the_identifier_and_plain_with_the_job()
-> anyhow::Result<()> {
    let origin = job::Origin::ip("10.1.2.3".parse()?);
    let id = origin.job_id(uuid::Uuid::now_v7());
    assert!(id.as_str().starts_with("0a010203-"));
    assert_eq!(origin.to_string(), "10.1.2.3");
    // The job carries what any client says, under its own header.
    let world = World::new().await?;
    let server = world.server().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    let origin = [("job-origin", "10.1.2.3")];
    shop.submit_job("demo.echo", id.as_str(), &inbox.queue, &origin, "1").await?;
    assert_eq!(inbox.next_of("receipt").await?.text("origin"), "10.1.2.3");
    Ok(server.stop().await?)
}

#[tokio::test]
async fn claim_12_the_server_receives_looks_up_by_the_first_identifier_and_transmits()
-> anyhow::Result<()> {
    // A hundred identifiers in one question: each is looked up, each is answered.
    let world = World::new().await?;
    let server = world.server().await?;
    let shop = world.client("shop")?;
    let jobs: Vec<_> =
        (0..60).map(|n| Submission::new("demo.echo", "1").job_id(format!("A-{n}"))).collect();
    for submitted in shop.submit_many(jobs).await? {
        submitted.accepted().await?;
    }
    let subjects: Vec<Subject> = (0..100).map(|n| Subject::Id(format!("A-{n}"))).collect();
    let answers = shop.status_many(&subjects).await?;
    assert_eq!(answers.len(), 100);
    let of = |word| answers.iter().filter(|answer| answer.answer == word).count();
    assert_eq!((of(AnswerWord::Found), of(AnswerWord::Unknown)), (60, 40));
    Ok(server.stop().await?)
}

#[tokio::test]
async fn claim_13_the_server_generates_the_second_identifier_and_transmits_it() -> anyhow::Result<()>
{
    let world = World::new().await?;
    let server = world.server().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    shop.submit_job("demo.echo", "A-1", &inbox.queue, &[], "1").await?;
    let receipt = inbox.next_of("receipt").await?;
    let ticket = uuid::Uuid::parse_str(receipt.text("ticket"))?;
    let record = world.record("shop", "A-1").await?.unwrap_or_default();
    assert_eq!(record.ticket, Some(ticket.to_string()));
    Ok(server.stop().await?)
}

#[tokio::test]
async fn claim_14_the_server_takes_either_identifier_in_an_inquiry() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    shop.submit_job("demo.echo", "A-1", &inbox.queue, &[], "1").await?;
    let ticket = inbox.next_of("receipt").await?.text("ticket").to_owned();
    let either = json!({ "jobs": [{ "job_id": "A-1" }, { "ticket": ticket }] });
    shop.ask("status", &inbox.queue, either).await?;
    for _ in 0..2 {
        let status = inbox.next_of("status").await?;
        assert_eq!((status.text("job_id"), status.text("ticket")), ("A-1", ticket.as_str()));
    }
    Ok(server.stop().await?)
}

#[tokio::test]
async fn claim_15_the_server_transmits_the_status_when_it_has_changed() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (server, worker) = (world.server().await?, world.demo_worker().await?);
    let shop = world.client("shop")?;
    let mut events = shop.events();
    let sleep = Submission::new("demo.sleep", r#"{"ms":50}"#).notify("*");
    shop.submit(sleep).await?.accepted().await?;
    let mut revisions = Vec::new();
    loop {
        let event = harness::within("an event", events.recv()).await??;
        revisions.push(event.revision.unwrap_or_default());
        if event.done == Some(true) {
            break;
        }
    }
    // Accepted, started, ten times progress, succeeded: each change, in order.
    assert_eq!(revisions, (1..=13).collect::<Vec<_>>());
    worker.stop().await?;
    Ok(server.stop().await?)
}

#[tokio::test]
async fn claim_16_the_server_stores_to_whom_a_changed_status_is_to_be_sent() -> anyhow::Result<()> {
    // Without a notifier the change waits in the store, with its destination.
    let world = World::new().await?;
    let server = world
        .server_with(|settings| settings.roles.retain(|role| *role != server::Role::Notifier))
        .await?;
    let worker = world.demo_worker().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    shop.submit_job("demo.echo", "A-1", &inbox.queue, &[("job-notify", "terminal")], "1").await?;
    inbox.next_of("receipt").await?;
    let store = world.store().await?;
    let client = job::ClientName::parse("shop")?;
    eventually("the event to wait in the store", || async {
        Ok((store.outbox_waiting(&client).await? == 1).then_some(()))
    })
    .await?;
    let mut reader = store.outbox_reader("a test").await?;
    let waiting = reader.next(10, 1000).await?;
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].field("to"), inbox.queue);
    assert_eq!((waiting[0].field("job_id"), waiting[0].field("state")), ("A-1", "succeeded"));
    worker.stop().await?;
    Ok(server.stop().await?)
}
