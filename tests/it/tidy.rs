//! The rules of CONTRIBUTING.md that a machine can hold.

use std::path::{Path, PathBuf};

use harness::{Settings, workspace};
use serde_json::Value;

pub(crate) fn files(extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![workspace().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let is_ours = !["target", ".git", "node_modules"].iter().any(|other| name == *other);
            if path.is_dir() && is_ours {
                folders.push(path);
            } else if path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x)) {
                found.push(path);
            }
        }
    }
    found
}

pub(crate) fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Files that are longer, with the reason.
const LONGER: &[(&str, &str)] =
    &[("foreign/python/counterfoil.py", "a whole client that is copied as one file")];

#[test]
fn a_file_fits_in_one_sitting_and_a_line_on_a_screen() {
    for path in files(&["rs", "lua", "py", "js", "go", "sh"]) {
        let text = text(&path);
        let excused = LONGER.iter().any(|(name, _)| path.ends_with(name));
        assert!(text.lines().count() <= 400 || excused, "{} has over 400 lines", path.display());
        for (number, line) in text.lines().enumerate() {
            let length = line.chars().count();
            // A text cannot be broken, and a test's name is a sentence.
            let whole = ["http", "fn "].iter().any(|part| line.contains(part))
                || line.trim_start().starts_with('"');
            let fits = length <= 100 || whole;
            assert!(fits, "{}:{} has {length} characters", path.display(), number + 1);
        }
    }
}

#[test]
fn no_room_is_called_after_nothing() {
    for path in files(&["rs"]) {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let banned = ["util", "utils", "common", "helpers", "misc"];
        assert!(!banned.contains(&name.as_str()), "{}", path.display());
    }
}

#[test]
fn no_state_is_named_in_a_script() {
    for (file, source) in store::scripts::SOURCES {
        for state in job::State::ALL {
            let quoted = [format!("'{state}'"), format!("\"{state}\"")];
            assert!(!quoted.iter().any(|word| source.contains(word)), "{file} names {state}");
        }
    }
}

#[test]
fn every_script_says_what_it_takes_and_why_it_is_bounded() {
    for (file, source) in store::scripts::SOURCES {
        for word in ["-- KEYS", "ARGV", "-- Bounded by"] {
            assert!(source.contains(word), "{file} does not say {word}");
        }
        assert!(source.lines().count() <= 110, "{file} is long");
    }
}

#[test]
fn no_queue_or_key_is_named_outside_its_room() {
    for path in files(&["rs"]) {
        let is_test = path.components().any(|part| part.as_os_str() == "tests");
        let room = path.ends_with("topology.rs") || path.ends_with("keys.rs");
        let is_wire = path.ends_with("headers.rs") || path.ends_with("answer.rs");
        if is_test || room || is_wire {
            continue;
        }
        for (number, line) in text(&path).lines().enumerate() {
            let is_comment = line.trim_start().starts_with("//");
            let names_one = ["\"counterfoil.", "\"counterfoil:"].iter().any(|n| line.contains(n));
            let in_unit_test = line.contains("check(") || path.ends_with("reply_to.rs");
            assert!(
                is_comment || !names_one || in_unit_test,
                "{}:{}: {line}",
                path.display(),
                number + 1
            );
        }
    }
}

/// Only `broker` sees lapin, only `store` sees redis; services do not depend on each other, except
/// that the program composes all.
#[test]
fn each_crate_sees_only_what_it_may() -> anyhow::Result<()> {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(workspace())
        .output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let services = ["server", "worker", "order-desk"].map(|name| format!("counterfoil-{name}"));
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let is_test = package["manifest_path"].as_str().is_some_and(|p| p.contains("/tests/"));
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let on = dependency["name"].as_str().unwrap_or_default();
            let allowed = match on {
                "lapin" => name == "counterfoil-broker" || is_test,
                "redis" => name == "counterfoil-store" || is_test,
                on if services.iter().any(|service| service == on) => {
                    let is_service = services.iter().any(|service| service == name);
                    !is_service || (name, on) == ("counterfoil-order-desk", "counterfoil-worker")
                }
                _ => true,
            };
            assert!(allowed, "{name} must not depend on {on}");
        }
        if name == "counterfoil-job" {
            let names: Vec<&str> = package["dependencies"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|dependency| dependency["name"].as_str())
                .collect();
            assert!(
                names.iter().all(|name| ["hmac", "sha2", "thiserror", "uuid"].contains(name)),
                "job is pure: {names:?}"
            );
        }
    }
    Ok(())
}

/// Each struct takes every key of its section and no other, so loading is the whole test.
#[test]
fn every_settings_file_loads_and_the_reference_names_every_key() -> anyhow::Result<()> {
    let reference: Settings = settings::load_with(None, [])?;
    reference.server.validate().map_err(|error| anyhow::anyhow!(error))?;
    reference.worker.validate().map_err(|error| anyhow::anyhow!(error))?;
    for file in ["development", "production"] {
        let path = workspace().join(format!("config/{file}.toml"));
        let loaded: Settings = settings::load_with(Some(&path), [])?;
        loaded.server.validate().map_err(|error| anyhow::anyhow!(error))?;
    }
    Ok(())
}
