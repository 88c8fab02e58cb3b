//! Golden records: what the store of version 1 writes for a job in each state, and what any later
//! version must be able to read.

use std::collections::{BTreeMap, BTreeSet};

use harness::World;
use job::{ClientName, Event, JobId, JobType, QueueName, State};
use protocol::request::{ReportToken, Wait};
use protocol::work::Spec;
use protocol::{Code, Refusal, UnixMillis};
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use store::accept::{Accept, Accepted, First, Limits};
use store::change::{Change, Changed, Right, Timer};
use store::claim::{Claim, Claimed, Lease};
use store::outbox::Outcome;
use store::report::Report;
use store::wait::Waiter;
use store::{JobName, Retention, Store};

use super::messages::FOLDER as MESSAGES;
use super::requests::read_submission;
use super::schemas::STRICT;
use super::{dump, frozen};

const FOLDER: &str = "shared/store/testdata/v1";
const SECRET: &str = "a secret for golden records";
const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;
const OF_THE_RUN: &[&str] =
    &["owner", "lease_until", "detached", "alone", "cancel_requested", "report_hash", "payload"];

/// A store of its own for one job, whose id is the case's name.
struct Case {
    store: Store,
    redis: MultiplexedConnection,
    prefix: String,
    start: i64,
    name: JobName,
}

impl Case {
    async fn open(world: &World, case: &str) -> anyhow::Result<Self> {
        let prefix = format!("{}-{case}", world.name);
        let secret = Some(SECRET.to_owned());
        let settings =
            store::Settings { prefix: prefix.clone(), secret, ..world.settings.redis.clone() };
        let store = Store::connect(settings).await?;
        let kept = [(State::Succeeded, DAY_MS), (State::Failed, 7 * DAY_MS)];
        let by_state =
            kept.into_iter().chain([(State::Cancelled, DAY_MS), (State::Expired, DAY_MS)]);
        store.keep(&Retention { by_state: by_state.collect(), by_type: BTreeMap::new() }).await?;
        let client = redis::Client::open(world.redis_url())?;
        let mut redis = client.get_multiplexed_async_connection().await?;
        let start = dump::now(&mut redis).await?;
        let name = JobName { client: ClientName::parse("shop")?, job_id: JobId::parse(case)? };
        Ok(Self { store, redis, prefix, start, name })
    }

    /// Accepts a golden submission under the case's id.
    async fn accept(&self, golden: &str, first: First) -> anyhow::Result<()> {
        let submission = read_submission(&frozen::read(MESSAGES, golden)).unwrap();
        let notified = golden == "submission-smallest";
        let notify = Spec {
            reply_to: Some("reply.shop.till-1".to_owned()),
            notify: "stage,succeeded,failed,cancelled,expired".to_owned(),
            ..Spec::default()
        };
        let accept = Accept {
            name: self.name.clone(),
            job_type: submission.job_type,
            queue: QueueName::parse("orders")?,
            spec: if notified { notify } else { submission.spec },
            digest: submission.digest,
            first,
            nonce: "00c0ffee00c0ffee".to_owned(),
            redelivered: false,
            payload_bytes: submission.body.len(),
            dispatch: 1,
            is_too_old: false,
            replay_of: None,
        };
        let accepted = self.store.accept(&[accept], Limits::default()).await?;
        assert!(matches!(accepted[..], [Accepted::New { .. }]), "{accepted:?}");
        Ok(())
    }

    async fn queued(&self) -> anyhow::Result<()> {
        self.accept("submission-smallest", First::Queued).await
    }

    fn payload() -> Vec<u8> {
        br#"{"sku":"A1","qty":2}"#.to_vec()
    }

    fn claim(&self) -> Claim {
        Claim {
            name: self.name.clone(),
            job_type: job_type(),
            dispatch: 1,
            redelivered: false,
            owner: "4242-0123456789abcdef0123456789abcdef".to_owned(),
            nonce: "00decade00decade".to_owned(),
            lease_ms: 10 * MINUTE_MS,
            idle: true,
            attempts_max: 5,
            alone_after: 3,
            not_here: false,
            payload: Self::payload(),
        }
    }

    /// Queues and starts it; the right to write.
    async fn started(&self) -> anyhow::Result<String> {
        self.queued().await?;
        match self.store.claim(&[self.claim()]).await?.pop() {
            Some(Claimed::Start { fence, .. }) => Ok(fence),
            other => anyhow::bail!("{other:?}"),
        }
    }

    fn event(&self, event: Event) -> Change {
        Change::new(self.name.clone(), job_type(), event)
    }

    async fn change(&self, change: Change) -> anyhow::Result<()> {
        let changed = self.store.change(&[change]).await?;
        assert!(matches!(changed[..], [Changed::Applied { .. }]), "{changed:?}");
        Ok(())
    }

    async fn ends(&self, event: Event) -> anyhow::Result<()> {
        let right = Right::Fence(self.started().await?);
        self.change(Change { right, delete: OF_THE_RUN, ..self.event(event) }).await
    }

    /// What becomes of every message that waits to be delivered.
    async fn settles(&self, outcome: impl Fn() -> Outcome) -> anyhow::Result<()> {
        let mut reader = self.store.outbox_reader("a notifier").await?;
        let settled = reader.next(10, 0).await?.into_iter().map(|entry| (entry, outcome()));
        Ok(self.store.settle(&settled.collect::<Vec<_>>()).await?)
    }

    /// What stands there: whole keys, and records that keep to their schemas.
    async fn check(mut self, case: &str) -> anyhow::Result<()> {
        let dumped = dump::dump(&mut self.redis, &self.prefix, self.start).await?;
        records_are_as_described(&dumped, case);
        frozen::check(FOLDER, case, &dumped);
        Ok(())
    }
}

fn job_type() -> JobType {
    JobType::parse("order.place").unwrap()
}

pub(crate) fn records_are_as_described(dumped: &Value, what: &str) {
    for (key, value) in dumped.as_object().into_iter().flatten() {
        if key.contains("}:job:") {
            STRICT.check("redis-record", &value["fields"], &format!("{what}: {key}"));
            if let Some(waits) = value["fields"]["waits"].as_str() {
                let waits = serde_json::from_str(waits).unwrap();
                STRICT.check("redis-record.json#/$defs/waits", &waits, &format!("{what}: waits"));
            }
        } else if key.contains("}:history:") {
            STRICT.check("redis-timeline", &value["items"], &format!("{what}: {key}"));
        }
    }
}

#[tokio::test]
async fn waiting_jobs_are_recorded_as_version_1_records_them() -> anyhow::Result<()> {
    let world = World::new().await?;
    let payload = Case::payload;

    let case = Case::open(&world, "scheduled").await?;
    let at = UnixMillis::parse("2026-01-31T13:00:00Z").unwrap_or_default();
    case.accept("submission-whole", First::Scheduled { payload: payload(), at }).await?;
    case.check("scheduled").await?;

    let case = Case::open(&world, "parked").await?;
    let until = UnixMillis(case.start + 14 * DAY_MS.cast_signed());
    let reason = "no worker has announced the type order.place".to_owned();
    let first = First::Parked { payload: payload(), until, reason };
    case.accept("submission-smallest", first).await?;
    case.check("parked").await?;

    let case = Case::open(&world, "queued").await?;
    case.queued().await?;
    case.check("queued").await?;

    let case = Case::open(&world, "released").await?;
    let reason = "no worker has announced the type order.place".to_owned();
    let first = First::Parked { payload: payload(), until, reason };
    case.accept("submission-smallest", first).await?;
    let released = Change {
        redispatch: true,
        timer: Timer::After(MINUTE_MS),
        delete: &["parked_reason"],
        ..case.event(Event::Released)
    };
    case.change(released.with("queue", "orders")).await?;
    case.check("released").await?;

    let case = Case::open(&world, "retrying").await?;
    let retried = Change {
        right: Right::Fence(case.started().await?),
        timer: Timer::After(2 * MINUTE_MS),
        detail: "no such article".to_owned(),
        delete: &OF_THE_RUN[..OF_THE_RUN.len() - 1],
        ..case.event(Event::Errored)
    };
    case.change(retried.with("error", "no such article").with("payload", payload())).await?;
    case.check("retrying").await?;

    // What it is told may come in one message with others.
    let case = Case::open(&world, "batch").await?;
    case.accept("submission-batch", First::Queued).await?;
    case.change(case.event(Event::Cancelled)).await?;
    case.check("batch").await
}

#[tokio::test]
async fn running_jobs_are_recorded_as_version_1_records_them() -> anyhow::Result<()> {
    let world = World::new().await?;
    let case = Case::open(&world, "running").await?;
    case.started().await?;
    case.check("running").await?;

    // Detached, with stage, progress, a token, a cancellation and two who wait.
    let case = Case::open(&world, "running-whole").await?;
    let fence = case.started().await?;
    let (name, right) = (&case.name, Right::Fence(fence.clone()));
    case.store.report(name, &right, &Report::Stage("stock-reserved".to_owned())).await?;
    case.store.report(name, &right, &Report::Progress(60, "3 of 5 lines".to_owned())).await?;
    let token = ReportToken::new(case.store.ticket(name), 0xbead);
    assert!(case.store.mint(name, &fence, &token.hash()).await?);
    case.change(case.event(Event::CancelAsked).with("cancel_requested", "1")).await?;
    let detach = Some(Case::payload());
    let lease = Lease { name: name.clone(), fence, detach };
    case.store.beat(&[lease], 20 * MINUTE_MS).await?;
    let for_the_end = Wait { limit_ms: 30 * MINUTE_MS, past_revision: None, past_epoch: None };
    let for_news = Wait { past_revision: Some(5), past_epoch: Some(1), ..for_the_end };
    for (wait, correlation_id, history) in
        [(for_the_end, None, false), (for_news, Some("question 7"), true)]
    {
        let to = "reply.shop.till-2";
        case.store.wait(&Waiter { name, wait, to, correlation_id, history }).await?;
    }
    case.check("running-whole").await?;

    // Its worker died.
    let case = Case::open(&world, "sent-again").await?;
    let lost = Change {
        right: Right::Fence(case.started().await?),
        redispatch: true,
        timer: Timer::After(MINUTE_MS),
        detail: "attempt 1 ended without an outcome".to_owned(),
        delete: &["owner", "lease_until", "detached"],
        ..case.event(Event::Lost)
    };
    let lost = lost.with("queue", "orders").with("lost", "1").with("payload", Case::payload());
    case.change(lost).await?;
    case.check("sent-again").await?;

    let case = Case::open(&world, "handed_over").await?;
    let fence = case.started().await?;
    let token = ReportToken::new(case.store.ticket(&case.name), 0xbead);
    assert!(case.store.mint(&case.name, &fence, &token.hash()).await?);
    let handed_over = Change {
        right: Right::Fence(fence),
        timer: Timer::After(DAY_MS),
        delete: &["owner", "lease_until", "detached", "alone"],
        ..case.event(Event::HandedOver)
    };
    case.change(handed_over.with("payload", Case::payload())).await?;
    let (right, packed) = (Right::Report(token.hash()), Report::Stage("packed".to_owned()));
    case.store.report(&case.name, &right, &packed).await?;
    case.check("handed_over").await
}

#[tokio::test]
async fn finished_jobs_are_recorded_as_version_1_records_them() -> anyhow::Result<()> {
    let world = World::new().await?;
    let case = Case::open(&world, "succeeded").await?;
    let right = Right::Fence(case.started().await?);
    let done = Change { right, delete: OF_THE_RUN, ..case.event(Event::Succeeded) };
    case.change(done.with("result", r#"{"order":"1001"}"#)).await?;
    case.settles(|| Outcome::Delivered).await?;
    case.check("succeeded").await?;

    // Its event could not be delivered, and it was replayed.
    let case = Case::open(&world, "failed").await?;
    let failed = Change {
        right: Right::Fence(case.started().await?),
        detail: "no such article".to_owned(),
        delete: &OF_THE_RUN[..OF_THE_RUN.len() - 1],
        ..case.event(Event::Failed)
    };
    case.change(failed.with("error", "no such article").with("payload", Case::payload())).await?;
    case.settles(|| Outcome::Undeliverable("there is no such queue".to_owned())).await?;
    case.store.replay(&case.name).await?;
    case.check("failed").await?;

    for (event, word) in [(Event::Cancelled, "cancelled"), (Event::Expired, "expired")] {
        let case = Case::open(&world, word).await?;
        case.ends(event).await?;
        case.check(word).await?;
    }
    // With its event delivered before, and without.
    for word in ["retired", "retired-undelivered"] {
        let case = Case::open(&world, word).await?;
        case.ends(Event::Succeeded).await?;
        if word == "retired" {
            case.settles(|| Outcome::Delivered).await?;
        }
        let record = case.store.read_one(&case.name).await?.unwrap_or_default();
        case.store.retire(&[(case.name.clone(), record)], 30 * DAY_MS, true).await?;
        case.check(word).await?;
    }
    Ok(())
}

#[tokio::test]
async fn ids_that_are_no_jobs_are_recorded_as_version_1_records_them() -> anyhow::Result<()> {
    let world = World::new().await?;
    let case = Case::open(&world, "refused").await?;
    let refusal = Refusal::new(Code::BadHeader, "job-deadline: must be a time in RFC 3339");
    case.store.refuse(&[(case.name.clone(), refusal)], DAY_MS).await?;
    case.check("refused").await?;
    for (word, keep_ms) in [("voided", 0), ("voided-for-a-while", DAY_MS)] {
        let case = Case::open(&world, word).await?;
        case.store.void(&case.name, keep_ms, false).await?;
        case.check(word).await?;
    }
    // No state is without a record of its own.
    let names: BTreeSet<String> = frozen::names(FOLDER);
    assert!(State::ALL.iter().all(|state| names.contains(state.as_str())), "{names:?}");
    Ok(())
}

/// A record of version 1 is read, by the store and by a client's question, as it was written.
#[tokio::test]
async fn golden_records_are_read_whoever_wrote_them() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    world.settings.redis.secret = Some(SECRET.to_owned());
    let client = redis::Client::open(world.redis_url())?;
    let mut redis = client.get_multiplexed_async_connection().await?;
    let store = world.store().await?;
    // Nobody acts on a timer: those of the golden records passed long ago.
    let inquiry = world.server_with(|it| it.roles = vec![server::Role::Inquiry]).await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("till-1").await?;
    for case in frozen::names(FOLDER) {
        let golden = frozen::read(FOLDER, &case);
        records_are_as_described(&golden, &case);
        dump::load(&mut redis, &world.name, &golden).await?;
        let name = JobName { client: ClientName::parse("shop")?, job_id: JobId::parse(&case)? };
        let fields = &golden[format!("{{0}}:job:shop:{case}")]["fields"];
        let record = store.read_one(&name).await?.unwrap_or_default();
        assert_eq!(record.record.as_deref(), fields["record"].as_str(), "{case}");
        assert!(record.kind().is_some(), "{case}");
        if fields["record"] == "refused" {
            continue; // It is the registrar's to tell.
        }
        shop.ask("status", &inbox.queue, json!({"job_id": case, "history": true})).await?;
        let status = inbox.next().await?;
        STRICT.check("status", &status.body, &case);
        for field in ["job_id", "client", "ticket", "type", "queue", "state", "stage", "outcome"] {
            let is_said = !status.body[field].is_null();
            assert!(!is_said || status.body[field] == fields[field], "{case}: {field}");
            let of_job = fields["record"] == "job" && !fields[field].is_null();
            assert!(is_said || !of_job, "{case}: {field} is not told");
        }
        if fields["record"] == "job" {
            for field in ["revision", "attempt", "epoch"] {
                let number = status.body[field].to_string();
                assert_eq!(Some(number.as_str()), fields[field].as_str(), "{case}: {field}");
            }
            let timeline = &golden[format!("{{0}}:history:shop:{case}")]["items"];
            let told = status.body["history"].as_array().map(Vec::len);
            assert_eq!(told, timeline.as_array().map(Vec::len), "{case}");
            shop.ask("status", &inbox.queue, json!({"ticket": fields["ticket"]})).await?;
            assert_eq!(inbox.next().await?.text("job_id"), case);
        }
    }
    Ok(inquiry.stop().await?)
}
