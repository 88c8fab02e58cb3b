//! One stage of a campaign: from the first process to what was found.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use broker::rights::{SERVER_USER, WORKER_USER};
use broker::{Connection, topology};
use nodes::Fsync;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::checker::{FinalState, Findings, Left, check};
use crate::faults::{Fault, Injector, Kind};
use crate::fleet::{Crashed, Fleet, Programs, Recipe, Role, Size, client_name, history, journal};
use crate::load::{Load, Mix, settle};
use crate::world::{SLOT, World, keys};
use crate::{memory, points};

/// What is asked of one stage: nodes and a fleet of its own, and faults.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Its name, and its folder's.
    pub name: &'static str,
    /// Everything is written here.
    pub directory: PathBuf,
    /// What is run.
    pub programs: Programs,
    /// For how long faults are made.
    pub time: Duration,
    /// Jobs in all; where processes crash at points, which goes on for as long as it takes, so many
    /// in `time`.
    pub jobs: u64,
    /// The fleet.
    pub size: Size,
    /// The faults.
    pub faults: Vec<(Kind, u32)>,
    /// The share of its full time that a fault of a node lasts.
    pub pace: f64,
    /// Where processes crash, so often each; without faults.
    pub crash_rounds: u32,
    /// What decides their order.
    pub seed: u64,
    /// When Redis writes to disk what it acknowledges.
    pub fsync: Fsync,
    /// What the clients do.
    pub mix: Mix,
    /// For every process, beside what a campaign always sets.
    pub environment: Vec<(String, String)>,
}

/// What came of a stage.
#[derive(Debug)]
pub struct Outcome {
    /// The faults that were made.
    pub faults: Vec<Fault>,
    /// What was found.
    pub findings: Findings,
    /// What was left over.
    pub left: Left,
    /// Processes that were started, by role.
    pub starts: Vec<(Role, u32)>,
    /// Cuts that fell exactly where they were to.
    pub cuts: u64,
    /// For how long faults were made.
    pub faulty: Duration,
    /// Until everything was settled after the last one.
    pub settling: Duration,
    /// Journal entries that were not.
    pub open: usize,
    /// Where processes have crashed.
    pub crashed: Crashed,
}

/// Everything that was journaled is settled so long after the last fault.
const SETTLES_WITHIN: Duration = Duration::from_secs(60);
/// How long a process may take to end in order.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// Makes a stage and returns what was found.
///
/// # Errors
/// It could not be made: a node did not start, a process ended by itself at once, a history cannot
/// be read.
pub async fn run(stage: &Stage) -> anyhow::Result<Outcome> {
    let directory = &stage.directory;
    std::fs::create_dir_all(directory)?;
    let clients: Vec<String> = (0..stage.size.clients).map(client_name).collect();
    let world = World::start(directory, &clients, stage.fsync).await?;
    let links = world.links();
    let jobs_per_client = stage.jobs / stage.size.clients as u64;
    let recipe = Recipe {
        directory: directory.clone(),
        programs: stage.programs.clone(),
        // Crashes end when every point has had its turns, and until then there must be jobs.
        jobs_per_client: if stage.crash_rounds > 0 { u64::MAX } else { jobs_per_client },
        rate: jobs_per_client as f64 / stage.time.as_secs_f64().max(1.0) * 1.1,
        mix: stage.mix,
        environment: stage.environment.clone(),
    };
    let fleet = Fleet::start(&world, stage.size, recipe)?;
    fleet.has_started().await?;
    let memory = tokio::spawn(memory::watch(fleet.clone()));
    let world = Arc::new(Mutex::new(world));
    let injector = Injector::new(Arc::clone(&world), links, fleet.clone(), stage.pace);
    let began = Instant::now();
    if stage.crash_rounds > 0 {
        let mut redis = world.lock().await.root().await?;
        let work = world.lock().await.direct_amqp_url(WORKER_USER);
        points::crash_everywhere(&fleet, &injector, &mut redis, &work, stage).await?;
    } else {
        injector.run(&stage.faults, stage.time, stage.seed).await?;
        tokio::time::sleep_until(began + stage.time).await;
    }
    let faulty = began.elapsed();

    world.lock().await.heal();
    fleet.retire(Role::Client, ENDS_WITHIN).await?;
    let healed = Instant::now();
    let settled = settle_all(stage, &world).await;
    came_to_rest(&world, SETTLES_WITHIN).await?;
    let settling = healed.elapsed();
    settled.stop.cancel();
    let mut open = 0;
    for task in settled.tasks {
        open += task.await??;
    }
    fleet.retire(Role::Worker, ENDS_WITHIN).await?;
    fleet.retire(Role::Server, ENDS_WITHIN).await?;
    // Only now is nothing held by anybody.
    let (queues, dead_letters) = (waiting(&world).await?, dead_letters(&world).await?);
    let unexplained = fleet.unexplained()?;
    fleet.end().await;
    memory.abort();

    let faults = injector.made().await;
    // With the histories, it says what happened when.
    std::fs::write(directory.join("faults.json"), serde_json::to_string_pretty(&faults)?)?;
    drop(injector);
    let world = Arc::into_inner(world).context("the injector has ended")?.into_inner();
    let mut end = FinalState::read(&mut world.root().await?, directory, stage.size).await?;
    (end.left.queues, end.left.dead_letters) = (queues, dead_letters);
    end.unexplained = unexplained;
    end.left.memory_kib = memory::read(directory);
    let mut findings = check(directory, stage.size, &end, &faults)?;
    findings.counters.redeliveries = world.redelivered();
    findings.counters.crashes = fleet.aborts() as usize;
    let cuts = world.cuts();
    tokio::task::spawn_blocking(move || {
        world.rabbitmq.stop();
        world.redis.stop();
    })
    .await?;
    let starts =
        [Role::Server, Role::Worker, Role::Client].map(|role| (role, fleet.starts(role))).to_vec();
    let (left, crashed) = (end.left, fleet.crashed());
    Ok(Outcome { faults, findings, left, starts, cuts, faulty, settling, open, crashed })
}

struct Settling {
    stop: CancellationToken,
    tasks: Vec<tokio::task::JoinHandle<anyhow::Result<usize>>>,
}

/// Each client asks about everything that is open, past the links.
async fn settle_all(stage: &Stage, world: &Mutex<World>) -> Settling {
    let stop = CancellationToken::new();
    let mut tasks = Vec::new();
    for number in 0..stage.size.clients {
        let name = client_name(number);
        let load =
            Load { history: history(&stage.directory, &name), jobs: 0, rate: 1.0, mix: stage.mix };
        let url = world.lock().await.direct_amqp_url(&name);
        let path = journal(&stage.directory, &name);
        let stop = stop.clone();
        // A little longer than everything may take to come to rest.
        let within = SETTLES_WITHIN + Duration::from_secs(10);
        tasks.push(tokio::spawn(async move {
            let mut settings: client::Settings = settings::load_with(None, [])?;
            settings.amqp.url = url;
            settings.client.journal = path;
            settings.client.resend_after_ms = 2000;
            settings.client.answer_timeout_ms = 5000;
            settle(&load, settings, within, stop).await
        }));
    }
    Settling { stop, tasks }
}

/// Waits until no message waits and no job is under way, or the time is up.
async fn came_to_rest(world: &Mutex<World>, within: Duration) -> anyhow::Result<()> {
    let mut root = world.lock().await.root().await?;
    let until = Instant::now() + within;
    while Instant::now() < until {
        let messages: u32 = waiting(world).await?.values().sum();
        if messages == 0 && unfinished(&mut root).await? == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// How many messages wait in each queue of the server's.
async fn waiting(world: &Mutex<World>) -> anyhow::Result<BTreeMap<String, u32>> {
    let connection = connected(world).await?;
    let work = topology::work_queue(&job::QueueName::default());
    let mut queues = BTreeMap::new();
    for queue in [topology::INTAKE_QUEUE, topology::INQUIRY_QUEUE, topology::DROPPED_QUEUE, &work] {
        queues.insert(queue.to_owned(), connection.depth(queue).await?.ready);
    }
    connection.close().await;
    Ok(queues)
}

/// How many messages were kept because nothing could be done with them.
async fn dead_letters(world: &Mutex<World>) -> anyhow::Result<u32> {
    let connection = connected(world).await?;
    let count = connection.depth(topology::DEAD_QUEUE).await?.ready;
    connection.close().await;
    Ok(count)
}

async fn connected(world: &Mutex<World>) -> anyhow::Result<Connection> {
    let mut settings: client::Settings = settings::load_with(None, [])?;
    settings.amqp.url = world.lock().await.direct_amqp_url(SERVER_USER);
    Ok(Connection::open(&settings.amqp, "the campaign").await?)
}

async fn unfinished(root: &mut redis::aio::MultiplexedConnection) -> anyhow::Result<u64> {
    let keys = keys();
    let counts: std::collections::HashMap<String, u64> =
        redis::cmd("HGETALL").arg(keys.unfinished(SLOT)).query_async(root).await?;
    let outbox: u64 = redis::cmd("XLEN").arg(keys.outbox(SLOT)).query_async(root).await?;
    Ok(counts.values().sum::<u64>() + outbox)
}
