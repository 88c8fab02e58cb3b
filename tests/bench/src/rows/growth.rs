//! G: what a job costs when many are queued: processor time, memory of every process, bytes in
//! Redis.

use nodes::Fsync;

use crate::fleet::{Fleet, Make, Size};
use crate::ground::Ground;
use crate::report::{Bound, Report};
use crate::traffic::{self, Answers, Run, Traffic};
use crate::verify::{until_all_done, until_all_done_at_cost};
use crate::{Plan, directory};

const MIB: f64 = 1024.0 * 1024.0;

/// Measures it.
///
/// # Errors
/// A job did not succeed.
pub async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let mut costs = Vec::new();
    for jobs in plan.queued {
        let ground = Ground::start(&directory()?.join("growth"), Fsync::Everysec)?;
        let mut fleet = Fleet::start(&ground, Make::Ours, Size { servers: 1, workers: 1 }).await?;
        // Only now is the type known to the server; then nobody works for a while.
        let warm = Traffic::new("warm", 500, Answers::Each);
        let run = traffic::run(&ground, &fleet, &warm).await?;
        let store = ground.store().await?;
        until_all_done(&ground, &store, &warm, &run).await?;
        fleet.stop_workers().await?;
        let empty = redis_bytes(&ground).await?;
        let before = fleet.cpu(&ground)?;
        let rewriting = seconds_rewriting(&ground).await?;
        let traffic = Traffic::new(format!("g{jobs}"), *jobs, Answers::None);
        let run = traffic::run(&ground, &fleet, &traffic).await?;
        until_all_queued(&ground, &store, *jobs).await?;
        let live = (redis_bytes(&ground).await? - empty) / *jobs as f64;
        let (queued_server, _) = fleet.memory()?;
        fleet.add_workers(&ground, Make::Ours, 1).await?;
        // From before the first submission; what the worker that is gone had used is not in it.
        let run = Run { cpu_before: before, ..run };
        let (_, cpu) = until_all_done_at_cost(&ground, &store, &fleet, &traffic, &run).await?;
        let cpu = cpu.per_job(*jobs);
        let rewriting = seconds_rewriting(&ground).await? - rewriting;
        let finished = (redis_bytes(&ground).await? - empty) / *jobs as f64;
        let (server, worker) = fleet.memory()?;
        let most = server.max(worker).max(queued_server) as f64 / MIB;
        costs.push(cpu.sum());
        let row = |what: &str| format!("{what}, {jobs} queued");
        report.figure_with_cpu('G', &row("processor time"), "us/job", &[cpu.sum()], Some(cpu));
        let rewriting = rewriting * 1e6 / *jobs as f64;
        report.figure('G', &row("Redis rewriting its log"), "us/job", &[rewriting]);
        report.figure('G', &row("memory of our largest process"), "MiB", &[most]);
        report.figure('G', &row("Redis, a queued job"), "bytes", &[live]);
        report.figure('G', &row("Redis, a finished job"), "bytes", &[finished]);
        let bound = Bound::at_most(Some(64.0), None);
        report.ratio('G', &row("MiB of our largest process"), most, bound);
        let bound = Bound::at_most(None, Some(1000.0));
        report.ratio('G', &row("bytes in Redis of a finished job"), finished, bound);
        fleet.stop().await?;
    }
    if let [first, .., last] = costs[..] {
        let bound = Bound::at_most(Some(1.15), None);
        report.ratio('G', "cost of a job with most queued, against fewest", last / first, bound);
    }
    Ok(())
}

async fn redis_bytes(ground: &Ground) -> anyhow::Result<f64> {
    info(ground, "memory", "used_memory_dataset:").await
}

/// Processor time of its children that have ended: nothing else makes one. It is in the store's.
async fn seconds_rewriting(ground: &Ground) -> anyhow::Result<f64> {
    let user = info(ground, "cpu", "used_cpu_user_children:").await?;
    Ok(user + info(ground, "cpu", "used_cpu_sys_children:").await?)
}

async fn info(ground: &Ground, section: &str, name: &str) -> anyhow::Result<f64> {
    let mut redis = ground.redis().await?;
    let info: String = redis::cmd("INFO").arg(section).query_async(&mut redis).await?;
    let line = info.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.unwrap_or_default().trim().parse()?)
}

pub(super) async fn until_all_queued(
    ground: &Ground,
    store: &store::Store,
    jobs: usize,
) -> anyhow::Result<()> {
    let mut redis = ground.redis().await?;
    let key = store.keys().state_set(0, job::State::Queued).unwrap_or_default();
    let mut looks = tokio::time::interval(std::time::Duration::from_millis(100));
    let within = std::time::Duration::from_secs(900);
    tokio::time::timeout(within, async {
        loop {
            looks.tick().await;
            let queued: usize = redis::cmd("ZCARD").arg(&key).query_async(&mut redis).await?;
            if queued >= jobs {
                return anyhow::Ok(());
            }
        }
    })
    .await?
}
