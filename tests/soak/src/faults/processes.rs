//! Faults of our own processes, and of their disks.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::time::Instant;

use super::{Effect, Injector, Kind};
use crate::fleet::{Role, has_ended, history};
use crate::history::{has_failed_to_submit, is_at_work, now};

/// Longer than the leases of the campaign, and than the broker waits for a heartbeat.
const PAUSE_MS: std::ops::Range<u64> = 7_000..10_000;
/// For so long a disk fails; a full one again, so many times, until a submission has met with it.
const DISK_FAILS_S: &str = "2";
const FULL_TIMES_MAX: u32 = 5;
/// A process that is stopped in order has ended by then, also one that is paused meanwhile.
const ENDS_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at it.
const ROLLING: Duration = Duration::from_millis(100);

/// So many of ten deaths are aimed at a worker in which a handler runs; the others may fall between
/// a claim and its run, or between an outcome and its acknowledgement.
const AT_WORK_IN_TEN: u32 = 8;
/// Most handlers run for up to twice as long.
const SHORT: Duration = Duration::from_millis(100);
/// For so long it is waited until one does: another fault may keep all of them from it.
const KILLED_WITHIN: Duration = Duration::from_secs(3);
const PAUSED_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(5);

impl Injector {
    pub(super) async fn process(&self, kind: Kind) -> anyhow::Result<Effect> {
        let pid = match kind {
            Kind::WorkerKilled if fastrand::u32(..10) < AT_WORK_IN_TEN => {
                kill(self.stopped_at_work(Duration::MAX, KILLED_WITHIN).await)
            }
            Kind::WorkerKilled => kill(self.fleet.any(Role::Worker)),
            Kind::ServerKilled => kill(self.fleet.any(Role::Server)),
            Kind::ClientKilled => kill(self.fleet.any(Role::Client)),
            // What it runs has a successor when it goes on, and wants to write its outcome then. (A
            // long run hears of it before.)
            Kind::WorkerPaused => pause(self.stopped_at_work(SHORT, PAUSED_WITHIN).await).await,
            Kind::ServerPaused => pause(self.fleet.any(Role::Server)).await,
            Kind::ClientPaused => pause(self.fleet.any(Role::Client)).await,
            Kind::RollingRestart => {
                self.roll().await?;
                return Ok(Effect::default());
            }
            Kind::JournalFull => self.full_disk().await?,
            _ => {
                let Some(pid) = self.fleet.any(Role::Client) else { return Ok(Effect::on(None)) };
                // A journal that has failed to sync takes nothing more: its process must end.
                kill(self.disk(pid, "fsync,fdatasync", "EIO").await?)
            }
        };
        Ok(Effect::on(pid))
    }

    /// Stops all servers and workers in order, one after another.
    async fn roll(&self) -> anyhow::Result<()> {
        for role in [Role::Server, Role::Worker] {
            for pid in self.fleet.pids(role) {
                nodes::terminate(pid);
                let until = Instant::now() + ENDS_WITHIN;
                while self.fleet.pids(role).contains(&pid) {
                    ensure!(Instant::now() < until, "{role:?} {pid} ignores SIGTERM");
                    tokio::time::sleep(ROLLING).await;
                }
            }
        }
        Ok(())
    }

    /// A worker in which a handler runs just now, and not for longer than that; any worker, if none
    /// does for a while.
    async fn at_work(&self, for_at_most: Duration, within: Duration) -> Option<u32> {
        let until = Instant::now() + within;
        while Instant::now() < until {
            let mut workers = self.fleet.awake(Role::Worker);
            fastrand::shuffle(&mut workers);
            let is_at_work = |worker: &&(String, u32)| self.is_at_work(worker, for_at_most);
            if let Some((_, pid)) = workers.iter().find(is_at_work) {
                return Some(*pid);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.fleet.any(Role::Worker)
    }

    fn is_at_work(&self, (name, pid): &(String, u32), for_at_most: Duration) -> bool {
        let long = u64::try_from(for_at_most.as_micros()).unwrap_or(u64::MAX);
        let path = history(self.fleet.directory(), name);
        is_at_work(&path, *pid, now().saturating_sub(long)).unwrap_or(false)
    }

    /// Stops a worker in which a handler runs, and has not for longer than that; any worker, if
    /// that fails for a while. The handler may end before the signal comes: then the worker goes
    /// on, and it is tried again.
    async fn stopped_at_work(&self, for_at_most: Duration, within: Duration) -> Option<u32> {
        let until = Instant::now() + within;
        loop {
            let pid = self.at_work(for_at_most, until - Instant::now()).await?;
            nodes::signal(pid, "-STOP");
            let workers = self.fleet.processes(Role::Worker);
            let stopped = workers.iter().find(|(_, of)| *of == pid);
            let is_caught = stopped
                .is_some_and(|worker| self.is_at_work(worker, for_at_most.saturating_mul(2)));
            if is_caught || Instant::now() >= until {
                return Some(pid);
            }
            nodes::signal(pid, "-CONT");
        }
    }

    /// Fills the disk of a client, which may just have nothing to submit.
    async fn full_disk(&self) -> anyhow::Result<Option<u32>> {
        let Some((name, pid)) = fastrand::choice(self.fleet.awake(Role::Client)) else {
            return Ok(None);
        };
        let path = history(self.fleet.directory(), &name);
        let since = now();
        let mut full = None;
        for _ in 0..FULL_TIMES_MAX {
            let again = self.disk(pid, "pwrite64", "ENOSPC").await?;
            full = full.or(again);
            if again.is_none() || has_failed_to_submit(&path, pid, since)? {
                break;
            }
        }
        Ok(full)
    }

    /// Lets system calls of a client fail: no disk can be made to fail without a right to make one.
    /// Its history is written by another call.
    async fn disk(&self, pid: u32, calls: &str, error: &str) -> anyhow::Result<Option<u32>> {
        // `timeout` ends `strace` with SIGINT, upon which it lets go of the process.
        let output = tokio::process::Command::new("timeout")
            .args(["-s", "INT", DISK_FAILS_S, "strace", "-f", "-q", "-o", "/dev/null"])
            .args(["-p", &pid.to_string(), "-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={calls}:error={error}")])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("strace, of the Debian package strace")?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !said.contains("attach") {
            return Ok(Some(pid));
        }
        // Another fault may have ended it first: Linux says that this is not permitted.
        let is_gone = said.contains("No such process") || has_ended(pid);
        ensure!(is_gone, "strace cannot attach: {said}");
        Ok(None)
    }
}

fn kill(pid: Option<u32>) -> Option<u32> {
    nodes::kill(pid?);
    pid
}

async fn pause(pid: Option<u32>) -> Option<u32> {
    // Nothing new for one that is stopped already.
    nodes::signal(pid?, "-STOP");
    tokio::time::sleep(Duration::from_millis(fastrand::u64(PAUSE_MS))).await;
    nodes::signal(pid?, "-CONT");
    pid
}
