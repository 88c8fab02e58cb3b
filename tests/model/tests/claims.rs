//! The model's decisions against the scripts that production runs: every combination of what they
//! look at, on a real Redis.

use counterfoil_protocol_model::claim::{ALONE_AFTER, Asked, Meaning};
use counterfoil_protocol_model::store::{Accepted, Job, Record, Store, Submission};
use harness::World;
use job::{ClientName, Digest, JobId, JobType, QueueName, State};
use store::JobName;
use store::accept::{self, Accept, First, Limits};
use store::claim::{Claim, Claimed};

const ATTEMPTS: u8 = 3;
const LEASE_MS: u64 = 60_000;

fn name(number: usize) -> JobName {
    JobName {
        client: ClientName::parse("shop").unwrap(),
        job_id: JobId::parse(&format!("A-{number}")).unwrap(),
    }
}

fn owner(number: u8) -> String {
    format!("worker-{number}")
}

/// Every choice of so many truth values.
fn choices(count: u32) -> impl Iterator<Item = Vec<bool>> {
    (0..1_u32 << count).map(move |bits| (0..count).map(|bit| bits >> bit & 1 == 1).collect())
}

/// A job and a claim of it: what differs are eleven truth values, attempts, and losses in a row.
fn situations() -> Vec<(Job, Asked)> {
    let mut all = Vec::new();
    for state in State::ALL {
        let is_decided_by_more = matches!(state, State::Running | State::Queued);
        for choice in choices(if is_decided_by_more { 11 } else { 2 }) {
            let is = |place: usize| choice.get(place).copied().unwrap_or_default();
            for (attempt, lost) in [(1, 0), (1, 2), (2, 0), (3, 1)] {
                let job = Job {
                    attempt,
                    lost,
                    dispatch: if is(0) { 2 } else { 1 },
                    fence: (attempt, if is(2) { 7 } else { 8 }),
                    owner: Some(u8::from(is(3))),
                    leased: is(4),
                    detached: is(5),
                    cancel_asked: is(6),
                    alone: is(7),
                    ..Job::new(*state, u8::from(!is(10)), 9)
                };
                let asked = Asked {
                    dispatch: 2,
                    redelivered: is(1),
                    owner: 1,
                    nonce: 7,
                    idle: is(8),
                    attempts: ATTEMPTS,
                    not_here: is(9),
                    epoch: 1,
                };
                all.push((job, asked));
            }
        }
    }
    all
}

fn write(pipeline: &mut redis::Pipeline, key: &str, name: &JobName, job: &Job, now_ms: u64) {
    let lease_until = if job.leased { now_ms + LEASE_MS } else { 1 };
    pipeline.hset_multiple(
        key,
        &[
            ("record", "job".to_owned()),
            ("client", name.client.to_string()),
            ("job_id", name.job_id.to_string()),
            ("type", "demo.echo".to_owned()),
            ("state", job.state.to_string()),
            ("revision", job.revision.to_string()),
            ("epoch", job.epoch.to_string()),
            ("attempt", job.attempt.to_string()),
            ("dispatch", job.dispatch.to_string()),
            ("fence", format!("{}-{}", job.fence.0, job.fence.1)),
            ("owner", job.owner.map(owner).unwrap_or_default()),
            ("lost", job.lost.to_string()),
            ("lease_until", lease_until.to_string()),
            ("accepted_at", now_ms.to_string()),
            ("digest", Digest::over(&[]).to_string()),
        ],
    );
    for (field, is) in
        [("detached", job.detached), ("cancel_requested", job.cancel_asked), ("alone", job.alone)]
    {
        if is {
            pipeline.hset(key, field, 1);
        }
    }
}

async fn redis(world: &World) -> (redis::aio::MultiplexedConnection, u64) {
    let client = redis::Client::open(world.redis_url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let time: (u64, u64) = redis::cmd("TIME").query_async(&mut connection).await.unwrap();
    (connection, time.0 * 1000)
}

/// The twin of a job alone in its store.
fn twin(job: Option<Record>, epoch: u8) -> Store {
    let mut twin = Store::new(1);
    twin.records[0] = job;
    twin.epoch = epoch;
    twin
}

fn is_same(meaning: Meaning, claimed: &Claimed) -> bool {
    match (meaning, claimed) {
        (Meaning::Missing, Claimed::Missing)
        | (Meaning::Drop, Claimed::Drop)
        | (Meaning::Started, Claimed::Start { .. })
        | (Meaning::Attach, Claimed::Attach { .. })
        | (Meaning::Detach, Claimed::Detached)
        | (Meaning::Wait, Claimed::Wait)
        | (Meaning::CancelAsked, Claimed::CancelAsked { .. })
        | (Meaning::Exhausted, Claimed::Exhausted { .. }) => true,
        (Meaning::Start { alone, .. }, Claimed::Start { alone: is_alone, .. }) => {
            alone == *is_alone
        }
        _ => false,
    }
}

#[tokio::test]
async fn a_claim_means_in_the_model_what_it_means_in_the_store() {
    let world = World::new().await.unwrap();
    let store = world.store().await.unwrap();
    let (mut connection, now_ms) = redis(&world).await;
    let job_type = JobType::parse("demo.echo").unwrap();
    let all = situations();
    for (part, situations) in all.chunks(512).enumerate() {
        let mut pipeline = redis::pipe();
        let mut claims = Vec::new();
        for (place, (job, asked)) in situations.iter().enumerate() {
            let name = name(part * 512 + place);
            write(&mut pipeline, &store.keys().job(&name), &name, job, now_ms);
            claims.push(Claim {
                name,
                job_type: job_type.clone(),
                dispatch: asked.dispatch.into(),
                redelivered: asked.redelivered,
                owner: owner(asked.owner),
                nonce: asked.nonce.to_string(),
                lease_ms: LEASE_MS,
                idle: asked.idle,
                attempts_max: asked.attempts.into(),
                alone_after: ALONE_AFTER,
                not_here: asked.not_here,
                payload: b"1".to_vec(),
            });
        }
        let () = pipeline.query_async(&mut connection).await.unwrap();
        let claimed = store.claim(&claims).await.unwrap();
        let names: Vec<JobName> = claims.iter().map(|claim| claim.name.clone()).collect();
        let (_, records) = store.read(&names).await.unwrap();
        for (((job, asked), claimed), record) in situations.iter().zip(claimed).zip(records) {
            let mut twin = twin(Some(Record::Job(job.clone())), 1);
            let meaning = twin.claim(0, asked, None);
            assert!(is_same(meaning, &claimed), "{meaning:?}, {claimed:?}: {job:?} {asked:?}");
            let (twin, record) = (twin.job(0).unwrap(), record.unwrap());
            let count = |text: &Option<String>| text.as_deref().map(str::parse::<u8>);
            assert_eq!(record.state(), Some(twin.state), "{job:?} {asked:?}");
            assert_eq!(count(&record.revision), Some(Ok(twin.revision)), "{job:?} {asked:?}");
            assert_eq!(count(&record.attempt), Some(Ok(twin.attempt)), "{job:?} {asked:?}");
            assert_eq!(count(&record.lost), Some(Ok(twin.lost)), "{job:?} {asked:?}");
            assert_eq!(record.detached.is_some(), twin.detached, "{job:?} {asked:?}");
            assert_eq!(record.alone.is_some(), twin.alone, "{job:?} {asked:?}");
            let fence = format!("{}-{}", twin.fence.0, twin.fence.1);
            assert_eq!(record.fence, Some(fence), "{job:?} {asked:?}");
        }
    }
    assert!(all.len() > 8000, "{} combinations", all.len());
}

/// A job that is recorded, or not, and a submission of it; and whether the dispatch is long ago.
fn submissions() -> Vec<(Option<Record>, Submission)> {
    let mut all = Vec::new();
    for choice in choices(3) {
        let (redelivered, aged, is_repeated) = (choice[0], choice[1], choice[2]);
        let sent = Submission { job: 0, nonce: 7, redelivered, aged };
        all.push((None, sent));
        all.push((Some(Record::Voided), sent));
        for state in State::ALL {
            for (attempt, epoch) in [(0, 1), (0, 2), (1, 1), (1, 2)] {
                let nonce = if is_repeated { 7 } else { 8 };
                for lease in choices(2) {
                    let (leased, detached) = (lease[0], lease[1]);
                    let job = Job { attempt, leased, detached, ..Job::new(*state, epoch, nonce) };
                    all.push((Some(Record::Job(job)), sent));
                }
            }
        }
    }
    all
}

#[tokio::test]
async fn a_submission_means_in_the_model_what_it_means_in_the_store() {
    let world = World::new().await.unwrap();
    let store = world.store().await.unwrap();
    let epoch = u8::try_from(store.epoch()).unwrap();
    let (mut connection, now_ms) = redis(&world).await;
    let limits = Limits { duplicate_age_ms: Some(600_000), unfinished_max: 0 };
    for (place, (record, sent)) in submissions().into_iter().enumerate() {
        let name = name(place);
        let key = store.keys().job(&name);
        let mut pipeline = redis::pipe();
        // The second of two epochs is the store's.
        let record = record.map(|record| match record {
            Record::Job(job) => Record::Job(Job { epoch: job.epoch + epoch - 1, ..job }),
            voided => voided,
        });
        match &record {
            None => {}
            Some(Record::Voided) => drop(pipeline.hset(&key, "record", "voided")),
            Some(Record::Job(job)) => {
                write(&mut pipeline, &key, &name, job, now_ms);
                let at = if sent.aged { 1 } else { now_ms };
                pipeline.hset(&key, "dispatched_at", at);
            }
        }
        if record.is_some() {
            let () = pipeline.query_async(&mut connection).await.unwrap();
        }
        let accept = Accept {
            name: name.clone(),
            job_type: JobType::parse("demo.echo").unwrap(),
            queue: QueueName::default(),
            spec: protocol::work::Spec::default(),
            digest: Digest::over(&[]),
            first: First::Queued,
            nonce: sent.nonce.to_string(),
            redelivered: sent.redelivered,
            payload_bytes: 1,
            dispatch: 1,
            is_too_old: false,
            replay_of: None,
        };
        let accepted = store.accept(&[accept], limits).await.unwrap().remove(0);
        let by_model = twin(record.clone(), epoch).accept(sent, None);
        let is_same = match (by_model, &accepted) {
            (Accepted::New, accept::Accepted::New { .. })
            | (Accepted::Duplicate, accept::Accepted::Duplicate)
            | (Accepted::Voided, accept::Accepted::Voided) => true,
            (Accepted::Redispatch(number), accept::Accepted::Redispatch { dispatch }) => {
                u64::from(number) == *dispatch
            }
            _ => false,
        };
        assert!(is_same, "{by_model:?}, {accepted:?}: {record:?} {sent:?}");
    }
}
