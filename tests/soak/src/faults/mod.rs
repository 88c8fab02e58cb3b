//! The faults of a campaign: what there is, how often, and how each is made.

mod links;
mod nodes;
mod processes;
mod queues;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::fleet::Fleet;
use crate::history::{Micros, now};
use crate::proxy::Proxy;
use crate::world::{Link, World};

macro_rules! kinds {
    ($($kind:ident $lane:ident $full:literal $what:literal)*) => {
        /// What is done to the system.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Kind {
            $(#[doc = $what] $kind,)*
        }

        impl Kind {
            /// All of them, each with how often it comes in a full campaign.
            pub const ALL: &[(Self, u32)] = &[$((Self::$kind, $full),)*];

            /// What it is made beside, and what it waits for.
            pub const fn lane(self) -> Lane {
                match self { $(Self::$kind => Lane::$lane,)* }
            }

            /// What is done.
            pub const fn what(self) -> &'static str {
                match self { $(Self::$kind => $what,)* }
            }
        }
    };
}

impl Kind {
    /// Whether the store loses what it has acknowledged.
    pub const fn is_roll_back(self) -> bool {
        matches!(self, Self::RolledBack | Self::StaleReplica)
    }
}

/// Faults of a lane come one after another; the lanes run beside each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Processes of ours are ended.
    Kills,
    /// Processes of ours are stopped for a while, and their disks fail.
    Pauses,
    /// The links between them and the nodes fail.
    Links,
    /// RabbitMQ and Redis fail.
    Nodes,
}

impl Lane {
    const ALL: [Self; 4] = [Self::Kills, Self::Pauses, Self::Links, Self::Nodes];
}

kinds! {
    WorkerKilled Kills 400
        "A worker gets SIGKILL."
    ServerKilled Kills 100
        "A server gets SIGKILL."
    ClientKilled Kills 100
        "A client gets SIGKILL."
    RollingRestart Kills 10
        "All servers and workers are stopped in order, one after another."
    WorkerPaused Pauses 40
        "A worker gets SIGSTOP for longer than its leases last, and than the broker waits for it."
    ServerPaused Pauses 10
        "A server gets SIGSTOP for longer than the broker waits for it."
    ClientPaused Pauses 10
        "A client gets SIGSTOP for longer than the broker waits for it."
    JournalFull Pauses 10
        "Every write to a client's journal fails for 2 s, and again until a submission has met \
         with it: the disk is full."
    JournalUnsynced Pauses 10
        "Every sync of a client's journal fails for 2 s; then the client is killed."
    LinkReset Links 100
        "All connections of a link are reset."
    LinkSwallowed Links 100
        "A link takes everything and passes on nothing, for a while, and is reset."
    LinkCut Links 100
        "A connection is cut exactly before a confirm, after a publish, or before a script's reply."
    HalfOpen Links 100
        "Connections carry nothing any more, or nothing one way, for 1 to 15 s; new ones work."
    LinkSlow Links 20
        "A link carries 20 kB a second, for a while."
    ReplyQueueDeleted Links 25
        "A queue is deleted to which a client has changes pushed."
    ReplyQueueFull Links 25
        "A queue to which a client has changes pushed takes no message, for a while."
    WorkQueueFull Links 10
        "The work queue takes no message, for a while."
    BrokerKilled Nodes 8
        "RabbitMQ gets SIGKILL and is started again."
    BrokerRestarted Nodes 4
        "RabbitMQ is stopped in order and started again."
    BrokerPaused Nodes 4
        "RabbitMQ gets SIGSTOP for 8 s."
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
    RolledBack Nodes 40
        "Redis, which syncs every second, is killed and has lost the tail of its log."
    StaleReplica Nodes 10
        "Redis comes back as it was 2 to 4 s before, as a replica that lags and is promoted."
}

/// One fault, as it was made.
#[derive(Debug, Clone, Serialize)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// From when.
    pub from: Micros,
    /// Until when.
    pub until: Micros,
    /// What else is known of it.
    #[serde(flatten)]
    pub effect: Effect,
}

/// What a fault has hit, and whether it was noticed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Effect {
    /// The process that it hit, if it was one.
    pub pid: Option<u32>,
    /// The queue that it hit, if it was one.
    pub queue: Option<String>,
    /// For a queue that was deleted: what it held, which went with it.
    pub taken: Vec<Value>,
    /// For an alarm: whether a client was told. For a roll-back: whether the epoch has grown.
    pub noticed: Option<bool>,
    /// For a roll-back: the stretch of time of which anything may be lost.
    pub lost: Option<(Micros, Micros)>,
    /// The link that it hit, if it was one.
    pub link: Option<Link>,
    /// It was not made: the process was gone, the frame did not come, the broker was away.
    pub has_missed: bool,
}

impl Effect {
    fn on(pid: Option<u32>) -> Self {
        Self { pid, has_missed: pid.is_none(), ..Self::default() }
    }
}

/// What makes faults.
#[derive(Clone)]
pub struct Injector {
    world: Arc<Mutex<World>>,
    fleet: Fleet,
    links: Arc<Vec<(Link, Arc<Proxy>)>>,
    made: Arc<Mutex<Vec<Fault>>>,
    pace: f64,
}

impl Injector {
    /// An injector for a world and its fleet. Faults of nodes last for this share of their time.
    pub fn new(
        world: Arc<Mutex<World>>,
        links: Vec<(Link, Arc<Proxy>)>,
        fleet: Fleet,
        pace: f64,
    ) -> Self {
        Self { world, fleet, links: Arc::new(links), made: Arc::default(), pace }
    }

    /// Makes so many faults of each kind in a time, in an order that the seed decides.
    ///
    /// # Errors
    /// A fault could not be made or healed.
    pub async fn run(&self, plan: &[(Kind, u32)], time: Duration, seed: u64) -> anyhow::Result<()> {
        let lanes = Lane::ALL.map(|lane| {
            let mut random = fastrand::Rng::with_seed(seed ^ lane as u64);
            let mut faults = Vec::new();
            for (kind, count) in plan.iter().filter(|(kind, _)| kind.lane() == lane) {
                faults.extend(std::iter::repeat_n(*kind, *count as usize));
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
            // The first one after a moment: everything is to have started.
            let at = began + time.mul_f64((number as f64 + 0.5) / count as f64);
            tokio::time::sleep_until(at).await;
            self.once(kind).await?;
        }
        Ok(())
    }

    /// Makes one fault now.
    ///
    /// # Errors
    /// It could not be made or healed.
    pub async fn once(&self, kind: Kind) -> anyhow::Result<()> {
        let from = now();
        let effect = self.make(kind).await.with_context(|| format!("{kind:?}"))?;
        self.made.lock().await.push(Fault { kind, from, until: now(), effect });
        Ok(())
    }

    /// The faults that were made.
    pub async fn made(&self) -> Vec<Fault> {
        self.made.lock().await.clone()
    }

    async fn make(&self, kind: Kind) -> anyhow::Result<Effect> {
        match kind.lane() {
            Lane::Kills | Lane::Pauses => self.process(kind).await,
            Lane::Links
                if matches!(
                    kind,
                    Kind::ReplyQueueDeleted | Kind::ReplyQueueFull | Kind::WorkQueueFull
                ) =>
            {
                Ok(self.queue(kind).await)
            }
            Lane::Links => Ok(self.link(kind).await),
            Lane::Nodes => self.node(kind).await,
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
