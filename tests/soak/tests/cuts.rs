//! The story of one job, cut before and after every frame of the links on which it is submitted.

use std::time::Duration;

use soak::cuts::{Rig, places, run};
use soak::proxy::How;
use soak::world::Link;

/// Rigs that work beside each other.
const RIGS: usize = 4;
/// Where a submission passes until it is dispatched.
const SUBMIT_PATH: [Link; 3] = [Link::ClientAmqp, Link::ServerAmqp, Link::ServerRedis];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_the_way_of_a_submission_is_cut_its_story_ends_the_same() -> anyhow::Result<()> {
    let mut rig = Rig::new().await?;
    let counts = rig.count().await?;
    rig.stop().await?;
    // Cuts while a connection is made are in `make soak`.
    let counts: Vec<_> = counts.into_iter().filter(|(_, _, is_fresh, _)| !is_fresh).collect();
    let places = places(&counts, &SUBMIT_PATH, &[How::Reset]);
    assert!(places.len() >= 60, "{counts:?}");
    let outcome = run(places, RIGS).await?;
    assert!(outcome.violations.is_empty(), "{:#?}", outcome.violations);
    assert!(outcome.has_tested(), "{outcome:?}");
    println!("{outcome:?} of {counts:?}");
    Ok(())
}

/// Whichever of the worker's two connections is found broken first: when it was the one for dead
/// letters, the worker waited for its own end, and served nothing until somebody started it again.
#[tokio::test]
async fn a_worker_that_loses_both_of_its_connections_at_once_works_again() -> anyhow::Result<()> {
    let mut rig = Rig::new().await?;
    for _ in 0..6 {
        rig.reset(Link::WorkerAmqp).await?;
    }
    rig.stop().await
}

/// Found by the campaign: what was due, and was not sent because the connection failed, waited for
/// a minute, which is for a scheduler that dies.
#[tokio::test]
async fn what_is_due_when_the_servers_connection_fails_is_sent_with_the_next_one()
-> anyhow::Result<()> {
    let mut rig = Rig::new().await?;
    rig.cut_before_another_attempt(Duration::from_secs(30)).await?;
    rig.stop().await
}
