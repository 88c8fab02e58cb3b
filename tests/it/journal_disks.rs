//! The journal on a disk that is full, may only be read, or fails to sync: real ones.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use client::Submission;
use harness::{World, within};
use tokio::process::Command;

use crate::journal::alone;

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Runs a shell script with `counterfoil` on its path, as this world's client.
async fn sh(world: &World, before: &[&str], script: &str) -> anyhow::Result<(String, String)> {
    let binary = harness::binary("counterfoil")?;
    let folder = binary.parent().unwrap_or(Path::new("/")).display();
    let script = format!("set -u; PATH={folder}:$PATH\n{script}");
    let line = [before, &["sh", "-c", &script]].concat();
    let output = Command::new(line[0])
        .args(&line[1..])
        .envs(world.environment("shop"))
        .env("COUNTERFOIL_LOG_FILTER", "warn")
        .current_dir(&world.directory)
        .kill_on_drop(true)
        .output();
    let output = within("a script to end", output).await??;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ok((text(&output.stdout), text(&output.stderr)))
}

/// Root may write everywhere, so it goes without that right; its own files it has as an owner.
async fn without_rights(world: &World, script: &str) -> anyhow::Result<(String, String)> {
    let drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    sh(world, if is_root() { &drop } else { &[] }, script).await
}

#[tokio::test]
async fn a_full_disk_is_said_nothing_is_lost_and_with_room_it_goes_on() -> anyhow::Result<()> {
    let world = World::new().await?;
    // A disk of 1 MiB that only this script sees, and that is gone with it.
    let own = if is_root() { ["unshare", "-m"] } else { ["unshare", "-Urm"] };
    let (printed, said) = sh(
        &world,
        &own,
        r#"
        mkdir disk && mount -t tmpfs -o size=1m tmpfs disk || exit 77
        export COUNTERFOIL_CLIENT_JOURNAL=disk/j.db
        submit() { counterfoil submit demo.echo --until journaled "$@"; echo "exit $?"; }
        submit 1 --id A-1
        head -c 500000 /dev/zero > body
        echo "nearly full"; head -c 500000 /dev/zero > disk/filler
        submit --file body --id A-2
        counterfoil journal list --open --json | grep -c A-
        echo "full"; cat /dev/zero > disk/filler 2>/dev/null
        # As large as before: what the last attempt has left in its log may take a small one.
        submit --file body --id A-3
        counterfoil journal list --open --json | grep -c A-
        echo "room"; rm disk/filler
        submit --file body --id A-4
        counterfoil journal export | grep -o '"A-[0-9]"'
        "#,
    )
    .await?;
    let lines: Vec<&str> = printed.lines().collect();
    let expected = [
        "A-1",
        "exit 0",
        "nearly full",
        "exit 1",
        "1",
        "full",
        "exit 1",
        "1",
        "room",
        "A-4",
        "exit 0",
        "\"A-1\"",
        "\"A-4\"",
    ];
    assert_eq!(lines, expected, "{said}");
    assert!(said.contains("the disk is full: make room and try again"), "{said}");
    assert_eq!(said.matches("error: the journal disk/j.db: ").count(), 2, "{said}");
    Ok(())
}

/// Answers `EIO` to every `fsync` and `fdatasync` of a program, by a filter of system calls: the
/// disk itself cannot be made to fail without a right to make one.
const NO_SYNC: &str = r#"
import ctypes, os, platform, struct, sys
arch, calls = {"x86_64": (0xC000003E, (74, 75)), "aarch64": (0xC00000B7, (82, 83))}[
    platform.machine()]
load, equal, answer = 0x20, 0x15, 0x06
code = [(load, 0, 0, 4), (equal, 0, 3, arch), (load, 0, 0, 0), (equal, 2, 0, calls[0]),
        (equal, 1, 0, calls[1]), (answer, 0, 0, 0x7FFF0000), (answer, 0, 0, 0x00050005)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]
program = Program(7, ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0, os.strerror(ctypes.get_errno())
os.execvp(sys.argv[1], sys.argv[1:])
"#;

#[tokio::test]
async fn a_failed_sync_is_said_and_nothing_that_was_not_synced_is_sent() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    world.client("shop")?.submit(Submission::new("demo.echo", "1").job_id("A-1")).await?;
    std::fs::write(world.directory.join("no_sync.py"), NO_SYNC)?;
    let (printed, said) = sh(
        &world,
        &[],
        r#"
        seq 300 > lines
        /usr/bin/python3 no_sync.py counterfoil submit demo.echo 1 --id A-2; echo "exit $?"
        /usr/bin/python3 no_sync.py counterfoil submit demo.echo --jsonl lines; echo "exit $?"
        counterfoil status A-2 --json > status; echo "exit $?"
        counterfoil journal show A-2 > shown; echo "journal $?"
        counterfoil recover > recovered; echo "exit $?"
        counterfoil status A-2 --json >> status; echo "server $?"
        "#,
    )
    .await?;
    assert_eq!(said.matches("could not be synced").count(), 2, "{said}");
    assert!(said.contains("takes nothing more"), "{said}");
    assert!(!said.contains("\njournaled "), "{said}");
    // Nothing was sent. Whether it is in the file nobody can promise; if it is, it can be seen, and
    // only then is it sent.
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines[..3], ["exit 1", "exit 1", "exit 4"], "{said}");
    let agree = [["journal 0", "exit 0", "server 0"], ["journal 4", "exit 0", "server 4"]];
    assert!(agree.iter().any(|agreed| lines[3..] == *agreed), "{printed}\n{said}");
    Ok(server.stop().await?)
}

#[tokio::test]
async fn a_file_or_a_directory_that_may_only_be_read_is_read_and_not_written() -> anyhow::Result<()>
{
    let world = World::new().await?;
    alone(&world)?.submit(Submission::new("demo.echo", "1").job_id("A-1")).await?;
    let (printed, said) = without_rights(
        &world,
        r#"
        try() {
            echo "$1"
            export COUNTERFOIL_CLIENT_JOURNAL=$2
            counterfoil submit demo.echo 1 --until journaled; echo "exit $?"
            counterfoil journal show A-1 --json | grep -o '"body":"1"'
            counterfoil journal export | wc -l
        }
        mkdir file folder both fresh
        for one in file folder both; do cp shop.db $one/j.db; done
        chmod 444 file/j.db both/j.db; chmod 555 folder both fresh
        try file file/j.db
        try folder folder/j.db
        try both both/j.db
        export COUNTERFOIL_CLIENT_JOURNAL=fresh/j.db
        counterfoil submit demo.echo 1 --until journaled; echo "exit $?"
        ls fresh folder both | grep -v :
        chmod 755 folder both fresh
        "#,
    )
    .await?;
    let read = ["exit 1", "\"body\":\"1\"", "1"];
    let expected = [
        &["file"][..],
        &read,
        &["folder"],
        &read,
        &["both"],
        &read,
        &["exit 1", "j.db", "", "", "j.db"],
    ]
    .concat();
    let mut lines: Vec<&str> = printed.lines().map(str::trim).collect();
    let rest = lines.split_off(13.min(lines.len()));
    assert_eq!(lines, expected[..13], "{said}");
    assert_eq!(
        rest.iter().filter(|line| !line.is_empty()).count(),
        2,
        "nothing was made: {rest:?}"
    );
    let told = said.lines().filter(|line| line.starts_with("error: the journal ")).count();
    assert_eq!(
        (told, said.matches("this user must be allowed to write").count()),
        (4, 4),
        "{said}"
    );
    Ok(())
}
