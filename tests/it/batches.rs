//! Several messages to a client in one, and several submissions in one: each is what it would be
//! alone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use broker::{Connection, topology};
use harness::{Inbox, Message, Raw, World, eventually, within};
use job::QueueName;
use protocol::batch::{FROM_CLIENT, TO_CLIENT};
use protocol::{Batch, HeaderValue, Kind, Properties, headers};
use serde_json::{Value, json};

use crate::refusals::TYPE;
use crate::reply_queues::{DIRECT, Stock, answered};

const JSON: Option<&str> = Some("application/json");

/// What a client hears, taken apart.
pub(crate) struct Heard {
    inbox: Inbox,
    waiting: VecDeque<Message>,
    /// Batches so far.
    batches: usize,
}

impl Heard {
    pub(crate) fn on(inbox: Inbox) -> Self {
        Self { inbox, waiting: VecDeque::new(), batches: 0 }
    }

    /// The next message, and whether it came in one with others.
    async fn next(&mut self) -> anyhow::Result<(Message, bool)> {
        loop {
            if let Some(message) = self.waiting.pop_front() {
                return Ok((message, true));
            }
            let message = self.inbox.next().await?;
            if message.kind != TO_CLIENT {
                return Ok((message, false));
            }
            self.take_apart(&message)?;
        }
    }

    fn take_apart(&mut self, message: &Message) -> anyhow::Result<()> {
        self.batches += 1;
        let of = &message.properties;
        assert!(of.persistent && of.headers.is_empty() && of.user_id.is_none(), "{of:?}");
        assert_eq!((of.content_type.as_deref(), &of.correlation_id), (JSON, &None));
        let batch = Batch::read(message.body.to_string().as_bytes())?;
        assert!((2..=500).contains(&batch.messages.len()), "{}", message.body);
        for message in batch.messages {
            let kind = message.r#type;
            assert!(matches!(kind.as_str(), "receipt" | "event" | "refusal"), "{kind}");
            let properties = Properties {
                correlation_id: message.correlation_id,
                message_id: message.message_id,
                ..Properties::default()
            };
            let body = serde_json::from_str(message.body.get())?;
            self.waiting.push_back(Message { kind, properties, body });
        }
        Ok(())
    }

    /// The first answer to each of these, by its correlation id, and whether it came with others.
    pub(crate) async fn answers(
        &mut self,
        ids: impl IntoIterator<Item = String>,
    ) -> anyhow::Result<BTreeMap<String, (Message, bool)>> {
        let mut open: BTreeSet<String> = ids.into_iter().collect();
        let mut answers = BTreeMap::new();
        while !open.is_empty() {
            let (message, together) = self.next().await?;
            let id = message.properties.correlation_id.clone().unwrap_or_default();
            if message.kind != "event" && open.remove(&id) {
                answers.insert(id, (message, together));
            }
        }
        Ok(answers)
    }
}

/// The properties of a list: whose it is, and where answers go.
pub(crate) fn of_list(shop: &Raw, reply_to: &str) -> Properties {
    Properties {
        kind: Some(FROM_CLIENT.to_owned()),
        content_type: JSON.map(str::to_owned),
        ..shop.properties("", reply_to)
    }
}

pub(crate) fn together(mut properties: Properties) -> Properties {
    properties.headers.push(headers::BATCH, HeaderValue::Bool(true));
    properties
}

pub(crate) fn list(submissions: &[Value]) -> String {
    json!({"v": 1, "submissions": submissions}).to_string()
}

/// Each with a correlation id of its own, which says its place.
pub(crate) fn numbered(submissions: Vec<Value>) -> Vec<Value> {
    let numbered = submissions.into_iter().enumerate().map(|(n, mut one)| {
        one["correlation_id"] = json!(format!("about {n}"));
        one
    });
    numbered.collect()
}

/// Receipts and every event of sixty jobs, each at least once, each with its own identifiers; and
/// those of a job that did not ask for it, in messages of their own.
#[tokio::test]
async fn what_may_come_together_comes_together_or_alone_and_nothing_is_missing()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let worker = world.demo_worker().await?;
    let shop = world.raw("shop").await?;
    let mut heard = Heard::on(shop.inbox("till").await?);
    let queue = heard.inbox.queue.clone();
    let mut ids: Vec<String> = (0..60).map(|n| format!("A-{n}")).collect();
    let submission = |id: &String| json!({"job_id": id, "correlation_id": format!("about {id}")});
    let mut properties = together(of_list(&shop, &queue));
    properties.headers.push_text(headers::NOTIFY, "*");
    let body = list(&ids.iter().map(submission).collect::<Vec<_>>());
    shop.submit("demo.echo", properties, body).await?;
    let mut plain = shop.properties("plain", &queue);
    plain.correlation_id = Some("about plain".to_owned());
    plain.headers.push_text(headers::NOTIFY, "*");
    shop.submit("demo.echo", plain, "{}").await?;
    ids.push("plain".to_owned());

    let words = ["receipt", "queued", "running", "succeeded"];
    let mut open: BTreeSet<(String, &str)> =
        ids.iter().flat_map(|id| words.map(|word| (id.clone(), word))).collect();
    let mut events = BTreeMap::new();
    while !open.is_empty() {
        let (message, together) = heard.next().await?;
        let id = message.text("job_id").to_owned();
        assert!(!together || id != "plain", "it did not ask for it");
        let about = message.properties.correlation_id.as_deref();
        assert_eq!(about, Some(format!("about {id}").as_str()));
        let mut word = message.kind.as_str();
        if word == "event" {
            word = message.text("event");
            let of = |field: &str| message.body[field].as_u64().unwrap_or_default();
            let named = format!("{}/{}.{}", message.text("ticket"), of("epoch"), of("revision"));
            assert_eq!(message.properties.message_id.as_ref(), Some(&named));
            let first = events.entry(named).or_insert_with(|| message.body.clone());
            assert_eq!(*first, message.body, "two events with one id are the same");
        } else if together {
            assert_eq!(message.properties.message_id, None);
        }
        let known = words.iter().find(|known| **known == word);
        open.remove(&(id, known.copied().unwrap_or_default()));
    }
    assert!(heard.batches > 0, "sixty receipts are sent at one moment");

    // What is asked for is answered message by message.
    let jobs: Vec<Value> = ids.iter().take(20).map(|id| json!({"job_id": id})).collect();
    shop.ask("status", &queue, json!({"jobs": jobs})).await?;
    for _ in jobs {
        heard.inbox.next_of("status").await?;
    }
    worker.stop().await?;
    Ok(server.stop().await?)
}

/// A registrar has recorded a part of a list, and dies: the list comes again, whole.
#[tokio::test]
async fn a_list_that_is_delivered_again_is_taken_up_where_it_was_left() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    // Its types are known from now on, and nobody runs them.
    world.demo_worker().await?.stop().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("till").await?;
    shop.submit_job("demo.echo", "A-1", &inbox.queue, &[], "{}").await?;
    assert_eq!(inbox.next().await?.text("state"), "queued");
    server.stop().await?;
    let submissions = ["A-1", "A-2"].map(|id| json!({"job_id": id, "body": "{}"}));
    let submissions = numbered(submissions.to_vec());
    shop.submit("demo.echo", of_list(&shop, &inbox.queue), list(&submissions)).await?;
    let dying = Connection::open(&world.amqp("server"), "a test").await?;
    let mut consumer = dying.consumer(topology::INTAKE_QUEUE, 10).await?;
    assert_eq!(within("the list", consumer.next_chunk(10)).await??.len(), 1);
    dying.close().await;

    let server = world.server().await?;
    for (n, is_duplicate) in [(0, true), (1, false)] {
        let receipt = inbox.answer_to(&format!("about {n}")).await?;
        assert_eq!(receipt.body["duplicate"], json!(is_duplicate), "{}", receipt.body);
        assert_eq!(receipt.text("state"), "queued");
    }
    // The first one twice, under one number.
    let (work, line) = (topology::work_queue(&QueueName::default()), topology::INTAKE_QUEUE);
    eventually("three work messages, and none in the line", || async {
        let there = ready(&world, &work).await? == 3 && ready(&world, line).await? == 0;
        Ok(there.then_some(()))
    })
    .await?;
    let worker = world.demo_worker().await?;
    for id in ["A-1", "A-2"] {
        let wait = json!({"job_id": id, "wait": {"limit_ms": 30_000}});
        shop.ask("status", &inbox.queue, wait).await?;
        let status = inbox.next_of(Kind::Status.as_str()).await?;
        assert_eq!((status.text("job_id"), status.text("state")), (id, "succeeded"));
        assert_eq!(status.body["attempt"], json!(1));
        let record = world.record("shop", id).await?.unwrap_or_default();
        assert_eq!(record.dispatch.as_deref(), Some("1"));
    }
    worker.stop().await?;
    Ok(server.stop().await?)
}

/// How many messages are ready in a queue of the server's.
async fn ready(world: &World, queue: &str) -> anyhow::Result<u64> {
    let connection = Connection::open(&world.amqp("server"), "a test").await?;
    let ready = connection.depth(queue).await?.ready;
    connection.close().await;
    Ok(ready.into())
}

/// It is not confirmed, and would be lost as a whole.
#[tokio::test]
async fn nothing_comes_together_over_direct_reply_to() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let stock = Stock::open(&world, "shop").await?;
    let mut direct = stock.direct().await?;
    let submissions: Vec<Value> = (0..20).map(|n| json!({"job_id": format!("A-{n}")})).collect();
    let mut table = lapin::types::FieldTable::default();
    table.insert("job-batch".into(), lapin::types::AMQPValue::Boolean(true));
    let properties = stock.properties().with_reply_to(DIRECT.into()).with_headers(table);
    let properties = properties.with_type(FROM_CLIENT.into());
    let list = list(&submissions);
    stock.publish(topology::SUBMIT, TYPE, properties, list.as_bytes()).await?;
    let mut told = BTreeSet::new();
    for _ in 0..20 {
        let (kind, body) = answered(&mut direct).await?;
        assert_eq!(kind, "receipt", "{body}");
        told.insert(body["job_id"].to_string());
    }
    assert_eq!(told.len(), 20);
    Ok(server.stop().await?)
}
