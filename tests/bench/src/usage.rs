//! What processes have used, processor time and memory, as Linux tells it; and what they ran on.

use anyhow::Context as _;
use protocol::UnixMillis;

/// Linux counts processor time for programs in hundredths of a second, on every machine
/// (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds of processor time that a process has used so far, all of its threads together.
///
/// # Errors
/// There is no such process.
pub fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let [own, _] = times(pid)?;
    Ok(own)
}

/// The same with that of its children that have ended: Redis writes its append-only file anew in
/// one.
///
/// # Errors
/// There is no such process.
pub fn cpu_seconds_with_children(pid: u32) -> anyhow::Result<f64> {
    let [own, children] = times(pid)?;
    Ok(own + children)
}

/// Of a process, and of its children that have ended.
fn times(pid: u32) -> anyhow::Result<[f64; 2]> {
    let ticks = stat(pid, 11, 4)?;
    let seconds = |of: &[f64]| of.iter().sum::<f64>() / TICKS_PER_SECOND;
    Ok([seconds(&ticks[..2]), seconds(&ticks[2..])])
}

/// How much a process stands back behind others; one below zero goes before them.
///
/// # Errors
/// There is no such process.
pub fn niceness(pid: u32) -> anyhow::Result<f64> {
    Ok(stat(pid, 16, 1)?[0])
}

/// Some numbers of `/proc/PID/stat`, counted from its third field, which is behind the name.
fn stat(pid: u32, first: usize, count: usize) -> anyhow::Result<Vec<f64>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything.
    let (_, rest) = stat.rsplit_once(')').context("/proc/…/stat")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let wanted = fields.get(first..first + count).context("/proc/…/stat")?;
    Ok(wanted.iter().map(|field| field.parse()).collect::<Result<_, _>>()?)
}

/// The most memory that a process has had so far, in bytes.
///
/// # Errors
/// There is no such process.
pub fn peak_memory(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    let kilobytes = line.trim().trim_end_matches("kB").trim();
    Ok(kilobytes.parse::<u64>()? * 1024)
}

/// The machine, and the programs on it that are not ours.
///
/// # Errors
/// Linux does not say.
pub fn machine() -> anyhow::Result<Vec<(String, String)>> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown", |line| line.trim_start_matches([':', ' ', '\t']));
    let memory = std::fs::read_to_string("/proc/meminfo")?;
    let memory = memory.lines().next().unwrap_or_default().trim_start_matches("MemTotal:").trim();
    let system = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let system = system.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let of = |name: &str, value: &str| (name.to_owned(), value.trim_matches('"').to_owned());
    let cores = std::thread::available_parallelism()?.to_string();
    Ok(vec![
        of("time", &UnixMillis::now().to_string()),
        of("commit", &version("git", &["describe", "--always", "--dirty"])),
        of("processor", model),
        of("cores", &cores),
        of("memory", memory),
        of("system", system.unwrap_or("unknown")),
        of("Redis", &version("redis-server", &["--version"])),
        of("Erlang", &version("dpkg-query", &["-W", "-f", "${Version}", "erlang-base"])),
        of("Rust", &version("rustc", &["--version"])),
        of("RabbitMQ", &version("dpkg-query", &["-W", "-f", "${Version}", "rabbitmq-server"])),
    ])
}

fn version(program: &str, arguments: &[&str]) -> String {
    let said = std::process::Command::new(program).args(arguments).output();
    let said = said.ok().filter(|output| output.status.success());
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    said.unwrap_or_else(|| "unknown".to_owned())
}
