//! Settings, from a file and from the environment.

use std::path::PathBuf;

use serde::Deserialize;

/// What the programs read.
#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "that it is read is what is tried")]
struct All {
    amqp: broker::Settings,
    redis: store::Settings,
    client: client::ClientSettings,
}

/// Any file is read, or refused in one line. What comes after a line `---` are names and values of
/// variables, each on its line.
pub fn settings_file(data: &[u8]) {
    let path = scratch("settings.toml");
    let text = String::from_utf8_lossy(data);
    let (file, variables) = text.split_once("---\n").unwrap_or((&text, ""));
    if std::fs::write(&path, file).is_err() {
        return;
    }
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    // Not to read any file of this machine.
    let variables = variables.filter(|(name, _)| !name.to_ascii_lowercase().ends_with("_file"));
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    if let Err(error) = settings::load_with::<All>(Some(&path), variables.collect::<Vec<_>>()) {
        assert!(!error.to_string().is_empty(), "it says what is wrong");
        assert!(!error.to_string().contains('\n'), "in one line: {error}");
    }
}

/// A file of this process and thread.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() { memory } else { std::env::temp_dir() };
    let thread = std::thread::current().id();
    let of = format!("counterfoil-fuzz-{}-{thread:?}-{name}", std::process::id());
    folder.join(of.replace(['(', ')'], ""))
}
