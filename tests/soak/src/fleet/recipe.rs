//! What processes are started with.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use broker::rights::{SERVER_USER, WORKER_USER};
use tokio::process::{Child, Command};

use super::{CRASH_AT, Place, Role, history, journal};
use crate::load::Mix;
use crate::world::{Link, PREFIX, World};

/// The programs of a fleet.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The program under test.
    pub counterfoil: PathBuf,
    /// The campaign's own, which is a client or a worker.
    pub soak: PathBuf,
}

impl Programs {
    /// The campaign's own, and the program under test that was built beside it.
    ///
    /// # Errors
    /// It is not built.
    pub fn beside(soak: PathBuf) -> anyhow::Result<Self> {
        let counterfoil = soak.with_file_name("counterfoil");
        ensure!(counterfoil.is_file(), "{} is not built", counterfoil.display());
        Ok(Self { counterfoil, soak })
    }
}

/// What processes are started with.
#[derive(Debug)]
pub struct Recipe {
    /// Where logs and histories are.
    pub directory: PathBuf,
    /// What is run.
    pub programs: Programs,
    /// What each client submits, and how fast.
    pub jobs_per_client: u64,
    /// Jobs a second of each client.
    pub rate: f64,
    /// What the clients do.
    pub mix: Mix,
    /// For every process.
    pub environment: Vec<(String, String)>,
}

/// The settings of a campaign: everything that waits, waits for less long.
pub(super) fn environment(world: &World) -> Vec<(String, String)> {
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
        // Its workers are killed for reasons that have nothing to do with their jobs.
        ("WORKER_ALONE_AFTER", "20"),
        ("WORKER_BACKOFF_FIRST_MS", "100"),
        ("CLIENT_RESEND_AFTER_MS", "2000"),
        ("CLIENT_ANSWER_TIMEOUT_MS", "5000"),
        ("LOG_FILTER", "info"),
    ]
    .map(|(name, value)| (format!("COUNTERFOIL_{name}"), value.to_owned()));
    urls.into_iter().chain(settings).collect()
}

impl Recipe {
    /// Whether every process of a role is to crash somewhere.
    pub(super) fn arms(&self, role: Role) -> bool {
        let place = match role {
            Role::Server => "registrar.",
            Role::Worker => "worker.",
            Role::Client => "client.",
        };
        self.environment.iter().any(|(name, at)| name == CRASH_AT && at.starts_with(place))
    }

    fn url(&self, name: &str) -> String {
        let of = |(known, _): &&(String, String)| known == name;
        self.environment.iter().find(of).map(|(_, url)| url.clone()).unwrap_or_default()
    }

    pub(super) fn start(&self, place: &Place) -> anyhow::Result<Child> {
        let name = place.name();
        let (amqp, redis, mut command) = match place.role {
            Role::Server => {
                let mut command = Command::new(&self.programs.counterfoil);
                command.arg("server");
                ("SOAK_SERVER_AMQP", "SOAK_SERVER_REDIS", command)
            }
            Role::Worker => {
                let mut command = Command::new(&self.programs.soak);
                command.args(["worker", "--history"]).arg(self.history(&name));
                ("SOAK_WORKER_AMQP", "SOAK_WORKER_REDIS", command)
            }
            Role::Client => {
                let mut command = Command::new(&self.programs.soak);
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
            .envs(place.crashes.environment())
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
