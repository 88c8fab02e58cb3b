//! One RabbitMQ and one Redis for all test processes of a checkout: started by whichever comes
//! first, stopped when the last has ended, however it ended.
//!
//! Each process holds a shared lock on `in-use` for as long as it lives. Whoever starts the nodes
//! also starts a watcher, a process of its own, that waits for the whole lock and then stops them.
//! So a process that finds the nodes gone knows that they are not about to go.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{Distribution, Error, Fsync, PASSWORD, RabbitMq, Redis, ports};

/// The nodes that are shared.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Nodes {
    /// AMQP's port.
    pub amqp_port: u16,
    /// The port of RabbitMQ's management interface.
    pub management_port: u16,
    /// Redis's port.
    pub redis_port: u16,
    rabbitmq_pid: u32,
    redis_pid: u32,
    mapper_port: u16,
    directory: PathBuf,
}

/// The administrator of the shared node.
pub const ADMINISTRATOR: &str = "admin";
/// Users of the shared node who have no right but those that a test gives them.
pub const USERS: [&str; 5] = ["server", "worker", "shop", "till", "bad.name"];

/// The shared nodes, started if they are not there, and what keeps them alive. `acl` names Redis's
/// users.
///
/// # Errors
/// They cannot be started.
pub fn acquire(directory: &Path, acl: &str) -> Result<(Nodes, File), Error> {
    let what = || directory.display().to_string();
    std::fs::create_dir_all(directory).map_err(Error::system(what()))?;
    let in_use = File::create(directory.join("in-use")).map_err(Error::system(what()))?;
    in_use.lock_shared().map_err(Error::system(what()))?;
    let starting = File::create(directory.join("starting")).map_err(Error::system(what()))?;
    starting.lock().map_err(Error::system(what()))?;
    let state = directory.join("nodes.json");
    if let Some(nodes) = running(&state) {
        return Ok((nodes, in_use));
    }
    let nodes = start(directory, acl)?;
    let text = serde_json::to_string_pretty(&nodes).unwrap_or_default();
    std::fs::write(&state, text).map_err(Error::system(what()))?;
    watch(directory, &nodes, &state)?;
    Ok((nodes, in_use))
}

impl Nodes {
    /// Runs a command of `rabbitmqctl` on the shared node and returns what it prints.
    ///
    /// # Errors
    /// The command cannot be run.
    pub fn control(&self, arguments: &[&str]) -> Result<String, Error> {
        crate::rabbitmq::control(&self.directory.join("rabbitmq"), self.mapper_port, arguments)
    }
}

fn running(state: &Path) -> Option<Nodes> {
    let nodes: Nodes = serde_json::from_str(&std::fs::read_to_string(state).ok()?).ok()?;
    let all = [nodes.amqp_port, nodes.management_port, nodes.redis_port];
    all.into_iter().all(ports::is_open).then_some(nodes)
}

fn start(directory: &Path, acl: &str) -> Result<Nodes, Error> {
    // What a machine that lost power left behind is of no use.
    for folder in ["rabbitmq", "redis"] {
        std::fs::remove_dir_all(directory.join(folder)).ok();
    }
    let free = ports::free(2)?;
    let user = |name: &str, tags: &str| json!({ "name": name, "password": PASSWORD, "tags": tags });
    let users: Vec<_> = USERS.iter().map(|name| user(name, "")).collect();
    let users: Vec<_> = users.into_iter().chain([user(ADMINISTRATOR, "administrator")]).collect();
    let definitions = json!({ "users": users, "vhosts": [{ "name": "/" }] }).to_string();
    let redis = Redis::start_with_users(&directory.join("redis"), free[0], Fsync::Everysec, acl)?;
    let rabbitmq = RabbitMq::start(&directory.join("rabbitmq"), free[1], &definitions, true)?;
    let management_port = rabbitmq.management_port();
    let (rabbitmq_pid, mapper_port) = rabbitmq.leave();
    Ok(Nodes {
        amqp_port: free[1],
        management_port,
        redis_port: free[0],
        rabbitmq_pid,
        redis_pid: redis.leave(),
        mapper_port,
        directory: directory.to_owned(),
    })
}

/// Starts the process that stops the nodes when nobody holds the lock any more.
fn watch(directory: &Path, nodes: &Nodes, state: &Path) -> Result<(), Error> {
    use std::os::unix::process::CommandExt as _;
    let script = r#"
        kill -TERM "$1" "$2" 2>/dev/null
        for _ in 1 2 3 4 5 6 7 8 9 10; do
            kill -0 "$1" 2>/dev/null || break
            sleep 1
        done
        kill -KILL "$1" "$2" 2>/dev/null
        rm -f "$3"
        export ERL_EPMD_PORT="$4"
        shift 4
        "$@" -port "$ERL_EPMD_PORT" -kill >/dev/null 2>&1
    "#;
    let mapper = Distribution::current().command(&[], "epmd");
    let mapper = mapper.unwrap_or_else(|| Command::new("epmd"));
    Command::new("flock")
        .args(["--exclusive", "--close"])
        .arg(directory.join("in-use"))
        .args(["sh", "-c", script, "watcher"])
        .arg(nodes.rabbitmq_pid.to_string())
        .arg(nodes.redis_pid.to_string())
        .arg(state)
        .arg(nodes.mapper_port.to_string())
        .arg(mapper.get_program())
        .args(mapper.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map(drop)
        .map_err(Error::system("flock"))
}
