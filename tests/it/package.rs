//! The packed program, installed where there is nothing else.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use anyhow::{Context as _, ensure};
use harness::{World, within, workspace};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

const PROGRAM: &str = "/usr/bin/counterfoil";
const CONFIG: &str = "/etc/counterfoil/production.toml";

/// A root directory with the package, the libraries that the program names, and what every system
/// has: certificates and the name of a user.
struct Root(PathBuf);

impl Root {
    fn install(world: &World) -> anyhow::Result<Self> {
        let (out, root) = (world.directory.join("package"), world.directory.join("root"));
        let mut pack = std::process::Command::new(workspace().join("deploy/package.sh"));
        let packed = pack.arg(harness::binary("counterfoil")?).arg(&out).output()?;
        let archive = said(&packed)?;
        std::fs::create_dir(&root)?;
        let mut unpack = std::process::Command::new("tar");
        said(&unpack.arg("-C").arg(&root).arg("-xzf").arg(archive.trim()).output()?)?;
        let this = Self(root);
        let listed =
            std::process::Command::new("ldd").arg(this.path(PROGRAM)).output().context("ldd")?;
        for library in libraries(&said(&listed)?) {
            this.copy(library)?;
        }
        this.write("/etc/passwd", "counterfoil:x:65532:65532::/:/usr/sbin/nologin\n")?;
        this.write("/var/lib/counterfoil/.keep", "")?;
        let certificates = "/etc/ssl/certs/ca-certificates.crt";
        if Path::new(certificates).is_file() {
            this.copy(certificates)?;
        }
        Ok(this)
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.0.join(inside.trim_start_matches('/'))
    }

    fn copy(&self, from: &str) -> anyhow::Result<()> {
        let to = self.path(from);
        std::fs::create_dir_all(to.parent().context("a folder")?)?;
        std::fs::copy(from, to).with_context(|| from.to_owned()).map(drop)
    }

    fn write(&self, inside: &str, text: &str) -> anyhow::Result<()> {
        let to = self.path(inside);
        std::fs::create_dir_all(to.parent().context("a folder")?)?;
        Ok(std::fs::write(to, text)?)
    }

    /// The program, with this root as its whole file system and nothing of the test's environment.
    /// Only root may change its root; others do it in a user namespace of their own.
    fn program(&self, world: &World, user: &str, arguments: &[&str]) -> anyhow::Result<Command> {
        let is_root = std::fs::metadata("/proc/self")?.uid() == 0;
        let enter: &[&str] =
            if is_root { &["chroot"] } else { &["unshare", "--map-root-user", "--root"] };
        let mut command = Command::new(enter[0]);
        command.args(&enter[1..]).arg(&self.0).arg(PROGRAM).args(["--config", CONFIG]);
        command.args(arguments).env_clear().envs(std::env::var_os("PATH").map(|p| ("PATH", p)));
        command.envs(world.environment(user));
        command.env("COUNTERFOIL_CLIENT_JOURNAL", "/var/lib/counterfoil/journal.db");
        command.stdin(Stdio::null()).kill_on_drop(true);
        Ok(command)
    }

    /// A process that goes on, and works, with the rights of its role.
    async fn start(&self, world: &World, role: &str) -> anyhow::Result<Child> {
        let mut child = self.program(world, role, &[role])?.stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().context("its output")?;
        let mut lines = BufReader::new(output).lines();
        let line = within(&format!("the {role} works"), lines.next_line()).await??;
        ensure!(line.as_deref() == Some(&format!("counterfoil {role}: working")), "{line:?}");
        Ok(child)
    }

    /// A client's command: what it printed.
    async fn run(&self, world: &World, arguments: &[&str]) -> anyhow::Result<Value> {
        let mut command = self.program(world, "shop", &[&["--json"], arguments].concat())?;
        let output = within(&arguments.join(" "), command.output()).await??;
        let said = said(&output).context(
            "the packed program in an empty root (which only root may enter, or who may make user \
             namespaces)",
        )?;
        Ok(serde_json::from_str(said.lines().last().unwrap_or_default())?)
    }
}

/// What a command printed, or why it failed.
fn said(output: &Output) -> anyhow::Result<String> {
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {error}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The files that `ldd` names: `libm.so.6 => /lib/… (0x…)` and `/lib64/ld-linux… (0x…)`.
fn libraries(listed: &str) -> Vec<&str> {
    listed.split_whitespace().filter(|word| word.starts_with('/')).collect()
}

async fn end(mut child: Child) -> anyhow::Result<()> {
    nodes::terminate(child.id().context("it has ended")?);
    let status = within("a role to end", child.wait()).await??;
    ensure!(status.success(), "{status}");
    Ok(())
}

#[tokio::test]
async fn claim_18_the_packed_program_carries_out_the_methods_where_nothing_else_is()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let root = Root::install(&world)?;
    let server = root.start(&world, "server").await?;
    let worker = root.start(&world, "worker").await?;
    let submit =
        ["submit", "demo.echo", "1", "--id", "A-1", "--notify", "terminal", "--until", "done"];
    let submitted = root.run(&world, &submit).await?;
    assert_eq!(submitted["state"], "succeeded", "{submitted}");
    // The id was on the client's own disk.
    let journal = rusqlite::Connection::open(root.path("/var/lib/counterfoil/journal.db"))?;
    let id: String = journal.query_row("SELECT job_id FROM submissions", [], |row| row.get(0))?;
    assert_eq!(id, "A-1");
    let by_id = root.run(&world, &["status", "A-1"]).await?;
    assert_eq!((&by_id["answer"], &by_id["state"]), (&"found".into(), &"succeeded".into()));
    let ticket = by_id["ticket"].as_str().unwrap_or_default();
    let by_ticket = root.run(&world, &["status", ticket]).await?;
    assert_eq!((&by_ticket["job_id"], &by_ticket["state"]), (&by_id["job_id"], &by_id["state"]));
    end(worker).await?;
    end(server).await
}
