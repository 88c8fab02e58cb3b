use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use crate::{Distribution, Error, ports, spawn, terminate, wait_until};

/// When Redis writes what it acknowledges to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// Before it acknowledges.
    Always,
    /// Once a second.
    Everysec,
}

/// A private Redis.
#[derive(Debug)]
pub struct Redis {
    child: Child,
    port: u16,
    directory: PathBuf,
    fsync: Fsync,
}

const USERS: &str = "users.acl";
const STARTS_WITHIN: Duration = Duration::from_secs(20);
const STOPS_WITHIN: Duration = Duration::from_secs(20);

impl Redis {
    /// Starts Redis on a port, with its data in a directory.
    ///
    /// # Errors
    /// It is not installed, or did not come up.
    pub fn start(directory: &Path, port: u16, fsync: Fsync) -> Result<Self, Error> {
        Self::start_with_users(directory, port, fsync, "user default on nopass ~* &* +@all\n")
    }

    /// The same, with the users of an ACL file's text.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with_users(
        directory: &Path,
        port: u16,
        fsync: Fsync,
        acl: &str,
    ) -> Result<Self, Error> {
        std::fs::create_dir_all(directory)
            .map_err(Error::system(directory.display().to_string()))?;
        let users = directory.join(USERS);
        std::fs::write(&users, acl).map_err(Error::system(users.display().to_string()))?;
        let child = start(directory, port, fsync)?;
        Ok(Self { child, port, directory: directory.to_owned(), fsync })
    }

    /// Where it is reached.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Where it is reached as a user.
    pub fn url_of(&self, user: &str, password: &str) -> String {
        format!("redis://{user}:{password}@127.0.0.1:{}/0", self.port)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once, as a crash would, and waits until it is gone.
    pub fn kill(&mut self) {
        // A child that has ended already cannot be killed again.
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Ends it in an orderly way, to be started again.
    pub fn stop_and_wait(&mut self) {
        self.end();
    }

    /// Starts it again, with the data that it had.
    ///
    /// # Errors
    /// It did not come up.
    pub fn start_again(&mut self) -> Result<(), Error> {
        self.child = start(&self.directory, self.port, self.fsync)?;
        Ok(())
    }

    /// Ends it in an orderly way.
    pub fn stop(mut self) {
        self.end();
    }

    /// Leaves it running, for others to end.
    pub(crate) fn leave(self) -> u32 {
        let pid = self.child.id();
        std::mem::forget(self);
        pid
    }

    fn end(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            terminate(self.child.id());
            let child = &mut self.child;
            // One that is stopped takes no such signal.
            if !wait_until(STOPS_WITHIN, || !matches!(child.try_wait(), Ok(None))) {
                self.kill();
            }
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.end();
    }
}

fn start(directory: &Path, port: u16, fsync: Fsync) -> Result<Child, Error> {
    let distribution = Distribution::current();
    let program = distribution.store().program();
    let mut command = distribution.command(&[], program).ok_or(Error::NotInstalled {
        program,
        package: program,
        brew: program.trim_end_matches("-server"),
        variable: "COUNTERFOIL_REDIS_URL",
    })?;
    let log = directory.join("redis.log");
    let fsync = match fsync {
        Fsync::Always => "always",
        Fsync::Everysec => "everysec",
    };
    let mut child = spawn(
        command
            .args(["--port", &port.to_string()])
            .args(["--bind", "127.0.0.1"])
            .arg("--dir")
            .arg(directory)
            .args(["--save", "", "--appendonly", "yes", "--appendfsync", fsync])
            .args(["--maxmemory-policy", "noeviction"])
            .arg("--aclfile")
            .arg(directory.join(USERS)),
        &log,
    )?;
    // Its port is open before it has read its data, when it answers LOADING.
    let is_up = || {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        said.contains("Ready to accept connections") && ports::is_open(port)
    };
    let ready = wait_until(STARTS_WITHIN, || is_up() || !matches!(child.try_wait(), Ok(None)));
    if ready && is_up() {
        Ok(child)
    } else {
        child.kill().ok();
        Err(Error::NotReady { program, log: log.display().to_string() })
    }
}
