//! A first figure: 200-byte jobs, a handler that does nothing, submitted with confirms; the clock
//! stops when every receipt and every terminal event has come to the client's queue. Real processes
//! on private nodes.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use broker::rights::{SERVER_USER, WORKER_USER};
use broker::{Connection, Publication, topology};
use harness::{Process, workspace};
use nodes::{Deployment, ports};
use protocol::{Kind, Properties, headers};

/// Jobs of the run, and of the run before it that warms everything up.
const JOBS: usize = 50_000;
const WARM_UP: usize = 2_000;
/// Jobs published together; so many batches may be unconfirmed.
const BATCH: usize = 128;
const BATCHES_AHEAD: usize = 16;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let directory = workspace().canonicalize()?.join("target/bench");
    if directory.exists() {
        std::fs::remove_dir_all(&directory)?;
    }
    let free = ports::free(2)?;
    let nodes = Deployment::start(&directory, (free[0], free[1]), "counterfoil", &["shop"], &[])?;
    let environment = |user: &str| {
        [
            ("COUNTERFOIL_AMQP_URL", nodes.amqp_url(user)),
            ("COUNTERFOIL_REDIS_URL", nodes.redis_url(user)),
            ("COUNTERFOIL_LOG_FILTER", "warn".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
    };
    let start = |role, user| Process::start("counterfoil", &[role], &environment(user), &directory);
    let (server, mut says) = start("server", SERVER_USER)?;
    says.until("working").await?;
    let (worker, mut says) = start("worker", WORKER_USER)?;
    says.until("working").await?;

    let amqp = broker::Settings {
        url: nodes.amqp_url("shop"),
        heartbeat_s: 10,
        connect_timeout_ms: 5000,
        declare: false,
    };
    run(&amqp, "w", WARM_UP).await?;
    let began = Instant::now();
    run(&amqp, "b", JOBS).await?;
    let seconds = began.elapsed().as_secs_f64();
    println!("{JOBS} jobs, a receipt and a terminal event each: {seconds:.1} s");
    println!("{:.0} jobs/s", JOBS as f64 / seconds);
    worker.terminate().await?;
    server.terminate().await?;
    Ok(())
}

/// Submits so many jobs and waits for everything that comes of them.
async fn run(amqp: &broker::Settings, prefix: &str, jobs: usize) -> anyhow::Result<()> {
    let (publish, consume) =
        (Connection::open(amqp, "bench").await?, Connection::open(amqp, "bench").await?);
    let queue = format!("reply.shop.{prefix}");
    consume.declare_inbox(&queue).await?;
    let mut consumer = consume.consumer(&queue, 2000).await?;
    let received = tokio::spawn(async move {
        let (mut receipts, mut events) = (0, 0);
        while receipts < jobs || events < jobs {
            let chunk = consumer.next_chunk(1000).await?;
            for delivery in &chunk {
                match Kind::of(&delivery.properties) {
                    Some(Kind::Receipt) => receipts += 1,
                    Some(Kind::Event) => events += 1,
                    other => anyhow::bail!("{other:?}"),
                }
            }
            let last = chunk.last().context("a delivery")?.tag;
            consumer.acker().ack_through(last).await?;
        }
        Ok(())
    });
    let publisher = publish.publisher().await?;
    let mut ahead = std::collections::VecDeque::new();
    for first in (0..jobs).step_by(BATCH) {
        let batch = (first..(first + BATCH).min(jobs)).map(|n| job(prefix, n, &queue)).collect();
        ahead.push_back(publisher.begin(batch).await?);
        if ahead.len() >= BATCHES_AHEAD
            && let Some(oldest) = ahead.pop_front()
        {
            confirmed(oldest.await?)?;
        }
    }
    for batch in ahead {
        confirmed(batch.await?)?;
    }
    harness::within("every receipt and event", received).await??
}

fn confirmed(outcomes: Vec<broker::Outcome>) -> anyhow::Result<()> {
    ensure!(outcomes.iter().all(|outcome| *outcome == broker::Outcome::Confirmed));
    Ok(())
}

fn job(prefix: &str, n: usize, queue: &str) -> Publication {
    let mut properties = Properties {
        persistent: true,
        user_id: Some("shop".to_owned()),
        message_id: Some(format!("{prefix}-{n}")),
        reply_to: Some(queue.to_owned()),
        ..Properties::default()
    };
    properties.headers.push_text(headers::NOTIFY, "terminal");
    Publication {
        exchange: topology::SUBMIT,
        routing_key: "demo.echo".to_owned(),
        mandatory: true,
        properties,
        body: format!("\"{}\"", "x".repeat(198)).into_bytes(),
    }
}
