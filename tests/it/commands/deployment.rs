//! The sessions under the heading "Deployment" of `docs/OPERATIONS.md`. What they start needs a
//! cluster, a registry or an init system, so `docker`, `kubectl` and `systemctl` are stand-ins that
//! look at the files they are given; the scripts, the archive and the program are the real ones.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::ensure;
use harness::{Process, World, workspace};

use crate::documents::{blocks, read};

/// The sessions, each under its heading.
pub(super) fn sessions() -> BTreeMap<String, String> {
    let text = read("docs/OPERATIONS.md");
    let section = text.split("\n## Deployment").nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    let parts = section.split("\n### ").skip(1).filter_map(|part| {
        let (heading, text) = part.split_once('\n')?;
        Some((heading.to_owned(), blocks(text, "console").first()?.1.to_owned()))
    });
    parts.collect()
}

const DOCKER: &str = r#"
[ "$1 $2" = "compose -f" ] && [ -s "$3" ] && [ "$4 $5 $6" = "up --build -d" ]
folder=$(dirname "$3")
for secret in $(sed -n 's/.*{file: *\(.*\)}/\1/p' "$3"); do test -s "$folder/$secret"; done
"#;

const KUBECTL: &str = r#"
[ "$1" = -n ] && shift 2
case "$1 $2" in
"apply -f") test -s "$3" ;;
"apply -k") test -s "$3/kustomization.yaml" && grep -r secretName "$3" |
    sed 's/.*secretName: *//; s/[,}].*//' | while read -r name; do grep -qx "$name" "$LOG"; done ;;
"create secret")
    echo "$4" >>"$LOG"
    shift 4
    for file in "$@"; do test -s "${file#--from-file=*=}"; done ;;
*) exit 1 ;;
esac
"#;

const SYSTEMCTL: &str = r#"
[ "$1" = daemon-reload ] && exit
[ "$1 $2" = "enable --now" ]
unit=$ROOT/usr/lib/systemd/system/$3.service
test -x "$ROOT$(sed -n 's/^ExecStart=\([^ ]*\).*/\1/p' "$unit")"
for file in $(sed -n 's/^LoadCredential=[^:]*://p' "$unit"); do test -s "$ROOT$file"; done
echo "$3" >>"$LOG"
"#;

/// Building takes minutes; what was built with the tests is the same program.
const CARGO: &str = r#"
[ "$*" = "build --release --locked -p counterfoil" ]
mkdir -p target/release
cp "$PROGRAM" target/release/counterfoil
"#;

/// The broker of compose is not there; its address and user are looked at, and the world's serves.
const COUNTERFOIL: &str = r#"
case $COUNTERFOIL_AMQP_URL in amqp://shop:?*@127.0.0.1:5672/) ;; *) exit 1 ;; esac
COUNTERFOIL_AMQP_URL=$WORLD exec "$PROGRAM" "$@"
"#;

/// A checkout with a `deploy/` of its own, stand-ins, and an empty root.
struct Machine(PathBuf);

impl Machine {
    fn new(world: &World, name: &str) -> anyhow::Result<Self> {
        let this = Self(world.directory.join(name));
        for folder in ["bin", "root", "target", "deploy"] {
            std::fs::create_dir_all(this.0.join(folder))?;
        }
        for entry in std::fs::read_dir(workspace())?.flatten() {
            if !this.0.join(entry.file_name()).exists() {
                symlink(entry.path().canonicalize()?, this.0.join(entry.file_name()))?;
            }
        }
        copy(&workspace().join("deploy"), &this.0.join("deploy"))?;
        for (program, text) in [
            ("docker", DOCKER),
            ("kubectl", KUBECTL),
            ("systemctl", SYSTEMCTL),
            ("cargo", CARGO),
            ("counterfoil", COUNTERFOIL),
        ] {
            let path = this.0.join("bin").join(program);
            std::fs::write(&path, format!("#!/bin/sh\nset -eu\n{text}"))?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
        }
        Ok(this)
    }

    /// Types a session; what it prints.
    async fn session(&self, world: &World, session: &str) -> anyhow::Result<String> {
        let mut script = "PATH=$BIN:$PATH\n".to_owned();
        for line in session.lines() {
            let typed = line.strip_prefix("$ ").or_else(|| line.strip_prefix("# "));
            script.push_str(typed.unwrap_or(line));
            script.push('\n');
        }
        for outside in ["/etc/", "/root/", "/usr/share/"] {
            script = script.replace(&format!(" {outside}"), &format!(" \"$ROOT\"{outside}"));
        }
        let script = script
            .replace("tar -C / ", "tar -C \"$ROOT\" ")
            .replace(" counterfoil-0.1.0", " target/package/counterfoil-0.1.0")
            .replace("x86_64", std::env::consts::ARCH);
        let mut shell = tokio::process::Command::new("sh");
        shell.arg("-euc").arg(&script).current_dir(&self.0).env("BIN", self.0.join("bin"));
        shell.envs(world.environment("shop")).env_remove("COUNTERFOIL_AMQP_URL");
        shell.env("WORLD", world.amqp_url("shop")).env("ROOT", self.0.join("root"));
        shell.env("LOG", self.0.join("log")).env("PROGRAM", harness::binary("counterfoil")?);
        let (process, mut lines) = Process::spawn(shell)?;
        let printed = lines.rest().await?.join("\n");
        let status = process.ended().await?;
        ensure!(status == Some(0), "status {status:?}: {printed}\n{script}");
        Ok(printed)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.0.join("log")).unwrap_or_default()
    }
}

/// Files and folders, but not the secrets that somebody made here.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(from)?.flatten().filter(|entry| entry.file_name() != "secrets") {
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            std::fs::create_dir(&to)?;
            copy(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), &to)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_sessions_of_the_deployment_run_as_printed() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (server, worker) = (world.server().await?, world.demo_worker().await?);
    let sessions = sessions();
    assert_eq!(sessions.keys().collect::<Vec<_>>(), ["Compose", "Kubernetes", "systemd"]);
    for (heading, session) in sessions {
        let machine = Machine::new(&world, &heading)?;
        let printed = machine.session(&world, &session).await?;
        match heading.as_str() {
            "Compose" => assert!(printed.contains("succeeded"), "{printed}"),
            "Kubernetes" => {
                assert_eq!(machine.log(), "counterfoil-server\ncounterfoil-worker\n");
            }
            _ => assert_eq!(machine.log(), "counterfoil-server\n"),
        }
    }
    worker.stop().await?;
    Ok(server.stop().await?)
}
