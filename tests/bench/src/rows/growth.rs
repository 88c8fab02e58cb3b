//! G: what a job costs when many are queued: processor time, memory of every process, bytes in
//! Redis.

use std::collections::HashMap;

use anyhow::Context as _;
use nodes::Fsync;

use crate::fleet::{Fleet, Make, Size};
use crate::ground::Ground;
use crate::report::{Bound, Report};
use crate::traffic::{self, Answers, Run, Traffic};
use crate::usage::peak_memory;
use crate::verify::{run_to_the_end, until_all_done_at_cost, until_all_queued};
use crate::{Plan, directory};

const MIB: f64 = 1024.0 * 1024.0;

/// Before anything is counted.
const WARM_UP: usize = 2000;

/// Measures it.
///
/// # Errors
/// A job did not succeed.
pub async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let mut costs = Vec::new();
    for jobs in plan.queued {
        costs.push(measure_with(*jobs, report).await?);
    }
    if let [first, .., last] = costs[..] {
        let bound = Bound::at_most(Some(1.15), None);
        report.ratio('G', "cost of a job with most queued, against fewest", &[last / first], bound);
    }
    Ok(())
}

/// Queues so many, then has them done; the processor time of a job.
async fn measure_with(jobs: usize, report: &mut Report) -> anyhow::Result<f64> {
    let ground = Ground::start(&directory()?.join("growth"), Fsync::Everysec)?;
    let mut fleet = Fleet::start(&ground, Make::Ours, Size { servers: 1, workers: 1 }).await?;
    // Only now is the type known to the server; then nobody works for a while.
    let warm = Traffic::new("warm", WARM_UP, Answers::Each);
    let store = ground.store().await?;
    run_to_the_end(&ground, &store, &fleet, &warm).await?;
    fleet.stop_workers().await?;
    let empty = redis_bytes(&ground).await?;
    let before = fleet.cpu(&ground)?;
    let rewriting = seconds_rewriting(&ground).await?;
    let traffic = Traffic::new(format!("g{jobs}"), jobs, Answers::None);
    let run = traffic::run(&ground, &fleet, &traffic).await?;
    until_all_queued(&ground, &store, jobs).await?;
    let live = (redis_bytes(&ground).await? - empty) / jobs as f64;
    fleet.add_workers(&ground, 1).await?;
    // From before the first submission; what the worker that is gone had used was not in it.
    let run = Run { cpu_before: before, ..run };
    let (_, cpu) = until_all_done_at_cost(&ground, &store, &fleet, &traffic, &run).await?;
    // A rewriting that still goes on counts when it is over.
    let so_far = seconds_rewriting(&ground).await?;
    until_rewritten(&ground).await?;
    let all = seconds_rewriting(&ground).await?;
    let mut cpu = cpu.per_job(jobs);
    cpu.store += (all - so_far) * 1e6 / jobs as f64;
    let rewriting = (all - rewriting) * 1e6 / jobs as f64;
    let finished = (redis_bytes(&ground).await? - empty) / jobs as f64;
    let row = |what: &str| format!("{what}, {jobs} queued");
    report.figure_with_cpu('G', &row("processor time"), "us/job", &[cpu.sum()], Some(cpu));
    report.figure('G', &row("Redis rewriting its log"), "us/job", &[rewriting]);
    report.figure('G', &row("Redis, a queued job"), "bytes", &[live]);
    report.figure('G', &row("Redis, a finished job"), "bytes", &[finished]);
    let bound = Bound::at_most(None, Some(1000.0));
    report.ratio('G', &row("bytes in Redis of a finished job"), &[finished], bound);
    let (server, worker) = fleet.memory()?;
    let (broker, redis) = (peak_memory(ground.broker_pid()?)?, peak_memory(ground.redis.pid())?);
    let all = [("server", server), ("worker", worker), ("RabbitMQ", broker), ("Redis", redis)];
    for (of, most) in all {
        report.figure('G', &row(&format!("memory of {of}")), "MiB", &[most as f64 / MIB]);
    }
    let most = server.max(worker) as f64 / MIB;
    let bound = Bound::at_most(Some(64.0), None);
    report.ratio('G', &row("MiB of our largest process"), &[most], bound);
    fleet.stop().await?;
    Ok(cpu.sum())
}

/// What jobs take, without what connections do: their data, and the tables of the keys.
async fn redis_bytes(ground: &Ground) -> anyhow::Result<f64> {
    let mut redis = ground.redis().await?;
    let info: String = redis::cmd("INFO").arg("memory").query_async(&mut redis).await?;
    let data: f64 = field(&info, "used_memory_dataset:")?;
    let stats: HashMap<String, redis::Value> =
        redis::cmd("MEMORY").arg("STATS").query_async(&mut redis).await?;
    let tables = stats.get("db.0").context("the memory of database 0")?;
    let tables: HashMap<String, f64> = redis::from_redis_value(tables.clone())?;
    Ok(data + tables.values().sum::<f64>())
}

/// Processor time of its children that have ended: nothing else makes one. It is in the store's.
async fn seconds_rewriting(ground: &Ground) -> anyhow::Result<f64> {
    let mut redis = ground.redis().await?;
    let info: String = redis::cmd("INFO").arg("cpu").query_async(&mut redis).await?;
    Ok(field(&info, "used_cpu_user_children:")? + field(&info, "used_cpu_sys_children:")?)
}

async fn until_rewritten(ground: &Ground) -> anyhow::Result<()> {
    harness::eventually("the log is rewritten", || async {
        let mut redis = ground.redis().await?;
        let info: String = redis::cmd("INFO").arg("persistence").query_async(&mut redis).await?;
        Ok((field(&info, "aof_rewrite_in_progress:")? == 0.0).then_some(()))
    })
    .await
}

fn field(info: &str, name: &str) -> anyhow::Result<f64> {
    let value = info.lines().find_map(|line| line.strip_prefix(name)).context("INFO")?;
    Ok(value.trim().parse()?)
}
