//! How much memory the processes of a fleet have had.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::fleet::{Fleet, Role};

const FILE: &str = "memory.json";

/// Writes down the most memory that a process of each role has had.
pub(crate) async fn watch(fleet: Fleet) {
    let mut most: BTreeMap<&str, u64> = BTreeMap::new();
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        for (role, name) in
            [(Role::Server, "server"), (Role::Worker, "worker"), (Role::Client, "client")]
        {
            for pid in fleet.pids(role) {
                let peak = peak_kib(pid).unwrap_or_default();
                let known = most.entry(name).or_default();
                *known = peak.max(*known);
            }
        }
        let text = serde_json::to_string(&most).unwrap_or_default();
        // What cannot be written is missing in the report, where it is looked for.
        std::fs::write(fleet.directory().join(FILE), text).ok();
    }
}

fn peak_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What was written down.
pub(crate) fn read(directory: &Path) -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(directory.join(FILE)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}
