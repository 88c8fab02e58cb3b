//! The floor under every job: as many messages, and as many calls of scripts, as a job costs, in as
//! many processes, and nothing else. Each script writes one key for each job.
//!
//! ```text
//!   submit ─► floor-server: script, work message, receipt ─► floor-worker: script, script
//!                           event, script  ◄───────── stream ─────────────┘
//! ```

use anyhow::Context as _;
use broker::{Acker, Connection, Consumer, Delivery, Publication, Publisher, topology};
use job::QueueName;
use protocol::{Kind, Properties, UnixMillis};
use redis::aio::MultiplexedConnection;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::ground::PREFIX;
use crate::traffic::{Confirms, confirmed};
use crate::verify::LOOK_EVERY;

/// What XREAD returns: for each stream, its entries with their fields.
type Streams = Vec<(String, Vec<(String, Vec<String>)>)>;

/// Messages taken together, and chunks between two steps, as in the server.
const CHUNK: usize = 256;
const CHUNKS_AHEAD: usize = 2;
const PREFETCH: u16 = 1000;
/// As long as a receipt or an event.
const ANSWER_BYTES: usize = 450;

/// Jobs in one call of a script, as in the store's.
const TOGETHER: usize = 32;

/// KEYS: outbox, how many are done, then one of each job. ARGV: of each its number, and its queue.
const WRITE: &str = "for n = 3, #KEYS do redis.call('SET', KEYS[n], ARGV[2 * n - 5]) end return 1";
const WRITE_AND_TELL: &str = "for n = 3, #KEYS do \
     local of, to = ARGV[2 * n - 5], ARGV[2 * n - 4] redis.call('SET', KEYS[n], of) \
     if to ~= '' then redis.call('XADD', KEYS[1], '*', 'to', to, 'of', of) end end \
     redis.call('INCRBY', KEYS[2], #KEYS - 2) return 1";
const TOLD: &str = "return redis.call('XDEL', KEYS[1], unpack(ARGV))";

#[derive(serde::Deserialize)]
struct Settings {
    amqp: broker::Settings,
    redis: store::Settings,
}

/// What both programs stand on.
struct Place {
    consume: Connection,
    publish: Connection,
    redis: MultiplexedConnection,
    client: redis::Client,
}

impl Place {
    async fn open() -> anyhow::Result<Self> {
        let Settings { amqp, redis } = settings::load(None)?;
        let client = redis::Client::open(redis.url)?;
        Ok(Self {
            consume: Connection::open(&amqp, "floor").await?,
            publish: Connection::open(&amqp, "floor").await?,
            redis: client.get_multiplexed_async_connection().await?,
            client,
        })
    }
}

fn outbox() -> String {
    format!("{PREFIX}:floor:outbox")
}

fn done() -> String {
    format!("{PREFIX}:floor:done")
}

/// Waits until so many jobs have passed, and counts from nothing again: the store's time when the
/// last one had. The floor has no records; it has one key for each job.
///
/// # Errors
/// Redis fails, or the time is up.
pub async fn until_done(
    redis: &mut MultiplexedConnection,
    jobs: usize,
) -> anyhow::Result<UnixMillis> {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    harness::within("the floor", async {
        loop {
            looks.tick().await;
            let (count, (seconds, us)): (Option<u64>, (i64, i64)) =
                redis::pipe().get(done()).cmd("TIME").query_async(redis).await?;
            if count.unwrap_or_default() >= jobs as u64 {
                let _: redis::Value = redis::cmd("DEL").arg(done()).query_async(redis).await?;
                return Ok(UnixMillis(seconds * 1000 + us / 1000));
            }
        }
    })
    .await?
}

fn key(delivery: &Delivery) -> String {
    let number = delivery.properties.correlation_id.as_deref().unwrap_or_default();
    format!("{PREFIX}:floor:{}:{number}", delivery.properties.reply_to.as_deref().unwrap_or("-"))
}

/// Calls a script for some messages, in one pipeline.
async fn call(
    redis: &mut MultiplexedConnection,
    script: &str,
    chunk: &[Delivery],
) -> anyhow::Result<()> {
    let hash = redis::Script::new(script).get_hash().to_owned();
    let mut pipeline = redis::Pipeline::new();
    for jobs in chunk.chunks(TOGETHER) {
        let call = pipeline.cmd("EVALSHA").arg(&hash).arg(2 + jobs.len()).arg(outbox()).arg(done());
        for job in jobs {
            call.arg(key(job));
        }
        for Delivery { properties, .. } in jobs {
            call.arg(properties.correlation_id.as_deref().unwrap_or_default());
            call.arg(properties.reply_to.as_deref().unwrap_or_default());
        }
    }
    Ok(pipeline.query_async(redis).await?)
}

async fn load(redis: &mut MultiplexedConnection) -> anyhow::Result<()> {
    for script in [WRITE, WRITE_AND_TELL, TOLD] {
        let _: String = redis::cmd("SCRIPT").arg("LOAD").arg(script).query_async(redis).await?;
    }
    Ok(())
}

fn answer(to: String, kind: Kind, correlation_id: Option<String>) -> Publication {
    Publication {
        exchange: topology::DEFAULT,
        routing_key: to,
        mandatory: true,
        properties: Properties {
            persistent: true,
            kind: Some(kind.as_str().to_owned()),
            correlation_id,
            ..Properties::default()
        },
        body: vec![b'x'; ANSWER_BYTES],
    }
}

/// The part of the server.
///
/// # Errors
/// A node fails.
pub async fn serve() -> anyhow::Result<()> {
    let mut place = Place::open().await?;
    load(&mut place.redis).await?;
    let mut consumer = place.consume.consumer(topology::INTAKE_QUEUE, PREFETCH).await?;
    let (accepted, dispatching) = mpsc::channel(CHUNKS_AHEAD);
    let (dispatched, answering) = mpsc::channel(CHUNKS_AHEAD);
    let (sent, acknowledging) = mpsc::channel(CHUNKS_AHEAD);
    let stream = place.client.get_multiplexed_async_connection().await?;
    // What fails first is said.
    let mut tasks = JoinSet::new();
    tasks.spawn(dispatch(place.publish.publisher().await?, dispatching, sent));
    tasks.spawn(acknowledge(consumer.acker(), acknowledging, dispatched));
    tasks.spawn(send_receipts(place.publish.publisher().await?, answering));
    tasks.spawn(notify(place.publish.publisher().await?, stream, place.redis.clone()));
    tokio::select! {
        Some(ended) = tasks.join_next() => ended?,
        ended = take(&mut consumer, &mut place.redis, accepted) => ended,
    }
}

/// The first step of both programs: calls a script for what comes, and passes it on, until told.
async fn take(
    consumer: &mut Consumer,
    redis: &mut MultiplexedConnection,
    taken: mpsc::Sender<Vec<Delivery>>,
) -> anyhow::Result<()> {
    println!("working");
    let taking = async {
        loop {
            let chunk = consumer.next_chunk(CHUNK).await?;
            call(redis, WRITE, &chunk).await?;
            taken.send(chunk).await?;
        }
    };
    tokio::select! {
        ended = taking => ended,
        told = crate::until_told() => told,
    }
}

/// Publishes work: one chunk does not wait for the confirms of the one before it.
async fn dispatch(
    publisher: Publisher,
    mut accepted: mpsc::Receiver<Vec<Delivery>>,
    sent: mpsc::Sender<(Vec<Delivery>, Confirms)>,
) -> anyhow::Result<()> {
    while let Some(chunk) = accepted.recv().await {
        let work = chunk.iter().map(|delivery| Publication {
            exchange: topology::WORK,
            routing_key: QueueName::DEFAULT.to_owned(),
            mandatory: true,
            properties: Properties { user_id: None, ..delivery.properties.clone() },
            body: delivery.body.clone(),
        });
        let confirms = publisher.begin(work.collect()).await?;
        sent.send((chunk, confirms)).await?;
    }
    Ok(())
}

/// Acknowledges what is confirmed.
async fn acknowledge(
    acker: Acker,
    mut sent: mpsc::Receiver<(Vec<Delivery>, Confirms)>,
    dispatched: mpsc::Sender<Vec<Delivery>>,
) -> anyhow::Result<()> {
    while let Some((chunk, confirms)) = sent.recv().await {
        confirmed(&confirms.await?)?;
        acker.ack_through(chunk.last().context("a delivery")?.tag).await?;
        dispatched.send(chunk).await?;
    }
    Ok(())
}

async fn send_receipts(
    publisher: Publisher,
    mut dispatched: mpsc::Receiver<Vec<Delivery>>,
) -> anyhow::Result<()> {
    while let Some(chunk) = dispatched.recv().await {
        let receipts = chunk.into_iter().filter_map(|delivery| {
            let Properties { reply_to, correlation_id, .. } = delivery.properties;
            Some(answer(reply_to?, Kind::Receipt, correlation_id))
        });
        confirmed(&publisher.publish(receipts.collect()).await)?;
    }
    Ok(())
}

/// Events of one reading, and the entries that they stand for.
type Events = (Vec<Publication>, Vec<String>);

/// Reads, sends and settles, each in its order, as the notifier does.
async fn notify(
    publisher: Publisher,
    stream: MultiplexedConnection,
    redis: MultiplexedConnection,
) -> anyhow::Result<()> {
    let (read, to_send) = mpsc::channel(CHUNKS_AHEAD);
    let (sent, to_settle) = mpsc::channel(CHUNKS_AHEAD);
    tokio::try_join!(
        look(stream, read),
        send_events(publisher, to_send, sent),
        settle(redis, to_settle)
    )?;
    Ok(())
}

async fn look(mut stream: MultiplexedConnection, read: mpsc::Sender<Events>) -> anyhow::Result<()> {
    let mut after = "0".to_owned();
    loop {
        let entries: Option<Streams> = redis::cmd("XREAD")
            .arg("COUNT")
            .arg(CHUNK)
            .arg("BLOCK")
            .arg(250)
            .arg("STREAMS")
            .arg(outbox())
            .arg(&after)
            .query_async(&mut stream)
            .await?;
        let (mut events, mut ids) = (Vec::new(), Vec::new());
        for (id, fields) in entries.into_iter().flatten().flat_map(|(_, entries)| entries) {
            let [_, to, _, of] = <[String; 4]>::try_from(fields)
                .map_err(|fields| anyhow::anyhow!("an entry with {fields:?}"))?;
            events.push(answer(to, Kind::Event, Some(of)));
            after.clone_from(&id);
            ids.push(id);
        }
        if !events.is_empty() {
            read.send((events, ids)).await?;
        }
    }
}

async fn send_events(
    publisher: Publisher,
    mut read: mpsc::Receiver<Events>,
    sent: mpsc::Sender<Vec<String>>,
) -> anyhow::Result<()> {
    while let Some((events, ids)) = read.recv().await {
        confirmed(&publisher.publish(events).await)?;
        sent.send(ids).await?;
    }
    Ok(())
}

async fn settle(
    mut redis: MultiplexedConnection,
    mut sent: mpsc::Receiver<Vec<String>>,
) -> anyhow::Result<()> {
    let hash = redis::Script::new(TOLD).get_hash().to_owned();
    while let Some(ids) = sent.recv().await {
        let mut told = redis::Pipeline::new();
        for ids in ids.chunks(TOGETHER) {
            told.cmd("EVALSHA").arg(&hash).arg(1).arg(outbox()).arg(ids);
        }
        let _: redis::Value = told.query_async(&mut redis).await?;
    }
    Ok(())
}

/// The part of the worker.
///
/// # Errors
/// A node fails.
pub async fn work() -> anyhow::Result<()> {
    let mut place = Place::open().await?;
    load(&mut place.redis).await?;
    let queue = topology::work_queue(&QueueName::default());
    let mut consumer = place.consume.consumer(&queue, PREFETCH).await?;
    let (acker, mut redis) = (consumer.acker(), place.redis.clone());
    let (claimed, mut recording) = mpsc::channel::<Vec<Delivery>>(CHUNKS_AHEAD);
    let record = async move {
        while let Some(chunk) = recording.recv().await {
            call(&mut redis, WRITE_AND_TELL, &chunk).await?;
            acker.ack_through(chunk.last().context("a delivery")?.tag).await?;
        }
        anyhow::Ok(())
    };
    let record = tokio::spawn(record);
    tokio::select! {
        ended = record => ended?,
        ended = take(&mut consumer, &mut place.redis, claimed) => ended,
    }
}
