//! From a finished job's record to its tombstone, and what is said then.

use harness::{World, eventually};
use protocol::{Code, Properties};
use serde_json::json;
use server::Settings;

use crate::refusals::{Desk, assert_refused, assert_says};

/// Jobs of `demo.echo` are kept for no time at all.
fn at_once(settings: &mut Settings) {
    let keep = server::Keep { succeeded_ms: Some(0), ..server::Keep::default() };
    settings.keep.insert("demo.echo".to_owned(), keep);
}

async fn until_retired(world: &World, job_id: &str) -> anyhow::Result<store::Record> {
    eventually("the tombstone", || async {
        let record = world.record("shop", job_id).await?;
        Ok(record.filter(|record| record.kind() == Some(store::RecordKind::Retired)))
    })
    .await
}

/// Submits a job of a type that a demo worker runs, waits for its end, and returns its ticket.
async fn finish(desk: &mut Desk, job_type: &str, job_id: &str) -> anyhow::Result<String> {
    desk.shop
        .submit_job(job_type, job_id, &desk.inbox.queue, &[("job-notify", "terminal")], "{}")
        .await?;
    let ticket = desk.inbox.next_of("receipt").await?.text("ticket").to_owned();
    desk.inbox.next_of("event").await?;
    Ok(ticket)
}

#[tokio::test]
async fn a_finished_job_is_forgotten_by_both_ids_once_its_record_is_retired() -> anyhow::Result<()>
{
    let mut desk = Desk::with(at_once).await?;
    let worker = desk.world.demo_worker().await?;
    let ticket = finish(&mut desk, "demo.echo", "A-1").await?;
    until_retired(&desk.world, "A-1").await?;
    for subject in [
        json!({"job_id": "A-1"}),
        json!({"ticket": ticket}),
        json!({"job_id": "A-1", "ticket": ticket}),
    ] {
        let status = desk.status(subject).await?;
        assert_eq!(status.text("answer"), "forgotten", "{}", status.body);
        assert_eq!((status.text("job_id"), status.text("ticket")), ("A-1", ticket.as_str()));
        assert_eq!(status.text("outcome"), "succeeded");
        for field in ["accepted_at", "finished_at", "retired_at", "expires_at", "as_of"] {
            assert!(!status.text(field).is_empty(), "{field}: {}", status.body);
        }
        assert_eq!(status.body.get("state"), None);
        assert_eq!(status.body.get("result"), None);
        let ledger = &status.body["notifications"];
        assert_eq!((&ledger["delivered_revision"], ledger.get("undeliverable")), (&json!(3), None));
    }
    worker.stop().await?;
    desk.close().await
}

/// The record went before its event was given up, and the ledger with it.
#[tokio::test]
async fn promise_07_the_ledger_of_an_event_outlives_a_record_that_is_not_kept() -> anyhow::Result<()>
{
    let mut desk = Desk::with(at_once).await?;
    let worker = desk.world.demo_worker().await?;
    let (queue, nowhere) = (desk.inbox.queue.clone(), "reply.shop.nowhere");
    let headers = [("job-notify", "terminal"), ("job-notify-to", nowhere)];
    desk.shop.submit_job("demo.echo", "A-1", &queue, &headers, "1").await?;
    desk.inbox.next_of("receipt").await?;
    until_retired(&desk.world, "A-1").await?;
    let ledger = eventually("it is given up", || async {
        let record = desk.world.record("shop", "A-1").await?.unwrap_or_default();
        Ok(record.undeliverable.is_some().then_some(record))
    })
    .await?;
    assert_eq!(ledger.kind(), Some(store::RecordKind::Retired));
    let status = desk.status(json!({"job_id": "A-1"})).await?;
    let expected = json!({
        "to": nowhere,
        "changes": ["succeeded", "failed", "cancelled", "expired"],
        "undeliverable": 1,
        "undeliverable_from": 3,
        "reason": "there is no such queue",
    });
    assert_eq!((status.text("answer"), &status.body["notifications"]), ("forgotten", &expected));
    worker.stop().await?;
    desk.close().await
}

/// The tombstone keeps the digest, so that one id stays one job (H16).
#[tokio::test]
async fn h16_a_retired_id_is_forgotten_to_the_same_submission_and_a_conflict_to_another()
-> anyhow::Result<()> {
    let mut desk = Desk::with(at_once).await?;
    let worker = desk.world.demo_worker().await?;
    finish(&mut desk, "demo.echo", "A-1").await?;
    until_retired(&desk.world, "A-1").await?;
    let same = desk.submit("demo.echo", desk.properties("A-1"), "{}").await?;
    assert_refused(&same, Code::Forgotten, "A-1");
    let other = desk.submit("demo.echo", desk.properties("A-1"), "{ }").await?;
    assert_refused(&other, Code::IdConflict, "A-1");
    // Neither has replaced the tombstone.
    assert_eq!(desk.status(json!({"job_id": "A-1"})).await?.text("answer"), "forgotten");
    worker.stop().await?;
    desk.close().await
}

/// Record, ticket and timeline give way to the tombstone in one step: whoever asks all the time, by
/// either id, never hears `unknown` (H16).
#[tokio::test]
async fn h16_there_is_no_instant_in_which_a_job_that_is_retired_is_unknown() -> anyhow::Result<()> {
    let mut desk = Desk::with(at_once).await?;
    let worker = desk.world.demo_worker().await?;
    for n in 0..10 {
        let job_id = format!("A-{n}");
        let ticket = finish(&mut desk, "demo.echo", &job_id).await?;
        loop {
            let by_id = desk.status(json!({"job_id": job_id})).await?;
            let by_ticket = desk.status(json!({"ticket": ticket})).await?;
            for status in [&by_id, &by_ticket] {
                assert!(["found", "forgotten"].contains(&status.text("answer")), "{}", status.body);
            }
            if by_ticket.text("answer") == "forgotten" {
                break;
            }
        }
    }
    worker.stop().await?;
    desk.close().await
}

#[tokio::test]
async fn how_long_a_record_is_kept_is_the_jobs_to_say_or_its_types_or_its_outcomes()
-> anyhow::Result<()> {
    let mut desk = Desk::with(|settings| {
        at_once(settings);
        settings.keep_succeeded_ms = 50_000;
        settings.keep_failed_ms = 70_000;
    })
    .await?;
    let worker = desk.world.demo_worker().await?;
    let kept = async |world: &World, job_id: &str| -> anyhow::Result<i64> {
        let record = world.record("shop", job_id).await?.unwrap_or_default();
        let at = |field: &Option<String>| store::record::number::<i64>(field).unwrap_or_default();
        Ok(at(&record.expires_at) - at(&record.finished_at))
    };
    let sleep = desk.inbox.queue.clone();
    let jobs = [
        ("demo.sleep", "by-outcome", r#"{"ms":1}"#, vec![], 50_000),
        ("demo.fail", "by-other-outcome", r#"{"fatal":true}"#, vec![], 70_000),
        ("demo.echo", "by-job", "{}", vec![("job-keep-ms", "60000")], 60_000),
    ];
    for (job_type, job_id, body, mut headers, ms) in jobs {
        headers.push(("job-notify", "terminal"));
        desk.shop.submit_job(job_type, job_id, &sleep, &headers, body).await?;
        desk.inbox.next_of("event").await?;
        assert_eq!(kept(&desk.world, job_id).await?, ms, "{job_id}");
        let properties = desk.properties("");
        let question = json!({ "job_id": job_id }).to_string();
        desk.shop.publish(broker::topology::REQUEST, "status", properties, question).await?;
        let status = desk.inbox.next_of("status").await?;
        assert!(!status.text("expires_at").is_empty());
    }
    finish(&mut desk, "demo.echo", "by-type").await?;
    until_retired(&desk.world, "by-type").await?;
    worker.stop().await?;
    desk.close().await
}

/// A journal restored from a backup resends what is forgotten by now: it must not run again (H15).
#[tokio::test]
async fn h15_a_submission_from_before_the_horizon_is_refused_and_a_job_of_that_time_is_not()
-> anyhow::Result<()> {
    let mut desk = Desk::with(|settings| settings.horizon_ms = 3_600_000).await?;
    let now = u64::try_from(protocol::UnixMillis::now().0 / 1000)?;
    let sent = |properties: Properties, at: u64| Properties { timestamp: Some(at), ..properties };
    let old = sent(desk.properties("old"), now - 3700);
    let refused = desk.submit("demo.echo", old, "{}").await?;
    assert_refused(&refused, Code::Forgotten, "old");
    assert!(refused.text("message").contains("horizon"), "{}", refused.body);
    let status = desk.status(json!({"job_id": "old"})).await?;
    assert_says(&status, Code::Forgotten);

    let young = sent(desk.properties("young"), now - 3000);
    let receipt = desk.submit("demo.echo", young, "{}").await?;
    assert_eq!(receipt.kind, "receipt");
    assert_eq!(receipt.body["horizon_ms"], json!(3_600_000));
    // What is still recorded is a duplicate, however old the message is.
    let again = sent(desk.properties("young"), now - 3700);
    let receipt = desk.submit("demo.echo", again, "{}").await?;
    assert_eq!(receipt.body["duplicate"], json!(true), "{}", receipt.body);
    desk.close().await
}

/// "Never will be accepted" is not said for a while only (H15).
#[tokio::test]
async fn h15_a_voided_id_does_not_expire_unless_the_operator_says_so() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    let status = desk.ask("status", r#"{"job_id":"A-1","void_if_unknown":true}"#).await?;
    assert_eq!(status.text("answer"), "voided", "{}", status.body);
    assert_eq!(status.body.get("expires_at"), None);
    let late = desk.submit("demo.echo", desk.properties("A-1"), "{}").await?;
    assert_refused(&late, Code::Voided, "A-1");
    desk.close().await?;

    let mut desk = Desk::with(|settings| settings.keep_voided_ms = 60_000).await?;
    let status = desk.ask("cancel", r#"{"job_id":"A-1"}"#).await?;
    assert_eq!(status.text("answer"), "voided");
    assert!(!status.text("expires_at").is_empty());
    desk.close().await
}

/// What was submitted is not voided by a question that would void what is unknown; what was refused
/// stays refused, for it may come again, corrected.
#[tokio::test]
async fn only_what_is_unknown_is_voided_by_a_question() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    desk.accepted("A-1").await?;
    let question = r#"{"job_id":"A-1","void_if_unknown":true}"#;
    assert_eq!(desk.ask("status", question).await?.text("answer"), "found");
    let bad = Properties { expiration: Some("1000".into()), ..desk.properties("A-2") };
    desk.submit("demo.echo", bad, "{}").await?;
    let question = r#"{"job_id":"A-2","void_if_unknown":true}"#;
    assert_says(&desk.ask("status", question).await?, Code::BadHeader);
    desk.accepted("A-2").await?;
    desk.close().await
}

#[tokio::test]
async fn what_is_erased_leaves_its_tombstone_and_nothing_else() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    let worker = desk.world.demo_worker().await?;
    let body = r#"{"secret":"quicksilver"}"#;
    let headers = [("job-notify", "terminal"), ("job-tags", "vip")];
    desk.shop.submit_job("demo.echo", "A-1", &desk.inbox.queue, &headers, body).await?;
    desk.inbox.next_of("event").await?;
    desk.inbox.next_of("receipt").await?;
    eventually("the ledger", || async {
        let record = desk.world.record("shop", "A-1").await?.unwrap_or_default();
        Ok(record.delivered_revision)
    })
    .await?;
    let erased = desk.ask("erase", r#"{"job_id":"A-1"}"#).await?;
    assert_eq!((erased.text("answer"), erased.text("outcome")), ("forgotten", "succeeded"));
    let left = desk.world.record("shop", "A-1").await?.unwrap_or_default();
    assert!(left.result.is_none() && left.notify_to.is_none() && left.tags.is_none());
    let dump = everything(&desk.world).await?;
    assert!(!dump.contains("quicksilver"), "{dump}");
    assert!(!dump.contains("vip"), "{dump}");
    // Erased is erased; and the id stays used up.
    let again = desk.ask("erase", r#"{"job_id":"A-1"}"#).await?;
    assert_eq!(again.text("answer"), "forgotten");
    let same = desk.submit("demo.echo", desk.properties("A-1"), body).await?;
    assert_refused(&same, Code::Forgotten, "A-1");
    worker.stop().await?;
    desk.close().await
}

#[tokio::test]
async fn what_is_not_finished_cannot_be_erased() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    desk.accepted("parked").await?;
    let refused = desk.ask("erase", r#"{"job_id":"parked"}"#).await?;
    assert_refused(&refused, Code::NotPermitted, "");
    assert!(refused.text("message").contains("parked"), "{}", refused.body);
    assert_eq!(desk.status(json!({"job_id": "parked"})).await?.text("state"), "parked");

    let worker = desk.world.demo_worker().await?;
    let properties = desk.properties("running");
    desk.shop.submit("demo.sleep", properties, r#"{"ms":60000}"#).await?;
    desk.inbox.next_of("receipt").await?;
    eventually("it runs", || async {
        let record = desk.world.record("shop", "running").await?.unwrap_or_default();
        Ok(record.state().filter(|state| *state == job::State::Running))
    })
    .await?;
    let refused = desk.ask("erase", r#"{"job_id":"running"}"#).await?;
    assert_refused(&refused, Code::NotPermitted, "");
    let status = desk.status(json!({"job_id": "running"})).await?;
    assert_eq!(status.text("state"), "running");
    // Of an id that never arrived there is nothing to erase, and it may still come.
    assert_eq!(desk.ask("erase", r#"{"job_id":"new"}"#).await?.text("answer"), "unknown");
    desk.accepted("new").await?;
    desk.ask("cancel", r#"{"job_id":"running"}"#).await?;
    worker.stop().await?;
    desk.close().await
}

/// Every value under this world's prefix, as text.
async fn everything(world: &World) -> anyhow::Result<String> {
    let script = r"
        local read = { hash = { 'HGETALL' }, string = { 'GET' }, list = { 'LRANGE', 0, -1 },
                       zset = { 'ZRANGE', 0, -1 }, stream = { 'XRANGE', '-', '+' } }
        local text = {}
        for _, key in ipairs(redis.call('KEYS', ARGV[1] .. ':*')) do
            local call = read[redis.call('TYPE', key).ok]
            local value = redis.call(call[1], key, unpack(call, 2))
            text[#text + 1] = key .. ' = ' .. cjson.encode(value)
        end
        return table.concat(text, '\n')";
    let client = redis::Client::open(world.redis_url())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    Ok(redis::Script::new(script).arg(&world.name).invoke_async(&mut connection).await?)
}

/// Whoever erases may have looked before the job's last change.
#[tokio::test]
async fn an_erasure_that_looked_too_early_leaves_nothing_in_the_list_of_failed_jobs()
-> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    let headers = [("job-notify", "failed"), ("job-max-attempts", "1")];
    desk.shop.submit_job("demo.fail", "A-1", &desk.inbox.queue, &headers, "{}").await?;
    desk.inbox.next_of("receipt").await?;
    let before = desk.world.record("shop", "A-1").await?.unwrap_or_default();
    let worker = desk.world.demo_worker().await?;
    desk.inbox.event("failed").await?;
    let name = before.name().ok_or_else(|| anyhow::anyhow!("no name"))?;
    let store = desk.world.store().await?;
    let retired = store.retire(&[(name.clone(), before)], 60_000, true).await?;
    assert_eq!(retired, [store::Retired::Tombstone]);
    let failed = store.keys().state_set(store.keys().slot(&name), job::State::Failed);
    let client = redis::Client::open(desk.world.redis_url())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let left: u64 = redis::cmd("ZCARD").arg(failed).query_async(&mut connection).await?;
    assert_eq!(left, 0);
    worker.stop().await?;
    desk.close().await
}

/// Redis refuses such an instant in the middle of a script, and what a script wrote stays.
#[tokio::test]
async fn a_time_that_redis_cannot_count_is_refused_at_the_start() -> anyhow::Result<()> {
    let world = World::new().await?;
    let changes: [fn(&mut Settings, u64); 5] = [
        |settings, ms| settings.horizon_ms = ms,
        |settings, ms| settings.keep_succeeded_ms = ms,
        |settings, ms| settings.keep_refused_ms = ms,
        |settings, ms| settings.keep_voided_ms = ms,
        |settings, ms| {
            let keep = server::Keep { failed_ms: Some(ms), ..server::Keep::default() };
            settings.keep.insert("demo.echo".to_owned(), keep);
        },
    ];
    for change in changes {
        let mut settings = world.settings.server.clone();
        change(&mut settings, 100 * 365 * 86_400_000);
        assert_eq!(settings.validate(), Ok(()));
        change(&mut settings, u64::MAX);
        assert!(settings.validate().is_err());
    }
    Ok(())
}
