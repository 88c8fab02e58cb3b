//! Where the counts come from.

use std::path::Path;

use anyhow::Context as _;
use bench::ground::Ground;
use harness::Process;
use tokio::process::Command;

/// Messages that were published to the broker so far, by everybody.
pub(crate) fn received(ground: &Ground) -> anyhow::Result<u64> {
    let counters = "lists:sum([maps:get(messages_received_total, Counters, 0) \
         || Counters <- maps:values(rabbit_global_counters:overview())]).";
    Ok(ground.rabbitmq.control(&["eval", counters])?.trim().parse()?)
}

/// Calls of Redis.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Calls {
    /// Of scripts.
    pub(crate) scripts: u64,
    /// Of every command, those of scripts included.
    pub(crate) all: u64,
}

impl Calls {
    pub(crate) fn since(self, before: Self) -> Self {
        Self { scripts: self.scripts - before.scripts, all: self.all - before.all }
    }
}

/// Commands that Redis has run so far.
pub(crate) async fn commands(ground: &Ground) -> anyhow::Result<Calls> {
    let mut redis = ground.redis().await?;
    let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut redis).await?;
    let mut calls = Calls { scripts: 0, all: 0 };
    for line in stats.lines().filter(|line| line.starts_with("cmdstat_")) {
        let (name, rest) = line.split_once(":calls=").context("calls")?;
        let count: u64 = rest.split(',').next().unwrap_or_default().parse()?;
        calls.all += count;
        if name == "cmdstat_evalsha" {
            calls.scripts = count;
        }
    }
    Ok(calls)
}

/// System calls of some processes while something is done.
pub(crate) async fn system_calls(
    directory: &Path,
    pids: &[u32],
    done: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<u64> {
    let counts = directory.join("system-calls");
    // It says on its standard error that it has hold of them.
    let tracer = ["-c", "exec \"$@\" 2>&1", "sh", "strace"];
    let mut command = Command::new("sh");
    command.args(tracer).args(["-f", "-c", "-o"]).arg(&counts);
    for pid in pids {
        command.args(["-p", &pid.to_string()]);
    }
    let (tracer, mut says) = Process::spawn(command)?;
    for _ in pids {
        says.until("attached").await?;
    }
    done.await?;
    // Upon SIGINT it lets go of the processes and writes what it has counted.
    nodes::signal(tracer.pid()?, "-INT");
    says.rest().await?;
    let counts = std::fs::read_to_string(counts)?;
    let total = counts.lines().find(|line| line.ends_with(" total")).context("a total")?;
    // % time, seconds, usecs/call, calls, errors, "total"; errors may be missing.
    Ok(total.split_whitespace().nth(3).context("calls")?.parse()?)
}
