//! Runs that are compared with each other: one after another, round by round, so that what changes
//! on the machine changes for all of them.

use std::process::Stdio;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use crate::fleet::{Cpu, Fleet, Make, Size};
use crate::ground::{Ground, STRANGER};
use crate::handlers::NOTHING;
use crate::traffic::{self, Answers, IN_FLIGHT, Traffic};
use crate::verify::{until_all_done, until_all_done_at_cost};
use crate::{bulk, floor};

/// Who works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Counterfoil, with a client that speaks AMQP.
    Ours(Answers),
    /// Counterfoil, with its own client, journal and all: many submissions at once.
    Bulk,
    /// The same number of messages and scripts.
    Floor(Answers),
    /// Another job queue: the program, its arguments, and what it is called.
    Peer(&'static str),
}

/// One of them, and what it has shown.
#[derive(Debug, Clone)]
pub struct Contestant {
    /// Its name in the report.
    pub name: &'static str,
    /// Who it is.
    pub who: Who,
    /// The type of the jobs, where they are ours.
    pub job_type: &'static str,
    /// Bytes of a body.
    pub bytes: usize,
    /// Jobs a second, in the last run; a guess before the first one.
    pub rate: f64,
    /// All runs, in jobs a second.
    pub runs: Vec<f64>,
    /// How many jobs a second another job queue's clients have submitted meanwhile.
    pub submitting: Vec<f64>,
    /// Processor time of a job, of all runs, where the processes are ours.
    pub cpu: Vec<Cpu>,
    /// What it says of its versions.
    pub versions: Vec<(String, String)>,
}

/// Jobs before each run, so that everything is connected and warm.
const WARM_UP: usize = 2000;
const JOBS_MIN: usize = 2000;

impl Contestant {
    /// One that has not run yet.
    pub fn new(name: &'static str, who: Who, rate: f64) -> Self {
        Self {
            name,
            who,
            job_type: NOTHING,
            bytes: 200,
            rate,
            runs: Vec::new(),
            submitting: Vec::new(),
            cpu: Vec::new(),
            versions: Vec::new(),
        }
    }

    /// One run of about so many seconds.
    ///
    /// # Errors
    /// Something was lost, or a program fails.
    pub async fn run(&mut self, ground: &Ground, seconds: f64) -> anyhow::Result<()> {
        // A positive number of jobs that fits.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
        let jobs = ((self.rate * seconds) as usize).max(JOBS_MIN);
        let took = match self.who {
            Who::Ours(answers) => self.ours(ground, Make::Ours, answers, jobs).await?,
            Who::Floor(answers) => self.ours(ground, Make::Floor, answers, jobs).await?,
            Who::Bulk => self.bulk(ground, jobs).await?,
            Who::Peer(program) => self.peer(ground, program, jobs).await?,
        };
        self.rate = jobs as f64 / took;
        self.runs.push(self.rate);
        println!("   {:<52} {:>8.0} jobs/s", self.name, self.rate);
        Ok(())
    }

    async fn ours(
        &mut self,
        ground: &Ground,
        make: Make,
        answers: Answers,
        jobs: usize,
    ) -> anyhow::Result<f64> {
        ground.empty().await?;
        let fleet = Fleet::start(ground, make, Size::ONE).await?;
        let of = |prefix: &str, jobs| Traffic {
            job_type: self.job_type,
            bytes: self.bytes,
            ..Traffic::new(format!("{prefix}{}", self.runs.len()), jobs, answers)
        };
        let (mut took, mut used) = (0.0, Cpu::default());
        for traffic in [of("w", WARM_UP), of("r", jobs)] {
            let run = traffic::run(ground, &fleet, &traffic).await?;
            let (seconds, cpu) = match make {
                Make::Ours => {
                    let store = ground.store().await?;
                    until_all_done_at_cost(ground, &store, &fleet, &traffic, &run).await?
                }
                Make::Floor if answers == Answers::None => {
                    let last = floor::until_done(&mut ground.redis().await?, traffic.jobs).await?;
                    let seconds = (last.0 - run.began.0) as f64 / 1000.0;
                    (seconds, fleet.cpu(ground)?.since(run.cpu_before))
                }
                Make::Floor => (run.answered, run.cpu),
            };
            // Where answers are wanted, a job is over when they are here.
            let is_answered = answers != Answers::None;
            took = if is_answered { seconds.max(run.answered) } else { seconds };
            let cpu = if is_answered { run.cpu } else { cpu };
            used = cpu.per_job(traffic.jobs);
        }
        self.cpu.push(used);
        fleet.stop().await?;
        Ok(took)
    }

    async fn bulk(&mut self, ground: &Ground, jobs: usize) -> anyhow::Result<f64> {
        ground.empty().await?;
        let fleet = Fleet::start(ground, Make::Ours, Size::ONE).await?;
        let store = ground.store().await?;
        let (mut took, mut used) = (0.0, Cpu::default());
        for (prefix, jobs) in [("bw", WARM_UP), ("b", jobs)] {
            let name = format!("{prefix}{}", self.runs.len());
            let traffic = Traffic::new(name, jobs, Answers::Batched);
            let run = bulk::run(ground, &fleet, &traffic).await?;
            used = run.cpu.per_job(jobs);
            took = until_all_done(ground, &store, &traffic, &run).await?.max(run.answered);
        }
        self.cpu.push(used);
        fleet.stop().await?;
        Ok(took)
    }

    async fn peer(&mut self, ground: &Ground, program: &str, jobs: usize) -> anyhow::Result<f64> {
        #[derive(Deserialize)]
        struct Said {
            jobs: usize,
            seconds: f64,
            submitted_seconds: f64,
            versions: std::collections::BTreeMap<String, String>,
        }
        ground.empty().await?;
        let mut command = peer_command(program)?;
        command
            .args(["--jobs", &jobs.to_string(), "--bytes", &self.bytes.to_string()])
            .args(["--in-flight", &IN_FLIGHT.to_string()])
            .env("AMQP_URL", ground.amqp_url(STRANGER))
            .env("REDIS_URL", peer_redis(ground))
            .current_dir(&ground.directory)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = command.output().await?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "{program}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let said: Said = serde_json::from_str(said.trim()).with_context(|| said.clone())?;
        ensure!(said.jobs == jobs, "{program} ran {} jobs, and not {jobs}", said.jobs);
        self.versions = said.versions.into_iter().collect();
        self.submitting.push(jobs as f64 / said.submitted_seconds);
        Ok(said.seconds)
    }
}

/// A peer has a database of its own.
fn peer_redis(ground: &Ground) -> String {
    let url = ground.redis_url(STRANGER);
    url.strip_suffix("/0").map_or(url.clone(), |url| format!("{url}/9"))
}

/// Whether a peer that need not be there is: its program can be started.
///
/// # Errors
/// The project is not where it was built.
pub async fn is_installed(program: &str) -> anyhow::Result<bool> {
    let mut command = peer_command(program)?;
    command.arg("--help").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command.status().await.is_ok_and(|status| status.success()))
}

/// The program of a peer, with what `tests/bench/peers/install.sh` has put into `target/peers`.
fn peer_command(program: &str) -> anyhow::Result<tokio::process::Command> {
    let workspace = harness::workspace().canonicalize()?;
    let script = workspace.join("tests/bench/peers").join(program);
    let installed = workspace.join("target/peers");
    let mut command = match program.rsplit_once('.').map(|(_, extension)| extension) {
        Some("py") => tokio::process::Command::new(installed.join("python/bin/python")),
        Some("mjs") => tokio::process::Command::new("node"),
        _ => return Ok(tokio::process::Command::new(installed.join(program))),
    };
    command.arg(script).env("NODE_PATH", installed.join("node/node_modules"));
    Ok(command)
}
