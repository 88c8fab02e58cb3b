//! What a job costs, counted and bounded, so that a change that makes it dearer is noticed: nothing
//! is timed. What does not depend on how much comes together in one go is bounded 15 % above what
//! was seen; the rest so that to do a step job by job again, or twice, is too much.

mod counters;

use std::alloc::System;

use anyhow::Context as _;
use bench::fleet::{Fleet, Make, Size};
use bench::ground::Ground;
use bench::traffic::{self, Answers, Traffic};
use bench::verify::until_all_done;
use broker::rights::{SERVER_USER, WORKER_USER};
use harness::workspace;
use nodes::Fsync;
use server::Server;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use worker::{Failure, Worker};

use crate::counters::{Calls, commands, received, system_calls};

/// Counts what the whole process allocates.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// One after the other: what the whole process allocates is counted, and how much comes together
/// depends on who else works.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const JOBS: usize = 2000;
/// Before anything is counted: connections, scripts, tables.
const WARM_UP: usize = 500;

fn ground(name: &str) -> anyhow::Result<Ground> {
    Ground::start(&workspace().join("target/cost").join(name), Fsync::Everysec)
}

/// So many jobs from beginning to end, each checked.
async fn jobs(
    ground: &Ground,
    fleet: &Fleet,
    name: &str,
    jobs: usize,
    answers: Answers,
) -> anyhow::Result<()> {
    let traffic = Traffic::new(name, jobs, answers);
    let run = traffic::run(ground, fleet, &traffic).await?;
    until_all_done(ground, &ground.store().await?, &traffic, &run).await?;
    Ok(())
}

fn each(count: u64) -> f64 {
    count as f64 / JOBS as f64
}

/// A submission, a receipt, an event: each of them is published once, and a work message for
/// several jobs.
async fn messages(ground: &Ground, fleet: &Fleet) -> anyhow::Result<()> {
    let mut seen = Vec::new();
    for (name, answers) in [("e", Answers::Each), ("n", Answers::None), ("b", Answers::Batched)] {
        let before = received(ground)?;
        jobs(ground, fleet, name, JOBS, answers).await?;
        seen.push(each(received(ground)? - before));
    }
    println!(
        "messages of a job, also without receipt and event, and with both in batches: {seen:?}"
    );
    // What the broker is slow to confirm is sent again, so there may be more.
    let (least, most) = ([3.0, 1.0, 1.0], [WHOLE_MAX, BARE_MAX, BATCHED_MAX]);
    let is_right = |place: usize| least[place] <= seen[place] && seen[place] < most[place];
    assert!((0..3).all(is_right), "{seen:?}");
    Ok(())
}
const WHOLE_MAX: f64 = 3.3;
const BARE_MAX: f64 = 1.3;
const BATCHED_MAX: f64 = 1.4;

/// Few commands in each script, and one call of it for many jobs.
async fn commands_of_redis(ground: &Ground, fleet: &Fleet) -> anyhow::Result<()> {
    let traffic = Traffic::new("c", JOBS, Answers::Each);
    let before = commands(ground).await?;
    let run = traffic::run(ground, fleet, &traffic).await?;
    let Calls { scripts, all } = commands(ground).await?.since(before);
    until_all_done(ground, &ground.store().await?, &traffic, &run).await?;
    println!("calls of scripts, and all commands, of a job: {:.2} {:.2}", each(scripts), each(all));
    assert!(each(scripts) < SCRIPTS_MAX && each(all) < COMMANDS_MAX);
    Ok(())
}
const SCRIPTS_MAX: f64 = 0.25;
const COMMANDS_MAX: f64 = 18.5;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_few_messages_few_commands_of_redis_and_few_system_calls() -> anyhow::Result<()> {
    let _alone = ALONE.lock().await;
    let ground = ground("processes")?;
    let fleet = Fleet::start(&ground, Make::Ours, Size::ONE).await?;
    jobs(&ground, &fleet, "w", WARM_UP, Answers::Each).await?;
    messages(&ground, &fleet).await?;
    commands_of_redis(&ground, &fleet).await?;
    let traced = jobs(&ground, &fleet, "s", JOBS, Answers::Each);
    let count = system_calls(&ground.directory, &fleet.pids()?, traced).await?;
    println!("system calls of a job: {:.2}", each(count));
    assert!(each(count) < SYSTEM_CALLS_MAX, "{}", each(count));
    fleet.stop().await
}
/// Of server and worker together.
const SYSTEM_CALLS_MAX: f64 = 2.5;

/// Server, worker and the client of this test, in one process.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_few_allocations() -> anyhow::Result<()> {
    let _alone = ALONE.lock().await;
    let ground = ground("allocations")?;
    let settings = |user: &str| {
        [
            ("COUNTERFOIL_AMQP_URL", ground.amqp_url(user)),
            ("COUNTERFOIL_REDIS_URL", ground.redis_url(user)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
    };
    let harness::Settings { amqp, redis, server, .. } =
        settings::load_with(None, settings(SERVER_USER))?;
    let mut server = Server::start(server, amqp, redis);
    server.ready().await?;
    let mut worker = Worker::new(settings::load_with(None, settings(WORKER_USER))?)
        .handle(bench::handlers::NOTHING, || async { Ok::<_, Failure>(()) })?
        .short(bench::handlers::NOTHING)?
        .start();
    worker.ready().await?;
    let nobody = Fleet::start(&ground, Make::Ours, Size { servers: 0, workers: 0 }).await?;
    jobs(&ground, &nobody, "w", WARM_UP, Answers::Each).await?;
    let traffic = Traffic::new("a", JOBS, Answers::Each);
    let region = Region::new(ALLOCATOR);
    let run = traffic::run(&ground, &nobody, &traffic).await?;
    let count = u64::try_from(region.change().allocations).context("a count")?;
    until_all_done(&ground, &ground.store().await?, &traffic, &run).await?;
    println!("allocations of a job: {:.0}", each(count));
    assert!(each(count) < ALLOCATIONS_MAX, "{}", each(count));
    worker.stop().await?;
    server.stop().await?;
    Ok(())
}
const ALLOCATIONS_MAX: f64 = 480.0;
