//! What the comparison has found, each as a test of its own: the sequence, and what is so since.

use job::Event;
use store::change::{AFTER_MS_MAX, Change, Timer};

use super::cast::{EVERYTHING, LONG_MS, name};
use super::operation::{Asked, Changing, Fence, First, Number, Op, Speaker, Timer as Timing, When};
use super::twin::Twin;
use super::{Node, call};

fn accepted(deadline: Option<When>) -> Op {
    let asked = Asked {
        notify: EVERYTHING,
        notify_to: None,
        reply_to: Some("reply.shop.a"),
        correlation_id: None,
        batch: false,
        deadline,
        keep_ms: None,
        max_attempts: None,
        tags: &[],
    };
    Op::Accept {
        name: 0,
        body: 0,
        first: First::Queued,
        nonce: 0,
        redelivered: false,
        too_old: false,
        dispatch: 1,
        duplicate_age_ms: None,
        unfinished_max: 0,
        asked,
    }
}

fn claimed(nonce: u8) -> Op {
    Op::Claim {
        name: 0,
        dispatch: Number::Current,
        redelivered: false,
        owner: 0,
        nonce,
        lease_ms: LONG_MS,
        idle: true,
        attempts_max: 5,
        alone_after: 3,
        not_here: false,
    }
}

fn changed(event: Event, timer: Timing, set: &[(&'static str, &'static str)]) -> Op {
    let change = Changing {
        event,
        speaker: Speaker::Run(Fence::Current),
        dispatch: None,
        except_from: None,
        unless: store::change::Unless::Nothing,
        redispatch: false,
        timer,
        detail: "",
        set: set.to_vec(),
        delete: store::lost::LEASE,
    };
    Op::Change { name: 0, change }
}

/// What random sequences seldom come to, so that every run has met it.
pub(super) fn seldom() -> Vec<Vec<Op>> {
    let wait = Op::Wait {
        name: 0,
        limit_ms: 0,
        past_revision: None,
        past_epoch: None,
        correlation_id: None,
        history: false,
    };
    let failed = |event, unless| match changed(event, Timing::None, &[("error", "no stock")]) {
        Op::Change { name, change } => Op::Change { name, change: Changing { unless, ..change } },
        other => other,
    };
    let asked = changed(Event::CancelAsked, Timing::LeaseEnd, &[("cancel_requested", "1")]);
    let Op::Change { name, change } = asked else { return Vec::new() };
    let asked = Op::Change { name, change: Changing { delete: &[], ..change } };
    let nothing = store::change::Unless::Nothing;
    let cancelled = store::change::Unless::CancelAsked;
    let ended = failed(Event::Failed, nothing);
    let lost = |nonce| match claimed(nonce) {
        Op::Claim { name, dispatch, nonce, .. } => Op::Claim {
            name,
            dispatch,
            nonce,
            redelivered: true,
            owner: nonce,
            lease_ms: 0,
            idle: false,
            attempts_max: 2,
            alone_after: 3,
            not_here: false,
        },
        other => other,
    };
    let replay = || Op::Replay { name: 0 };
    let kept = changed(Event::Failed, Timing::None, &[("payload", "body")]);
    vec![
        vec![accepted(None), wait, claimed(1), ended, Op::EndWaits { most: 1 }],
        vec![accepted(None), Op::Crowd { name: 0, requests: 101 }],
        vec![accepted(None), claimed(1), asked.clone(), failed(Event::Errored, cancelled)],
        vec![accepted(None), lost(1), asked, lost(2)],
        vec![accepted(None), claimed(1), gone(), gone(), succeeded()],
        vec![accepted(None), lost(1), lost(2)],
        vec![accepted(None), claimed(1), kept.clone(), replay(), replay()],
        vec![
            Op::Void { name: 1, keep_ms: 0, though_refused: true },
            accepted(None),
            claimed(1),
            kept,
            replay(),
        ],
        vec![
            accepted(None),
            Op::ReadOutbox { most: 1 },
            Op::Settle { which: 0, outcome: super::operation::Settled::Later(0) },
            Op::PutOffDue { hold_ms: 0 },
        ],
    ]
}

/// The record of the first job after a sequence on which store and model agree.
async fn record(sequence: &[Op]) -> anyhow::Result<(store::Record, Twin, Node)> {
    let (node, url) = Node::start(false)?;
    let mut twin = Twin::new(&url, "found", 1).await?;
    twin.run(sequence).await.map_err(|difference| anyhow::anyhow!("{difference}"))?;
    let record = twin.store.read_one(&name(0)).await?.unwrap_or_default();
    Ok((record, twin, node))
}

#[tokio::test]
async fn a_run_that_was_given_back_leaves_no_stage_to_the_next_one() -> anyhow::Result<()> {
    let staged = Op::Stage { name: 0, speaker: Speaker::Run(Fence::Current), stage: "packed" };
    let given_back = changed(Event::GivenBack, Timing::NowIfDetached, &[("attempt", "0")]);
    let sequence = [accepted(None), claimed(1), staged, given_back, claimed(2)];
    let (record, ..) = record(&sequence).await?;
    assert_eq!((record.attempt.as_deref(), record.stage), (Some("1"), None));
    Ok(())
}

#[tokio::test]
async fn no_report_token_is_stored_for_a_run_that_has_ended() -> anyhow::Result<()> {
    let mint = |fence| Op::Mint { name: 0, fence, token: 0 };
    let succeeded = changed(Event::Succeeded, Timing::None, &[("result", "1")]);
    let sequence =
        [accepted(None), mint(Fence::Current), claimed(1), succeeded, mint(Fence::Current)];
    let (record, ..) = record(&sequence).await?;
    assert_eq!(record.report_hash, None);
    Ok(())
}

/// Its run ends well.
fn succeeded() -> Op {
    match changed(Event::Succeeded, Timing::None, &[]) {
        Op::Change { name, change } => {
            let delete = store::lost::OF_THE_RUN_AND_PAYLOAD;
            Op::Change { name, change: Changing { delete, ..change } }
        }
        other => other,
    }
}

/// Its message is gone.
fn gone() -> Op {
    let (seen, again_after_ms) = (Number::Current, 10 * LONG_MS);
    Op::Redispatch { name: 0, seen, again_after_ms, gone: Some("body") }
}

#[tokio::test]
async fn a_job_that_is_dispatched_again_is_still_looked_at_when_its_deadline_comes()
-> anyhow::Result<()> {
    let (record, twin, _node) = record(&[accepted(Some(When::Far)), gone()]).await?;
    let deadline = store::Record::instant(&record.deadline).unwrap_or_default();
    assert_eq!(twin.model.due(0, 10, deadline), [name(0)]);
    Ok(())
}

/// The end of a first run looks for little of what later runs have.
#[tokio::test]
async fn a_first_run_whose_message_was_gone_leaves_nothing_of_that_when_it_ends()
-> anyhow::Result<()> {
    let (running, twin, _node) = record(&[accepted(None), claimed(1), gone()]).await?;
    let lease_end = store::Record::instant(&running.lease_until).unwrap_or_default();
    assert_eq!(running.detached.as_deref(), Some("1"));
    assert_eq!(twin.model.due(0, 10, lease_end), [name(0)]);
    let (ended, twin, _node) = record(&[accepted(None), claimed(1), gone(), succeeded()]).await?;
    assert_eq!((ended.state.as_deref(), ended.detached), (Some("succeeded"), None));
    assert_eq!(twin.model.due(0, 10, lease_end), []);
    Ok(())
}

#[tokio::test]
async fn a_timer_that_is_set_for_ever_stays_an_integer() -> anyhow::Result<()> {
    let later = changed(Event::Errored, Timing::After(u64::MAX), &[]);
    let (record, twin, _node) = record(&[accepted(None), claimed(1), later]).await?;
    let due_at: i64 = record.due_at.as_deref().unwrap_or_default().parse()?;
    let changed_at: i64 = record.changed_at.as_deref().unwrap_or_default().parse()?;
    assert_eq!(due_at - changed_at, i64::try_from(AFTER_MS_MAX)?);
    drop(twin);
    Ok(())
}

/// Too many for a sequence of few names.
#[tokio::test]
async fn the_last_thousand_finished_jobs_of_a_type_are_remembered() -> anyhow::Result<()> {
    let (_, mut twin, _node) = record(&[accepted(None)]).await?;
    let call::Call::Accept(accept, limits) = twin.resolve(&accepted(None)).unwrap() else {
        anyhow::bail!("a submission");
    };
    let jobs: Vec<_> = (0..1003)
        .map(|n| {
            let mut accept = (*accept).clone();
            accept.name.job_id = job::JobId::parse(&format!("job-{n}")).unwrap();
            accept
        })
        .collect();
    let cancelled = |accept: &store::accept::Accept| Change {
        timer: Timer::None,
        ..Change::new(accept.name.clone(), accept.job_type.clone(), Event::Cancelled)
    };
    let changes: Vec<Change> = jobs.iter().map(cancelled).collect();
    twin.store.accept(&jobs, limits).await?;
    twin.store.change(&changes).await?;
    for (accept, change) in jobs.iter().zip(&changes) {
        twin.model.accept(accept, limits, protocol::UnixMillis(1));
        twin.model.change(change, protocol::UnixMillis(1));
    }
    let key = twin.store.keys().recent(0, &accept.job_type);
    let model = twin.model.image(|_| String::new()).remove(&key).unwrap().value;
    let held = twin.held().await.map_err(|difference| anyhow::anyhow!("{difference}"))?;
    let model::image::Value::List(names) = &model else { anyhow::bail!("a list") };
    assert_eq!((names.len(), &held[&key].value), (1000, &model));
    Ok(())
}
