//! Whose RabbitMQ and Redis the nodes are: this system's, or those of another Debian's tree.
//!
//! | variable | means |
//! |---|---|
//! | `NODES_TREE` | the root of a Debian tree, as `deploy/dev/trixie.sh` makes it |
//! | `NODES_STORE` | `redis-server` (the default) or `valkey-server` |
//!
//! A program of a tree runs in mounts of its own, where the tree's `/usr` and `/etc` cover the
//! system's: data directories, sockets and process ids are the same inside and outside, and the
//! mounts end with the process.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::find_program;

/// Where the nodes' programs are.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Distribution {
    tree: Option<PathBuf>,
    store: Store,
}

/// What serves as Redis.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// Redis itself.
    #[default]
    Redis,
    /// What grew out of Redis 7.2, under a free licence.
    Valkey,
}

impl Store {
    pub(crate) const fn program(self) -> &'static str {
        match self {
            Self::Redis => "redis-server",
            Self::Valkey => "valkey-server",
        }
    }
}

/// Covers the system's programs and libraries by the tree's, each by one mount, as nothing of the
/// system runs between the two. What an administrator put on this machine stays in sight.
const COVERED: &str = r#"
    tree=$1
    shift
    for own in /usr/local /usr/src /etc/hosts; do
        [ ! -e "$own" ] || mount --bind "$own" "$tree$own"
    done
    mount --rbind "$tree/etc" /etc
    mount --rbind "$tree/usr" /usr
    exec "$@"
"#;

impl Distribution {
    /// What this process and those that it starts are to use.
    pub fn current() -> &'static Self {
        static CURRENT: OnceLock<Distribution> = OnceLock::new();
        CURRENT.get_or_init(Self::from_environment)
    }

    #[expect(clippy::disallowed_methods, reason = "no setting: how tests are run")]
    fn from_environment() -> Self {
        let named = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let store = match named("NODES_STORE").as_deref() {
            Some("valkey-server") => Store::Valkey,
            _ => Store::Redis,
        };
        Self { tree: named("NODES_TREE").map(PathBuf::from), store }
    }

    /// The other Debian's tree, if it is not this system.
    pub fn tree(&self) -> Option<&Path> {
        self.tree.as_deref()
    }

    /// What serves as Redis.
    pub fn store(&self) -> Store {
        self.store
    }

    /// A folder's name that no other distribution has.
    pub fn folder(&self, name: &str) -> String {
        let tree = self.tree.as_deref().and_then(Path::file_name);
        let parts = [
            Some(name.to_owned()),
            tree.map(|tree| tree.to_string_lossy().into_owned()),
            (self.store == Store::Valkey).then(|| "valkey".to_owned()),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join("-")
    }

    /// A program of it: the first of some paths, or one of the name.
    pub(crate) fn command(&self, paths: &[&str], name: &str) -> Option<Command> {
        let Some(tree) = &self.tree else {
            return find_program(paths, name).map(Command::new);
        };
        let usual = ["/usr/bin", "/usr/sbin"].map(|folder| format!("{folder}/{name}"));
        let all = paths.iter().copied().chain(usual.iter().map(String::as_str));
        let program =
            all.into_iter().find(|path| tree.join(path.trim_start_matches('/')).exists())?;
        let mut command = Command::new("unshare");
        if !is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        // A disk that is mounted later is seen.
        command.args(["--mount", "--propagation", "slave", "sh", "-euc", COVERED, "covered"]);
        command.arg(tree).arg(program);
        Some(command)
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
