//! Private RabbitMQ and Redis nodes as child processes: own ports, own directories, nothing shared
//! with a system's broker. For `counterfoil dev` and for the tests; not for production.
//!
//! In reading order: [`ports`], whose programs they are ([`Distribution`]), one [`Redis`], one
//! [`RabbitMq`], the pair of them with users and topology ([`Deployment`]), and the pair that test
//! processes share ([`shared`]).

pub mod ports;

mod deployment;
mod distribution;
mod rabbitmq;
mod redis;

pub mod shared;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub use deployment::{Deployment, PASSWORD};
pub use distribution::{Distribution, Store};
pub use rabbitmq::RabbitMq;
pub use redis::{Fsync, Redis};

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program is not installed.
    #[error(
        "{program} is not installed. Debian: apt-get install {package}; macOS: brew install {brew}; or set {variable} to a server that runs elsewhere"
    )]
    NotInstalled {
        /// What was looked for.
        program: &'static str,
        /// Debian's package.
        package: &'static str,
        /// Homebrew's.
        brew: &'static str,
        /// The variable that names a server elsewhere.
        variable: &'static str,
    },
    /// It was started and did not come up.
    #[error("{program} did not start; its log: {log}")]
    NotReady {
        /// What was started.
        program: &'static str,
        /// Where it says why.
        log: String,
    },
    /// A node refused a command.
    #[error("rabbitmqctl {what}: {said}")]
    Control {
        /// The command.
        what: String,
        /// What it said.
        said: String,
    },
    /// A file, a port or a process.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    /// What the operating system did not do.
    pub fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }
}

/// Starts a program in a process group of its own, so that Ctrl-C reaches us and not it.
pub(crate) fn spawn(command: &mut Command, log: &Path) -> Result<Child, Error> {
    use std::os::unix::process::CommandExt as _;
    let file = std::fs::File::create(log).map_err(Error::system(log.display().to_string()))?;
    let errors = file.try_clone().map_err(Error::system(log.display().to_string()))?;
    command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .map_err(Error::system(format!("{:?}", command.get_program())))
}

/// Asks a process to end, by its id.
pub fn terminate(pid: u32) {
    signal(pid, "-TERM");
}

/// Ends a process at once, by its id.
pub fn kill(pid: u32) {
    signal(pid, "-KILL");
}

/// Sends a signal to a process, by its id.
pub fn signal(pid: u32, signal: &str) {
    let sent = Command::new("kill").arg(signal).arg(pid.to_string()).stderr(Stdio::null()).status();
    // A process that is gone already needs no signal.
    drop(sent);
}

/// Waits until something is so, looking again and again.
pub(crate) fn wait_until(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + limit;
    while Instant::now() < until {
        if is_so() {
            return true;
        }
        pause();
    }
    false
}

#[expect(clippy::disallowed_methods, reason = "a child process gives no event to wait on")]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

/// The first of some paths that is a program.
pub(crate) fn find_program(fixed: &[&str], name: &str) -> Option<std::path::PathBuf> {
    let fixed = fixed.iter().map(std::path::PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|folder| folder.join(name)).collect::<Vec<_>>();
    fixed.chain(in_path).find(|candidate| candidate.is_file())
}
