//! F: from the submission to the handler's start, idle and at half load, against one hop over a
//! queue.

use std::time::Duration;

use broker::{Connection, Publication, topology};
use nodes::Fsync;
use protocol::{Properties, UnixMillis};

use crate::fleet::{Cpu, Fleet, Make, Size};
use crate::ground::{CLIENT, Ground, STRANGER};
use crate::handlers::{NOTHING, SINCE, now_us};
use crate::report::{Bound, Report};
use crate::stats::{median, percentile};
use crate::traffic::{Answers, Run, Traffic};
use crate::verify::{results, until_all_done};
use crate::{Plan, directory};

/// Jobs of each measurement, and the pause between two of them.
const JOBS: usize = 500;
const PAUSE: Duration = Duration::from_millis(4);
/// The load beside them comes in as many parts.
const TICK: Duration = Duration::from_millis(10);

/// Measures it.
///
/// # Errors
/// A job did not succeed.
pub async fn measure(_: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let ground = Ground::start(&directory()?.join("latency"), Fsync::Everysec)?;
    let fleet = Fleet::start(&ground, Make::Ours, Size::ONE).await?;
    sent_one_by_one(&ground, "fw").await?;
    let idle = sent_one_by_one(&ground, "fi").await?;
    let hop = one_hop(&ground).await?;
    // Half of what it can do, as measured.
    let whole = report.runs('A', "whole: receipt and event");
    let rate = if whole.is_empty() { 2000.0 } else { median(whole) / 2.0 };
    let busy = tokio::spawn(load(ground.amqp(CLIENT), rate));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let loaded = sent_one_by_one(&ground, "fl").await?;
    busy.abort();
    for (what, times) in [("idle", &idle), ("at half load", &loaded), ("one hop, raw", &hop)] {
        report.figure('F', &format!("{what}, p50"), "ms", &[median(times)]);
        report.figure('F', &format!("{what}, p99"), "ms", &[percentile(times, 99.0)]);
    }
    let bound = Bound::at_most(None, Some(3.0));
    report.ratio('F', "start, idle p50, against one hop", median(&idle) / median(&hop), bound);
    fleet.stop().await
}

fn job(job_type: &str, id: String, body: String) -> Publication {
    Publication {
        exchange: topology::SUBMIT,
        routing_key: job_type.to_owned(),
        mandatory: true,
        properties: Properties {
            persistent: true,
            user_id: Some(CLIENT.to_owned()),
            message_id: Some(id),
            ..Properties::default()
        },
        body: body.into_bytes(),
    }
}

/// Milliseconds from the submission to the handler's start, of each job.
async fn sent_one_by_one(ground: &Ground, prefix: &str) -> anyhow::Result<Vec<f64>> {
    let traffic = Traffic { job_type: SINCE, ..Traffic::new(prefix, JOBS, Answers::None) };
    let connection = Connection::open(&ground.amqp(CLIENT), "bench").await?;
    let publisher = connection.publisher().await?;
    let began = UnixMillis::now();
    for number in 0..JOBS {
        let job = job(SINCE, traffic.job_id(number), now_us().to_string());
        publisher.publish(vec![job]).await;
        tokio::time::sleep(PAUSE).await;
    }
    let (cpu, cpu_before) = (Cpu::default(), Cpu::default());
    let run = Run { began, answered: 0.0, cpu, cpu_before };
    let store = ground.store().await?;
    until_each_done(ground, &store, &traffic, &run).await?;
    let times = results(&store, &traffic).await?;
    Ok(times.into_iter().map(|us| us / 1000.0).collect())
}

/// Others may run beside them.
async fn until_each_done(
    ground: &Ground,
    store: &store::Store,
    traffic: &Traffic,
    run: &Run,
) -> anyhow::Result<()> {
    if traffic.prefix != "fl" {
        return until_all_done(ground, store, traffic, run).await.map(drop);
    }
    harness::eventually("the jobs among the others", || async {
        Ok(results(store, traffic).await.ok())
    })
    .await
    .map(drop)
}

/// Jobs that do nothing, so many a second, until it is aborted.
async fn load(amqp: broker::Settings, rate: f64) -> anyhow::Result<()> {
    let connection = Connection::open(&amqp, "bench load").await?;
    let publisher = connection.publisher().await?;
    let mut ticks = tokio::time::interval(TICK);
    // A small positive number.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
    let each = (rate * TICK.as_secs_f64()).max(1.0) as usize;
    let mut number = 0;
    loop {
        ticks.tick().await;
        let jobs = (number..number + each).map(|n| job(NOTHING, format!("load-{n}"), "1".into()));
        publisher.publish(jobs.collect()).await;
        number += each;
    }
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
            body: now_us().to_string().into_bytes(),
        };
        let confirmed = publisher.begin(vec![message]).await?;
        for delivery in consumer.next_chunk(1).await? {
            let sent: u64 = String::from_utf8_lossy(&delivery.body).parse()?;
            times.push((now_us() - sent) as f64 / 1000.0);
            acker.ack_through(delivery.tag).await?;
        }
        confirmed.await?;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(times)
}
