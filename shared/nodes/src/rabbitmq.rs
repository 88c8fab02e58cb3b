use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::{Distribution, Error, ports, spawn, terminate, wait_until};

/// A private RabbitMQ node, with an Erlang port mapper of its own.
#[derive(Debug)]
pub struct RabbitMq {
    child: Child,
    directory: PathBuf,
    ports: Ports,
    management: bool,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    amqp: u16,
    management: u16,
    mapper: u16,
    distribution: u16,
}

/// Debian's wrapper changes the user and expects the system's directories: it is passed by.
const SERVERS: &[&str] = &["/usr/lib/rabbitmq/bin/rabbitmq-server"];
const CONTROLS: &[&str] = &["/usr/lib/rabbitmq/bin/rabbitmqctl"];
/// As `deploy/rabbitmq/rabbitmq.conf` has it.
const MESSAGE_BYTES_MAX: u32 = 2 * 1024 * 1024;
const STARTS_WITHIN: Duration = Duration::from_secs(90);
const STOPS_WITHIN: Duration = Duration::from_secs(20);

impl RabbitMq {
    /// Starts a node with its data in a directory. AMQP is served on `amqp_port`; management, where
    /// it is wanted, on a free port. `definitions` is a definitions file's text: users, rights and
    /// topology of the first start.
    ///
    /// # Errors
    /// It is not installed, or did not come up.
    pub fn start(
        directory: &Path,
        amqp_port: u16,
        definitions: &str,
        management: bool,
    ) -> Result<Self, Error> {
        let free = ports::free(3)?;
        let ports =
            Ports { amqp: amqp_port, management: free[0], mapper: free[1], distribution: free[2] };
        prepare(directory, ports, definitions, management)?;
        let child = start(directory, ports, management)?;
        Ok(Self { child, directory: directory.to_owned(), ports, management })
    }

    /// `host:port` for AMQP.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.amqp)
    }

    /// The port of the management interface.
    pub fn management_port(&self) -> u16 {
        self.ports.management
    }

    /// Runs a command of `rabbitmqctl` on this node and returns what it prints.
    ///
    /// # Errors
    /// The command cannot be run.
    pub fn control(&self, arguments: &[&str]) -> Result<String, Error> {
        control(&self.directory, self.ports.mapper, arguments)
    }

    /// The node's process, once it has said which it is.
    pub fn pid(&self) -> Option<u32> {
        node_pid(&self.directory)
    }

    /// Ends it at once, as a crash would, and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(pid) = node_pid(&self.directory) {
            crate::kill(pid);
        }
        self.child.kill().ok();
        self.child.wait().ok();
        // That was the shell around it. A node that is large takes a while to end: as long as it
        // listens, one that is started again would seem to work already.
        wait_until(STOPS_WITHIN, || !ports::is_open(self.ports.amqp));
    }

    /// Ends it in an orderly way, to be started again.
    pub fn stop_and_wait(&mut self) {
        if let Some(pid) = node_pid(&self.directory) {
            terminate(pid);
        }
        let child = &mut self.child;
        if !wait_until(STOPS_WITHIN, || !matches!(child.try_wait(), Ok(None))) {
            self.kill();
        }
    }

    /// Starts it again, with the data that it had.
    ///
    /// # Errors
    /// It did not come up.
    pub fn start_again(&mut self) -> Result<(), Error> {
        self.child = start(&self.directory, self.ports, self.management)?;
        Ok(())
    }

    /// Ends it in an orderly way.
    pub fn stop(mut self) {
        self.end();
    }

    /// Leaves it running, for others to end: the node's process, and its port mapper's port.
    pub(crate) fn leave(self) -> (u32, u16) {
        let left = (node_pid(&self.directory).unwrap_or(self.child.id()), self.ports.mapper);
        std::mem::forget(self);
        left
    }

    fn end(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            terminate(node_pid(&self.directory).unwrap_or(self.child.id()));
            let child = &mut self.child;
            if !wait_until(STOPS_WITHIN, || !matches!(child.try_wait(), Ok(None))) {
                self.kill();
            }
        }
        stop_mapper(self.ports.mapper);
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        self.end();
    }
}

/// The port mapper stays behind when its node ends.
pub(crate) fn stop_mapper(port: u16) {
    let Some(mut mapper) = Distribution::current().command(&[], "epmd") else { return };
    let stopped = mapper
        .args(["-port", &port.to_string(), "-kill"])
        .env("ERL_EPMD_PORT", port.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    // One that is gone already needs no stopping.
    drop(stopped);
}

/// Runs a command of `rabbitmqctl` on the node of a directory.
pub(crate) fn control(directory: &Path, mapper: u16, arguments: &[&str]) -> Result<String, Error> {
    let program = Distribution::current().command(CONTROLS, "rabbitmqctl");
    let output = program
        .ok_or_else(not_installed)?
        .args(["-q", "-n", NODE])
        .args(arguments)
        .env("HOME", directory)
        .env("ERL_EPMD_PORT", mapper.to_string())
        .env("RABBITMQ_CONF_ENV_FILE", directory.join("rabbitmq-env.conf"))
        .stdin(Stdio::null())
        .output()
        .map_err(Error::system("rabbitmqctl"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        Ok(said)
    } else {
        Err(Error::Control { what: arguments.join(" "), said: said.trim().to_owned() })
    }
}

const NODE: &str = "counterfoil@localhost";

fn not_installed() -> Error {
    Error::NotInstalled {
        program: "rabbitmq-server",
        package: "rabbitmq-server",
        brew: "rabbitmq",
        variable: "COUNTERFOIL_AMQP_URL",
    }
}

fn node_pid(directory: &Path) -> Option<u32> {
    std::fs::read_to_string(directory.join("rabbit.pid")).ok()?.trim().parse().ok()
}

fn prepare(
    directory: &Path,
    ports: Ports,
    definitions: &str,
    management: bool,
) -> Result<(), Error> {
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).map_err(Error::system(path.display().to_string()))
    };
    for folder in ["mnesia", "log", "gen"] {
        let path = directory.join(folder);
        std::fs::create_dir_all(&path).map_err(Error::system(path.display().to_string()))?;
    }
    let definitions_path = directory.join("definitions.json");
    let mut config = format!(
        "listeners.tcp.default = 127.0.0.1:{}\nload_definitions = {}\nlog.file.level = warning\n\
         max_message_size = {MESSAGE_BYTES_MAX}\n",
        ports.amqp,
        definitions_path.display()
    );
    if management {
        config.push_str(&format!(
            "management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {}\n\
             management_agent.disable_metrics_collector = true\n",
            ports.management
        ));
    }
    write("definitions.json", definitions)?;
    write("rabbitmq.conf", &config)?;
    write("rabbitmq-env.conf", "")?;
    write("enabled_plugins", if management { "[rabbitmq_management]." } else { "[]." })
}

fn start(directory: &Path, ports: Ports, management: bool) -> Result<Child, Error> {
    let program = Distribution::current().command(SERVERS, "rabbitmq-server");
    let log = directory.join("rabbitmq.log");
    let pid_file = directory.join("rabbit.pid");
    std::fs::remove_file(&pid_file).ok();
    let mut child = spawn(
        program
            .ok_or_else(not_installed)?
            .env("HOME", directory)
            .env("ERL_EPMD_PORT", ports.mapper.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", NODE)
            .env("RABBITMQ_NODE_PORT", ports.amqp.to_string())
            .env("RABBITMQ_DIST_PORT", ports.distribution.to_string())
            .env("RABBITMQ_MNESIA_BASE", directory.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", directory.join("log"))
            .env("RABBITMQ_PID_FILE", &pid_file)
            .env("RABBITMQ_GENERATED_CONFIG_DIR", directory.join("gen"))
            .env("RABBITMQ_CONF_ENV_FILE", directory.join("rabbitmq-env.conf"))
            .env("RABBITMQ_CONFIG_FILE", directory.join("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", directory.join("enabled_plugins"))
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+sbwt none"),
        &log,
    )?;
    let is_up = || ports::is_open(ports.amqp) && (!management || ports::is_open(ports.management));
    let ready = wait_until(STARTS_WITHIN, || is_up() || !matches!(child.try_wait(), Ok(None)));
    if ready && is_up() {
        Ok(child)
    } else {
        // What was started is a shell; the node itself goes on without it.
        if let Some(pid) = node_pid(directory) {
            crate::kill(pid);
        }
        child.kill().ok();
        child.wait().ok();
        stop_mapper(ports.mapper);
        Err(Error::NotReady { program: "rabbitmq-server", log: log.display().to_string() })
    }
}
