//! Which of two attempts may write, and whose attempts a crash uses up: on the store itself, where
//! the order of events is the test's to choose.

use harness::{World, within};
use job::{Event, State};
use store::accept::First;
use store::change::{Change, Changed, Right};
use store::claim::{Beat, Claim, Claimed, Lease};
use store::report::{Report, Reported};
use store::{JobName, Store};

use crate::claim_table::{LONG_MS, accept, claim, job_type, named, one, queued};
use crate::rolled_back::Power;

fn ended(name: JobName, event: Event, fence: &str) -> Change {
    let right = Right::Fence(fence.to_owned());
    let delete = &["owner", "lease_until", "alone", "lost"];
    Change { right, delete, ..Change::new(name, job_type(), event) }
}

fn fence_of(claimed: Claimed) -> anyhow::Result<String> {
    match claimed {
        Claimed::Start { attempt: 1, fence, .. } => Ok(fence),
        other => anyhow::bail!("{other:?}"),
    }
}

/// Nothing of what an attempt says that has lost its right is written.
async fn writes_nothing(store: &Store, fence: &str) -> anyhow::Result<()> {
    let (name, right) = (named("A-1"), Right::Fence(fence.to_owned()));
    let before = store.read_one(&name).await?.unwrap_or_default();
    let stage = Report::Stage("late".to_owned());
    assert_eq!(store.report(&name, &right, &stage).await?, Reported::Lost);
    for event in [Event::Succeeded, Event::Failed, Event::GivenBack, Event::HandedOver] {
        let late = ended(name.clone(), event, fence);
        assert_eq!(store.change(&[late]).await?, [Changed::Stale], "{event}");
    }
    let lease = Lease { name: name.clone(), fence: fence.to_owned(), detach: None };
    assert_eq!(store.beat(&[lease], LONG_MS).await?, [Beat::Lost]);
    assert!(!store.mint(&name, fence, "a hash").await?, "a report token");
    let after = store.read_one(&name).await?.unwrap_or_default();
    assert_eq!((after.revision, after.lease_until), (before.revision, before.lease_until));
    Ok(())
}

/// The store forgets who had claimed the job, so the next one gets the same number; but not the
/// same fence, for a part of it is the claimer's own and random (H5).
#[tokio::test]
async fn h5_an_attempt_that_the_store_has_forgotten_cannot_write_over_the_next()
-> anyhow::Result<()> {
    let mut world = World::new().await?;
    let mut power = Power::of(&mut world)?;
    let store = queued(&world).await?;
    let written = power.written().await?;
    let forgotten = fence_of(one(&store, claim("a", "1", false, LONG_MS)).await?)?;
    power.is_lost_since(written)?;
    // The first thing that this process writes after the loss carries the new epoch already.
    let claiming = async {
        loop {
            if let Ok(claimed) = one(&store, claim("b", "2", false, LONG_MS)).await {
                return claimed;
            }
        }
    };
    let next = fence_of(within("Redis answers", claiming).await?)?;
    let record = store.read_one(&named("A-1")).await?.unwrap_or_default();
    assert_eq!(record.epoch.as_deref(), Some("2"));
    let number = |fence: &str| fence.split('-').next().map(str::to_owned);
    assert_eq!(number(&forgotten), number(&next));
    writes_nothing(&store, &forgotten).await?;
    let done = store.change(&[ended(named("A-1"), Event::Succeeded, &next)]).await?;
    assert!(matches!(done[..], [Changed::Applied { state: State::Succeeded, .. }]), "{done:?}");
    Ok(())
}

/// A run that is given back is not counted, so the next one has the same attempt. What the first
/// one still says is refused all the same: the fence only grows.
#[tokio::test]
async fn h13_a_run_that_was_given_back_cannot_write_over_the_next_of_the_same_attempt()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let store = queued(&world).await?;
    let first = fence_of(one(&store, claim("a", "1", false, LONG_MS)).await?)?;
    let back = ended(named("A-1"), Event::GivenBack, &first).with("attempt", "0");
    let back = store.change(&[back]).await?;
    assert!(matches!(back[..], [Changed::Applied { state: State::Queued, .. }]), "{back:?}");
    // Returned to its queue, the message comes again.
    let second = fence_of(one(&store, claim("b", "2", true, LONG_MS)).await?)?;
    writes_nothing(&store, &first).await?;
    let done = store.change(&[ended(named("A-1"), Event::Succeeded, &second)]).await?;
    assert!(matches!(done[..], [Changed::Applied { state: State::Succeeded, .. }]), "{done:?}");
    Ok(())
}

/// One process after another gets all ten messages, and dies as soon as the killer runs, with
/// whatever runs beside it. Returns who has failed in the end.
async fn failed_beside_a_killer(store: &Store, attempts_max: u32) -> anyhow::Result<Vec<String>> {
    let jobs: Vec<String> = (0..10).map(|n| format!("{attempts_max}-{n}")).collect();
    let killer = &jobs[0];
    for job_id in &jobs {
        accept(store, named(job_id), First::Queued).await?;
    }
    let mut failed = Vec::new();
    let mut left = jobs.clone();
    for process in 0..20 {
        let claim = |job_id: &str, idle| Claim {
            name: named(job_id),
            attempts_max,
            idle,
            ..claim(&process.to_string(), &format!("{process}{idle}"), process > 0, 0)
        };
        let (mut beside, mut alone) = (Vec::new(), Vec::new());
        for job_id in left.clone() {
            match one(store, claim(&job_id, false)).await? {
                Claimed::Start { fence, .. } => beside.push((job_id, fence)),
                Claimed::Wait => alone.push(job_id),
                Claimed::Exhausted { fence, .. } => {
                    end(store, &job_id, Event::Failed, &fence, &mut left).await?;
                    failed.push(job_id);
                }
                other => anyhow::bail!("{job_id}: {other:?}"),
            }
        }
        if beside.iter().any(|(job_id, _)| job_id == killer) {
            continue;
        }
        for (job_id, fence) in beside {
            end(store, &job_id, Event::Succeeded, &fence, &mut left).await?;
        }
        for job_id in alone {
            let claimed = one(store, claim(&job_id, true)).await?;
            if job_id == *killer {
                break;
            }
            let Claimed::Start { fence, .. } = claimed else { anyhow::bail!("{claimed:?}") };
            end(store, &job_id, Event::Succeeded, &fence, &mut left).await?;
        }
        if left.is_empty() {
            return Ok(failed);
        }
    }
    anyhow::bail!("{left:?} are never done")
}

async fn end(
    store: &Store,
    job_id: &str,
    event: Event,
    fence: &str,
    left: &mut Vec<String>,
) -> anyhow::Result<()> {
    let changed = store.change(&[ended(named(job_id), event, fence)]).await?;
    anyhow::ensure!(matches!(changed[..], [Changed::Applied { .. }]), "{job_id}: {changed:?}");
    left.retain(|other| other != job_id);
    Ok(())
}

/// Ten jobs in one process, of which one kills it whenever it runs: that one fails after its
/// attempts, and none of the others does.
#[tokio::test]
async fn h12_neighbours_of_a_job_that_kills_its_worker_do_not_fail_with_it() -> anyhow::Result<()> {
    let world = World::new().await?;
    let store = world.store().await?;
    for attempts_max in [2, 3, 5, 8] {
        let failed = failed_beside_a_killer(&store, attempts_max).await?;
        assert_eq!(failed, [format!("{attempts_max}-0")]);
    }
    Ok(())
}
