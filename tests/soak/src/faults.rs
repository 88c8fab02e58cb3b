//! The faults of a campaign: what there is, how often, and how each is made.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::fleet::{Fleet, Role};
use crate::history::{Micros, now};
use crate::proxy::{Cut, Direction, How, Language, What};
use crate::world::{Link, World};

macro_rules! kinds {
    ($($kind:ident $lane:ident $full:literal $what:literal)*) => {
        /// What is done to the system.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Kind {
            $(#[doc = $what] $kind,)*
        }

        impl Kind {
            /// All of them, each with its lane and how often it comes in a full campaign.
            pub const ALL: &[(Self, Lane, u32)] = &[$((Self::$kind, Lane::$lane, $full),)*];
        }
    };
}

/// Faults of a lane come one after another; the lanes run beside each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// To processes of ours.
    Processes,
    /// To the links between them and the nodes.
    Links,
    /// To RabbitMQ and Redis.
    Nodes,
}

kinds! {
    WorkerKilled Processes 400
        "A worker gets SIGKILL."
    WorkerPaused Processes 40
        "A worker gets SIGSTOP for longer than its leases last."
    ServerKilled Processes 100
        "A server gets SIGKILL."
    ClientKilled Processes 100
        "A client gets SIGKILL."
    RollingRestart Processes 10
        "All servers and workers are stopped in order, one after another."
    LinkReset Links 100
        "All connections of a link are reset."
    LinkSwallowed Links 100
        "A link takes everything and passes on nothing, for a while, and is reset."
    LinkCut Links 100
        "A connection is cut exactly before a confirm, after a publish, or before a script's reply."
    LinkSlow Links 20
        "A link carries 20 kB a second, for a while."
    BrokerKilled Nodes 8
        "RabbitMQ gets SIGKILL and is started again."
    BrokerRestarted Nodes 4
        "RabbitMQ is stopped in order and started again."
    StoreKilled Nodes 20
        "Redis gets SIGKILL and is started again."
    StorePaused Nodes 6
        "Redis gets SIGSTOP for 5 s."
    StoreFull Nodes 6
        "Redis has no memory left, for 10 s."
    StoreReadOnly Nodes 4
        "Redis is demoted to a replica of nobody that answers, for 5 s."
    ScriptsFlushed Nodes 20
        "Redis forgets its scripts."
    MemoryAlarm Nodes 6
        "RabbitMQ blocks publishers for lack of memory, for 10 s."
    DiskAlarm Nodes 4
        "RabbitMQ blocks publishers for lack of disk, for 10 s."
    ConnectionsClosed Nodes 10
        "RabbitMQ closes all connections."
}

/// One fault, as it was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// From when.
    pub from: Micros,
    /// Until when.
    pub until: Micros,
    /// The process that it hit, if it was one.
    pub pid: Option<u32>,
}

/// What makes faults.
#[derive(Clone)]
pub struct Injector {
    world: Arc<Mutex<World>>,
    fleet: Fleet,
    links: Arc<Vec<(Link, Arc<crate::proxy::Proxy>)>>,
    made: Arc<Mutex<Vec<Fault>>>,
    stop: CancellationToken,
}

/// How long the leases of the campaign last; a worker that is paused sleeps for longer.
const LEASE: Duration = Duration::from_millis(3000);

impl Injector {
    /// An injector for a world and its fleet.
    pub fn new(
        world: Arc<Mutex<World>>,
        links: Vec<(Link, Arc<crate::proxy::Proxy>)>,
        fleet: Fleet,
    ) -> Self {
        Self {
            world,
            fleet,
            links: Arc::new(links),
            made: Arc::default(),
            stop: CancellationToken::new(),
        }
    }

    /// Makes a share of a full campaign's faults in a time, in an order that the seed decides.
    ///
    /// # Errors
    /// A fault could not be made or healed.
    pub async fn run(&self, share: f64, time: Duration, seed: u64) -> anyhow::Result<()> {
        let lanes = [Lane::Processes, Lane::Links, Lane::Nodes].map(|lane| {
            let mut random = fastrand::Rng::with_seed(seed ^ lane as u64);
            let mut faults = Vec::new();
            for (kind, _, full) in Kind::ALL.iter().filter(|(_, of, _)| *of == lane) {
                let count = (f64::from(*full) * share).round().max(1.0) as usize;
                faults.extend(std::iter::repeat_n(*kind, count));
            }
            random.shuffle(&mut faults);
            self.lane(faults, time)
        });
        futures_util::future::try_join_all(lanes).await.map(drop)
    }

    async fn lane(&self, faults: Vec<Kind>, time: Duration) -> anyhow::Result<()> {
        let began = tokio::time::Instant::now();
        let count = faults.len();
        for (number, kind) in faults.into_iter().enumerate() {
            let at = began + time.mul_f64(number as f64 / count as f64);
            tokio::select! {
                () = tokio::time::sleep_until(at) => {}
                () = self.stop.cancelled() => return Ok(()),
            }
            let from = now();
            let pid = self.make(kind).await.with_context(|| format!("{kind:?}"))?;
            self.made.lock().await.push(Fault { kind, from, until: now(), pid });
        }
        Ok(())
    }

    /// The faults that were made.
    pub async fn made(&self) -> Vec<Fault> {
        self.made.lock().await.clone()
    }

    /// Ends the lanes after the fault that each is at.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    async fn make(&self, kind: Kind) -> anyhow::Result<Option<u32>> {
        match kind {
            Kind::WorkerKilled => Ok(self.kill(Role::Worker)),
            Kind::ServerKilled => Ok(self.kill(Role::Server)),
            Kind::ClientKilled => Ok(self.kill(Role::Client)),
            Kind::WorkerPaused => {
                let pid = self.fleet.any(Role::Worker);
                let pause = LEASE.mul_f64(1.5 + fastrand::f64() * 1.5);
                if let Some(pid) = pid {
                    nodes::signal(pid, "-STOP");
                    tokio::time::sleep(pause).await;
                    nodes::signal(pid, "-CONT");
                }
                Ok(pid)
            }
            Kind::RollingRestart => {
                for role in [Role::Server, Role::Worker] {
                    for pid in self.fleet.pids(role) {
                        nodes::terminate(pid);
                        tokio::time::sleep(Duration::from_millis(700)).await;
                    }
                }
                Ok(None)
            }
            Kind::LinkReset | Kind::LinkSwallowed | Kind::LinkCut | Kind::LinkSlow => {
                self.link(kind).await;
                Ok(None)
            }
            Kind::BrokerKilled
            | Kind::BrokerRestarted
            | Kind::MemoryAlarm
            | Kind::DiskAlarm
            | Kind::ConnectionsClosed => self.broker(kind).await.map(|()| None),
            Kind::StoreKilled
            | Kind::StorePaused
            | Kind::StoreFull
            | Kind::StoreReadOnly
            | Kind::ScriptsFlushed => self.store(kind).await.map(|()| None),
        }
    }

    fn kill(&self, role: Role) -> Option<u32> {
        let pid = self.fleet.any(role)?;
        nodes::kill(pid);
        Some(pid)
    }

    async fn link(&self, kind: Kind) {
        let Some((link, proxy)) = fastrand::choice(self.links.iter()) else { return };
        match kind {
            Kind::LinkReset => proxy.reset(),
            Kind::LinkSlow => {
                proxy.slow(20_000);
                tokio::time::sleep(Duration::from_secs(2)).await;
                proxy.heal();
            }
            Kind::LinkCut => {
                proxy.arm(cut(*link));
                for _ in 0..20 {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    if proxy.is_done() {
                        break;
                    }
                }
                proxy.heal();
            }
            _ => {
                proxy.swallow();
                tokio::time::sleep(Duration::from_millis(fastrand::u64(500..4500))).await;
                proxy.heal();
            }
        }
    }

    async fn broker(&self, kind: Kind) -> anyhow::Result<()> {
        let (raise, clear) = match kind {
            Kind::MemoryAlarm => (
                ["set_vm_memory_high_watermark", "0.00001"],
                ["set_vm_memory_high_watermark", "0.4"],
            ),
            Kind::DiskAlarm => {
                (["set_disk_free_limit", "100000GB"], ["set_disk_free_limit", "50MB"])
            }
            Kind::ConnectionsClosed => {
                return self.control(["close_all_connections", "by the campaign"]).await;
            }
            _ => {
                let world = Arc::clone(&self.world);
                return Ok(tokio::task::spawn_blocking(move || {
                    let rabbitmq = &mut world.blocking_lock().rabbitmq;
                    match kind {
                        Kind::BrokerKilled => rabbitmq.kill(),
                        _ => rabbitmq.stop_and_wait(),
                    }
                    rabbitmq.start_again()
                })
                .await??);
            }
        };
        self.control(raise).await?;
        tokio::time::sleep(Duration::from_secs(10)).await;
        self.control(clear).await
    }

    async fn control(&self, words: [&'static str; 2]) -> anyhow::Result<()> {
        let world = Arc::clone(&self.world);
        let run = move || world.blocking_lock().rabbitmq.control(&words);
        Ok(tokio::task::spawn_blocking(run).await?.map(drop)?)
    }

    async fn store(&self, kind: Kind) -> anyhow::Result<()> {
        if kind == Kind::StoreKilled {
            let world = Arc::clone(&self.world);
            return Ok(tokio::task::spawn_blocking(move || {
                let mut world = world.blocking_lock();
                world.redis.kill();
                world.redis.start_again()
            })
            .await??);
        }
        let world = self.world.lock().await;
        if kind == Kind::StorePaused {
            let pid = world.redis.pid();
            nodes::signal(pid, "-STOP");
            tokio::time::sleep(Duration::from_secs(5)).await;
            nodes::signal(pid, "-CONT");
            return Ok(());
        }
        let mut root = world.root().await?;
        let mut say = async |words: &[&str]| {
            let mut command = redis::cmd(words[0]);
            command.arg(&words[1..]);
            command.exec_async(&mut root).await
        };
        match kind {
            Kind::ScriptsFlushed => say(&["SCRIPT", "FLUSH"]).await?,
            Kind::StoreFull => {
                say(&["CONFIG", "SET", "maxmemory", "1mb"]).await?;
                tokio::time::sleep(Duration::from_secs(10)).await;
                say(&["CONFIG", "SET", "maxmemory", "0"]).await?;
            }
            _ => {
                // Nobody listens on port 1, so nothing is taken over from there.
                say(&["REPLICAOF", "127.0.0.1", "1"]).await?;
                tokio::time::sleep(Duration::from_secs(5)).await;
                say(&["REPLICAOF", "NO", "ONE"]).await?;
            }
        }
        Ok(())
    }
}

/// Right where a careless program loses something.
fn cut(link: Link) -> Cut {
    let nth = fastrand::u64(1..20);
    let how = How::Reset;
    match link.language() {
        Language::Amqp if fastrand::bool() => {
            let what = Some(What::Confirm);
            Cut { direction: Direction::Down, what, nth, passes: false, how }
        }
        Language::Amqp => {
            let what = Some(fastrand::choice([What::Publish, What::Ack]).unwrap_or(What::Publish));
            Cut { direction: Direction::Up, what, nth, passes: true, how }
        }
        // The script has run, and its reply is lost.
        Language::Resp if fastrand::bool() => {
            Cut { direction: Direction::Down, what: None, nth, passes: false, how }
        }
        Language::Resp => {
            let what = Some(What::Script);
            Cut { direction: Direction::Up, what, nth, passes: true, how }
        }
    }
}

/// How often each kind was made.
pub fn by_kind(faults: &[Fault]) -> BTreeMap<Kind, usize> {
    let mut counts = BTreeMap::new();
    for fault in faults {
        *counts.entry(fault.kind).or_default() += 1;
    }
    counts
}
