//! F: from the submission to the handler's start, idle and at half load, against one hop over a
//! queue.

use std::time::{Duration, Instant};

use broker::{Connection, Publication, topology};
use nodes::Fsync;
use protocol::{Properties, UnixMillis};
use tokio_util::sync::CancellationToken;

use crate::fleet::{Cpu, Fleet, Make, Size};
use crate::ground::{CLIENT, Ground, STRANGER};
use crate::handlers::{NOTHING, SINCE, now_us};
use crate::report::{Bound, Report};
use crate::rows::throughput::BARE;
use crate::stats::{median, percentile, ratios};
use crate::traffic::{Answers, Run, Traffic, confirmed, submission};
use crate::verify::{results, unfinished, until_all_done};
use crate::{Plan, directory};

/// Jobs of each measurement, and the pause between two of them.
const JOBS: usize = 500;
const PAUSE: Duration = Duration::from_millis(4);
/// The load beside them comes in as many parts.
const TICK: Duration = Duration::from_millis(10);
/// What was confirmed is recorded by then.
const SETTLED_AFTER: Duration = Duration::from_millis(100);

/// Measures it.
///
/// # Errors
/// A job did not succeed.
pub async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let ground = Ground::start(&directory()?.join("latency"), Fsync::Everysec)?;
    let fleet = Fleet::start(&ground, Make::Ours, Size::ONE).await?;
    sent_one_by_one(&ground, "fw", Among::Nothing).await?;
    // Half of what it can do of such jobs, as measured.
    let bare = report.runs('A', BARE);
    let rate = if bare.is_empty() { 4000.0 } else { median(bare) / 2.0 };
    let what = ["idle", "at half load", "one hop, raw"];
    let mut p50 = what.map(|_| Vec::new());
    let mut p99 = p50.clone();
    let mut loads = Vec::new();
    for round in 0..plan.rounds {
        let idle = sent_one_by_one(&ground, &format!("fi{round}"), Among::Nothing).await?;
        let hop = one_hop(&ground).await?;
        let enough = CancellationToken::new();
        let began = Instant::now();
        let load = tokio::spawn(load(ground.amqp(CLIENT), round, rate, enough.clone()));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let loaded = sent_one_by_one(&ground, &format!("fl{round}"), Among::Others).await?;
        enough.cancel();
        loads.push(load.await?? as f64 / began.elapsed().as_secs_f64());
        for (place, times) in [idle, loaded, hop].iter().enumerate() {
            p50[place].push(median(times));
            p99[place].push(percentile(times, 99.0));
        }
        // What the load has left is not in the way of the next round.
        until_idle(&ground).await?;
    }
    for (place, what) in what.iter().enumerate() {
        report.figure('F', &format!("{what}, p50"), "ms", &p50[place]);
        report.figure('F', &format!("{what}, p99"), "ms", &p99[place]);
    }
    report.figure('F', "half load: wanted", "jobs/s", &[rate]);
    report.figure('F', "half load: confirmed", "jobs/s", &loads);
    let bound = Bound::at_most(None, Some(3.0));
    report.ratio('F', "start, idle p50, against one hop", &ratios(&p50[0], &p50[2]), bound);
    fleet.stop().await
}

/// What runs beside the jobs that are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Among {
    Nothing,
    Others,
}

/// Milliseconds from the submission to the handler's start, of each job.
async fn sent_one_by_one(ground: &Ground, prefix: &str, among: Among) -> anyhow::Result<Vec<f64>> {
    let traffic = Traffic { job_type: SINCE, ..Traffic::new(prefix, JOBS, Answers::None) };
    let connection = Connection::open(&ground.amqp(CLIENT), "bench").await?;
    let publisher = connection.publisher().await?;
    let began = UnixMillis::now();
    for number in 0..JOBS {
        let sent = now_as_body();
        confirmed(&publisher.publish(vec![submission(SINCE, traffic.job_id(number), sent)]).await)?;
        tokio::time::sleep(PAUSE).await;
    }
    let (cpu, cpu_before) = (Cpu::default(), Cpu::default());
    let run = Run { began, answered: 0.0, cpu, cpu_before, heard: Vec::new() };
    let store = ground.store().await?;
    match among {
        Among::Nothing => drop(until_all_done(ground, &store, &traffic, &run).await?),
        Among::Others => until_each_done(&store, &traffic).await?,
    }
    let times = results(&store, &traffic).await?;
    Ok(times.into_iter().map(|us| us / 1000.0).collect())
}

/// As many bytes as the bodies of other rows have.
fn now_as_body() -> Vec<u8> {
    format!("{:<200}", now_us()).into_bytes()
}

/// Others run beside them: the number of the unfinished ones tells nothing.
async fn until_each_done(store: &store::Store, traffic: &Traffic) -> anyhow::Result<()> {
    harness::eventually("the jobs among the others", || async {
        Ok(results(store, traffic).await.ok().map(drop))
    })
    .await
}

/// Waits until nothing is unfinished, and stays so: the last ones may not be recorded yet.
async fn until_idle(ground: &Ground) -> anyhow::Result<()> {
    let (store, redis) = (ground.store().await?, ground.redis().await?);
    harness::eventually("the load is done", || async {
        for _ in 0..2 {
            if unfinished(&store, &mut redis.clone()).await? > 0 {
                return Ok(None);
            }
            tokio::time::sleep(SETTLED_AFTER).await;
        }
        Ok(Some(()))
    })
    .await
}

/// Jobs that do nothing, so many a second, until there were enough: how many were confirmed.
async fn load(
    amqp: broker::Settings,
    round: usize,
    rate: f64,
    enough: CancellationToken,
) -> anyhow::Result<usize> {
    let connection = Connection::open(&amqp, "bench load").await?;
    let publisher = connection.publisher().await?;
    let mut ticks = tokio::time::interval(TICK);
    // A small positive number.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
    let each = (rate * TICK.as_secs_f64()).max(1.0) as usize;
    let mut number = 0;
    while !enough.is_cancelled() {
        ticks.tick().await;
        let id = |n| format!("load-{round}-{n}");
        let jobs = (number..number + each).map(|n| submission(NOTHING, id(n), vec![b'1'; 200]));
        confirmed(&publisher.publish(jobs.collect()).await)?;
        number += each;
    }
    Ok(number)
}

/// Milliseconds of one way over a quorum queue, published with confirm.
async fn one_hop(ground: &Ground) -> anyhow::Result<Vec<f64>> {
    let amqp = ground.amqp(STRANGER);
    let (publish, consume) =
        (Connection::open(&amqp, "hop").await?, Connection::open(&amqp, "hop").await?);
    // One that nobody reads: the dead-letter queue is a quorum queue as the others are.
    let mut consumer = consume.consumer(topology::DEAD_QUEUE, 100).await?;
    let (publisher, acker) = (publish.publisher().await?, consumer.acker());
    let mut times = Vec::with_capacity(JOBS);
    for _ in 0..JOBS {
        let message = Publication {
            exchange: topology::DEAD,
            routing_key: String::new(),
            mandatory: true,
            properties: Properties { persistent: true, ..Properties::default() },
            body: now_as_body(),
        };
        let confirmed = publisher.begin(vec![message]).await?;
        for delivery in consumer.next_chunk(1).await? {
            let sent: u64 = String::from_utf8_lossy(&delivery.body).trim().parse()?;
            times.push((now_us() - sent) as f64 / 1000.0);
            acker.ack_through(delivery.tag).await?;
        }
        confirmed.await?;
        tokio::time::sleep(PAUSE).await;
    }
    // Dropped alone, it may go on reading, and what it gets is missed by the next round.
    consumer.close().await;
    consume.close().await;
    Ok(times)
}
