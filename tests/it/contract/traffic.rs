//! Real traffic: every message that the server sends in these conversations, and every record that
//! it leaves, keeps to the schemas in their strict form.

use std::collections::BTreeSet;

use broker::topology;
use harness::{Inbox, Message, Raw, World, eventually, start};
use protocol::batch::{self, Entry};
use protocol::{HeaderValue, Properties, Submissions, headers};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use worker::{Context, Failure, HandOver};

use super::messages::TICKET;
use super::records::records_are_as_described;
use super::schemas::{OPEN, STRICT};
use super::{dump, wire};

/// A client that checks whatever it sends and hears.
struct Client {
    world: World,
    raw: Raw,
    inbox: Inbox,
    heard: BTreeSet<String>,
    /// Questions so far.
    asked: u32,
}

impl Client {
    async fn open() -> anyhow::Result<Self> {
        let world = World::new().await?;
        let raw = world.raw("shop").await?;
        let inbox = raw.inbox("till-1").await?;
        Ok(Self { world, raw, inbox, heard: BTreeSet::new(), asked: 0 })
    }

    fn properties(&self, job_id: &str) -> Properties {
        let correlation_id = Some(format!("about {job_id}"));
        Properties { correlation_id, ..self.raw.properties(job_id, &self.inbox.queue) }
    }

    /// Submits; a header's value that is a number travels as one.
    async fn submit(&self, of: &str, id: &str, with: &[(&str, Value)]) -> anyhow::Result<()> {
        let mut properties = self.properties(id);
        for (name, value) in with {
            let value = match value {
                Value::Bool(value) => HeaderValue::Bool(*value),
                Value::Number(number) => HeaderValue::Int(number.as_i64().unwrap_or_default()),
                text => HeaderValue::Text(text.as_str().unwrap_or_default().to_owned()),
            };
            properties.headers.push((*name).to_owned(), value);
        }
        let mut message = wire::envelope(&properties);
        message["routing_key"] = json!(of);
        let is_good = !with.iter().any(|(_, value)| *value == "nonsense");
        assert_eq!(OPEN.holds("submission", &message), is_good, "{message:#}");
        self.raw.submit(of, properties, "{}").await
    }

    /// Asks, and returns the correlation id of what answers.
    async fn ask(&mut self, verb: &str, body: Value) -> anyhow::Result<String> {
        self.asked += 1;
        let properties = self.properties(&format!("question {}", self.asked));
        let correlation_id = properties.correlation_id.clone().unwrap_or_default();
        let properties = Properties { message_id: None, ..properties };
        self.raw.publish(topology::REQUEST, verb, properties, body.to_string()).await?;
        Ok(correlation_id)
    }

    fn note(&mut self, message: Message) -> Message {
        let whole = wire::message(&message.properties, &message.body);
        STRICT.check("message", &whole, &message.kind);
        let body = &message.body;
        let about = match (message.kind.as_str(), message.text("answer")) {
            ("batch", _) => "of several",
            ("event", _) => message.text("event"),
            ("refusal", _) => message.text("code"),
            ("status", "found") if !body["jobs"].is_null() => "list",
            ("status", "found") if body["job_id"].is_null() => "reported",
            ("status" | "receipt", "found") => message.text("state"),
            (_, word) => word,
        };
        self.heard.insert(format!("{} {about}", message.kind));
        message
    }

    async fn hear(&mut self, kind: &str) -> anyhow::Result<Message> {
        let message = self.inbox.next_of(kind).await?;
        Ok(self.note(message))
    }

    /// Hears events up to this one.
    async fn hear_event(&mut self, word: &str) -> anyhow::Result<Message> {
        loop {
            let event = self.hear("event").await?;
            if event.text("event") == word {
                return Ok(event);
            }
        }
    }

    /// Asks a good question, and hears the one answer to it.
    async fn told(&mut self, verb: &str, body: Value) -> anyhow::Result<Message> {
        OPEN.check(&format!("request-{verb}"), &body, verb);
        let correlation_id = self.ask(verb, body).await?;
        let message = self.inbox.answer_to(&correlation_id).await?;
        Ok(self.note(message))
    }

    /// Whatever the server and its workers have written is as it is described.
    async fn look_into_the_store(&self) -> anyhow::Result<()> {
        let client = redis::Client::open(self.world.redis_url())?;
        let mut redis = client.get_multiplexed_async_connection().await?;
        let dumped = dump::dump(&mut redis, &self.world.name, i64::MAX).await?;
        records_are_as_described(&dumped, "the store");
        let deployment = format!("{}:deployment", self.world.name);
        let deployment = Value::Object(dump::hash(&mut redis, &deployment).await?);
        STRICT.check("redis-deployment", &deployment, "the deployment");
        Ok(())
    }
}

/// What the jobs do. A job of `ship` gives its token away and goes on when it is let.
async fn worker(
    world: &World,
    tokens: mpsc::UnboundedSender<String>,
    may_go_on: watch::Receiver<bool>,
) -> anyhow::Result<worker::Running> {
    let place = |job: Context| async move {
        job.stage("stock-reserved").await?;
        job.progress(60, "3 of 5 lines").await?;
        Ok::<_, Failure>(json!({"order": "1001"}))
    };
    let ship = move |job: Context| {
        let (tokens, mut may_go_on) = (tokens.clone(), may_go_on.clone());
        async move {
            tokens.send(job.report_token().await?).ok();
            may_go_on.wait_for(|it| *it).await.ok();
            Ok::<_, Failure>(HandOver::new())
        }
    };
    let broken = || async { Err::<(), _>(Failure::retry("no such article")) };
    let patient = |job: Context| async move {
        job.cancelled().await;
        Err::<(), _>(Failure::Cancelled)
    };
    let worker = world.worker().handle("order.place", place)?.handle("ship", ship)?;
    start(worker.handle("broken", broken)?.handle("patient", patient)?).await
}

#[tokio::test]
async fn every_message_and_record_of_these_conversations_keeps_to_its_schema() -> anyhow::Result<()>
{
    let mut shop = Client::open().await?;
    let server = shop.world.server().await?;
    let (to_warehouse, mut tokens) = mpsc::unbounded_channel();
    let (go_on, may_go_on) = watch::channel(false);
    let worker = worker(&shop.world, to_warehouse, may_go_on).await?;

    jobs_that_run(&mut shop).await?;
    jobs_that_wait(&mut shop).await?;
    let token = {
        shop.submit("ship", "S-1", &[(headers::NOTIFY, json!("*"))]).await?;
        tokens.recv().await.unwrap_or_default()
    };
    handed_over(&mut shop, &token, &go_on).await?;
    // Who says that it failed need not say why.
    shop.submit("ship", "S-2", &[(headers::NOTIFY, json!("*"))]).await?;
    let token = tokens.recv().await.unwrap_or_default();
    shop.hear_event("handed_over").await?;
    shop.told("report", json!({"report_token": token, "outcome": "failed"})).await?;
    assert_eq!(shop.hear_event("failed").await?.body.get("error"), None);
    what_is_not_there(&mut shop).await?;
    what_is_refused(&mut shop).await?;
    what_is_left(&mut shop).await?;
    several_in_one(&mut shop).await?;
    shop.look_into_the_store().await?;
    worker.stop().await?;
    server.stop().await?;
    the_line_stands_still(&mut shop).await?;

    let expected = "batch of several, event cancelled, event expired, event failed, \
        event handed_over, event parked, event progress, event queued, event retrying, \
        event running, event scheduled, event stage, event succeeded, receipt parked, \
        receipt queued, receipt scheduled, receipt succeeded, refusal bad_header, \
        refusal bad_report, refusal bad_request, refusal id_conflict, refusal id_mismatch, \
        refusal invalid_id, refusal not_permitted, refusal reply_to_not_allowed, \
        refusal unknown_request, refusal unknown_version, \
        refusal voided, status cancelled, status failed, status forgotten, status handed_over, \
        status list, status pending, status refused, status reported, status running, \
        status scheduled, status succeeded, status unavailable, status unknown, status voided";
    let missing = expected.split(", ").filter(|it| !shop.heard.contains(*it));
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&str>::new(), "heard: {:?}", shop.heard);
    Ok(())
}

async fn jobs_that_run(shop: &mut Client) -> anyhow::Result<()> {
    let with = [
        (headers::NOTIFY, json!("*")),
        (headers::ORIGIN, json!("192.168.1.20")),
        (headers::TAGS, json!("spring, web")),
        (headers::TIMEOUT_MS, json!(60_000)),
        (headers::DEADLINE, json!("2999-01-31T12:00:00Z")),
        ("job-colour", json!("red")),
    ];
    shop.submit("order.place", "A-1", &with).await?;
    let receipt = shop.hear("receipt").await?;
    assert_eq!(receipt.body["ignored"], json!(["job-colour"]));
    shop.hear_event("succeeded").await?;
    let status = shop.told("status", json!({"job_id": "A-1", "history": true})).await?;
    assert!(status.body["history"].as_array().is_some_and(|all| all.len() == 5));
    let asked = json!({"ticket": receipt.body["ticket"], "wait": {"limit_ms": 1000}});
    shop.told("status", asked).await?;
    shop.submit("order.place", "A-1", &with).await?;
    assert_eq!(shop.hear("receipt").await?.body["duplicate"], json!(true));
    shop.submit("order.place", "A-1", &[(headers::TIMEOUT_MS, json!(1))]).await?;
    shop.hear("refusal").await?;

    let twice = [(headers::MAX_ATTEMPTS, json!("2")), (headers::NOTIFY, json!("*"))];
    shop.submit("broken", "B-1", &twice).await?;
    shop.hear("receipt").await?;
    shop.hear_event("failed").await?;
    shop.told("status", json!({"job_id": "B-1", "history": true})).await?;
    let again = json!({"job_id": "B-1", "notify": "terminal", "redeliver": true});
    shop.told("subscribe", again).await?;

    shop.submit("patient", "P-1", &[(headers::NOTIFY, json!("*"))]).await?;
    shop.hear_event("running").await?;
    shop.look_into_the_store().await?;
    shop.told("erase", json!({"job_id": "P-1"})).await?;
    // Answered later: by the cancellation, and by its end.
    let wait = |past| json!({"job_id": "P-1", "wait": {"limit_ms": 30_000, "past_revision": past}});
    shop.ask("status", wait(json!(2))).await?;
    shop.ask("status", json!({"job_id": "P-1", "wait": {"limit_ms": 30_000}})).await?;
    eventually("both wait", || async {
        let waits = shop.world.record("shop", "P-1").await?.unwrap_or_default().waits;
        Ok(waits.filter(|waits| waits.matches("until_ms").count() == 2))
    })
    .await?;
    shop.look_into_the_store().await?;
    shop.told("cancel", json!({"job_id": "P-1"})).await?;
    shop.hear("status").await?;
    shop.hear("status").await?;
    shop.hear_event("cancelled").await.map(drop)
}

async fn jobs_that_wait(shop: &mut Client) -> anyhow::Result<()> {
    let later = (headers::NOT_BEFORE, json!("2999-01-31T12:00:00+01:00"));
    let all = (headers::NOTIFY, json!("*"));
    shop.submit("order.place", "W-1", &[later, all.clone()]).await?;
    shop.hear("receipt").await?;
    shop.told("status", json!({"job_id": "W-1"})).await?;
    let soon = protocol::UnixMillis::now().after(std::time::Duration::from_millis(300));
    let until = (headers::DEADLINE, json!(soon.to_string()));
    shop.submit("nobody.serves", "W-2", &[until, all.clone()]).await?;
    shop.submit("nobody.serves", "W-3", &[all]).await?;
    shop.hear("receipt").await?;
    shop.hear("receipt").await?;
    shop.look_into_the_store().await?;
    shop.hear_event("expired").await?;
    for id in ["W-1", "W-3"] {
        assert_eq!(shop.told("cancel", json!({"job_id": id})).await?.text("state"), "cancelled");
    }
    // What cannot be delivered is in the ledger.
    let nowhere = (headers::NOTIFY_TO, json!("reply.shop.nowhere"));
    shop.submit("order.place", "W-4", &[(headers::NOTIFY, json!("terminal")), nowhere]).await?;
    shop.hear("receipt").await?;
    eventually("the ledger says so", || async {
        Ok(shop.world.record("shop", "W-4").await?.unwrap_or_default().undeliverable)
    })
    .await?;
    let status = shop.told("status", json!({"job_id": "W-4"})).await?;
    assert_eq!(status.body["notifications"]["undeliverable"], json!(1));
    shop.look_into_the_store().await
}

async fn handed_over(
    shop: &mut Client,
    token: &str,
    go_on: &watch::Sender<bool>,
) -> anyhow::Result<()> {
    let report = |mut said: Value| {
        said["report_token"] = json!(token);
        said
    };
    let early = shop.told("report", report(json!({"outcome": "succeeded"}))).await?;
    assert_eq!(early.text("answer"), "unavailable");
    go_on.send(true).ok();
    shop.hear_event("handed_over").await?;
    shop.told("status", json!({"job_id": "S-1", "history": true})).await?;
    shop.look_into_the_store().await?;
    shop.told("report", report(json!({"stage": "packed", "progress": 40}))).await?;
    shop.hear_event("progress").await?;
    let done = report(json!({"outcome": "succeeded", "result": {"parcel": 7}}));
    shop.told("report", done).await?;
    shop.told("report", report(json!({"outcome": "failed"}))).await?;
    shop.hear_event("succeeded").await.map(drop)
}

async fn what_is_not_there(shop: &mut Client) -> anyhow::Result<()> {
    shop.told("status", json!({"job_id": "Z-1"})).await?;
    shop.told("status", json!({"ticket": TICKET})).await?;
    shop.told("subscribe", json!({"job_id": "Z-1", "notify": "*"})).await?;
    shop.told("status", json!({"job_id": "Z-2", "void_if_unknown": true})).await?;
    shop.told("cancel", json!({"job_id": "Z-3"})).await?;
    shop.submit("order.place", "Z-2", &[]).await?;
    shop.hear("refusal").await?;
    let many = json!({"jobs": [{"job_id": "A-1"}, {"job_id": "Z-1"}, {"job_id": "Z-2"}]});
    shop.told("status", many).await?;
    shop.hear("status").await?;
    shop.hear("status").await.map(drop)
}

async fn what_is_refused(shop: &mut Client) -> anyhow::Result<()> {
    shop.submit("order.place", "R-1", &[(headers::DEADLINE, json!("nonsense"))]).await?;
    shop.hear("refusal").await?;
    shop.told("status", json!({"job_id": "R-1"})).await?;
    shop.submit("order.place", "R-2", &[(headers::PROTOCOL, json!("nonsense"))]).await?;
    shop.hear("refusal").await?;
    let mut later_version = shop.properties("R-3");
    later_version.headers.push(headers::PROTOCOL, HeaderValue::Int(2));
    shop.raw.submit("order.place", later_version, "{}").await?;
    shop.hear("refusal").await?;
    shop.submit("order.place", "R-4", &[(headers::NOTIFY_TO, json!("nonsense"))]).await?;
    shop.hear("refusal").await?;
    shop.look_into_the_store().await?;
    for (verb, body) in [
        ("delete", json!({"job_id": "A-1"})),
        ("status", json!({})),
        ("status", json!({"job_id": "~"})),
        ("report", json!({"report_token": "no"})),
    ] {
        shop.ask(verb, body).await?;
        shop.hear("refusal").await?;
    }
    shop.told("status", json!({"job_id": "A-1", "ticket": TICKET})).await.map(drop)
}

async fn what_is_left(shop: &mut Client) -> anyhow::Result<()> {
    let page = shop.told("list", json!({"limit": 2})).await?;
    shop.told("list", json!({"limit": 2, "page": page.body["next_page"]})).await?;
    shop.told("list", json!({"state": "failed", "tag": "none"})).await?;
    let erased = shop.told("erase", json!({"job_id": "A-1"})).await?;
    assert_eq!(erased.text("answer"), "forgotten");
    shop.told("status", json!({"job_id": "A-1"})).await?;
    // A replay is linked both ways.
    let name = store::JobName {
        client: job::ClientName::parse("shop")?,
        job_id: job::JobId::parse("B-1")?,
    };
    shop.world.store().await?.replay(&name).await?;
    shop.told("status", json!({"jobs": [{"job_id": "B-1"}]})).await?;
    let replay = shop.told("status", json!({"job_id": "B-1~2"})).await?;
    assert_eq!(replay.text("replay_of"), "B-1");
    Ok(())
}

/// In one message, and told of in one where that is asked for.
async fn several_in_one(shop: &mut Client) -> anyhow::Result<()> {
    let entry = |n: usize| Entry::new(format!("L-{n}"), b"{}".to_vec());
    let list = Submissions { v: 1, submissions: (0..20).map(entry).collect() };
    let kind = Some(batch::FROM_CLIENT.to_owned());
    let mut properties = Properties { kind, ..shop.properties("the list") };
    properties.headers.push_text(headers::NOTIFY, "parked");
    properties.headers.push(headers::BATCH, HeaderValue::Bool(true));
    let mut message = wire::message(&properties, &serde_json::to_value(&list)?);
    message["routing_key"] = json!("nobody.serves");
    STRICT.check("submissions.json#/$defs/message", &message, "the list");
    shop.raw.submit("nobody.serves", properties, list.to_json()).await?;
    // A receipt and an event of each; one that comes again is counted once.
    let mut told = BTreeSet::new();
    while told.len() < 40 {
        let message = shop.inbox.next().await?;
        let message = shop.note(message);
        let several = message.body["messages"].as_array().cloned();
        for body in several.map_or(vec![message.body], |all| {
            all.into_iter().map(|mut one| one["body"].take()).collect()
        }) {
            let id = body["job_id"].as_str().filter(|id| id.starts_with("L-"));
            told.extend(id.map(|id| (id.to_owned(), body["event"].is_null())));
        }
    }
    // The records, while they are.
    shop.look_into_the_store().await
}

/// Nobody works on the line: the question is told so, and answered when somebody does.
async fn the_line_stands_still(shop: &mut Client) -> anyhow::Result<()> {
    let inquiry = shop.world.server_with(|it| it.roles = vec![server::Role::Inquiry]).await?;
    let pending = shop.told("status", json!({"job_id": "Z-9"})).await?;
    assert_eq!(pending.text("answer"), "pending");
    let registrar = shop.world.server_with(|it| it.roles = vec![server::Role::Registrar]).await?;
    assert_eq!(shop.hear("status").await?.text("answer"), "unknown");
    registrar.stop().await?;
    Ok(inquiry.stop().await?)
}
