//! What the jobs of several clients share in the store, and what several slots of it share.

use std::collections::BTreeSet;

use harness::{World, eventually, start};
use job::{Digest, QueueName, State};
use serde_json::json;
use store::accept::{Accept, First};
use worker::{Context, Failure};

use crate::claim_table::{job_type, named};

/// A client whose messages nobody takes away: its changes are joined into a gap that is stated, its
/// end is not; another client's are all there, and submissions of both are accepted.
#[tokio::test]
async fn h21_a_client_whose_outbox_is_full_gets_a_stated_gap_and_takes_nobodys_room()
-> anyhow::Result<()> {
    let mut world = World::new().await?;
    world.settings.redis.outbox_per_client_max = 3;
    let is_ours = |role: &server::Role| *role != server::Role::Notifier;
    let server = world.server_with(|settings| settings.roles.retain(is_ours)).await?;
    let handler = |job: Context| async move {
        for n in 0..10 {
            job.stage(&format!("stage {n}")).await?;
        }
        Ok::<_, Failure>("done")
    };
    let demo = world.demo_worker().await?;
    let worker = start(world.worker().handle("staged", handler)?).await?;
    let (shop, till) = (world.raw("shop").await?, world.raw("till").await?);
    let (mut inbox, mut other) = (shop.inbox("a").await?, till.inbox("a").await?);
    let all = [("job-notify", "*")];
    shop.submit_job("staged", "A-1", &inbox.queue, &all, "1").await?;
    let done = |user: &'static str| {
        let world = &world;
        move || async move {
            let record = world.record(user, "A-1").await?.unwrap_or_default();
            Ok(record.state().filter(|state| state.is_terminal()))
        }
    };
    eventually("the end of the one job", done("shop")).await?;
    till.submit_job("demo.echo", "A-1", &other.queue, &all, "1").await?;
    eventually("the end of the other job", done("till")).await?;
    shop.submit_job("none.such", "A-2", &inbox.queue, &[], "1").await?;
    for id in ["A-1", "A-2"] {
        assert_eq!(inbox.next_of("receipt").await?.text("job_id"), id);
    }

    let notifier =
        world.server_with(|settings| settings.roles = vec![server::Role::Notifier]).await?;
    let mut told = Vec::new();
    for _ in 0..4 {
        let event = inbox.next_of("event").await?;
        told.push((event.text("event").to_owned(), event.body["gap_from"].as_u64()));
    }
    let expected = [("queued", None), ("running", None), ("stage", None), ("succeeded", Some(4))];
    assert_eq!(told, expected.map(|(word, gap)| (word.to_owned(), gap)));
    for word in ["queued", "running", "succeeded"] {
        let event = other.next_of("event").await?;
        assert_eq!((event.text("event"), event.body.get("gap_from")), (word, None));
    }
    notifier.stop().await?;
    worker.stop().await?;
    demo.stop().await?;
    Ok(server.stop().await?)
}

/// Jobs that are spread over slots: run, listed, delayed, told of and found by either identifier as
/// those of one slot are.
#[tokio::test]
async fn h22_jobs_of_many_slots_are_run_listed_and_found_as_those_of_one() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    world.settings.redis.slots = 16;
    let (server, worker) = (world.server().await?, world.demo_worker().await?);
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    let soon = protocol::UnixMillis::now().after(std::time::Duration::from_secs(1)).to_string();
    let headers = [("job-notify", "terminal"), ("job-tags", "many"), ("job-not-before", &*soon)];
    let ids: BTreeSet<String> = (0..40).map(|n| format!("A-{n}")).collect();
    for id in &ids {
        shop.submit_job("demo.echo", id, &inbox.queue, &headers, "1").await?;
    }
    let (mut tickets, mut done) = (Vec::new(), BTreeSet::new());
    for _ in &ids {
        tickets.push(inbox.next_of("receipt").await?.text("ticket").to_owned());
    }
    for _ in &ids {
        done.insert(inbox.event("succeeded").await?.text("job_id").to_owned());
    }
    assert_eq!(done, ids);
    let store = world.store().await?;
    let slots: BTreeSet<u16> =
        ids.iter().map(|id| store.keys().slot(&crate::claim_table::named(id))).collect();
    assert!(slots.len() > 8, "{slots:?}");
    for ticket in tickets {
        shop.ask("status", &inbox.queue, json!({ "ticket": ticket })).await?;
        assert_eq!(inbox.next_of("status").await?.text("state"), "succeeded");
    }
    for question in [json!({}), json!({ "state": "succeeded" }), json!({ "tag": "many" })] {
        shop.ask("list", &inbox.queue, question).await?;
        let list = inbox.next_of("status").await?;
        let jobs = list.body["jobs"].as_array().into_iter().flatten();
        let listed: BTreeSet<String> =
            jobs.filter_map(|job| job["job_id"].as_str().map(str::to_owned)).collect();
        assert_eq!(listed, ids, "{}", list.body["next_page"]);
    }
    worker.stop().await?;
    Ok(server.stop().await?)
}

/// Many jobs are written in one call of a script, and what they share at its end. One fails the
/// call, because a key of another type stands where its timeline is to be. The others are whole all
/// the same: when the call is made again they are found recorded, and nothing is written of them.
#[tokio::test]
async fn a_job_that_cannot_be_written_keeps_no_other_in_its_call_from_being_written_whole()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let store = world.store().await?;
    let client = redis::Client::open(world.redis_url())?;
    let mut redis = client.get_multiplexed_async_connection().await?;
    let obstacle = store.keys().history(&named("A-2"));
    let _: () = redis::AsyncCommands::set(&mut redis, &obstacle, "a text").await?;
    let ids = ["A-1", "A-2", "A-3"];
    let accepts = ids.map(|id| Accept {
        name: named(id),
        job_type: job_type(),
        queue: QueueName::default(),
        spec: protocol::work::Spec::default(),
        digest: Digest::over(&[]),
        first: First::Queued,
        nonce: format!("n-{id}"),
        redelivered: false,
        payload_bytes: 1,
        dispatch: 1,
        is_too_old: false,
        replay_of: None,
    });
    let limits = store::accept::Limits { duplicate_age_ms: Some(60_000), unfinished_max: 0 };
    assert!(store.accept(&accepts, limits).await.is_err());
    let queued = store.keys().state_set(0, State::Queued).unwrap_or_default();
    for id in ["A-1", "A-3"] {
        let (name, ticket) = (named(id), store.ticket(&named(id)));
        let listed: Option<f64> =
            redis::AsyncCommands::zscore(&mut redis, &queued, name.member()).await?;
        assert!(listed.is_some(), "{id} is not listed");
        assert_eq!(store.resolve(&[ticket]).await?, [Some(name)]);
    }
    Ok(())
}
