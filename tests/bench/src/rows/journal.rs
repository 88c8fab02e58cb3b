//! H: submissions on disk a second, by one and by eight at a time, against the disk's own syncs.

use std::io::Write as _;
use std::time::Instant;

use client::{Client, Submission};
use nodes::Fsync;

use crate::ground::Ground;
use crate::handlers::NOTHING;
use crate::report::{Bound, Report};
use crate::stats::median_ratio;
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
    for round in 0..plan.rounds {
        disk.push(syncs(&ground)?);
        one.push(submissions(&ground, round, 1).await?);
        eight.push(submissions(&ground, round, 8).await?);
    }
    report.figure('H', "the disk's syncs", "1/s", &disk);
    report.figure('H', "synced submissions, one at a time", "1/s", &one);
    report.figure('H', "synced submissions, eight at a time", "1/s", &eight);
    let bound = Bound::at_least(Some(0.5), None);
    report.ratio('H', "one at a time, against the disk", median_ratio(&one, &disk), bound);
    let groups: Vec<f64> = disk.iter().map(|rate| rate * 8.0).collect();
    report.ratio('H', "eight at a time, against 8 × disk", median_ratio(&eight, &groups), bound);
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

async fn submissions(ground: &Ground, round: usize, at_a_time: usize) -> anyhow::Result<f64> {
    let mut settings = bulk::settings(ground, &format!("h{round}-{at_a_time}"))?;
    // Nobody listens there: it is the journal that is measured.
    settings.amqp.url = format!("amqp://shop:secret@127.0.0.1:{}/", nodes::ports::free(1)?[0]);
    let client = Client::open(settings)?;
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
    client.close().await;
    Ok(rate)
}
