//! What SQLite's own program does with a journal, as the documents and the program itself say.

use std::path::Path;

use client::Submission;
use harness::World;

use super::{Runner, commands_of};
use crate::journal::alone;

/// The page size of SQLite.
const PAGE: usize = 4096;
const ENTRIES: usize = 300;

/// `.recover`, which was printed here, gets nothing out of a journal in Debian 12.
#[tokio::test]
async fn sqlite_alone_copies_a_journal_and_prints_what_is_left_of_a_damaged_one()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let shop = alone(&world)?;
    let file = world.client_settings("shop").client.journal;
    let body = |n: usize| format!("entry {n} {}", "x".repeat(300));
    let entries =
        (0..ENTRIES).map(|n| Submission::new("demo.echo", body(n)).job_id(format!("A-{n}")));
    shop.journal_many(entries.collect()).await?;
    shop.close().await;
    let (copy, damaged) = (world.directory.join("copy.db"), world.directory.join("damaged.db"));
    let commands = commands_of(Runner::Sqlite);
    let [backup, dump] = commands.as_slice() else { anyhow::bail!("{commands:?}") };

    run(&backup.replace("COPY", &copy.display().to_string()), &file)?;
    let reader = client::Reader::open(&copy, "shop")?;
    let copied = reader.map(|reader| reader.entry("A-1")).transpose()?.flatten();
    assert_eq!(copied.map(|entry| entry.body), Some(body(1).into_bytes()));

    let mut bytes = std::fs::read(&copy)?;
    let middle = bytes.len() / PAGE / 2 * PAGE;
    bytes[middle..middle + PAGE].fill(0xFF);
    std::fs::write(&damaged, bytes)?;
    let left = run(dump, &damaged)?;
    let rows = left.lines().filter(|line| line.contains("INSERT INTO submissions")).count();
    assert!(rows > ENTRIES / 2, "{rows} of {ENTRIES} entries are printed");
    Ok(())
}

/// What a command prints; a damaged file is said on the way.
fn run(command: &str, file: &Path) -> anyhow::Result<String> {
    let here = command.replace("FILE", &file.display().to_string());
    let output = std::process::Command::new("sh").arg("-c").arg(&here).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
