//! What a delivered work message means, row by row, on the store itself.

use harness::World;
use job::{ClientName, Digest, JobId, JobType, QueueName};
use store::accept::{Accept, Accepted, First};
use store::claim::{Beat, Claim, Claimed, Lease};
use store::{JobName, Store};

pub(crate) fn named(job_id: &str) -> JobName {
    JobName {
        client: ClientName::parse("shop").unwrap_or_else(|e| panic!("{e}")),
        job_id: JobId::parse(job_id).unwrap_or_else(|e| panic!("{e}")),
    }
}

pub(crate) fn name() -> JobName {
    named("A-1")
}

pub(crate) fn job_type() -> JobType {
    JobType::parse("demo.echo").unwrap_or_else(|e| panic!("{e}"))
}

/// Records a job whose submission was empty, as the registrar does.
pub(crate) async fn accept(store: &Store, name: JobName, first: First) -> anyhow::Result<()> {
    submit(store, name, first, "n").await.map(drop)
}

/// The same, of a delivery of its own.
pub(crate) async fn submit(
    store: &Store,
    name: JobName,
    first: First,
    nonce: &str,
) -> anyhow::Result<Accepted> {
    let accept = Accept {
        name,
        job_type: job_type(),
        queue: QueueName::default(),
        spec: protocol::work::Spec::default(),
        digest: Digest::over(&[]),
        first,
        nonce: nonce.to_owned(),
        redelivered: false,
        payload_bytes: 1,
        dispatch: 1,
        is_too_old: false,
        replay_of: None,
    };
    let limits = store::accept::Limits { duplicate_age_ms: Some(60_000), unfinished_max: 0 };
    Ok(store.accept(&[accept], limits).await?.remove(0))
}

/// A store with one queued job.
pub(crate) async fn queued(world: &World) -> anyhow::Result<Store> {
    let store = world.store().await?;
    accept(&store, name(), First::Queued).await?;
    Ok(store)
}

pub(crate) fn claim(owner: &str, nonce: &str, redelivered: bool, lease_ms: u64) -> Claim {
    Claim {
        name: name(),
        job_type: job_type(),
        dispatch: 1,
        redelivered,
        owner: owner.to_owned(),
        nonce: nonce.to_owned(),
        lease_ms,
        idle: true,
        attempts_max: 2,
        alone_after: 3,
        not_here: false,
        payload: b"1".to_vec(),
    }
}

pub(crate) async fn one(store: &Store, claim: Claim) -> anyhow::Result<Claimed> {
    Ok(store.claim(&[claim]).await?.remove(0))
}

pub(crate) const LONG_MS: u64 = 60_000;

#[tokio::test]
async fn a_redelivery_to_the_process_that_runs_the_job_is_attached_to_the_run() -> anyhow::Result<()>
{
    let world = World::new().await?;
    let store = queued(&world).await?;
    let started = one(&store, claim("a", "1", false, LONG_MS)).await?;
    let Claimed::Start { fence, .. } = started else { anyhow::bail!("{started:?}") };
    assert_eq!(one(&store, claim("a", "2", true, LONG_MS)).await?, Claimed::Attach { fence });
    // If the process finds that it has no such run, the lease decides as for anybody else.
    let not_here = Claim { not_here: true, ..claim("a", "3", true, LONG_MS) };
    assert_eq!(one(&store, not_here).await?, Claimed::Detached);
    Ok(())
}

/// The message is acknowledged, and starts nothing should it come again (H20).
#[tokio::test]
async fn a_redelivery_while_the_owner_lives_detaches_the_run_on_its_behalf() -> anyhow::Result<()> {
    let world = World::new().await?;
    let store = queued(&world).await?;
    let started = one(&store, claim("a", "1", false, LONG_MS)).await?;
    let Claimed::Start { fence, .. } = started else { anyhow::bail!("{started:?}") };
    assert_eq!(one(&store, claim("b", "2", true, LONG_MS)).await?, Claimed::Detached);
    assert_eq!(store.payload(&name()).await?.as_deref(), Some(b"1".as_slice()));
    // The scheduler watches the lease now, also after a cancellation was asked for.
    assert_eq!(one(&store, claim("b", "3", true, LONG_MS)).await?, Claimed::Drop);
    let asked = store::change::Change::new(name(), job_type(), job::Event::CancelAsked);
    store.change(&[asked.with("cancel_requested", "1")]).await?;
    let lease = Lease { name: name(), fence, detach: None };
    let held = store.beat(std::slice::from_ref(&lease), 0).await?;
    assert_eq!(held, [Beat::Held { cancel_requested: true }]);
    assert_eq!(store.due(0, 10).await?.1, [name()]);
    Ok(())
}

/// The scheduler saw that a run was detached; then the store was rolled back to before that. The
/// run still has its message, and nothing else has its body: taken from it, the job was lost.
#[tokio::test]
async fn a_run_that_has_its_message_is_not_taken_from_it_by_the_scheduler() -> anyhow::Result<()> {
    let world = World::new().await?;
    let store = queued(&world).await?;
    let started = one(&store, claim("a", "1", false, 0)).await?;
    let Claimed::Start { fence, .. } = started else { anyhow::bail!("{started:?}") };
    let record = store.read_one(&name()).await?.unwrap_or_default();
    let change = |event| store::change::Change::new(name(), job_type(), event);
    let lost = store::lost::lost(&record, change);
    let seen = store.change(std::slice::from_ref(&lost)).await?;
    assert!(matches!(seen[..], [store::change::Changed::Stale]), "{seen:?}");
    let detaching = Lease { name: name(), fence, detach: Some(b"1".to_vec()) };
    store.beat(&[detaching], 0).await?;
    let seen = store.change(&[lost]).await?;
    assert!(matches!(seen[..], [store::change::Changed::Applied { .. }]), "{seen:?}");
    Ok(())
}

/// The claim found that no attempt was left; before the worker has written that, the owner, who was
/// only slow, renews its lease.
#[tokio::test]
async fn a_run_whose_lease_is_renewed_is_not_ended_by_who_found_it_ended() -> anyhow::Result<()> {
    let world = World::new().await?;
    let store = queued(&world).await?;
    let only = Claim { attempts_max: 1, ..claim("a", "1", false, 0) };
    let started = one(&store, only).await?;
    let Claimed::Start { fence, .. } = started else { anyhow::bail!("{started:?}") };
    let found = Claim { attempts_max: 1, ..claim("b", "2", true, LONG_MS) };
    let found = one(&store, found).await?;
    assert_eq!(found, Claimed::Exhausted { fence: fence.clone(), attempts: 1 });
    let lease = Lease { name: name(), fence: fence.clone(), detach: None };
    store.beat(&[lease], LONG_MS).await?;
    let failed = store::change::Change {
        right: store::change::Right::Fence(fence),
        unless: store::change::Unless::Leased,
        ..store::change::Change::new(name(), job_type(), job::Event::Failed)
    };
    let seen = store.change(&[failed]).await?;
    assert!(matches!(seen[..], [store::change::Changed::Stale]), "{seen:?}");
    Ok(())
}

/// The owner's lease has ended: the next attempt, with a new fence, and only if nothing else runs
/// in the worker; after the last attempt the job is exhausted (H12).
#[tokio::test]
async fn a_redelivery_after_the_owner_died_starts_the_next_attempt_alone_until_none_is_left()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let store = queued(&world).await?;
    let first = one(&store, claim("a", "1", false, 0)).await?;
    let Claimed::Start { attempt: 1, fence: old, alone: false, .. } = first else {
        anyhow::bail!("{first:?}")
    };
    let beside_others = Claim { idle: false, ..claim("b", "2", true, 0) };
    assert_eq!(one(&store, beside_others).await?, Claimed::Wait);
    let second = one(&store, claim("b", "3", true, 0)).await?;
    let Claimed::Start { attempt: 2, fence: new, alone: true, .. } = second else {
        anyhow::bail!("{second:?}")
    };
    assert_ne!(old, new);
    let late = store
        .report(
            &name(),
            &store::change::Right::Fence(old),
            &store::report::Report::Stage("late".into()),
        )
        .await?;
    assert_eq!(late, store::report::Reported::Lost);
    let third = one(&store, claim("c", "4", true, 0)).await?;
    assert_eq!(third, Claimed::Exhausted { fence: new, attempts: 2 });
    Ok(())
}

/// One attempt without an outcome may have been a neighbour's doing. When each of them ran alone,
/// the long jobs of a worker that was killed were made up for one after another, and nothing else
/// ran meanwhile (H12).
#[tokio::test]
async fn only_a_third_attempt_in_a_row_without_an_outcome_makes_the_next_run_alone()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let store = queued(&world).await?;
    let of = |nonce: &str, redelivered, idle| Claim {
        idle,
        attempts_max: 5,
        ..claim(nonce, nonce, redelivered, 0)
    };
    for (nonce, redelivered) in [("0", false), ("1", true), ("2", true)] {
        let started = one(&store, of(nonce, redelivered, false)).await?;
        assert!(matches!(started, Claimed::Start { alone: false, .. }), "{started:?}");
    }
    assert_eq!(one(&store, of("3", true, false)).await?, Claimed::Wait);
    let third = one(&store, of("4", true, true)).await?;
    assert!(matches!(third, Claimed::Start { attempt: 4, alone: true, .. }), "{third:?}");
    Ok(())
}

/// The scheduler, which knows no worker's settings, only counts; the claim decides.
#[tokio::test]
async fn a_job_that_the_scheduler_sends_again_runs_alone_after_as_many_ends_as_its_worker_says()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let store = queued(&world).await?;
    let of = |dispatch, alone_after| Claim {
        dispatch,
        alone_after,
        idle: false,
        attempts_max: 5,
        ..claim("a", &format!("{dispatch}-{alone_after}"), false, 0)
    };
    for dispatch in [1, 2] {
        let Claimed::Start { fence, alone: false, .. } = one(&store, of(dispatch, 3)).await? else {
            anyhow::bail!("start {dispatch} is not made beside others")
        };
        let detach = Some(b"1".to_vec());
        store.beat(&[store::claim::Lease { name: name(), fence, detach }], 0).await?;
        let record = store.read_one(&name()).await?.unwrap_or_default();
        let change = |event| store::change::Change::new(name(), job_type(), event);
        let lost = store.change(&[store::lost::lost(&record, change)]).await?;
        assert!(matches!(lost[..], [store::change::Changed::Applied { .. }]), "{lost:?}");
    }
    assert_eq!(one(&store, of(3, 2)).await?, Claimed::Wait);
    let third = one(&store, of(3, 3)).await?;
    assert!(matches!(third, Claimed::Start { attempt: 3, alone: false, .. }), "{third:?}");
    Ok(())
}

#[tokio::test]
async fn a_message_without_a_record_or_of_a_finished_job_starts_nothing() -> anyhow::Result<()> {
    let world = World::new().await?;
    let empty = world.store().await?;
    assert_eq!(one(&empty, claim("a", "1", false, LONG_MS)).await?, Claimed::Missing);
    let store = queued(&world).await?;
    let cancelled = store::change::Change {
        except_from: Some(job::State::Running),
        ..store::change::Change::new(name(), job_type(), job::Event::Cancelled)
    };
    store.change(&[cancelled]).await?;
    for redelivered in [false, true] {
        assert_eq!(one(&store, claim("a", "2", redelivered, LONG_MS)).await?, Claimed::Drop);
    }
    Ok(())
}
