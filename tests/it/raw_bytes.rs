//! Messages that no well-behaved library would send: AMQP allows any bytes where a client's library
//! expects text, and the broker passes them on. One such message must not stop the line.

use anyhow::{Context as _, ensure};
use broker::topology;
use harness::{Process, World, within};
use protocol::headers;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::list_bounds::{both_are_refused, two};

const TYPE: &[u8] = b"order.place";
const NOT_TEXT: &[u8] = b"\xff\xfe";
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;

/// A connection of which every byte is written here:
/// <https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf>.
struct Bytes(TcpStream);

/// Flags of the properties, in the order in which these follow each other.
const HEADERS: u16 = 1 << 13;
const CORRELATION_ID: u16 = 1 << 10;
const REPLY_TO: u16 = 1 << 9;
const MESSAGE_ID: u16 = 1 << 7;
const KIND: u16 = 1 << 5;
const USER_ID: u16 = 1 << 4;

fn short(text: &[u8]) -> Vec<u8> {
    let mut bytes = vec![text.len() as u8];
    bytes.extend_from_slice(text);
    bytes
}

fn long(text: &[u8]) -> Vec<u8> {
    let mut bytes = (text.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(text);
    bytes
}

impl Bytes {
    async fn open(world: &World, user: &str) -> anyhow::Result<Self> {
        let url = world.amqp_url(user);
        let (login, place) =
            url.strip_prefix("amqp://").and_then(|url| url.split_once('@')).context("a URL")?;
        let (address, vhost) = place.split_once('/').context("a virtual host")?;
        let (user, password) = login.split_once(':').context("a login")?;
        let mut it = Self(TcpStream::connect(address).await?);
        it.0.write_all(b"AMQP\x00\x00\x09\x01").await?;
        it.receive([10, 10]).await?;
        let response = format!("\0{user}\0{password}");
        let login = [long(b""), short(b"PLAIN"), long(response.as_bytes()), short(b"en_US")];
        it.method(0, [10, 11], &login.concat()).await?;
        it.receive([10, 30]).await?;
        it.method(0, [10, 31], &[7, 255, 0, 2, 0, 0, 0, 0]).await?;
        it.method(0, [10, 40], &[short(vhost.as_bytes()), short(b""), vec![0]].concat()).await?;
        it.receive([10, 41]).await?;
        it.method(1, [20, 10], &short(b"")).await?;
        it.receive([20, 11]).await?;
        it.method(1, [85, 10], &[0]).await?;
        it.receive([85, 11]).await?;
        Ok(it)
    }

    async fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) -> anyhow::Result<()> {
        let mut frame = vec![kind];
        frame.extend_from_slice(&channel.to_be_bytes());
        frame.extend_from_slice(&long(payload));
        frame.push(0xce);
        Ok(self.0.write_all(&frame).await?)
    }

    async fn method(&mut self, channel: u16, id: [u16; 2], rest: &[u8]) -> anyhow::Result<()> {
        let id = id.map(u16::to_be_bytes).concat();
        self.frame(METHOD, channel, &[&id, rest].concat()).await
    }

    /// Waits for a method.
    async fn receive(&mut self, id: [u16; 2]) -> anyhow::Result<()> {
        let mut head = [0; 7];
        within("a frame", self.0.read_exact(&mut head)).await??;
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        let mut payload = vec![0; usize::try_from(size)? + 1];
        within("a frame", self.0.read_exact(&mut payload)).await??;
        ensure!(
            head[0] == METHOD && payload.starts_with(&id.map(u16::to_be_bytes).concat()),
            "{id:?} was waited for: {:?}",
            String::from_utf8_lossy(&payload)
        );
        Ok(())
    }

    /// Publishes a message without a body and waits for the confirm.
    async fn publish(
        &mut self,
        exchange: &str,
        routing_key: &[u8],
        flags: u16,
        properties: &[Vec<u8>],
    ) -> anyhow::Result<()> {
        self.publish_with(exchange, routing_key, flags, properties, b"").await
    }

    async fn publish_with(
        &mut self,
        exchange: &str,
        routing_key: &[u8],
        flags: u16,
        properties: &[Vec<u8>],
        body: &[u8],
    ) -> anyhow::Result<()> {
        let target = [vec![0, 0], short(exchange.as_bytes()), short(routing_key), vec![0]];
        self.method(1, [60, 40], &target.concat()).await?;
        let mut header = vec![0, 60, 0, 0];
        header.extend_from_slice(&(body.len() as u64).to_be_bytes());
        header.extend_from_slice(&flags.to_be_bytes());
        header.extend_from_slice(&properties.concat());
        self.frame(HEADER, 1, &header).await?;
        if !body.is_empty() {
            self.frame(BODY, 1, body).await?;
        }
        self.receive([60, 80]).await
    }
}

/// Bytes that are no text, in each property and in the routing key, to the line and to the inquiry:
/// what comes behind them is answered, and the message itself is kept, not delivered for
/// ever (H28).
#[tokio::test]
async fn a_message_that_is_not_text_does_not_stop_the_line() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    let mut bytes = Bytes::open(&world, "shop").await?;
    let name = [short(NOT_TEXT), b"S".to_vec(), long(b"x")].concat();
    let value = [short(b"job-tags"), b"S".to_vec(), long(NOT_TEXT)].concat();
    let messages: [(&str, &[u8], u16, Vec<u8>); 6] = [
        ("the value of a header", TYPE, HEADERS, long(&value)),
        ("the routing key", NOT_TEXT, 0, Vec::new()),
        ("correlation_id", TYPE, CORRELATION_ID, short(NOT_TEXT)),
        ("reply_to", TYPE, REPLY_TO, short(NOT_TEXT)),
        ("message_id", TYPE, MESSAGE_ID, short(NOT_TEXT)),
        ("the name of a header", TYPE, HEADERS, long(&name)),
    ];
    let mut dead = world.raw("admin").await?.read(topology::DEAD_QUEUE).await?;
    for (n, (what, key, flag, property)) in messages.into_iter().enumerate() {
        for exchange in [topology::SUBMIT, topology::REQUEST] {
            let properties = [property.clone(), short(b"shop")];
            bytes.publish(exchange, key, flag | USER_ID, &properties).await?;
            let id = format!("A-{n}");
            shop.submit_job("order.place", &id, &inbox.queue, &[], "{}").await?;
            let receipt = inbox.next_of("receipt").await.context(what)?;
            assert_eq!(receipt.text("job_id"), id);
            shop.ask("status", &inbox.queue, serde_json::json!({"job_id": id})).await?;
            let status = inbox.next_of("status").await.context(what)?;
            assert_eq!(status.text("state"), "parked");
            let kept = dead.next().await.context(what)?;
            let from = kept.properties.headers.text(headers::DEAD_EXCHANGE);
            assert_eq!(from, Some(exchange), "{what}");
        }
    }
    Ok(server.stop().await?)
}

/// Its own identifier is none of those of the submissions in it.
#[tokio::test]
async fn a_list_that_is_not_text_is_recorded_as_refused() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    let mut bytes = Bytes::open(&world, "shop").await?;
    let name = [short(NOT_TEXT), b"S".to_vec(), long(b"x")].concat();
    let texts = [inbox.queue.as_str(), "the-list", "submissions", "shop"];
    let texts = texts.iter().map(|text| short(text.as_bytes()));
    let properties: Vec<Vec<u8>> = [long(&name)].into_iter().chain(texts).collect();
    let flags = HEADERS | REPLY_TO | MESSAGE_ID | KIND | USER_ID;
    let list = two();
    bytes.publish_with(topology::SUBMIT, TYPE, flags, &properties, list.as_bytes()).await?;
    let refusal = inbox.next_of("refusal").await?;
    assert_eq!((refusal.text("code"), refusal.body.get("job_id")), ("bad_header", None));
    both_are_refused(&shop, &mut inbox).await?;
    Ok(server.stop().await?)
}

/// A header of nested arrays overflows the stack of whoever reads it by recursion, which no program
/// survives. It costs a process once: the next one takes the message off before it reads (H28).
#[tokio::test]
async fn a_header_that_nests_without_end_stops_the_line_for_no_longer_than_a_restart()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let environment = world.environment("server");
    let start = || Process::start("counterfoil", &["server"], &environment, &world.directory);
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    let mut dead = world.raw("admin").await?.read(topology::DEAD_QUEUE).await?;
    let mut nested = Vec::new();
    for _ in 0..2_000 {
        nested = [b"A".to_vec(), long(&nested)].concat();
    }
    let header = long(&[short(b"n"), nested].concat());
    let mut bytes = Bytes::open(&world, "shop").await?;
    bytes.publish(topology::SUBMIT, TYPE, HEADERS | USER_ID, &[header, short(b"shop")]).await?;
    shop.submit_job("order.place", "A-1", &inbox.queue, &[], "{}").await?;
    let (server, mut says) = start()?;
    says.until("working").await?;
    assert_eq!(inbox.next_of("receipt").await?.text("job_id"), "A-1");
    let kept = dead.next().await?;
    let reason = kept.properties.headers.text(headers::REASON).unwrap_or_default();
    assert!(reason.ends_with("nests too deep"), "{reason}");
    assert_eq!(server.terminate().await?, Some(0));
    Ok(())
}
