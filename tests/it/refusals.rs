//! Every refusal that this version gives: by raw AMQP messages, each with its code, its advice and
//! what it leaves behind.

use anyhow::Context as _;
use broker::topology;
use harness::{Inbox, Message, Raw, World};
use protocol::{Code, HeaderValue, Properties, headers};
use serde_json::{Value, json};
use server::Server;

use crate::reply_queues::Stock;

pub(crate) const TYPE: &str = "order.place";

/// A world with a server, a client and its inbox.
pub(crate) struct Desk {
    pub(crate) world: World,
    pub(crate) server: Server,
    pub(crate) shop: Raw,
    pub(crate) inbox: Inbox,
}

impl Desk {
    pub(crate) async fn open() -> anyhow::Result<Self> {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut server::Settings)) -> anyhow::Result<Self> {
        let world = World::new().await?;
        let server = world.server_with(change).await?;
        let shop = world.raw("shop").await?;
        let inbox = shop.inbox("till").await?;
        Ok(Self { world, server, shop, inbox })
    }

    pub(crate) async fn close(self) -> anyhow::Result<()> {
        Ok(self.server.stop().await?)
    }

    pub(crate) fn properties(&self, job_id: &str) -> Properties {
        Properties {
            correlation_id: Some(format!("about {job_id}")),
            ..self.shop.properties(job_id, &self.inbox.queue)
        }
    }

    /// Sends a submission and takes the one answer to it.
    pub(crate) async fn submit(
        &mut self,
        job_type: &str,
        properties: Properties,
        body: &str,
    ) -> anyhow::Result<Message> {
        self.shop.submit(job_type, properties, body).await?;
        self.inbox.next().await
    }

    /// Sends a request and takes the one answer to it.
    pub(crate) async fn ask(&mut self, verb: &str, body: &str) -> anyhow::Result<Message> {
        let properties = self.properties("");
        self.shop.publish(topology::REQUEST, verb, properties, body).await?;
        self.inbox.next().await
    }

    pub(crate) async fn status(&mut self, subject: Value) -> anyhow::Result<Message> {
        self.ask("status", &subject.to_string()).await
    }

    /// The status says that so many events could not be delivered.
    pub(crate) async fn status_ledger(&mut self, job_id: &str, count: u64) -> anyhow::Result<()> {
        let status = self.status(json!({"job_id": job_id})).await?;
        let ledger = &status.body["notifications"];
        assert_eq!(ledger["undeliverable"], json!(count), "{ledger}");
        assert!(ledger["reason"].as_str().is_some_and(|reason| reason.contains("no such queue")));
        Ok(())
    }

    /// Submits a job that is accepted, and returns its ticket.
    pub(crate) async fn accepted(&mut self, job_id: &str) -> anyhow::Result<String> {
        let receipt = self.submit(TYPE, self.properties(job_id), "{}").await?;
        assert_eq!((receipt.kind.as_str(), receipt.text("job_id")), ("receipt", job_id));
        assert_eq!(receipt.body["duplicate"], json!(false));
        Ok(receipt.text("ticket").to_owned())
    }

    /// A refused submission leaves a record that answers questions, and that a corrected one of the
    /// same id replaces.
    pub(crate) async fn answered_and_corrected(
        &mut self,
        job_id: &str,
        code: Code,
    ) -> anyhow::Result<()> {
        let status = self.status(json!({"job_id": job_id})).await?;
        assert_eq!(status.kind, "status", "{job_id}");
        assert_says(&status, code);
        assert_eq!(status.text("job_id"), job_id);
        assert_eq!(status.body.get("state"), None);
        self.accepted(job_id).await?;
        let status = self.status(json!({"job_id": job_id})).await?;
        assert_eq!((status.text("answer"), status.text("state")), ("found", "parked"));
        assert_eq!(status.body.get("code"), None);
        Ok(())
    }
}

pub(crate) fn assert_says(message: &Message, code: Code) {
    let body = &message.body;
    assert_eq!(message.text("answer"), "refused", "{body}");
    assert_eq!(message.text("code"), code.as_str(), "{body}");
    assert_eq!(body["retryable"], json!(code.is_retryable()), "{body}");
    assert_eq!(message.text("action"), code.action(), "{body}");
    assert!(!message.text("message").is_empty(), "{body}");
}

/// A refusal with this code, whose correlation id is the one that was sent.
pub(crate) fn assert_refused(message: &Message, code: Code, about: &str) {
    assert_eq!(message.kind, "refusal", "{}", message.body);
    assert_says(message, code);
    let correlation_id = message.properties.correlation_id.as_deref();
    assert_eq!(correlation_id, Some(format!("about {about}").as_str()));
}

fn with(mut properties: Properties, name: &'static str, value: HeaderValue) -> Properties {
    properties.headers.push(name, value);
    properties
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::Text(value.to_owned())
}

/// A user of the broker whose name is no client's: answered on a server-named queue alone, and kept
/// in the dead-letter queue.
#[tokio::test]
async fn a_user_whose_name_is_no_clients_is_refused() -> anyhow::Result<()> {
    let desk = Desk::open().await?;
    let (user, stock) =
        (desk.world.raw("bad.name").await?, Stock::open(&desk.world, "bad.name").await?);
    let mut nameless = user.read(&stock.server_named().await?).await?;
    let mut own = user.inbox("till").await?;
    let mut dead = desk.world.raw("admin").await?.read(topology::DEAD_QUEUE).await?;
    let about = |queue: &str| Properties {
        correlation_id: Some("about B-1".to_owned()),
        ..user.properties("B-1", queue)
    };
    for (exchange, key) in [(topology::SUBMIT, TYPE), (topology::REQUEST, "status")] {
        user.publish(exchange, key, about(&nameless.queue), r#"{"job_id":"B-1"}"#).await?;
        assert_refused(&nameless.next().await?, Code::InvalidClient, "B-1");
        user.publish(exchange, key, about(&own.queue), r#"{"job_id":"B-1"}"#).await?;
        for _ in 0..2 {
            let kept = dead.next().await?;
            let reason = kept.properties.headers.text(headers::REASON).context("a reason")?;
            assert!(reason.starts_with("invalid_client: user_id: "), "{reason}");
        }
    }
    desk.world.mark(&own.queue, "end").await?;
    assert_eq!(own.next().await?.properties.message_id.as_deref(), Some("end"));
    desk.close().await
}

/// Without a user there is nobody whose queue could be named: a server-named one is answered.
#[tokio::test]
async fn a_message_without_a_user_is_refused() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    let stock = Stock::open(&desk.world, "shop").await?;
    let mut nameless = desk.shop.read(&stock.server_named().await?).await?;
    let nobody = Properties {
        user_id: None,
        reply_to: Some(nameless.queue.clone()),
        ..desk.properties("A-1")
    };
    desk.shop.submit(TYPE, nobody.clone(), "{}").await?;
    assert_refused(&nameless.next().await?, Code::InvalidClient, "A-1");
    desk.shop.publish(topology::REQUEST, "cancel", nobody, r#"{"job_id":"A-1"}"#).await?;
    assert_refused(&nameless.next().await?, Code::InvalidClient, "A-1");
    assert_eq!(desk.status(json!({"job_id": "A-1"})).await?.text("answer"), "unknown");
    desk.accepted("A-1").await?;
    desk.close().await
}

/// The broker itself refuses a message under another's name: it closes the channel.
#[tokio::test]
async fn a_false_user_is_refused_by_the_broker() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    for (exchange, key) in [(topology::SUBMIT, TYPE), (topology::REQUEST, "cancel")] {
        let liar = desk.world.raw("till").await?;
        let refused = liar.publish(exchange, key, desk.properties("A-1"), r#"{"job_id":"A-1"}"#);
        assert!(refused.await.is_err());
        let after = liar.submit(TYPE, liar.properties("T-1", ""), "{}").await;
        assert!(after.is_err(), "the channel is closed");
    }
    assert_eq!(desk.status(json!({"job_id": "A-1"})).await?.text("answer"), "unknown");
    assert!(desk.world.record("till", "A-1").await?.is_none());
    desk.accepted("A-1").await?;
    desk.close().await
}

#[tokio::test]
async fn an_id_outside_its_alphabet_is_refused() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    for id in ["~1", "A 1", "A-1~2", "é", "A\n", "{A}", &"a".repeat(129)] {
        let refused = desk.submit(TYPE, desk.properties(id), "{}").await?;
        assert_refused(&refused, Code::InvalidId, id);
        assert_eq!(refused.body.get("job_id"), None);
        // A replay's id may be asked for, though nobody can submit under it.
        if id != "A-1~2" {
            let refused = desk.status(json!({"job_id": id})).await?;
            assert_refused(&refused, Code::InvalidId, "");
        }
    }
    for missing in [None, Some("")] {
        let stock = Stock::open(&desk.world, "shop").await?;
        let mut properties = stock.properties().with_reply_to(desk.inbox.queue.as_str().into());
        if let Some(id) = missing {
            properties = properties.with_message_id(id.into());
        }
        stock.publish(topology::SUBMIT, TYPE, properties, b"{}").await?;
        assert_says(&desk.inbox.next_of("refusal").await?, Code::InvalidId);
    }
    for ticket in ["", "12", "6f9619ff-8b86-8011-b42d-00c04fc964fg"] {
        let refused = desk.status(json!({"ticket": ticket})).await?;
        assert_refused(&refused, Code::InvalidId, "");
    }
    desk.accepted(&"a".repeat(128)).await?;
    desk.close().await
}

#[tokio::test]
async fn a_routing_key_that_is_no_type_is_refused() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    for (n, job_type) in
        ["", "Order", "order..place", "order.", "a b", &"t".repeat(101)].into_iter().enumerate()
    {
        let id = format!("A-{n}");
        let refused = desk.submit(job_type, desk.properties(&id), "{}").await?;
        assert_refused(&refused, Code::InvalidType, &id);
        assert_eq!(refused.text("job_id"), id);
        desk.answered_and_corrected(&id, Code::InvalidType).await?;
    }
    desk.close().await
}

/// Each header of the protocol in each wrong form; the sentence begins with the header's name.
#[tokio::test]
async fn a_header_of_the_wrong_form_is_refused_by_name() -> anyhow::Result<()> {
    use HeaderValue::{Bool, Int, Other};
    let mut desk = Desk::open().await?;
    let (tags, long) = ("a,".repeat(17), "x".repeat(1021));
    let wrong = [
        (headers::NOTIFY, vec![text("done"), text("terminal,, soon"), Int(1), Bool(true), Other]),
        (headers::NOTIFY_TO, vec![Int(1), text(&long)]),
        (headers::BATCH, vec![text("yes"), text(""), Int(1), Other]),
        (headers::NOT_BEFORE, vec![text("tomorrow"), text(""), Int(1_770_000_000)]),
        (headers::DEADLINE, vec![text("2026-02-30T00:00:00Z"), Int(5), Other]),
        (headers::TIMEOUT_MS, vec![Int(0), Int(-1), Int(604_800_001), text("1.5"), Bool(true)]),
        (headers::MAX_ATTEMPTS, vec![Int(0), Int(1001), text(""), Other]),
        (headers::KEEP_MS, vec![Int(-1), Int(2_592_000_001), text("ever")]),
        (headers::PRIORITY, vec![text("urgent"), text(""), Int(1)]),
        (headers::TAGS, vec![text(&tags), text(&"a".repeat(65)), Int(1)]),
        (headers::ORIGIN, vec![Int(1), text(&long)]),
        (headers::PROTOCOL, vec![text("one"), Int(-1), Other]),
    ];
    for (name, values) in wrong {
        for (n, value) in values.into_iter().enumerate() {
            let id = format!("{name}-{n}");
            let properties = with(desk.properties(&id), name, value);
            let refused = desk.submit(TYPE, properties, "{}").await?;
            assert_refused(&refused, Code::BadHeader, &id);
            assert!(refused.text("message").starts_with(&format!("{name}: ")), "{}", refused.body);
            desk.answered_and_corrected(&id, Code::BadHeader).await?;
        }
    }
    let expiring =
        Properties { expiration: Some("60000".to_owned()), ..desk.properties("expiring") };
    let refused = desk.submit(TYPE, expiring, "{}").await?;
    assert_refused(&refused, Code::BadHeader, "expiring");
    assert!(refused.text("message").starts_with("expiration: "), "{}", refused.body);
    desk.answered_and_corrected("expiring", Code::BadHeader).await?;
    desk.close().await
}

/// Changes without a queue to push them to: nobody can be answered, so the question must tell.
#[tokio::test]
async fn a_subscription_without_a_queue_is_refused() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    let nowhere = Properties { reply_to: None, ..desk.properties("A-1") };
    let nowhere = with(nowhere, headers::NOTIFY, text("terminal"));
    desk.shop.submit(TYPE, nowhere, "{}").await?;
    desk.answered_and_corrected("A-1", Code::BadHeader).await?;
    desk.close().await
}

#[tokio::test]
async fn a_version_that_is_not_spoken_is_refused() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    for (n, version) in [HeaderValue::Int(2), HeaderValue::Int(0), text("7")].iter().enumerate() {
        let id = format!("A-{n}");
        let properties = with(desk.properties(&id), headers::PROTOCOL, version.clone());
        let refused = desk.submit(TYPE, properties, "{}").await?;
        assert_refused(&refused, Code::UnknownVersion, &id);
        desk.answered_and_corrected(&id, Code::UnknownVersion).await?;
    }
    for (id, version) in [("B-1", HeaderValue::Int(1)), ("B-2", text("1"))] {
        let properties = with(desk.properties(id), headers::PROTOCOL, version);
        assert_eq!(desk.submit(TYPE, properties, "{}").await?.kind, "receipt");
    }
    desk.close().await
}

/// The line holds a thousand bodies in memory, so each is bounded (H28).
#[tokio::test]
async fn a_body_above_the_limit_is_refused() -> anyhow::Result<()> {
    let mut desk = Desk::with(|server| server.payload_bytes_max = 16).await?;
    let refused = desk.submit(TYPE, desk.properties("A-1"), &"x".repeat(17)).await?;
    assert_refused(&refused, Code::PayloadTooLarge, "A-1");
    assert_eq!(refused.text("message"), "17 bytes; the limit is 16");
    desk.answered_and_corrected("A-1", Code::PayloadTooLarge).await?;
    let fits = desk.submit(TYPE, desk.properties("A-2"), &"x".repeat(16)).await?;
    assert_eq!(fits.kind, "receipt");
    let refused = desk.ask("status", &" ".repeat(65_537)).await?;
    assert_refused(&refused, Code::PayloadTooLarge, "");
    desk.close().await
}

/// The events' queue is checked as the receipt's is; where the receipt may go, the refusal goes.
#[tokio::test]
async fn a_queue_for_events_that_is_not_the_clients_is_refused() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    for (n, queue) in ["reply.till.a", "counterfoil.dead", ""].into_iter().enumerate() {
        let id = format!("A-{n}");
        let properties = with(desk.properties(&id), headers::NOTIFY_TO, text(queue));
        let refused = desk.submit(TYPE, properties, "{}").await?;
        assert_refused(&refused, Code::ReplyToNotAllowed, &id);
        desk.answered_and_corrected(&id, Code::ReplyToNotAllowed).await?;
    }
    desk.close().await
}

#[tokio::test]
async fn another_job_under_the_same_id_is_refused() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    desk.accepted("A-1").await?;
    let refused = desk.submit(TYPE, desk.properties("A-1"), "{ }").await?;
    assert_refused(&refused, Code::IdConflict, "A-1");
    assert_eq!(desk.status(json!({"job_id": "A-1"})).await?.text("answer"), "found");
    desk.close().await
}
