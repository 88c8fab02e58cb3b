//! The processes, and who starts them again when they have ended.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use broker::rights::{SERVER_USER, WORKER_USER};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::load::Mix;
use crate::world::{Link, PREFIX, World};

/// What a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// `counterfoil server`.
    Server,
    /// A worker with the campaign's handlers.
    Worker,
    /// A client of the campaign.
    Client,
}

/// How many of each there are.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Servers.
    pub servers: usize,
    /// Workers.
    pub workers: usize,
    /// Clients.
    pub clients: usize,
}

/// The name of a client, which is its user.
pub fn client_name(number: usize) -> String {
    format!("c{number}")
}

/// One place in the fleet.
#[derive(Debug)]
struct Place {
    role: Role,
    number: usize,
    child: Option<Child>,
    starts: u32,
    /// What the next process is started with, beside the usual.
    once: Vec<(String, String)>,
    /// Stays down until it is wanted again.
    is_held: bool,
}

/// All processes; each is started again a moment after it has ended.
#[derive(Debug, Clone)]
pub struct Fleet {
    places: Arc<Mutex<Vec<Place>>>,
    recipe: Arc<Recipe>,
    stop: CancellationToken,
}

/// What processes are started with.
#[derive(Debug)]
pub struct Recipe {
    /// Where logs and histories are.
    pub directory: PathBuf,
    /// The program under test.
    pub counterfoil: PathBuf,
    /// This one.
    pub soak: PathBuf,
    /// What each client submits, and how fast.
    pub jobs_per_client: u64,
    /// Jobs a second of each client.
    pub rate: f64,
    /// What the clients do.
    pub mix: Mix,
    /// For every process.
    pub environment: Vec<(String, String)>,
}

/// How often it is looked for ended processes.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A process that cannot start has ended by then.
const STARTS_WITHIN: Duration = Duration::from_secs(2);

impl Place {
    fn name(&self) -> String {
        match self.role {
            Role::Server => format!("server-{}", self.number),
            Role::Worker => format!("worker-{}", self.number),
            Role::Client => client_name(self.number),
        }
    }
}

impl Fleet {
    /// Starts all of them.
    ///
    /// # Errors
    /// One cannot be started.
    pub fn start(world: &World, size: Size, recipe: Recipe) -> anyhow::Result<Self> {
        let mut recipe = recipe;
        recipe.environment.extend(environment(world));
        let of = |role, count: usize| (0..count).map(move |number| (role, number));
        let places = of(Role::Server, size.servers)
            .chain(of(Role::Worker, size.workers))
            .chain(of(Role::Client, size.clients))
            .map(|(role, number)| Place {
                role,
                number,
                child: None,
                starts: 0,
                once: Vec::new(),
                is_held: false,
            })
            .collect();
        let fleet = Self {
            places: Arc::new(Mutex::new(places)),
            recipe: Arc::new(recipe),
            stop: CancellationToken::new(),
        };
        fleet.look()?;
        tokio::spawn(fleet.clone().keep());
        Ok(fleet)
    }

    /// Waits a moment, in which no process may end: there is no fault yet.
    ///
    /// # Errors
    /// One has ended; with the end of its log.
    pub async fn has_started(&self) -> anyhow::Result<()> {
        tokio::time::sleep(STARTS_WITHIN).await;
        let ended = self.lock().iter().find(|place| place.starts > 1).map(Place::name);
        let Some(name) = ended else { return Ok(()) };
        let log = std::fs::read_to_string(self.directory().join(format!("{name}.log")))?;
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        anyhow::bail!("{name} ends by itself: {last:?}")
    }

    /// Starts again whatever has ended.
    async fn keep(self) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = self.stop.cancelled() => return,
            }
            if let Err(error) = self.look() {
                tracing::error!(%error, "starting a process");
            }
        }
    }

    fn look(&self) -> anyhow::Result<()> {
        for place in self.lock().iter_mut().filter(|place| !place.is_held) {
            let is_running = match &mut place.child {
                Some(child) => child.try_wait()?.is_none(),
                None => false,
            };
            if !is_running {
                place.child = Some(self.recipe.start(place)?);
                place.once.clear();
                place.starts += 1;
            }
        }
        Ok(())
    }

    /// Where everything is written.
    pub fn directory(&self) -> &Path {
        &self.recipe.directory
    }

    /// The processes of a role that run now.
    pub fn pids(&self, role: Role) -> Vec<u32> {
        let places = self.lock();
        let of_role = places.iter().filter(|place| place.role == role);
        of_role.filter_map(|place| place.child.as_ref()?.id()).collect()
    }

    /// One of the processes of a role, at random.
    pub fn any(&self, role: Role) -> Option<u32> {
        fastrand::choice(self.pids(role))
    }

    /// How often processes of a role were started.
    pub fn starts(&self, role: Role) -> u32 {
        self.lock().iter().filter(|place| place.role == role).map(|place| place.starts).sum()
    }

    /// Gives the next process of a place an addition to its environment.
    pub fn next_with(&self, role: Role, number: usize, name: &str, value: &str) {
        let mut places = self.lock();
        if let Some(place) = places.iter_mut().find(|p| (p.role, p.number) == (role, number)) {
            place.once.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Asks all processes of a role to end and waits until they have; they stay down.
    ///
    /// # Errors
    /// One does not end.
    pub async fn retire(&self, role: Role, within: Duration) -> anyhow::Result<()> {
        let mut leaving = Vec::new();
        for place in self.lock().iter_mut().filter(|place| place.role == role) {
            place.is_held = true;
            leaving.extend(place.child.take());
        }
        for child in &leaving {
            child.id().map(nodes::terminate);
        }
        for mut child in leaving {
            let pid = child.id();
            let ended = tokio::time::timeout(within, child.wait()).await;
            if ended.is_err() {
                child.kill().await?;
            }
            ended.with_context(|| format!("{role:?} {pid:?} did not end within {within:?}"))??;
        }
        Ok(())
    }

    /// Ends everything at once.
    pub async fn end(&self) {
        self.stop.cancel();
        let children: Vec<Child> =
            self.lock().iter_mut().filter_map(|place| place.child.take()).collect();
        for mut child in children {
            child.kill().await.ok();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The settings of a campaign: everything that waits, waits for less long.
fn environment(world: &World) -> Vec<(String, String)> {
    let urls = [
        ("SERVER_AMQP", world.amqp_url(Link::ServerAmqp, SERVER_USER)),
        ("SERVER_REDIS", world.redis_url(Link::ServerRedis, SERVER_USER)),
        ("WORKER_AMQP", world.amqp_url(Link::WorkerAmqp, WORKER_USER)),
        ("WORKER_REDIS", world.redis_url(Link::WorkerRedis, WORKER_USER)),
        ("CLIENT_AMQP", world.amqp_url(Link::ClientAmqp, "USER")),
    ]
    .map(|(name, url)| (format!("SOAK_{name}"), url));
    let settings = [
        ("REDIS_PREFIX", PREFIX),
        ("REDIS_RESPONSE_TIMEOUT_MS", "3000"),
        ("AMQP_HEARTBEAT_S", "2"),
        ("SERVER_DUPLICATE_REDISPATCH_MS", "5000"),
        ("SERVER_DELIVER_BACKOFF_MS", "300"),
        ("SERVER_DELIVER_TRIES", "6"),
        ("WORKER_SLOTS", "8"),
        ("WORKER_LEASE_MS", "3000"),
        ("WORKER_BEAT_MS", "500"),
        ("WORKER_DETACH_AFTER_MS", "3000"),
        ("WORKER_ATTEMPTS_MAX", "200"),
        ("WORKER_BACKOFF_FIRST_MS", "100"),
        ("CLIENT_RESEND_AFTER_MS", "2000"),
        ("CLIENT_ANSWER_TIMEOUT_MS", "5000"),
        ("LOG_FILTER", "info"),
    ]
    .map(|(name, value)| (format!("COUNTERFOIL_{name}"), value.to_owned()));
    urls.into_iter().chain(settings).collect()
}

impl Recipe {
    fn url(&self, name: &str) -> String {
        let of = |(known, _): &&(String, String)| known == name;
        self.environment.iter().find(of).map(|(_, url)| url.clone()).unwrap_or_default()
    }

    fn start(&self, place: &Place) -> anyhow::Result<Child> {
        let name = place.name();
        let (amqp, redis, mut command) = match place.role {
            Role::Server => {
                let mut command = Command::new(&self.counterfoil);
                command.arg("server");
                ("SOAK_SERVER_AMQP", "SOAK_SERVER_REDIS", command)
            }
            Role::Worker => {
                let mut command = Command::new(&self.soak);
                command.args(["worker", "--history"]).arg(self.history(&name));
                ("SOAK_WORKER_AMQP", "SOAK_WORKER_REDIS", command)
            }
            Role::Client => {
                let mut command = Command::new(&self.soak);
                command.args(["client", "--history"]).arg(self.history(&name));
                command.args(["--jobs", &self.jobs_per_client.to_string()]);
                command.args(["--rate", &self.rate.to_string()]);
                command.args(self.mix.arguments());
                ("SOAK_CLIENT_AMQP", "", command)
            }
        };
        let path = self.directory.join(format!("{name}.log"));
        let log = File::options().create(true).append(true).open(path)?;
        command
            .envs(self.environment.iter().cloned())
            .envs(place.once.iter().cloned())
            .env("COUNTERFOIL_AMQP_URL", self.url(amqp).replace("USER", &name))
            .env("COUNTERFOIL_REDIS_URL", self.url(redis))
            .env("COUNTERFOIL_CLIENT_JOURNAL", journal(&self.directory, &name))
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        command.spawn().with_context(|| format!("starting {name}"))
    }

    fn history(&self, name: &str) -> PathBuf {
        history(&self.directory, name)
    }
}

/// Where a process's history is.
pub fn history(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.history"))
}

/// Where a client's journal is.
pub fn journal(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.journal"))
}
