//! Our processes: servers and workers, as an operator starts them.

use anyhow::Context as _;
use broker::rights::{SERVER_USER, WORKER_USER};
use harness::Process;

use crate::ground::Ground;
use crate::stats::median;
use crate::traffic::IN_FLIGHT;
use crate::usage::{cpu_seconds, cpu_seconds_with_children, peak_memory};

/// How many of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Servers, each with every role.
    pub servers: usize,
    /// Workers.
    pub workers: usize,
}

impl Size {
    /// One of each.
    pub const ONE: Self = Self { servers: 1, workers: 1 };
}

/// Which programs serve the jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    /// Counterfoil.
    Ours,
    /// The same messages and calls of scripts, and nothing else.
    Floor,
}

/// Running servers and workers.
#[derive(Debug)]
pub struct Fleet {
    make: Make,
    servers: Vec<Process>,
    workers: Vec<Process>,
}

/// Seconds of processor time.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct Cpu {
    /// RabbitMQ.
    pub broker: f64,
    /// Redis, with what has written its append-only file anew.
    pub store: f64,
    /// All servers.
    pub servers: f64,
    /// All workers.
    pub workers: f64,
    /// The client, which is the bench itself.
    pub client: f64,
}

impl Cpu {
    /// What was used since.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            broker: self.broker - before.broker,
            store: self.store - before.store,
            servers: self.servers - before.servers,
            workers: self.workers - before.workers,
            client: self.client - before.client,
        }
    }

    /// For each of some jobs, in microseconds.
    #[must_use]
    pub fn per_job(self, jobs: usize) -> Self {
        let each = |seconds: f64| seconds * 1e6 / jobs as f64;
        Self {
            broker: each(self.broker),
            store: each(self.store),
            servers: each(self.servers),
            workers: each(self.workers),
            client: each(self.client),
        }
    }

    /// The middle of some runs, for each part by itself; nothing of none.
    #[must_use]
    pub fn median(runs: &[Self]) -> Option<Self> {
        let of = |part: fn(&Self) -> f64| median(&runs.iter().map(part).collect::<Vec<_>>());
        (!runs.is_empty()).then(|| Self {
            broker: of(|it| it.broker),
            store: of(|it| it.store),
            servers: of(|it| it.servers),
            workers: of(|it| it.workers),
            client: of(|it| it.client),
        })
    }

    /// All of it.
    pub fn sum(self) -> f64 {
        self.broker + self.store + self.servers + self.workers + self.client
    }
}

impl Fleet {
    /// Starts as many as are wanted and waits until they work.
    ///
    /// # Errors
    /// One of them does not start.
    pub async fn start(ground: &Ground, make: Make, size: Size) -> anyhow::Result<Self> {
        let mut fleet = Self { make, servers: Vec::new(), workers: Vec::new() };
        for _ in 0..size.servers {
            let (program, role) = match make {
                Make::Ours => ("counterfoil", "server"),
                Make::Floor => ("counterfoil-bench", "floor-server"),
            };
            fleet.servers.push(start(ground, program, role, SERVER_USER).await?);
        }
        fleet.add_workers(ground, size.workers).await?;
        Ok(fleet)
    }

    /// Starts more workers.
    ///
    /// # Errors
    /// One of them does not start.
    pub async fn add_workers(&mut self, ground: &Ground, count: usize) -> anyhow::Result<()> {
        for _ in 0..count {
            let role = match self.make {
                Make::Ours => "worker",
                Make::Floor => "floor-worker",
            };
            self.workers.push(start(ground, "counterfoil-bench", role, WORKER_USER).await?);
        }
        Ok(())
    }

    /// Stops the workers; the servers stay.
    ///
    /// # Errors
    /// One of them does not end.
    pub async fn stop_workers(&mut self) -> anyhow::Result<()> {
        for worker in self.workers.drain(..) {
            worker.terminate().await?;
        }
        Ok(())
    }

    /// What has been used so far.
    ///
    /// # Errors
    /// One of the processes has ended.
    pub fn cpu(&self, ground: &Ground) -> anyhow::Result<Cpu> {
        let sum = |processes: &[Process]| -> anyhow::Result<f64> {
            processes.iter().map(|process| cpu_seconds(process.pid()?)).sum()
        };
        Ok(Cpu {
            broker: cpu_seconds(ground.broker_pid()?)?,
            store: cpu_seconds_with_children(ground.redis.pid())?,
            servers: sum(&self.servers)?,
            workers: sum(&self.workers)?,
            client: cpu_seconds(std::process::id())?,
        })
    }

    /// The processes of all of them.
    ///
    /// # Errors
    /// One of them has ended.
    pub fn pids(&self) -> anyhow::Result<Vec<u32>> {
        self.servers.iter().chain(&self.workers).map(Process::pid).collect()
    }

    /// The most memory that each server, and each worker, has had, in bytes.
    ///
    /// # Errors
    /// One of the processes has ended.
    pub fn memory(&self) -> anyhow::Result<(u64, u64)> {
        let most = |processes: &[Process]| -> anyhow::Result<u64> {
            let each = processes.iter().map(|process| peak_memory(process.pid()?));
            Ok(each.collect::<anyhow::Result<Vec<u64>>>()?.into_iter().max().unwrap_or_default())
        };
        Ok((most(&self.servers)?, most(&self.workers)?))
    }

    /// Stops all in an orderly way, workers first.
    ///
    /// # Errors
    /// One of them does not end.
    pub async fn stop(self) -> anyhow::Result<()> {
        for process in self.workers.into_iter().chain(self.servers) {
            process.terminate().await?;
        }
        Ok(())
    }
}

async fn start(ground: &Ground, program: &str, role: &str, user: &str) -> anyhow::Result<Process> {
    let environment = [
        ("COUNTERFOIL_AMQP_URL", ground.amqp_url(user)),
        ("COUNTERFOIL_REDIS_URL", ground.redis_url(user)),
        ("COUNTERFOIL_LOG_FILTER", "warn".to_owned()),
        // As BullMQ and apalis-redis, nearly; Celery and Dramatiq have fewer in hand.
        ("COUNTERFOIL_WORKER_SLOTS", IN_FLIGHT.to_string()),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value));
    let (process, mut says) = Process::start(program, &[role], &environment, &ground.directory)?;
    says.until("working").await.with_context(|| format!("{program} {role}"))?;
    Ok(process)
}
