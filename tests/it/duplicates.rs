//! One id, one job, however often it is sent, from however many connections.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::reply_queues::receipt_and_event;
use broker::topology::{self, work_queue};
use futures_util::future::try_join_all;
use harness::{Message, Raw, World, eventually, start, within};
use job::{ClientName, QueueName};
use nodes::shared::ADMINISTRATOR;
use protocol::{HeaderValue, Properties, UnixMillis};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use worker::{Context, Failure, Running};

const TYPE: &str = "order.place";

/// How often each job was started, and what lets the starts go on.
#[derive(Clone)]
struct Runs {
    started: Arc<Mutex<HashMap<String, u32>>>,
    gate: Arc<Semaphore>,
}

impl Runs {
    /// A worker whose jobs wait until they are let go.
    async fn serve(world: &World) -> anyhow::Result<(Self, Running)> {
        let runs = Self {
            started: Arc::new(Mutex::new(HashMap::new())),
            gate: Arc::new(Semaphore::new(0)),
        };
        let counting = runs.clone();
        let handler = move |job: Context| {
            let runs = counting.clone();
            async move {
                let name = format!("{}:{}", job.client(), job.job_id());
                *runs.started().entry(name).or_default() += 1;
                runs.gate.acquire().await?.forget();
                Ok::<Value, Failure>(json!(job.client()))
            }
        };
        Ok((runs, start(world.worker().handle(TYPE, handler)?).await?))
    }

    fn let_go(&self, jobs: usize) {
        self.gate.add_permits(jobs);
    }

    fn of(&self, name: &str) -> u32 {
        self.started().get(name).copied().unwrap_or_default()
    }

    fn started(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What names the job and its acceptance is the same in every receipt.
fn assert_same_job(first: &Message, again: &Message) {
    assert_eq!(again.kind, "receipt", "{}", again.body);
    assert_eq!(again.body["duplicate"], json!(true), "{}", again.body);
    for field in ["v", "answer", "job_id", "ticket", "client", "type", "queue", "accepted_at"] {
        assert_eq!(again.body[field], first.body[field], "{field}");
    }
    for field in ["durability", "horizon_ms", "epoch"] {
        assert!(!first.body[field].is_null(), "{field}");
        assert_eq!(again.body[field], first.body[field], "{field}");
    }
}

/// The duplicate's receipt goes to the duplicate's own queue under its own correlation id, with the
/// present state; the events keep going where the first submission wanted them (H29).
#[tokio::test]
async fn a_duplicate_is_answered_again_and_changes_nothing() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let (runs, worker) = Runs::serve(&world).await?;
    let shop = world.raw("shop").await?;
    let (mut first, mut second) = (shop.inbox("first").await?, shop.inbox("second").await?);
    let about = |queue: &str, notify: &str| {
        let mut properties = shop.properties("A-1", queue);
        properties.correlation_id = Some(format!("for {queue}"));
        properties.headers.push("job-notify", HeaderValue::Text(notify.to_owned()));
        properties
    };
    shop.submit(TYPE, about(&first.queue, "running,terminal"), "{}").await?;
    let (receipt, _) = receipt_and_event(&mut first, "running").await?;
    assert_eq!(receipt.body["duplicate"], json!(false));

    shop.submit(TYPE, about(&second.queue, "*"), "{}").await?;
    let again = second.next().await?;
    assert_same_job(&receipt, &again);
    assert_eq!(again.properties.correlation_id.as_deref(), Some("for reply.shop.second"));
    assert_eq!((again.text("state"), &again.body["attempt"]), ("running", &json!(1)));
    let record = world.record("shop", "A-1").await?.unwrap_or_default();
    assert_eq!(record.reply_to.as_deref(), Some("reply.shop.first"));
    assert_eq!(record.correlation_id.as_deref(), Some("for reply.shop.first"));
    assert_eq!(record.notify.as_deref(), Some("running,succeeded,failed,cancelled,expired"));
    assert_eq!(record.dispatch.as_deref(), Some("1"));

    runs.let_go(1);
    let event = first.event("succeeded").await?;
    assert_eq!(event.properties.correlation_id.as_deref(), Some("for reply.shop.first"));
    // The second queue has had its receipt and no event.
    shop.ask("status", &second.queue, json!({"job_id": "A-1"})).await?;
    assert_eq!(second.next().await?.kind, "status");
    assert_eq!(runs.of("shop:A-1"), 1);
    worker.stop().await?;
    Ok(server.stop().await?)
}

/// Who has sent it again will ask, or send it again. Kept, such receipts took what the line would
/// have needed: the crash campaign had a client for whose earlier life 400 came in a second.
#[tokio::test]
async fn a_duplicates_receipt_for_a_queue_that_does_not_exist_is_not_kept() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server_with(|settings| settings.deliver_backoff_ms = 60_000).await?;
    let (store, shop) = (world.store().await?, world.raw("shop").await?);
    let client = ClientName::parse("shop")?;
    let kept = || store.outbox_waiting(&client);
    let nowhere = "reply.shop.gone";
    shop.submit_job(TYPE, "A-1", nowhere, &[], "{}").await?;
    eventually("the first receipt to be kept", || async { Ok((kept().await? == 1).then_some(())) })
        .await?;
    shop.submit_job(TYPE, "A-1", nowhere, &[], "{}").await?;
    let mut inbox = shop.inbox("a").await?;
    // The second one's receipt comes from a round after the duplicate's.
    for job_id in ["A-2", "A-3"] {
        shop.submit_job(TYPE, job_id, &inbox.queue, &[], "{}").await?;
        assert_eq!(inbox.next_of("receipt").await?.text("job_id"), job_id);
    }
    assert_eq!(kept().await?, 1);
    Ok(server.stop().await?)
}

/// A copy of a running job's message belongs to the run, and takes the place of the one before.
/// Both used to be held until the end of the run, and each cost the worker a slot.
#[tokio::test]
async fn a_copy_of_a_running_jobs_message_costs_its_worker_no_slot() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    world.settings.worker.slots = 2;
    let server = world.server().await?;
    // There is a queue, and nobody who takes from it.
    Runs::serve(&world).await?.1.stop().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    shop.submit_job(TYPE, "A-1", &inbox.queue, &[], "{}").await?;
    inbox.next_of("receipt").await?;
    let (hands, queue) = (world.raw(ADMINISTRATOR).await?, work_queue(&QueueName::default()));
    let mut held = hands.connection.consumer(&queue, 2).await?;
    let message = within("the message", held.next_chunk(1)).await??.remove(0);
    hands.publish(topology::DEFAULT, &queue, message.properties, message.body).await?;
    within("the copy", held.next_chunk(1)).await??;
    // Both return, as delivered before.
    hands.connection.close().await;

    let (runs, worker) = Runs::serve(&world).await?;
    shop.submit_job(TYPE, "A-2", &inbox.queue, &[], "{}").await?;
    let both = || async { Ok((runs.of("shop:A-1") + runs.of("shop:A-2") == 2).then_some(())) };
    eventually("both run", both).await?;
    assert_eq!(runs.of("shop:A-1"), 1);
    runs.let_go(2);
    worker.stop().await?;
    Ok(server.stop().await?)
}

/// A duplicate may differ in where its answer goes, in what it is correlated with, in how long the
/// record is kept; and it may want no answer at all (H29).
#[tokio::test]
async fn what_is_not_executed_does_not_make_another_job() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    shop.submit_job(TYPE, "A-1", &inbox.queue, &[], "{}").await?;
    let receipt = inbox.next().await?;
    shop.submit_job(TYPE, "A-1", "", &[], "{}").await?;
    let later = UnixMillis::now().to_string();
    let headers = [("job-keep-ms", "5"), ("job-tags", "late"), ("job-origin", "elsewhere")];
    shop.submit_job(TYPE, "A-1", &inbox.queue, &headers, "{}").await?;
    assert_same_job(&receipt, &inbox.next().await?);
    let sent_later = Properties {
        timestamp: Some(1_770_000_000),
        app_id: Some(later),
        persistent: false,
        ..shop.properties("A-1", &inbox.queue)
    };
    shop.submit(TYPE, sent_later, "{}").await?;
    let again = inbox.next().await?;
    assert_same_job(&receipt, &again);
    assert_eq!((again.text("state"), &again.body["revision"]), ("parked", &json!(1)));
    assert_eq!(again.text("parked_reason"), receipt.text("parked_reason"));
    Ok(server.stop().await?)
}

/// Twenty connections send the same ten ids at once, each id ten times over.
#[tokio::test]
async fn one_id_from_many_connections_is_one_ticket_and_one_run() -> anyhow::Result<()> {
    const CONNECTIONS: usize = 20;
    const TIMES: usize = 10;
    const IDS: usize = 10;
    let world = World::new().await?;
    let server = world.server().await?;
    let (runs, worker) = Runs::serve(&world).await?;
    runs.let_go(IDS * 2);
    let shop = world.raw("shop").await?;
    let mut events = shop.inbox("events").await?;
    let notify = [("job-notify", "terminal"), ("job-notify-to", "reply.shop.events")];
    let clients = try_join_all((0..CONNECTIONS).map(|_| world.raw("shop"))).await?;
    let send = async |(n, client): (usize, &Raw)| {
        let mut inbox = client.inbox(&format!("till-{n}")).await?;
        let queue = inbox.queue.clone();
        let sends = (0..TIMES * IDS).map(|k| {
            let id = format!("A-{}", (k + n) % IDS);
            let (queue, notify) = (queue.clone(), &notify);
            async move { client.submit_job(TYPE, &id, &queue, notify, "{}").await }
        });
        try_join_all(sends).await?;
        let mut receipts = Vec::with_capacity(TIMES * IDS);
        for _ in 0..TIMES * IDS {
            receipts.push(inbox.next_of("receipt").await?);
        }
        anyhow::Ok(receipts)
    };
    let receipts = try_join_all(clients.iter().enumerate().map(send)).await?;
    let receipts: Vec<Message> = receipts.into_iter().flatten().collect();
    assert_eq!(receipts.len(), CONNECTIONS * TIMES * IDS);
    let tickets: HashSet<_> =
        receipts.iter().map(|r| (r.text("job_id"), r.text("ticket"))).collect();
    assert_eq!(tickets.len(), IDS);
    let firsts: Vec<&Message> =
        receipts.iter().filter(|r| r.body["duplicate"] == json!(false)).collect();
    assert_eq!(firsts.len(), IDS);
    let mut ended = HashSet::new();
    for _ in 0..IDS {
        ended.insert(events.event("succeeded").await?.text("job_id").to_owned());
    }
    assert_eq!(ended.len(), IDS);
    worker.stop().await?;
    for n in 0..IDS {
        assert_eq!(runs.of(&format!("shop:A-{n}")), 1, "A-{n}");
    }
    world.mark(&events.queue, "end").await?;
    assert_eq!(events.next().await?.properties.message_id.as_deref(), Some("end"));
    Ok(server.stop().await?)
}

/// Every part that changes what is executed makes another digest; the sentence names both, and the
/// first job goes on as it was (H29).
#[tokio::test]
async fn another_digest_is_a_conflict_and_the_first_job_goes_on() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let (runs, worker) = Runs::serve(&world).await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    shop.submit_job(TYPE, "A-1", &inbox.queue, &[("job-notify", "*")], "{}").await?;
    inbox.event("running").await?;
    let before = world.record("shop", "A-1").await?.unwrap_or_default();
    let first = before.digest.clone().unwrap_or_default();
    assert_eq!(first.len(), 64);
    let plain = || shop.properties("A-1", &inbox.queue);
    let header = |name: &'static str, value: &str| {
        let mut properties = plain();
        properties.headers.push(name, HeaderValue::Text(value.to_owned()));
        properties
    };
    let others = [
        ("order.refund", plain(), "{}"),
        (TYPE, plain(), "{ }"),
        (TYPE, plain(), ""),
        (TYPE, Properties { content_type: Some("text/plain".into()), ..plain() }, "{}"),
        (TYPE, Properties { content_encoding: Some("gzip".into()), ..plain() }, "{}"),
        (TYPE, header("job-not-before", "2100-01-01T00:00:00Z"), "{}"),
        (TYPE, header("job-deadline", "2100-01-01T00:00:00Z"), "{}"),
        (TYPE, header("job-timeout-ms", "5"), "{}"),
        (TYPE, header("job-max-attempts", "1"), "{}"),
        (TYPE, header("job-priority", "high"), "{}"),
    ];
    let mut digests = HashSet::from([first.clone()]);
    for (job_type, properties, body) in others.clone() {
        shop.submit(job_type, properties, body).await?;
    }
    for _ in 0..others.len() {
        let refused = inbox.next_of("refusal").await?;
        assert_eq!((refused.text("code"), refused.text("job_id")), ("id_conflict", "A-1"));
        assert!(refused.text("message").contains(&first), "{}", refused.body);
        let words = refused.text("message").split([' ', ';']);
        let named: Vec<&str> = words.filter(|word| word.len() == 64).collect();
        assert_eq!(named.len(), 2, "{}", refused.body);
        digests.extend(named.into_iter().map(str::to_owned));
    }
    assert_eq!(digests.len(), others.len() + 1, "every digest is another");
    let after = world.record("shop", "A-1").await?.unwrap_or_default();
    assert_eq!(
        (after.revision, after.digest, after.state),
        (before.revision, before.digest, before.state)
    );
    assert_eq!((after.r#type, after.content_type), (before.r#type, before.content_type));
    runs.let_go(1);
    inbox.event("succeeded").await?;
    assert_eq!(runs.of("shop:A-1"), 1);
    worker.stop().await?;
    Ok(server.stop().await?)
}

#[tokio::test]
async fn a_duplicate_of_a_finished_job_is_told_its_outcome() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let (runs, worker) = Runs::serve(&world).await?;
    runs.let_go(2);
    let shop = world.raw("shop").await?;
    let (mut inbox, mut late) = (shop.inbox("a").await?, shop.inbox("late").await?);
    shop.submit_job(TYPE, "A-1", &inbox.queue, &[("job-notify", "terminal")], "{}").await?;
    let (receipt, event) = receipt_and_event(&mut inbox, "succeeded").await?;
    for _ in 0..3 {
        shop.submit_job(TYPE, "A-1", &late.queue, &[("job-notify", "terminal")], "{}").await?;
        let again = late.next().await?;
        assert_same_job(&receipt, &again);
        assert_eq!((again.text("state"), &again.body["done"]), ("succeeded", &json!(true)));
        assert_eq!(again.body["result"], json!("shop"));
        assert_eq!(again.body["revision"], event.body["revision"]);
        assert!(!again.text("finished_at").is_empty());
    }
    worker.stop().await?;
    assert_eq!(runs.of("shop:A-1"), 1);
    Ok(server.stop().await?)
}

/// An id is unique within one client: two clients, two jobs, other bodies, other tickets.
#[tokio::test]
async fn the_same_id_of_two_clients_is_two_jobs() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let (runs, worker) = Runs::serve(&world).await?;
    runs.let_go(2);
    let mut tickets = HashSet::new();
    for user in ["shop", "till"] {
        let client = world.raw(user).await?;
        let mut inbox = client.inbox("a").await?;
        client.submit_job(TYPE, "A-1", &inbox.queue, &[("job-notify", "terminal")], user).await?;
        let (receipt, event) = receipt_and_event(&mut inbox, "succeeded").await?;
        assert_eq!((receipt.text("client"), &receipt.body["duplicate"]), (user, &json!(false)));
        tickets.insert(receipt.text("ticket").to_owned());
        assert_eq!(event.body["result"], json!(user));
    }
    assert_eq!(tickets.len(), 2);
    worker.stop().await?;
    assert_eq!((runs.of("shop:A-1"), runs.of("till:A-1")), (1, 1));
    Ok(server.stop().await?)
}
