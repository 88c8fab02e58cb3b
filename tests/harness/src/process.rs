//! Real processes of the program.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use crate::within;

/// The checkout.
pub fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// A program that was built with the tests: it stands beside the test's own file, or one above.
///
/// # Errors
/// It was not built.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .with_context(|| format!("{name} is not built: cargo build --workspace"))
}

/// A process that is killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

/// What a process prints, line by line.
#[derive(Debug)]
pub struct Lines(tokio::io::Lines<BufReader<ChildStdout>>);

impl Process {
    /// Starts a program.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(
        name: &str,
        arguments: &[&str],
        environment: &[(String, String)],
        directory: &Path,
    ) -> anyhow::Result<(Self, Lines)> {
        let mut command = Command::new(binary(name)?);
        command.args(arguments).envs(environment.iter().cloned()).current_dir(directory);
        Self::spawn(command).with_context(|| format!("starting {name}"))
    }

    /// Starts any other program.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(mut command: Command) -> anyhow::Result<(Self, Lines)> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{:?}", command.as_std().get_program()))?;
        let output = child.stdout.take().context("its output")?;
        Ok((Self { child }, Lines(BufReader::new(output).lines())))
    }

    /// Its process id.
    ///
    /// # Errors
    /// It has ended.
    pub fn pid(&self) -> anyhow::Result<u32> {
        self.child.id().context("the process has ended")
    }

    /// Ends it at once, as a crash would.
    ///
    /// # Errors
    /// It has ended.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Asks it to end and waits for its status.
    ///
    /// # Errors
    /// It did not end in time.
    pub async fn terminate(mut self) -> anyhow::Result<Option<i32>> {
        nodes::terminate(self.pid()?);
        Ok(within("a process to end", self.child.wait()).await??.code())
    }

    /// Waits for its end and its status.
    ///
    /// # Errors
    /// It did not end in time.
    pub async fn ended(mut self) -> anyhow::Result<Option<i32>> {
        Ok(within("a process to end", self.child.wait()).await??.code())
    }
}

impl Lines {
    /// The first line that holds a text.
    ///
    /// # Errors
    /// The process ended, or did not print it in time.
    pub async fn until(&mut self, text: &str) -> anyhow::Result<String> {
        within(&format!("a line with {text:?}"), async {
            while let Some(line) = self.0.next_line().await? {
                if line.contains(text) {
                    return Ok(line);
                }
            }
            anyhow::bail!("the process ended without printing {text:?}")
        })
        .await?
    }

    /// Everything that is printed until the end.
    ///
    /// # Errors
    /// The process did not end in time.
    pub async fn rest(&mut self) -> anyhow::Result<Vec<String>> {
        within("a process to end", async {
            let mut lines = Vec::new();
            while let Some(line) = self.0.next_line().await? {
                lines.push(line);
            }
            Ok(lines)
        })
        .await?
    }
}
