//! G: what a job costs when many are queued: processor time, memory of every process, bytes in
//! Redis.

use std::collections::HashMap;

use anyhow::Context as _;
use nodes::Fsync;

use crate::fleet::{Cpu, Fleet, Make, Size};
use crate::ground::Ground;
use crate::report::{Bound, Report};
use crate::stats::median;
use crate::traffic::{self, Answers, Run, Traffic};
use crate::usage::peak_memory;
use crate::verify::{run_to_the_end, until_all_done_at_cost, until_all_queued};
use crate::{Plan, directory};

const MIB: f64 = 1024.0 * 1024.0;

/// Before anything is counted.
const WARM_UP: usize = 2000;

/// What one number of queued jobs has cost.
#[derive(Debug, Clone, Copy)]
struct Growth {
    /// Processor time of a job, in microseconds; the store's is with that for rewriting its log.
    cpu: Cpu,
    /// Microseconds of it for that.
    rewriting: f64,
    /// Bytes in Redis of a queued job, and of a finished one.
    bytes: [f64; 2],
    /// The most memory of server, worker, RabbitMQ and Redis, in MiB.
    memory: [f64; 4],
}

/// Measures it. The fewest are measured again after each of the others, because the machine may be
/// another one minutes later.
///
/// # Errors
/// A job did not succeed.
pub async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let Some((fewest, others)) = plan.queued.split_first() else { return Ok(()) };
    let mut of_the_fewest = vec![measure_with(*fewest).await?];
    let mut of_others = Vec::new();
    for jobs in others {
        of_others.push((*jobs, [measure_with(*jobs).await?]));
        of_the_fewest.push(measure_with(*fewest).await?);
    }
    tell(*fewest, &of_the_fewest, report);
    for (jobs, runs) in &of_others {
        tell(*jobs, runs, report);
    }
    let cost = |runs: &[Growth]| median(&each(runs, |it| it.cpu.sum()));
    if let Some((_, most)) = of_others.last() {
        let bound = Bound::at_most(Some(1.15), None);
        let ratio = cost(most) / cost(&of_the_fewest);
        report.ratio('G', "cost of a job with most queued, against fewest", &[ratio], bound);
    }
    Ok(())
}

fn each(runs: &[Growth], what: impl Fn(&Growth) -> f64) -> Vec<f64> {
    runs.iter().map(what).collect()
}

/// Says what one number of jobs has cost.
fn tell(jobs: usize, runs: &[Growth], report: &mut Report) {
    let row = |what: &str| format!("{what}, {jobs} queued");
    let cpu = Cpu::median(&runs.iter().map(|it| it.cpu).collect::<Vec<_>>());
    let all = each(runs, |it| it.cpu.sum());
    report.figure_with_cpu('G', &row("processor time"), "us/job", &all, cpu);
    let rewriting = each(runs, |it| it.rewriting);
    report.figure('G', &row("Redis rewriting its log"), "us/job", &rewriting);
    report.figure('G', &row("Redis, a queued job"), "bytes", &each(runs, |it| it.bytes[0]));
    let finished = each(runs, |it| it.bytes[1]);
    report.figure('G', &row("Redis, a finished job"), "bytes", &finished);
    let bound = Bound::at_most(None, Some(1000.0));
    report.ratio('G', &row("bytes in Redis of a finished job"), &finished, bound);
    for (place, of) in ["server", "worker", "RabbitMQ", "Redis"].iter().enumerate() {
        let memory = each(runs, |it| it.memory[place]);
        report.figure('G', &row(&format!("memory of {of}")), "MiB", &memory);
    }
    let ours = each(runs, |it| it.memory[0].max(it.memory[1]));
    let bound = Bound::at_most(Some(64.0), None);
    report.ratio('G', &row("MiB of our largest process"), &ours, bound);
}

/// Queues so many, then has them done.
async fn measure_with(jobs: usize) -> anyhow::Result<Growth> {
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
    let (server, worker) = fleet.memory()?;
    let (broker, redis) = (peak_memory(ground.broker_pid()?)?, peak_memory(ground.redis.pid())?);
    let memory = [server, worker, broker, redis].map(|bytes| bytes as f64 / MIB);
    fleet.stop().await?;
    Ok(Growth { cpu, rewriting, bytes: [live, finished], memory })
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
