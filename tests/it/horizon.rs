//! One id is one job for a time that receipts state; beyond it a client sends nothing again.

use client::{Client, Error, Standing, Submission};
use harness::{World, within};

use crate::journal::{away, run};

const DAY_MS: i64 = 24 * 3600 * 1000;

/// Journals a submission, and makes it so old.
async fn aged(world: &World, job_id: &str, age_ms: i64) -> anyhow::Result<i64> {
    let settings = away(world);
    let path = settings.client.journal.clone();
    let shop = Client::open(settings)?;
    shop.submit(Submission::new("demo.echo", "1").job_id(job_id)).await?;
    let at = protocol::UnixMillis::now().0 - age_ms;
    let age = "UPDATE submissions SET journaled_at_ms = ?1 WHERE job_id = ?2";
    rusqlite::Connection::open(path)?.execute(age, (at, job_id))?;
    Ok(at)
}

#[tokio::test]
async fn every_sending_carries_the_second_in_which_it_was_journaled() -> anyhow::Result<()> {
    let world = World::new().await?;
    let at = aged(&world, "A-1", 10 * DAY_MS).await?;
    let server = world.server().await?;
    let shop = world.client("shop")?;
    let recovered = shop.recover().await?;
    let sent = recovered[0].sent_again.as_ref().map(|sent| sent.accepted());
    sent.ok_or_else(|| anyhow::anyhow!("not sent again"))?.await?;
    let timestamp = async |job_id| {
        let record = world.record("shop", job_id).await?.unwrap_or_default();
        Ok::<_, anyhow::Error>(record.timestamp)
    };
    assert_eq!(timestamp("A-1").await?, Some((at / 1000).to_string()));
    // The same submission again, by another process: the same second.
    shop.submit(Submission::new("demo.echo", "1").job_id("A-1")).await?.accepted().await?;
    assert_eq!(timestamp("A-1").await?, Some((at / 1000).to_string()));
    shop.submit(Submission::new("demo.echo", "1").job_id("A-2")).await?.accepted().await?;
    let journaled = shop.journal().entries(&[])?;
    let second = journaled.iter().find(|one| one.job_id == "A-2").map(|e| e.journaled_at_ms / 1000);
    assert_eq!(timestamp("A-2").await?, second.map(|second| second.to_string()));
    Ok(server.stop().await?)
}

/// Its tombstone may be gone (H15).
#[tokio::test]
async fn what_is_too_old_is_not_sent_again_but_reported_and_closed_by_cancelling()
-> anyhow::Result<()> {
    let world = World::new().await?;
    aged(&world, "A-1", 31 * DAY_MS).await?;
    let server = world.server().await?;
    let (printed, said, exit) = run(&world, &["--json", "recover"]).await?;
    assert_eq!((exit, printed.lines().count()), (3, 1), "{said}");
    for part in ["older than horizon_ms", "under a new id", "counterfoil cancel"] {
        assert!(printed.contains(part), "{printed}");
    }
    assert_eq!(run(&world, &["status", "A-1"]).await?.2, 4, "it was not sent");
    // Its body is there until somebody closes it.
    assert!(run(&world, &["--json", "journal", "show", "A-1"]).await?.0.contains(r#""body":"1""#));
    let shop = world.client("shop")?;
    let again = shop.submit(Submission::new("demo.echo", "1").job_id("A-1")).await;
    assert!(matches!(&again, Err(Error::TooOld { job_id, .. }) if job_id == "A-1"), "{again:?}");
    assert_eq!(run(&world, &["cancel", "A-1"]).await?.2, 0);
    assert_eq!(shop.journal().entries(&[])?[0].standing, Standing::Refused);
    let (printed, _, exit) = run(&world, &["recover"]).await?;
    assert_eq!((exit, printed.trim_end()), (0, "nothing is open"));
    Ok(server.stop().await?)
}

#[tokio::test]
async fn the_horizon_is_what_the_last_receipt_said_also_for_the_next_process() -> anyhow::Result<()>
{
    let world = World::new().await?;
    let server = world.server_with(|settings| settings.horizon_ms = 3_600_000).await?;
    let shop = world.client("shop")?;
    shop.submit(Submission::new("demo.echo", "1").job_id("A-1")).await?.accepted().await?;
    shop.close().await;
    aged(&world, "A-2", DAY_MS).await?;
    aged(&world, "A-3", 1000).await?;
    let recovered = world.client("shop")?.recover().await?;
    let mut found: Vec<(&str, bool, bool)> = recovered
        .iter()
        .map(|one| (one.entry.job_id.as_str(), one.too_old, one.sent_again.is_some()))
        .collect();
    found.sort_unstable();
    assert_eq!(found, [("A-1", false, false), ("A-2", true, false), ("A-3", false, true)]);
    Ok(server.stop().await?)
}

#[tokio::test]
async fn a_submission_that_gets_no_receipt_is_sent_again_until_the_horizon_and_no_longer()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server_with(|settings| settings.horizon_ms = 3000).await?;
    let shop = world.client("shop")?;
    shop.submit(Submission::new("demo.echo", "1").job_id("A-1")).await?.accepted().await?;
    server.stop().await?;
    let submitted = shop.submit(Submission::new("demo.echo", "1").job_id("A-2")).await?;
    let given_up = within("the client to give up", submitted.accepted()).await?;
    let said = given_up.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(said.contains("A-2 was journaled more than 3000 ms ago"), "{said}");
    // Open still: a server may have it.
    let open = shop.journal().entries(Standing::OPEN)?;
    assert!(open.iter().any(|one| one.job_id == "A-2" && one.body == b"1"));
    Ok(())
}
