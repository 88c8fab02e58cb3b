//! H: submissions on disk a second, by one and by eight at a time, against the disk's own syncs.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use client::{Client, Submission};
use nodes::Fsync;

use crate::ground::Ground;
use crate::handlers::NOTHING;
use crate::report::{Bound, Report};
use crate::stats::ratios;
use crate::{Plan, bulk, directory};

/// Submissions, and syncs, of each measurement.
const COUNT: usize = 2000;

/// Measures it.
///
/// # Errors
/// The disk fails.
pub async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let ground = Ground::start(&directory()?.join("journal"), Fsync::Everysec)?;
    let (mut disk, mut one, mut eight) = (Vec::new(), Vec::new(), Vec::new());
    let (mut groups, mut limits) = (Vec::new(), Vec::new());
    for round in 0..plan.rounds {
        let syncs = syncs(&ground)?;
        disk.push(syncs);
        one.push(submissions(&ground, round, 1).await?.0);
        let (rate, group) = submissions(&ground, round, 8).await?;
        eight.push(rate);
        groups.push(group);
        limits.push(syncs * group);
    }
    report.figure('H', "the disk's syncs", "1/s", &disk);
    report.figure('H', "synced submissions, one at a time", "1/s", &one);
    report.figure('H', "synced submissions, eight at a time", "1/s", &eight);
    let bound = Bound::at_least(Some(0.5), None);
    report.ratio('H', "one at a time, against the disk", &ratios(&one, &disk), bound);
    report.figure('H', "submissions in one sync, eight at a time", "", &groups);
    let what = "eight at a time, against disk × submissions in one sync";
    report.ratio('H', what, &ratios(&eight, &limits), bound);
    Ok(())
}

/// What the disk can do: as much is appended as a submission has, and synced, again and again.
fn syncs(ground: &Ground) -> anyhow::Result<f64> {
    let path = ground.directory.join("syncs");
    let mut file = std::fs::File::create(&path)?;
    let began = Instant::now();
    for _ in 0..COUNT {
        // A page, as SQLite's log writes them.
        file.write_all(&[b'x'; 4120])?;
        file.sync_data()?;
    }
    let rate = COUNT as f64 / began.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(rate)
}

/// Submissions a second, and how many of them share a sync.
async fn submissions(
    ground: &Ground,
    round: usize,
    at_a_time: usize,
) -> anyhow::Result<(f64, f64)> {
    let mut settings = bulk::settings(ground, &format!("h{round}-{at_a_time}"))?;
    let index = PathBuf::from(format!("{}-shm", settings.client.journal.display()));
    // Nobody listens there: it is the journal that is measured.
    settings.amqp.url = format!("amqp://shop:secret@127.0.0.1:{}/", nodes::ports::free(1)?[0]);
    let client = Client::open(settings)?;
    let before = transactions(&index)?;
    let began = Instant::now();
    let tasks: Vec<_> = (0..at_a_time)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                for _ in 0..COUNT / at_a_time {
                    let job = Submission::new(NOTHING, vec![b'x'; 200]);
                    client.journal_many(vec![job]).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let rate = COUNT as f64 / began.elapsed().as_secs_f64();
    let group = COUNT as f64 / f64::from(transactions(&index)?.wrapping_sub(before));
    client.close().await;
    Ok((rate, group))
}

/// How many transactions a journal has seen: SQLite counts them in the index of its log, the third
/// number of 32 bits (<https://sqlite.org/walformat.html>, `iChange`).
fn transactions(index: &Path) -> anyhow::Result<u32> {
    let mut head = [0; 12];
    std::fs::File::open(index)?.read_exact(&mut head)?;
    Ok(u32::from_ne_bytes([head[8], head[9], head[10], head[11]]))
}
