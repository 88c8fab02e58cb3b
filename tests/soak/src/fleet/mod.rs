//! The processes, and who starts them again when they have ended.

mod crashes;
mod recipe;

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use tokio::process::Child;
use tokio_util::sync::CancellationToken;

pub use crashes::{Armed, CRASH_AT, Crashed};
pub use recipe::{Programs, Recipe};

use crate::world::World;
use crashes::Crashes;
use recipe::environment;

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

/// A process that was told to end in order, and did not.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DidNotEnd(String);

/// The end of a process that nobody made, or its panic.
#[derive(Debug, Clone)]
pub struct Unexplained {
    /// Which process, where that is known.
    pub pid: Option<u32>,
    /// Whether it said that it cannot go on.
    pub has_given_up: bool,
    /// Where in the fleet, and how.
    pub seen: String,
}

/// One place in the fleet.
#[derive(Debug)]
struct Place {
    role: Role,
    number: usize,
    child: Option<Child>,
    starts: u32,
    /// How many of its processes have crashed, at whatever point.
    aborts: u32,
    /// Ends of its processes that nobody made.
    unexplained: Vec<Unexplained>,
    /// Where its processes are to crash, one after another.
    crashes: Crashes,
    /// Stays down until it is wanted again.
    is_held: bool,
}

/// All processes; each is started again a moment after it has ended.
#[derive(Debug, Clone)]
pub struct Fleet {
    places: Arc<Mutex<Vec<Place>>>,
    recipe: Arc<Recipe>,
    size: Size,
    stop: CancellationToken,
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
        // What a stage sets takes the place of what all have.
        recipe.environment.splice(0..0, environment(world));
        let of = |role, count: usize| (0..count).map(move |number| (role, number));
        let places = of(Role::Server, size.servers)
            .chain(of(Role::Worker, size.workers))
            .chain(of(Role::Client, size.clients))
            .map(|(role, number)| Place {
                role,
                number,
                child: None,
                starts: 0,
                aborts: 0,
                unexplained: Vec::new(),
                crashes: Crashes::default(),
                is_held: false,
            })
            .collect();
        let fleet = Self {
            places: Arc::new(Mutex::new(places)),
            recipe: Arc::new(recipe),
            size,
            stop: CancellationToken::new(),
        };
        fleet.look()?;
        tokio::spawn(fleet.clone().keep());
        Ok(fleet)
    }

    /// Waits a moment, in which no process may end again and again: there is no fault yet.
    ///
    /// # Errors
    /// One does; with the end of its log.
    pub async fn has_started(&self) -> anyhow::Result<()> {
        tokio::time::sleep(STARTS_WITHIN).await;
        // A job may have killed a worker already; that it cannot start is another thing.
        let ended = self.lock().iter().find(|place| place.starts > 3).map(Place::name);
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
            let pid = place.child.as_ref().and_then(Child::id);
            let ended = match &mut place.child {
                Some(child) => child.try_wait()?,
                None => Some(ExitStatus::default()),
            };
            if let Some(status) = ended {
                let is_armed = place.crashes.is_armed() || self.recipe.arms(place.role);
                if crashes::is_unexplained(status, is_armed) {
                    let seen = format!("{}: {status}", place.name());
                    let has_given_up = status.code() == Some(1);
                    place.unexplained.push(Unexplained { pid, has_given_up, seen });
                }
                place.aborts += u32::from(crashes::is_crash(status));
                place.crashes.ended(status);
                place.child = Some(self.recipe.start(place)?);
                place.starts += 1;
            } else if let Some(pid) = pid {
                place.crashes.look(pid);
            }
        }
        self.share_the_line();
        Ok(())
    }

    /// Ends the servers that keep the line from one that is to crash there.
    fn share_the_line(&self) {
        let mut places = self.lock();
        let mut is_due = false;
        for place in places.iter_mut() {
            is_due |= place.crashes.is_to_get_the_line();
        }
        let others = |place: &&Place| place.role == Role::Server && !place.crashes.wants_the_line();
        for place in places.iter().filter(others).filter(|_| is_due) {
            if let Some(pid) = place.child.as_ref().and_then(Child::id) {
                nodes::kill(pid);
            }
        }
    }

    /// Where everything is written.
    pub fn directory(&self) -> &Path {
        &self.recipe.directory
    }

    /// The processes of a role that run now, each with the name of its place.
    pub fn processes(&self, role: Role) -> Vec<(String, u32)> {
        let places = self.lock();
        let of_role = places.iter().filter(|place| place.role == role);
        of_role.filter_map(|place| Some((place.name(), place.child.as_ref()?.id()?))).collect()
    }

    /// The identifiers of the processes of a role that run now.
    pub fn pids(&self, role: Role) -> Vec<u32> {
        self.processes(role).into_iter().map(|(_, pid)| pid).collect()
    }

    /// The same without those that are stopped: they are to go on and see what has become of them.
    pub fn awake(&self, role: Role) -> Vec<(String, u32)> {
        self.processes(role).into_iter().filter(|(_, pid)| !is_stopped(*pid)).collect()
    }

    /// One of those, at random.
    pub fn any(&self, role: Role) -> Option<u32> {
        fastrand::choice(self.awake(role)).map(|(_, pid)| pid)
    }

    /// How often processes of a role were started.
    pub fn starts(&self, role: Role) -> u32 {
        self.lock().iter().filter(|place| place.role == role).map(|place| place.starts).sum()
    }

    /// Ends of processes that nobody made, and panics, with where they were.
    ///
    /// # Errors
    /// A log cannot be read.
    pub fn unexplained(&self) -> anyhow::Result<Vec<Unexplained>> {
        let places = self.lock();
        let mut found: Vec<Unexplained> =
            places.iter().flat_map(|place| place.unexplained.clone()).collect();
        for name in places.iter().map(Place::name) {
            let log = std::fs::read_to_string(self.directory().join(format!("{name}.log")))?;
            let panics = log.lines().filter(|line| line.contains("panicked at"));
            found.extend(panics.map(|line| Unexplained {
                pid: None,
                has_given_up: false,
                seen: format!("{name}: {line}"),
            }));
        }
        Ok(found)
    }

    /// How many processes have crashed, at whatever point.
    pub fn aborts(&self) -> u32 {
        self.lock().iter().map(|place| place.aborts).sum()
    }

    /// Lets the processes of a role crash at these points, one after another, and starts with it.
    pub fn crash_at(&self, role: Role, points: &[Armed]) {
        let mut places = self.lock();
        let of_role: Vec<&mut Place> = places.iter_mut().filter(|p| p.role == role).collect();
        let count = of_role.len();
        for (number, place) in of_role.into_iter().enumerate() {
            place.crashes.arm(points.iter().skip(number).step_by(count).copied());
            if let Some(pid) = place.child.as_ref().and_then(Child::id) {
                nodes::kill(pid);
            }
        }
    }

    /// What became of the points that were armed, so far.
    pub fn crashed(&self) -> Crashed {
        let mut crashed = Crashed::default();
        for place in self.lock().iter() {
            place.crashes.report(&mut crashed);
        }
        crashed
    }

    /// How many of each there are.
    pub fn size(&self) -> Size {
        self.size
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
            if let Some(pid) = child.id() {
                nodes::terminate(pid);
            }
        }
        for mut child in leaving {
            let pid = child.id();
            let ended = tokio::time::timeout(within, child.wait()).await;
            if ended.is_err() {
                child.kill().await?;
            }
            let status = ended
                .map_err(|_| DidNotEnd(format!("{role:?} {pid:?} did not end in {within:?}")))??;
            ensure!(
                !crashes::is_unexplained(status, true),
                DidNotEnd(format!("{role:?} {pid:?}: {status}"))
            );
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

/// Where a process's history is.
pub fn history(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.history"))
}

/// Where a client's journal is.
pub fn journal(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.journal"))
}

/// Whether a process has had SIGSTOP and no SIGCONT since.
fn is_stopped(pid: u32) -> bool {
    state(pid) == Some('T')
}

/// Whether a process has ended; its parent may not have asked how yet.
pub(crate) fn has_ended(pid: u32) -> bool {
    matches!(state(pid), None | Some('Z' | 'X'))
}

/// What `/proc/<pid>/stat` says after the name, which is in parentheses.
fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}
