//! Faults of our own processes, and of their disks.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::{Effect, Injector, Kind};
use crate::fleet::Role;

/// Longer than the leases of the campaign, and than the broker waits for a heartbeat.
const PAUSE_MS: std::ops::Range<u64> = 7_000..10_000;
/// For so long a disk fails.
const DISK_FAILS_S: &str = "2";
/// Between two processes of a rolling restart.
const ROLLING: Duration = Duration::from_millis(700);

impl Injector {
    pub(super) async fn process(&self, kind: Kind) -> anyhow::Result<Effect> {
        let pid = match kind {
            Kind::WorkerKilled => self.kill(Role::Worker),
            Kind::ServerKilled => self.kill(Role::Server),
            Kind::ClientKilled => self.kill(Role::Client),
            Kind::WorkerPaused => self.pause(Role::Worker).await,
            Kind::ServerPaused => self.pause(Role::Server).await,
            Kind::ClientPaused => self.pause(Role::Client).await,
            Kind::RollingRestart => {
                for role in [Role::Server, Role::Worker] {
                    for pid in self.fleet.pids(role) {
                        nodes::terminate(pid);
                        tokio::time::sleep(ROLLING).await;
                    }
                }
                None
            }
            Kind::JournalFull => self.disk("pwrite64", "ENOSPC").await?,
            _ => {
                let pid = self.disk("fsync,fdatasync", "EIO").await?;
                // A journal that has failed to sync takes nothing more: its process must end.
                if let Some(pid) = pid {
                    nodes::kill(pid);
                }
                pid
            }
        };
        Ok(Effect::on(pid))
    }

    fn kill(&self, role: Role) -> Option<u32> {
        let pid = self.fleet.any(role)?;
        nodes::kill(pid);
        Some(pid)
    }

    async fn pause(&self, role: Role) -> Option<u32> {
        let pid = self.fleet.any(role)?;
        nodes::signal(pid, "-STOP");
        tokio::time::sleep(Duration::from_millis(fastrand::u64(PAUSE_MS))).await;
        nodes::signal(pid, "-CONT");
        Some(pid)
    }

    /// Lets system calls of a client fail: no disk can be made to fail without a right to make one.
    /// Its history is written by another call.
    async fn disk(&self, calls: &str, error: &str) -> anyhow::Result<Option<u32>> {
        let Some(pid) = self.fleet.any(Role::Client) else { return Ok(None) };
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
        // The process may be gone by now.
        let is_gone = said.contains("No such process") || said.contains("not found");
        ensure!(is_gone || !said.contains("attach"), "strace cannot attach: {said}");
        Ok(Some(pid))
    }
}
