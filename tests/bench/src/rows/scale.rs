//! I: more processes on the same machine: what a job costs then, and whether the one registrar that
//! reads the line is what everything waits for.

use nodes::Fsync;

use crate::fleet::{Fleet, Make, Size};
use crate::ground::Ground;
use crate::report::Report;
use crate::traffic::{self, Answers, Traffic};
use crate::verify::{run_to_the_end, until_all_queued};
use crate::{Plan, directory};

const SIZES: [Size; 3] = [
    Size { servers: 1, workers: 1 },
    Size { servers: 1, workers: 4 },
    Size { servers: 2, workers: 4 },
];
const JOBS: usize = 40_000;

/// Measures it.
///
/// # Errors
/// A job did not succeed.
pub async fn measure(_: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let ground = Ground::start(&directory()?.join("scale"), Fsync::Everysec)?;
    let warm = Traffic::new("iw", 2000, Answers::Each);
    for size in SIZES {
        ground.empty().await?;
        let fleet = Fleet::start(&ground, Make::Ours, size).await?;
        let store = ground.store().await?;
        run_to_the_end(&ground, &store, &fleet, &warm).await?;
        let traffic = Traffic::new("i", JOBS, Answers::Each);
        let run = run_to_the_end(&ground, &store, &fleet, &traffic).await?;
        let cpu = run.cpu.per_job(JOBS);
        let Size { servers, workers } = size;
        let what = |of: &str| format!("{of}, {servers} servers, {workers} workers");
        let rate = [JOBS as f64 / run.answered];
        report.figure_with_cpu('I', &what("whole"), "jobs/s", &rate, Some(cpu));
        report.figure('I', &what("processor time"), "us/job", &[cpu.sum()]);
        fleet.stop().await?;
    }
    // Nobody works: what the registrar can do by itself.
    ground.empty().await?;
    let mut fleet = Fleet::start(&ground, Make::Ours, Size::ONE).await?;
    let store = ground.store().await?;
    run_to_the_end(&ground, &store, &fleet, &warm).await?;
    fleet.stop_workers().await?;
    let traffic = Traffic::new("ir", JOBS, Answers::None);
    let began = std::time::Instant::now();
    let before = fleet.cpu(&ground)?;
    traffic::run(&ground, &fleet, &traffic).await?;
    until_all_queued(&ground, &store, JOBS).await?;
    let rate = [JOBS as f64 / began.elapsed().as_secs_f64()];
    let cpu = fleet.cpu(&ground)?.since(before).per_job(JOBS);
    report.figure_with_cpu('I', "the registrar alone: accepted", "jobs/s", &rate, Some(cpu));
    fleet.stop().await
}
