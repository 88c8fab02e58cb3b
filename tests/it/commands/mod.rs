//! Every command of README and `docs/`, run as it stands there. Only addresses, passwords and the
//! words in capitals are this test's.

mod clients;
mod deployment;
mod program;
mod redis;
mod sqlite;

use std::collections::BTreeMap;

use harness::workspace;

use crate::documents::{blocks, documents, read};

/// Who runs a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runner {
    /// `program`: the program itself.
    Program,
    /// `clients`: the clients in other languages.
    Clients,
    /// `deployment`: the sessions under the heading "Deployment".
    Deployment,
    /// `redis`: what needs no program of ours.
    Redis,
    /// `inquiry_queue`: what changes the broker.
    Broker,
    /// `sqlite`: what SQLite's own program does with a journal.
    Sqlite,
    /// `.ci/run`.
    Ci,
    /// Nobody: `NOT_RUN` says why.
    Nobody,
}

/// What no test can run.
const NOT_RUN: &[(&str, &str)] = &[
    ("docker compose exec redis redis-cli --user counterfoil-reader --askpass", "asks a person"),
    ("go mod init producer && go mod tidy", "not on Debian, and from a network"),
    ("rabbitmqctl change_password", "what not to do"),
    ("systemctl edit counterfoil-server", "opens an editor"),
];

/// Programs that a command can begin with.
const PROGRAMS: &[&str] = &[
    "apt-get",
    "cargo",
    "counterfoil",
    "curl",
    "docker",
    "go",
    "kubectl",
    "make",
    "node",
    "npm",
    "pip",
    "python3",
    "rabbitmqctl",
    "redis-cli",
    "sqlite3",
    "systemctl",
];

/// What takes longer than CI does.
const BY_HAND: &[&str] = &["soak", "soak-selftest", "lanes", "bench", "bench-quick"];

/// The commands that documents print, each with the documents that print it.
fn printed() -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for document in documents() {
        let text = read(&document);
        let scripts = blocks(&text, "sh").into_iter().flat_map(|(_, block)| block.lines());
        let sessions = blocks(&text, "console").into_iter().flat_map(|(_, block)| typed(block));
        let prose = inline(&text);
        let all = scripts.chain(sessions).chain(prose.iter().map(String::as_str));
        for command in all {
            let command = command.split(" #").next().unwrap_or_default().trim();
            found.entry(command.to_owned()).or_default().push(document.clone());
        }
    }
    found.remove("");
    found
}

/// The first line of each command of a session.
fn typed(session: &str) -> impl Iterator<Item = &str> {
    session.lines().filter_map(|line| line.strip_prefix("$ ").or_else(|| line.strip_prefix("# ")))
}

/// Commands within a sentence or a table.
fn inline(text: &str) -> Vec<String> {
    let prose: String = text.split("```").step_by(2).collect();
    let code = prose.split('`').skip(1).step_by(2);
    code.map(|code| code.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|code| {
            let program = program_of(code);
            let is_script = program.starts_with("deploy/") && program.ends_with(".sh");
            code.contains(' ') && (is_script || PROGRAMS.contains(&program))
        })
        .filter(|code| !code.ends_with(": working"))
        .collect()
}

/// Its first word that is no assignment.
fn program_of(command: &str) -> &str {
    let is_assignment = |word: &str| {
        let name = word.split_once('=').map(|(name, _)| name);
        name.is_some_and(|name| name.chars().all(|c| c.is_ascii_uppercase() || "01_".contains(c)))
    };
    command.split_whitespace().find(|word| !is_assignment(word)).unwrap_or_default()
}

fn runner(command: &str, documents: &[String]) -> Option<Runner> {
    let is_in = |name: &str| documents.iter().any(|document| document == name);
    let is_in_a_session = || {
        let sessions = deployment::sessions();
        sessions.values().any(|session| typed(session).any(|line| line.trim() == command))
    };
    match program_of(command) {
        _ if NOT_RUN.iter().any(|(known, _)| *known == command) => Some(Runner::Nobody),
        _ if is_in("docs/OPERATIONS.md") && is_in_a_session() => Some(Runner::Deployment),
        "counterfoil" => Some(Runner::Program),
        "cargo" if command.starts_with("cargo run -p counterfoil -- ") => Some(Runner::Program),
        "cargo" | "make" | "npm" | "deploy/dev/install.sh" => Some(Runner::Ci),
        "redis-cli" => Some(Runner::Redis),
        "sqlite3" => Some(Runner::Sqlite),
        "rabbitmqctl" => Some(Runner::Broker),
        "python3" | "node" | "go" => Some(Runner::Clients),
        _ => None,
    }
}

/// The printed commands of a runner.
pub(crate) fn commands_of(wanted: Runner) -> Vec<String> {
    let is_its =
        |(command, documents): &(String, Vec<String>)| runner(command, documents) == Some(wanted);
    printed().into_iter().filter(is_its).map(|(command, _)| command).collect()
}

#[test]
fn every_printed_command_is_run_by_a_test() {
    let printed = printed();
    assert!(printed.len() >= 50, "{} commands are found", printed.len());
    for (command, documents) in &printed {
        assert!(runner(command, documents).is_some(), "{documents:?}: nobody runs {command:?}");
    }
    for (command, why) in NOT_RUN {
        assert!(printed.contains_key(*command), "{command} ({why}) is not printed any more");
    }
}

/// A target that CI does not run is at least one that there is.
#[test]
fn what_a_contributor_types_is_what_ci_runs() {
    let (ci, makefile, installs) =
        (read(".ci/run"), read("Makefile"), read("deploy/dev/install.sh"));
    for command in commands_of(Runner::Ci) {
        let runs = match program_of(&command) {
            "make" => {
                let target = command.split(' ').next_back().unwrap_or_default();
                let is_there = makefile.contains(&format!("\n{target}: "));
                ci.lines().any(|line| line == command) || (is_there && BY_HAND.contains(&target))
            }
            "npm" => installs.contains(&command),
            "deploy/dev/install.sh" => makefile.contains(&command),
            // It writes a golden file that the same test compares.
            "cargo" => command.split(' ').next_back().is_some_and(|test| {
                let tests = std::fs::read_to_string(workspace().join("tests/it/documents.rs"));
                tests.unwrap_or_default().contains(&format!("fn {test}"))
            }),
            _ => false,
        };
        assert!(runs, "{command} is not what CI runs");
    }
}
