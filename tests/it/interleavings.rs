//! The orders of events that a careless design gets wrong, each made to happen.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use broker::topology;
use client::Submission;
use harness::{Inbox, Message, Process, Raw, World, eventually, start, within};
use serde_json::json;
use worker::Failure;

use crate::hanging::Hanging;

const LONG: Duration = Duration::from_secs(30);

/// Submissions without a reply queue, then one question about the last of them.
pub(crate) async fn fill_line(
    shop: &Raw,
    inbox: &Inbox,
    prefix: &str,
    count: u32,
) -> anyhow::Result<String> {
    for n in 0..count {
        shop.submit_job("demo.echo", &format!("{prefix}-{n}"), "", &[], "1").await?;
    }
    let last = format!("{prefix}-{}", count - 1);
    shop.ask("status", &inbox.queue, json!({ "job_id": last })).await?;
    Ok(last)
}

/// The final answer about an id.
pub(crate) async fn answer(inbox: &mut Inbox, job_id: &str) -> anyhow::Result<String> {
    loop {
        let status = not_pending(inbox).await?;
        if status.text("job_id") == job_id && status.text("answer") != "unavailable" {
            return Ok(status.text("answer").to_owned());
        }
    }
}

/// The next answer that says something: `pending` comes first where nobody works on the line yet.
pub(crate) async fn not_pending(inbox: &mut Inbox) -> anyhow::Result<Message> {
    loop {
        let status = inbox.next_of("status").await?;
        if status.text("answer") != "pending" {
            return Ok(status);
        }
    }
}

/// A registrar that hands over while it holds submissions must not let its successor answer the
/// question behind them first. Here it drains in order, with a successor standing by.
#[tokio::test]
async fn h2_a_drained_registrar_keeps_the_order_of_the_line() -> anyhow::Result<()> {
    let world = World::new().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    let first = world.server().await?;
    let second = world.server().await?;
    let last = fill_line(&shop, &inbox, "A", 40).await?;
    first.stop().await?;
    all_found(&world, &mut inbox, &last).await?;
    second.stop().await?;
    Ok(())
}

/// The same with a registrar that is killed, a process of its own.
#[tokio::test]
async fn h2_a_killed_registrar_keeps_the_order_of_the_line() -> anyhow::Result<()> {
    let world = World::new().await?;
    let environment = world.environment("server");
    let shop = world.raw("shop").await?;
    let start = || Process::start("counterfoil", &["server"], &environment, &world.directory);
    let (first, mut says) = start()?;
    says.until("working").await?;
    let (second, mut says) = start()?;
    says.until("working").await?;
    let mut inbox = shop.inbox("a").await?;
    let last = fill_line(&shop, &inbox, "A", 40).await?;
    first.kill().await?;
    all_found(&world, &mut inbox, &last).await?;
    assert_eq!(second.terminate().await?, Some(0));
    Ok(())
}

async fn all_found(world: &World, inbox: &mut Inbox, last: &str) -> anyhow::Result<()> {
    assert_eq!(answer(inbox, last).await?, "found");
    for n in 0..40 {
        assert!(world.record("shop", &format!("A-{n}")).await?.is_some(), "A-{n} was lost");
    }
    Ok(())
}

/// While a submission in front has failed, the question behind it is `unavailable`, never
/// `unknown`; once the store takes writes again it is found. The store is full: reads pass, writes
/// fail.
#[tokio::test]
async fn h3_no_negative_is_said_while_something_in_front_is_undecided() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    let redis = world.own_redis(nodes::Fsync::Everysec)?;
    let server = world.server().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    let mut connection =
        redis::Client::open(redis.url())?.get_multiplexed_async_connection().await?;
    let set_limit = |bytes: &'static str| {
        redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes).to_owned()
    };
    let () = set_limit("1mb").query_async(&mut connection).await?;
    shop.submit_job("demo.echo", "A-1", &inbox.queue, &[], "1").await?;
    // Asked again and again while the store is full: the submission stands in front each time.
    for _ in 0..3 {
        shop.ask("status", &inbox.queue, json!({ "job_id": "A-1" })).await?;
        let status = inbox.next_of("status").await?;
        assert_eq!(status.text("answer"), "unavailable", "{}", status.body);
        assert!(status.body["retry_after_ms"].is_u64());
    }
    let () = set_limit("0").query_async(&mut connection).await?;
    assert_eq!(inbox.next_of("receipt").await?.text("state"), "parked");
    shop.ask("status", &inbox.queue, json!({ "job_id": "A-1" })).await?;
    assert_eq!(answer(&mut inbox, "A-1").await?, "found");
    server.stop().await?;
    redis.stop();
    Ok(())
}

/// Scripts that the server has forgotten are loaded again, and no negative slips through meanwhile.
#[tokio::test]
async fn h3_forgotten_scripts_are_loaded_again() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    let redis = world.own_redis(nodes::Fsync::Everysec)?;
    let (server, worker) = (world.server().await?, world.demo_worker().await?);
    let shop = world.client("shop")?;
    let mut connection =
        redis::Client::open(redis.url())?.get_multiplexed_async_connection().await?;
    for n in 0..10 {
        let () = redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut connection).await?;
        let id = format!("A-{n}");
        shop.submit(Submission::new("demo.echo", "1").job_id(&id)).await?.accepted().await?;
        let done = shop.wait(id.as_str(), LONG, |_| {}).await?;
        assert_eq!(done.state.as_deref(), Some("succeeded"));
    }
    worker.stop().await?;
    server.stop().await?;
    redis.stop();
    Ok(())
}

/// A submission that was recorded and never dispatched, because the registrar died in between, is
/// dispatched when the broker delivers it again.
#[tokio::test]
async fn h6_a_submission_that_was_recorded_but_not_dispatched_is_dispatched_again()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    // A consumer that takes the submission and dies makes the broker deliver it again.
    shop.submit_job("demo.echo", "A-1", &inbox.queue, &[], "1").await?;
    let dying = world.raw("server").await?;
    let mut taken = dying.connection.consumer(topology::INTAKE_QUEUE, 10).await?;
    let taken = within("the submission", taken.next_chunk(1)).await??;
    // What the dead registrar had recorded, as the store has it then.
    let worker = world.demo_worker().await?;
    let store = world.store().await?;
    let submission = protocol::Submission::read(
        &taken[0].routing_key,
        &taken[0].properties,
        taken[0].body.clone(),
        protocol::Limits { payload_bytes_max: 1000 },
    )
    .map_err(|rejected| anyhow::anyhow!("{rejected:?}"))?;
    let accept = store::accept::Accept {
        name: store::JobName {
            client: submission.client.clone(),
            job_id: submission.job_id.clone(),
        },
        job_type: submission.job_type.clone(),
        queue: job::QueueName::default(),
        spec: submission.spec.clone(),
        digest: submission.digest.clone(),
        first: store::accept::First::Queued,
        nonce: "of the dead one".to_owned(),
        redelivered: false,
        payload_bytes: 1,
        dispatch: 1,
        is_too_old: false,
        replay_of: None,
    };
    let limits = store::accept::Limits { duplicate_age_ms: Some(60_000), unfinished_max: 0 };
    store.accept(&[accept], limits).await?;
    dying.connection.close().await;

    let server = world.server().await?;
    let receipt = inbox.next_of("receipt").await?;
    assert_eq!(receipt.body["duplicate"], true);
    let done = eventually("the job to run", || async {
        let record = world.record("shop", "A-1").await?.unwrap_or_default();
        Ok((record.state.as_deref() == Some("succeeded")).then_some(record))
    })
    .await?;
    // Under the number that it had, and one attempt.
    assert_eq!((done.dispatch.as_deref(), done.attempt.as_deref()), (Some("1"), Some("1")));
    worker.stop().await?;
    Ok(server.stop().await?)
}

/// Duplicates do not double the work: a healthy run is neither superseded nor charged.
#[tokio::test]
async fn h6_repeated_submissions_of_a_running_job_start_nothing() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server_with(|settings| settings.duplicate_redispatch_ms = 0).await?;
    let starts = Arc::new(AtomicU32::new(0));
    let go_on = Arc::new(tokio::sync::Notify::new());
    let handler = {
        let (starts, go_on) = (Arc::clone(&starts), Arc::clone(&go_on));
        move || {
            let (starts, go_on) = (Arc::clone(&starts), Arc::clone(&go_on));
            async move {
                starts.fetch_add(1, Ordering::SeqCst);
                go_on.notified().await;
                Ok::<_, Failure>("done")
            }
        }
    };
    let worker = start(world.worker().handle("slow", handler)?).await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    let wanted = [("job-notify", "running,terminal")];
    shop.submit_job("slow", "A-1", &inbox.queue, &wanted, "1").await?;
    inbox.event("running").await?;
    inbox.next_of("receipt").await?;
    for _ in 0..10 {
        shop.submit_job("slow", "A-1", &inbox.queue, &wanted, "1").await?;
        let receipt = inbox.next_of("receipt").await?;
        assert_eq!((receipt.text("state"), &receipt.body["duplicate"]), ("running", &json!(true)));
    }
    go_on.notify_one();
    let done = inbox.event("succeeded").await?;
    assert_eq!((done.body["attempt"].as_u64(), starts.load(Ordering::SeqCst)), (Some(1), 1));
    worker.stop().await?;
    Ok(server.stop().await?)
}

/// A work message that the broker repeats without cause, and one of an older dispatch, start
/// nothing; in both orders.
#[tokio::test]
async fn h6_a_claim_honours_only_the_current_dispatch() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (server, store) = (world.server().await?, world.store().await?);
    // Announced and declared by a worker that goes; the job then waits in its queue.
    world.demo_worker().await?.stop().await?;
    let shop = world.client("shop")?;
    shop.submit(Submission::new("demo.echo", "1").job_id("A-1")).await?.accepted().await?;
    let name = store::JobName {
        client: job::ClientName::parse("shop")?,
        job_id: job::JobId::parse("A-1")?,
    };
    let taken = store.redispatch(&name, 1, 60_000, Some(b"1")).await?;
    assert_eq!(taken, store::due::Redispatched::Under(2));
    let claim = |dispatch, nonce: &str| store::claim::Claim {
        name: name.clone(),
        job_type: job::JobType::parse("demo.echo").unwrap_or_else(|e| panic!("{e}")),
        dispatch,
        redelivered: false,
        owner: "a worker".to_owned(),
        nonce: nonce.to_owned(),
        lease_ms: 60_000,
        idle: true,
        attempts_max: 5,
        alone_after: 3,
        not_here: false,
        payload: Vec::new(),
    };
    use store::claim::Claimed;
    assert_eq!(store.claim(&[claim(1, "old")]).await?, [Claimed::Drop]);
    let started = store.claim(&[claim(2, "new")]).await?;
    assert!(matches!(started[..], [Claimed::Start { attempt: 1, .. }]), "{started:?}");
    // The same claim again, because its answer was lost: the same start, not another.
    assert_eq!(store.claim(&[claim(2, "new")]).await?, started);
    // A repetition by the publisher, and the old one once more.
    assert_eq!(
        store.claim(&[claim(2, "other"), claim(1, "old")]).await?,
        [Claimed::Drop, Claimed::Drop]
    );
    Ok(server.stop().await?)
}

/// A client whose name or headers look like another's stays itself: every lookup is made within its
/// own jobs. (Names with a dot are refused, see `refusals`.)
#[tokio::test]
async fn h8_a_forged_identity_reads_and_cancels_nothing_of_anothers() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let shop = world.client("shop")?;
    let submitted = shop.submit(Submission::new("demo.echo", "1").job_id("A-1")).await?;
    let ticket = submitted.accepted().await?.ticket.unwrap_or_default();
    let till = world.raw("till").await?;
    let mut inbox = till.inbox("a").await?;
    for subject in [json!({ "job_id": "A-1" }), json!({ "ticket": ticket })] {
        let mut forged = till.properties("", &inbox.queue);
        let owner = protocol::HeaderValue::Text("shop".to_owned());
        forged.headers.push(protocol::headers::CLIENT, owner);
        till.publish(topology::REQUEST, "status", forged, subject.to_string()).await?;
        assert_eq!(inbox.next_of("status").await?.text("answer"), "unknown");
    }
    // A cancellation voids the till's own id of that name, and leaves the shop's job alone.
    till.ask("cancel", &inbox.queue, json!({ "job_id": "A-1" })).await?;
    assert_eq!(inbox.next_of("status").await?.text("answer"), "voided");
    assert_eq!(shop.status("A-1").await?.state.as_deref(), Some("parked"));
    Ok(server.stop().await?)
}

/// A message that comes back from a queue that dead-letters into `counterfoil.submit` is nobody's
/// submission, though a broker delivers it.
#[tokio::test]
async fn h8_a_receipt_that_is_relayed_is_no_submission() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let shop = world.raw("shop").await?;
    let relay = lapin::Connection::connect(&world.amqp_url("shop"), Default::default()).await?;
    let channel = relay.create_channel().await?;
    let mut arguments = lapin::types::FieldTable::default();
    arguments.insert("x-message-ttl".into(), 0.into());
    let exchange = lapin::types::AMQPValue::LongString(topology::SUBMIT.into());
    arguments.insert("x-dead-letter-exchange".into(), exchange);
    let key = lapin::types::AMQPValue::LongString("demo.echo".into());
    arguments.insert("x-dead-letter-routing-key".into(), key);
    let durable = lapin::options::QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare("reply.shop.relay".into(), durable, arguments).await?;
    shop.submit_job("demo.echo", "A-1", "reply.shop.relay", &[], "1").await?;
    let mut dead = world.raw("admin").await?.read(topology::DEAD_QUEUE).await?;
    let kept = dead.next().await?;
    let reason = kept.properties.headers.text(protocol::headers::REASON).unwrap_or_default();
    assert!(reason.starts_with("invalid_client: "), "{reason}");
    Ok(server.stop().await?)
}

/// A reply queue that hangs delays only its own client: the server process of the queue is
/// suspended, as it is when a majority is lost, so that nothing published to it is confirmed.
#[tokio::test]
async fn h9_a_reply_queue_that_hangs_delays_only_itself() -> anyhow::Result<()> {
    let world = World::new().await?;
    let patient = |settings: &mut server::Settings| {
        settings.deliver_timeout_ms = 1000;
        settings.deliver_tries = 1000;
    };
    let server = world.server_with(patient).await?;
    let (shop, till) = (world.raw("shop").await?, world.raw("till").await?);
    let hanging = Hanging::new(&world, "shop", "reply.shop.hangs").await?;
    let mut inbox = till.inbox("a").await?;
    for n in 0..20 {
        // Receipts and answers for the one that hangs, mixed with those for the one that does not.
        shop.submit_job("demo.echo", &format!("A-{n}"), "reply.shop.hangs", &[], "1").await?;
        shop.ask("status", "reply.shop.hangs", json!({ "job_id": format!("A-{n}") })).await?;
        till.submit_job("demo.echo", &format!("B-{n}"), &inbox.queue, &[], "1").await?;
        // Within the usual deadline: a channel that is shared with the other stands for 65 s.
        assert_eq!(inbox.next_of("receipt").await?.text("job_id"), format!("B-{n}"));
        till.ask("status", &inbox.queue, json!({ "job_id": format!("B-{n}") })).await?;
        assert_eq!(inbox.next_of("status").await?.text("answer"), "found");
    }
    hanging.resume(&world).await?;
    // What could not be confirmed in time waited in the outbox, and comes now.
    let mut hung = shop.read("reply.shop.hangs").await?;
    let mut receipts = std::collections::BTreeSet::new();
    while receipts.len() < 20 {
        receipts.insert(hung.next_of("receipt").await?.text("job_id").to_owned());
    }
    Ok(server.stop().await?)
}
