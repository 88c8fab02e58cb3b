//! Where the server writes: to the client's own queues, to server-named ones, to direct reply-to;
//! and never anywhere else, whatever a message names.

use anyhow::{Context as _, ensure};
use broker::topology;
use futures_util::StreamExt as _;
use harness::{Inbox, Message, Raw, World, eventually, within};
use job::ClientName;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, ConnectionProperties};
use protocol::{Code, Properties, headers};
use serde_json::{Value, json};

const TYPE: &str = "order.place";
/// What a client consumes and names, unchanged, to be answered on the channel that asked.
pub(crate) const DIRECT: &str = "amq.rabbitmq.reply-to";

/// A stock AMQP client, for what the harness's raw client does not do.
pub(crate) struct Stock {
    pub(crate) connection: lapin::Connection,
    pub(crate) channel: Channel,
    user: String,
}

impl Stock {
    pub(crate) async fn open(world: &World, user: &str) -> anyhow::Result<Self> {
        let url = world.amqp_url(user);
        let connection = lapin::Connection::connect(&url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { connection, channel, user: user.to_owned() })
    }

    /// The user, and nothing else.
    pub(crate) fn properties(&self) -> BasicProperties {
        BasicProperties::default().with_user_id(self.user.as_str().into())
    }

    /// Publishes and waits for the confirm.
    pub(crate) async fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        properties: BasicProperties,
        body: &[u8],
    ) -> anyhow::Result<()> {
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let confirm = self
            .channel
            .basic_publish(exchange.into(), routing_key.into(), options, body, properties)
            .await?
            .await?;
        ensure!(
            matches!(confirm, Confirmation::Ack(None)),
            "{exchange} {routing_key}: {confirm:?}"
        );
        Ok(())
    }

    /// A queue with a name that the broker gives; it ends with its consumer.
    pub(crate) async fn server_named(&self) -> anyhow::Result<String> {
        let options = QueueDeclareOptions { auto_delete: true, ..QueueDeclareOptions::default() };
        let queue = self.channel.queue_declare("".into(), options, FieldTable::default()).await?;
        Ok(queue.name().as_str().to_owned())
    }

    /// Direct reply-to: answers to what this channel publishes.
    pub(crate) async fn direct(&self) -> anyhow::Result<lapin::Consumer> {
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        Ok(self
            .channel
            .basic_consume(DIRECT.into(), "".into(), options, FieldTable::default())
            .await?)
    }
}

/// A receipt and the event that tells of a change. Either may come first: they are sent by
/// different roles.
pub(crate) async fn receipt_and_event(
    inbox: &mut Inbox,
    word: &str,
) -> anyhow::Result<(Message, Message)> {
    let (mut receipt, mut event) = (None, None);
    loop {
        let message = inbox.next().await?;
        if message.kind == "receipt" {
            receipt = Some(message);
        } else if message.text("event") == word {
            event = Some(message);
        }
        (receipt, event) = match (receipt, event) {
            (Some(receipt), Some(event)) => return Ok((receipt, event)),
            one => one,
        };
    }
}

/// The next answer by direct reply-to: its AMQP type and its body.
pub(crate) async fn answered(direct: &mut lapin::Consumer) -> anyhow::Result<(String, Value)> {
    let next = within("an answer by direct reply-to", direct.next()).await?;
    let delivery = next.context("the consumer has ended")??;
    let kind = delivery.properties.kind().as_ref().context("a type")?.as_str().to_owned();
    Ok((kind, serde_json::from_slice(&delivery.data)?))
}

/// Names that no client may give, beside another client's and the server's.
fn forbidden() -> Vec<String> {
    let names = [
        "reply.shop",
        "reply.shop.",
        "reply.shop2.a",
        "Reply.shop.a",
        "reply.*.a",
        "shop",
        "amq.gen-",
        "amq.direct",
        "amq.rabbitmq.trace",
        "amq.rabbitmq.reply-to.",
        "amq.rabbitmq.reply-to.a.b",
        "amq.rabbitmq.reply-to.AAAA.AAAA",
        "reply.shop.a\nb",
        "reply.shop.a\u{0}",
        "reply.shop.\u{85}",
        "",
    ];
    names.map(str::to_owned).to_vec()
}

/// Takes from the dead-letter queue until the reason of a message is that its reply queue is not
/// allowed; returns the routing key that it was published with.
async fn not_allowed(dead: &mut Inbox) -> anyhow::Result<String> {
    let kept = dead.next().await?;
    let header = |name| kept.properties.headers.text(name).unwrap_or_default();
    let reason = header(headers::REASON);
    ensure!(reason.starts_with(Code::ReplyToNotAllowed.as_str()), "{reason}");
    ensure!(header(headers::CLIENT) == "shop", "{:?}", kept.properties);
    Ok(header(headers::DEAD_ROUTING_KEY).to_owned())
}

/// The refusal that is recorded for an id, by a question with a queue of the client's own.
async fn recorded(shop: &Raw, inbox: &mut Inbox, job_id: &str) -> anyhow::Result<String> {
    shop.ask("status", &inbox.queue, json!({"job_id": job_id})).await?;
    let answer = inbox.next().await?;
    ensure!(answer.kind == "status" && answer.text("job_id") == job_id, "{}", answer.body);
    Ok(answer.text("code").to_owned())
}

/// Every forbidden name, in every message that can name a queue: nothing arrives in the queues of
/// others, a refused submission is recorded, a refused request kept (H8).
#[tokio::test]
async fn nothing_is_written_to_a_queue_that_is_not_the_clients() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let (shop, till) = (world.raw("shop").await?, world.raw("till").await?);
    let (mut inbox, mut foreign) = (shop.inbox("a").await?, till.inbox("a").await?);
    let mut dead = world.raw("admin").await?.read(topology::DEAD_QUEUE).await?;
    let ours = [
        topology::INTAKE_QUEUE,
        topology::INQUIRY_QUEUE,
        topology::DROPPED_QUEUE,
        topology::DEAD_QUEUE,
        "counterfoil.work.default",
    ];
    let names = forbidden().into_iter().chain(ours.map(str::to_owned));
    for (n, name) in names.chain([foreign.queue.clone()]).enumerate() {
        let id = format!("A-{n}");
        let about = Properties { reply_to: Some(name.clone()), ..shop.properties(&id, "") };
        shop.submit(TYPE, about.clone(), "{}").await?;
        assert_eq!(recorded(&shop, &mut inbox, &id).await?, "reply_to_not_allowed", "{name:?}");
        for verb in ["status", "cancel"] {
            let body = json!({"job_id": id}).to_string();
            shop.publish(topology::REQUEST, verb, about.clone(), body).await?;
            assert_eq!(not_allowed(&mut dead).await?, verb, "{name:?}");
        }
        // The cancellation was refused too: the id can still be used.
        shop.submit_job(TYPE, &id, &inbox.queue, &[], "{}").await?;
        assert_eq!(inbox.next().await?.kind, "receipt", "{name:?}");
    }
    world.mark(&foreign.queue, "end").await?;
    assert_eq!(foreign.next().await?.properties.message_id.as_deref(), Some("end"));
    Ok(server.stop().await?)
}

/// The same for the queue of events, which is a header and so can be longer than a name (H4, H8).
#[tokio::test]
async fn events_go_to_no_queue_that_is_not_the_clients() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let worker = world.demo_worker().await?;
    let (shop, till) = (world.raw("shop").await?, world.raw("till").await?);
    let (mut inbox, mut foreign) = (shop.inbox("a").await?, till.inbox("a").await?);
    let long = format!("reply.shop.{}", "a".repeat(245));
    let names = forbidden().into_iter().chain([long, DIRECT.to_owned(), foreign.queue.clone()]);
    for (n, name) in names.enumerate() {
        let id = format!("A-{n}");
        let to = [("job-notify", "*"), ("job-notify-to", name.as_str())];
        shop.submit_job("demo.echo", &id, &inbox.queue, &to, "{}").await?;
        let refused = inbox.next().await?;
        assert_eq!(refused.text("code"), "reply_to_not_allowed", "{name:?}: {}", refused.body);
        assert!(!refused.text("message").chars().any(char::is_control));
        assert_eq!(recorded(&shop, &mut inbox, &id).await?, "reply_to_not_allowed", "{name:?}");
    }
    let own = [("job-notify", "succeeded"), ("job-notify-to", "reply.shop.a")];
    shop.submit_job("demo.echo", "end", &inbox.queue, &own, "{}").await?;
    assert_eq!(inbox.event("succeeded").await?.text("job_id"), "end");
    world.mark(&foreign.queue, "end").await?;
    assert_eq!(foreign.next().await?.properties.message_id.as_deref(), Some("end"));
    worker.stop().await?;
    Ok(server.stop().await?)
}

#[tokio::test]
async fn a_server_named_queue_takes_receipts_answers_and_events() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let worker = world.demo_worker().await?;
    let shop = world.raw("shop").await?;
    let stock = Stock::open(&world, "shop").await?;
    let mut nameless = shop.read(&stock.server_named().await?).await?;
    let all = [("job-notify", "terminal")];
    shop.submit_job("demo.echo", "A-1", &nameless.queue, &all, "[1]").await?;
    let (receipt, event) = receipt_and_event(&mut nameless, "succeeded").await?;
    assert_eq!((receipt.text("job_id"), &event.body["result"]), ("A-1", &json!([1])));
    shop.ask("status", &nameless.queue, json!({"job_id": "A-1"})).await?;
    assert_eq!(nameless.next_of("status").await?.text("state"), "succeeded");
    worker.stop().await?;
    Ok(server.stop().await?)
}

/// Receipts, answers and refusals reach the channel that asked; events never take that way.
#[tokio::test]
async fn direct_reply_to_takes_receipts_and_answers_but_no_events() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let stock = Stock::open(&world, "shop").await?;
    let mut direct = stock.direct().await?;
    let about = |id: &str| {
        stock.properties().with_reply_to(DIRECT.into()).with_message_id(id.to_owned().into())
    };
    stock.publish(topology::SUBMIT, TYPE, about("A-1"), b"{}").await?;
    let (kind, receipt) = answered(&mut direct).await?;
    assert_eq!((kind.as_str(), &receipt["job_id"]), ("receipt", &json!("A-1")));
    for (id, answer) in [("A-1", "found"), ("A-2", "unknown")] {
        let body = json!({"job_id": id}).to_string();
        stock.publish(topology::REQUEST, "status", about("q"), body.as_bytes()).await?;
        let (kind, status) = answered(&mut direct).await?;
        assert_eq!((kind.as_str(), &status["answer"]), ("status", &json!(answer)));
    }
    let mut notify = FieldTable::default();
    notify.insert("job-notify".into(), lapin::types::AMQPValue::LongString("terminal".into()));
    let wants_events = about("A-3").with_headers(notify);
    stock.publish(topology::SUBMIT, TYPE, wants_events, b"{}").await?;
    let (kind, refused) = answered(&mut direct).await?;
    assert_eq!((kind.as_str(), &refused["code"]), ("refusal", &json!("reply_to_not_allowed")));
    stock.connection.close(200, "done".into()).await?;
    Ok(server.stop().await?)
}

/// The name that the broker puts in the place of `amq.rabbitmq.reply-to`.
async fn direct_name(world: &World, user: &str) -> anyhow::Result<(Stock, String)> {
    let (raw, stock) = (world.raw(user).await?, Stock::open(world, user).await?);
    let _asking = stock.direct().await?;
    let mut own = raw.inbox("own").await?;
    let to = stock.properties().with_reply_to(DIRECT.into());
    stock.publish(topology::DEFAULT, &own.queue, to, b"").await?;
    let name = own.next().await?.properties.reply_to.context("a reply queue")?;
    Ok((stock, name))
}

/// One client names direct reply-to queues that are malformed, dead, or of a node that is none,
/// between another client's good submissions: every receipt of the other arrives, by direct
/// reply-to as well. There one may come twice: what shared the connection with a bad name, and
/// may have arrived, is sent once more.
#[tokio::test]
async fn h4_a_bad_direct_reply_to_disturbs_nobody_else() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let (shop, till) = (world.raw("shop").await?, world.raw("till").await?);
    let mut inbox = till.inbox("a").await?;
    let stock = Stock::open(&world, "till").await?;
    let mut direct = stock.direct().await?;
    let (gone, dead) = direct_name(&world, "admin").await?;
    gone.connection.close(200, "done".into()).await?;
    let token = dead.strip_prefix("amq.rabbitmq.reply-to.").context("a token")?.to_owned();
    let (pid, key) = token.split_once('.').context("two parts")?;
    // Erlang processes of nodes that are none, in external term format and base64: `a@b`, the same
    // with a byte that is no text, and `reply@1`, in the form that this broker uses itself.
    let other_node = "g1h3A2FAYgAAAAAAAAAAAAAAAA==";
    let no_text = "g1h3A/9AYgAAAAAAAAAAAAAAAA==";
    let other_hash = "g1h2AAdyZXBseUAxAAAAAAAAAAAAAAAA";
    let bad = [
        "a.b".to_owned(),
        format!("{pid}.{key}x"),
        format!("{}.{key}", &pid[..pid.len() - 4]),
        token.clone(),
        format!("{other_node}.{key}"),
        format!("{no_text}.{key}"),
        format!("{other_hash}.{key}"),
        format!("{pid}.AAAA"),
    ]
    .map(|token| format!("amq.rabbitmq.reply-to.{token}"));
    let mut seen = Vec::new();
    for n in 0..32 {
        let name = &bad[n % bad.len()];
        shop.submit_job(TYPE, &format!("bad-{n}"), name, &[], "{}").await?;
        shop.ask("status", name, json!({"job_id": format!("bad-{n}")})).await?;
        let id = format!("good-{n}");
        till.submit_job(TYPE, &id, &inbox.queue, &[], "{}").await?;
        let properties = stock.properties().with_reply_to(DIRECT.into());
        let by_direct = properties.with_message_id(format!("direct-{n}").into());
        stock.publish(topology::SUBMIT, TYPE, by_direct, b"{}").await?;
        let receipt = inbox.next().await?;
        assert_eq!((receipt.kind.as_str(), receipt.text("job_id")), ("receipt", id.as_str()));
        let own = json!(format!("direct-{n}"));
        loop {
            let (kind, receipt) = answered(&mut direct).await.with_context(|| name.clone())?;
            assert_eq!(kind, "receipt");
            if receipt["job_id"] == own {
                break;
            }
            assert!(seen.contains(&receipt["job_id"]), "{receipt}");
        }
        seen.push(own);
    }
    // The well-shaped ones are jobs: only their receipts are lost.
    let well_shaped = eventually("the last submission is recorded", || async {
        let state = |record: store::Record| record.state.or(record.code);
        Ok(world.record("shop", "bad-27").await?.and_then(state))
    });
    assert_eq!(well_shaped.await?, "parked");
    assert_eq!(
        world.record("shop", "bad-24").await?.context("a record")?.code.as_deref(),
        Some("reply_to_not_allowed")
    );
    Ok(server.stop().await?)
}

/// An operator bounds a queue that nobody reads at the moment. What is in it stays, and what comes
/// then is refused, so that the ledger knows of it: RabbitMQ used to drop what was there.
#[tokio::test]
async fn what_is_in_an_inbox_stays_there_when_a_policy_bounds_it() -> anyhow::Result<()> {
    let world = World::new().await?;
    let shop = world.raw("shop").await?;
    let names = ["reply.shop.own", "reply.shop.lasting"];
    shop.connection.declare_inbox(names[0]).await?;
    shop.connection.declare_durable_inbox(names[1], 600_000).await?;
    // What is refused waits for a minute.
    let server = world.server_with(|settings| settings.deliver_backoff_ms = 60_000).await?;
    for (n, name) in names.into_iter().enumerate() {
        shop.submit_job("none.such", &format!("A-{n}"), name, &[], "1").await?;
        let ready = || async { Ok((shop.connection.depth(name).await?.ready == 1).then_some(())) };
        eventually("the receipt", ready).await?;
    }
    let policy = ["set_policy", "-p", &world.name, "full", "^reply.shop."];
    let limit = [r#"{"max-length":0,"overflow":"reject-publish"}"#, "--apply-to", "queues"];
    world.rabbitmqctl(&[&policy[..], &limit].concat()).await?;
    for (n, name) in names.into_iter().enumerate() {
        // Refused, so it waits in the outbox: the policy holds by then.
        shop.submit_job("none.such", &format!("B-{n}"), name, &[], "1").await?;
        let (store, client) = (world.store().await?, ClientName::parse("shop")?);
        eventually("the next receipt to be refused", || async {
            Ok((store.outbox_waiting(&client).await? > n as u64).then_some(()))
        })
        .await?;
        assert_eq!(shop.connection.depth(name).await?.ready, 1, "{name}");
    }
    Ok(server.stop().await?)
}
