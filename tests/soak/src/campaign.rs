//! One campaign, from the first process to the report.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use broker::rights::SERVER_USER;
use broker::{Connection, topology};
use nodes::Fsync;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::checker::{FinalState, check};
use crate::faults::Injector;
use crate::fleet::{Fleet, Recipe, Role, Size, client_name, history, journal};
use crate::load::{Load, settle};
use crate::report::Report;
use crate::world::World;

/// What is asked of a campaign.
#[derive(Debug, Clone)]
pub struct Campaign {
    /// Everything is written here.
    pub directory: PathBuf,
    /// The program under test.
    pub counterfoil: PathBuf,
    /// For how long faults are made.
    pub time: Duration,
    /// Jobs in all.
    pub jobs: u64,
    /// The share of a full campaign's faults.
    pub share: f64,
    /// What decides their order.
    pub seed: u64,
    /// For every process, e.g. a seeded mistake.
    pub environment: Vec<(String, String)>,
}

/// The fleet of a campaign.
pub const SIZE: Size = Size { servers: 2, workers: 4, clients: 4 };
/// Everything that was journaled is settled so long after the last fault.
const SETTLES_WITHIN: Duration = Duration::from_secs(60);
/// How long a process may take to end in order.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// Makes a campaign and returns what was found.
///
/// # Errors
/// It could not be made: a node did not start, a history cannot be read.
pub async fn run(campaign: &Campaign) -> anyhow::Result<Report> {
    let directory = &campaign.directory;
    if directory.exists() {
        std::fs::remove_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    std::fs::create_dir_all(directory)?;
    fastrand::seed(campaign.seed);
    let clients: Vec<String> = (0..SIZE.clients).map(client_name).collect();
    let world = World::start(directory, &clients, Fsync::Always).await?;
    let links = world.links();
    let jobs_per_client = campaign.jobs / SIZE.clients as u64;
    let recipe = Recipe {
        directory: directory.clone(),
        counterfoil: campaign.counterfoil.clone(),
        soak: std::env::current_exe()?,
        jobs_per_client,
        rate: jobs_per_client as f64 / campaign.time.as_secs_f64().max(1.0) * 1.1,
        environment: campaign.environment.clone(),
    };
    let fleet = Fleet::start(&world, SIZE, recipe)?;
    let memory = tokio::spawn(watch_memory(fleet.clone()));
    let world = Arc::new(Mutex::new(world));
    let injector = Injector::new(Arc::clone(&world), links, fleet.clone());
    let began = Instant::now();
    injector.run(campaign.share, campaign.time, campaign.seed).await?;
    let faulty = began.elapsed();

    world.lock().await.heal();
    fleet.retire(Role::Client, ENDS_WITHIN).await?;
    let healed = Instant::now();
    let settled = settle_all(campaign, &world).await;
    let rested = came_to_rest(&world, SETTLES_WITHIN).await?;
    let settling = healed.elapsed();
    settled.stop.cancel();
    let mut open = 0;
    for task in settled.tasks {
        open += task.await??;
    }
    fleet.retire(Role::Worker, ENDS_WITHIN).await?;
    fleet.retire(Role::Server, ENDS_WITHIN).await?;
    fleet.end().await;
    memory.abort();

    let faults = injector.made().await;
    drop(injector);
    let world = Arc::into_inner(world).context("the injector has ended")?.into_inner();
    let mut end = FinalState::read(&mut world.root().await?, directory, SIZE).await?;
    end.left.queues = rested;
    end.left.memory_kib = read_memory(directory);
    let findings = check(directory, SIZE, &end, &faults)?;
    let cuts = world.cuts();
    tokio::task::spawn_blocking(move || {
        world.rabbitmq.stop();
        world.redis.stop();
    })
    .await?;
    let starts = [Role::Server, Role::Worker, Role::Client].map(|role| (role, fleet.starts(role)));
    Report::new(campaign, &faults, findings, &end, starts, cuts, (faulty, settling), open)
}

struct Settling {
    stop: CancellationToken,
    tasks: Vec<tokio::task::JoinHandle<anyhow::Result<usize>>>,
}

/// Each client asks about everything that is open, past the links.
async fn settle_all(campaign: &Campaign, world: &Mutex<World>) -> Settling {
    let stop = CancellationToken::new();
    let mut tasks = Vec::new();
    for number in 0..SIZE.clients {
        let name = client_name(number);
        let load = Load { history: history(&campaign.directory, &name), jobs: 0, rate: 1.0 };
        let url = world.lock().await.direct_amqp_url(&name);
        let path = journal(&campaign.directory, &name);
        let stop = stop.clone();
        tasks.push(tokio::spawn(async move {
            let mut settings: client::Settings = settings::load_with(None, [])?;
            settings.amqp.url = url;
            settings.client.journal = path;
            settings.client.resend_after_ms = 2000;
            settings.client.answer_timeout_ms = 5000;
            // A little longer than everything may take to come to rest.
            settle(&load, settings, SETTLES_WITHIN + Duration::from_secs(10), stop).await
        }));
    }
    Settling { stop, tasks }
}

/// Waits until no message waits and no job is under way; what is left when the time is up.
async fn came_to_rest(
    world: &Mutex<World>,
    within: Duration,
) -> anyhow::Result<BTreeMap<String, u32>> {
    let world = world.lock().await;
    let mut settings: client::Settings = settings::load_with(None, [])?;
    settings.amqp.url = world.direct_amqp_url(SERVER_USER);
    let connection = Connection::open(&settings.amqp, "the campaign").await?;
    let mut root = world.root().await?;
    let until = Instant::now() + within;
    loop {
        let mut queues = BTreeMap::new();
        let work = topology::work_queue(&job::QueueName::default());
        for queue in
            [topology::INTAKE_QUEUE, topology::INQUIRY_QUEUE, topology::DROPPED_QUEUE, &work]
        {
            queues.insert(queue.to_owned(), connection.depth(queue).await?.ready);
        }
        let busy: u64 = unfinished(&mut root).await?;
        let waiting: u32 = queues.values().sum();
        if (waiting == 0 && busy == 0) || Instant::now() >= until {
            connection.close().await;
            return Ok(queues);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn unfinished(root: &mut redis::aio::MultiplexedConnection) -> anyhow::Result<u64> {
    let prefix = crate::world::PREFIX;
    let counts: std::collections::HashMap<String, u64> =
        redis::cmd("HGETALL").arg(format!("{prefix}:{{0}}:unfinished")).query_async(root).await?;
    let outbox: u64 =
        redis::cmd("XLEN").arg(format!("{prefix}:{{0}}:outbox")).query_async(root).await?;
    Ok(counts.values().sum::<u64>() + outbox)
}

/// Writes down the most memory that a process of each role has had.
async fn watch_memory(fleet: Fleet) {
    let mut most: BTreeMap<&str, u64> = BTreeMap::new();
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        for (role, name) in
            [(Role::Server, "server"), (Role::Worker, "worker"), (Role::Client, "client")]
        {
            for pid in fleet.pids(role) {
                let peak = peak_kib(pid).unwrap_or_default();
                let known = most.entry(name).or_default();
                *known = peak.max(*known);
            }
        }
        let text = serde_json::to_string(&most).unwrap_or_default();
        // What cannot be written is missing in the report, where it is looked for.
        std::fs::write(fleet.directory().join("memory.json"), text).ok();
    }
}

fn peak_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn read_memory(directory: &Path) -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(directory.join("memory.json")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Whether a program is there, before anything is started.
///
/// # Errors
/// It is not.
pub fn program(path: PathBuf) -> anyhow::Result<PathBuf> {
    ensure!(path.is_file(), "{} is not built", path.display());
    Ok(path)
}
