//! Takes messages off a queue that lapin cannot read.
//!
//! # Why there is a second AMQP client
//! AMQP allows any bytes in a short string: a routing key, a `message_id`, the name of a header.
//! The broker passes them on, and lapin, which wants UTF-8 there, answers such a delivery by
//! closing the connection. So one message, which any client may publish, would end every consumer
//! of its queue for ever. What is here reads bytes, with no more of the protocol than it takes to
//! get at the messages of one queue: <https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf>.
//!
//! # What it never does
//! It keeps no message that lapin can read, and never sends `basic.cancel`: the connection ends
//! with the messages unacknowledged, which returns them to where they were (see
//! [`crate::Consumer`]). It does not speak TLS.

mod content;

use std::future::Future;
use std::io;
use std::time::Duration;

use lapin::uri::{AMQPScheme, AMQPUri};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::topology::LINE_PREFETCH;
use crate::{Delivery, Error, Settings};
use content::{Content, Reader, lossy};

/// How long an answer, or a part of a message, may take.
const ANSWER_MS: u64 = 5000;
/// How long the queue may be silent. Silence is nothing unusual: it is empty, or it is a
/// single-active one and another consumer has it.
const SILENCE_MS: u64 = 300;
/// RabbitMQ offers 128 KiB and allows "no limit", which is none for us.
const FRAME_MAX: u32 = 16 * 1024 * 1024;
const BODY_MAX: usize = 256 * 1024 * 1024;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
const FRAME_END: u8 = 0xce;

/// A method: its class and its number in that class.
type Method = [u16; 2];

/// Takes messages off a queue that lapin cannot read, as far as a consumer would be given messages
/// at once ([`LINE_PREFETCH`]). Each is handed over with its texts made readable (see
/// [`String::from_utf8_lossy`]; none is longer than a short string may be), and acknowledged when
/// `handle` has returned true; one for which it returns false ends it. Readable ones stay, in
/// order. Returns how many were taken.
///
/// # Errors
/// [`Error::Gone`] and [`Error::Timeout`]: what was not acknowledged by then returns to the queue,
/// so `handle` may see it again. [`Error::Url`] and [`Error::TooLong`]: mend the settings.
pub async fn salvage<F, Fut>(
    settings: &Settings,
    queue: &str,
    mut handle: F,
) -> Result<usize, Error>
where
    F: FnMut(Delivery) -> Fut,
    Fut: Future<Output = bool>,
{
    let uri: AMQPUri = settings.url.parse().map_err(Error::Url)?;
    if uri.scheme == AMQPScheme::AMQPS {
        tracing::warn!(queue, "unreadable messages cannot be taken off a queue over TLS");
        return Ok(0);
    }
    let mut wire = Wire::open(&uri, settings.connect_timeout_ms).await?;
    wire.consume(queue).await?;
    let mut taken = 0;
    while let Some(delivery) = wire.unreadable().await? {
        let tag = delivery.tag;
        if !handle(delivery).await {
            break;
        }
        wire.send(1, [60, 80], &[&tag.to_be_bytes()[..], &[0]].concat()).await?;
        taken += 1;
    }
    wire.close().await;
    Ok(taken)
}

/// What a broker says of itself before anybody has logged in: its product and its version. lapin
/// does not hand that on.
///
/// # Errors
/// [`Error::Gone`] and [`Error::Timeout`]: nobody, or no AMQP 0-9-1 broker, answers there.
pub async fn greeting(settings: &Settings) -> Result<(String, String), Error> {
    let uri: AMQPUri = settings.url.parse().map_err(Error::Url)?;
    let start = Wire::greet(&uri, settings.connect_timeout_ms).await?.1;
    let mut start = Reader::new(&start);
    let _version: [u8; 2] = start.array().ok_or(Error::Gone)?;
    let said = start.table().ok_or(Error::Gone)?;
    let text = |name| said.text(name).unwrap_or_default().to_owned();
    Ok((text("product"), text("version")))
}

/// A message of these frames without its body, the size of that, and whether lapin reads them.
pub(crate) fn content(deliver: &[u8], header: &[u8]) -> Option<(Delivery, u64, bool)> {
    let Content { delivery, size, readable } = Content::parse(deliver, header)?;
    Some((delivery, size, readable))
}

/// A connection of which every byte is read here.
struct Wire {
    stream: TcpStream,
    frame_max: u32,
    /// Messages that lapin can read, seen and left alone.
    passed: u16,
}

impl Wire {
    /// Connects; returns what the broker says first.
    async fn greet(uri: &AMQPUri, connect_timeout_ms: u64) -> Result<(Self, Vec<u8>), Error> {
        let address = (uri.authority.host.as_str(), uri.authority.port);
        let stream = in_time(connect_timeout_ms, TcpStream::connect(address)).await?;
        let mut wire = Self { stream, frame_max: FRAME_MAX, passed: 0 };
        in_time(ANSWER_MS, wire.stream.write_all(b"AMQP\x00\x00\x09\x01")).await?;
        let start = wire.receive([10, 10]).await?;
        Ok((wire, start))
    }

    async fn open(uri: &AMQPUri, connect_timeout_ms: u64) -> Result<Self, Error> {
        let (mut wire, _) = Self::greet(uri, connect_timeout_ms).await?;
        let user = &uri.authority.userinfo;
        let response = format!("\0{}\0{}", user.username, user.password);
        let name = format!("salvage ({})", std::process::id());
        // Shown in the management page. No capability is claimed, so nothing comes unasked.
        let client = [short("connection_name")?, b"S".to_vec(), long(name.as_bytes())?].concat();
        let login =
            [long(&client)?, short("PLAIN")?, long(response.as_bytes())?, short("en_US")?].concat();
        wire.send(0, [10, 11], &login).await?;
        let tune = wire.receive([10, 30]).await?;
        let mut tune = Reader::new(&tune);
        let channels: [u8; 2] = tune.array().ok_or(Error::Gone)?;
        wire.frame_max = match u32::from_be_bytes(tune.array().ok_or(Error::Gone)?) {
            0 => FRAME_MAX,
            offered => offered.min(FRAME_MAX),
        };
        // No heartbeat: every wait has an end of its own, and `handle` may take its time.
        let tune = [&channels[..], &wire.frame_max.to_be_bytes(), &[0; 2]].concat();
        wire.send(0, [10, 31], &tune).await?;
        // As in `Connection::open`.
        let vhost = if uri.vhost.is_empty() { "/" } else { &uri.vhost };
        wire.send(0, [10, 40], &[short(vhost)?, vec![0, 0]].concat()).await?;
        wire.receive([10, 41]).await?;
        Ok(wire)
    }

    async fn consume(&mut self, queue: &str) -> Result<(), Error> {
        self.send(1, [20, 10], &[0]).await?;
        self.receive([20, 11]).await?;
        // As many as any consumer of ours: one that cannot be read may stand behind many that can.
        let prefetch = LINE_PREFETCH.to_be_bytes();
        self.send(1, [60, 10], &[&[0; 4][..], &prefetch, &[0]].concat()).await?;
        self.receive([60, 11]).await?;
        // No consumer tag, no flags (so with acknowledgements), no arguments.
        let target = [vec![0; 2], short(queue)?, vec![0; 6]].concat();
        self.send(1, [60, 20], &target).await?;
        self.receive([60, 21]).await.map(|_| ())
    }

    /// The next message that lapin cannot read; `None` if none comes.
    async fn unreadable(&mut self) -> Result<Option<Delivery>, Error> {
        while self.passed < LINE_PREFETCH {
            let (kind, deliver) = match self.frame(SILENCE_MS).await {
                Err(Error::Timeout(_)) => return Ok(None),
                frame => frame?,
            };
            let deliver = arguments([60, 60], kind, &deliver)?;
            let (kind, header) = self.frame(ANSWER_MS).await?;
            if kind != HEADER {
                return Err(Error::Gone);
            }
            let content = Content::parse(deliver, &header).ok_or(Error::Gone)?;
            let body = self.body(content.size).await?;
            if !content.readable {
                return Ok(Some(Delivery { body, ..content.delivery }));
            }
            self.passed += 1;
        }
        Ok(None)
    }

    async fn body(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        let size = usize::try_from(size).ok().filter(|size| *size <= BODY_MAX);
        let size = size.ok_or(Error::Gone)?;
        let mut body = Vec::new();
        while body.len() < size {
            let (kind, part) = self.frame(ANSWER_MS).await?;
            // Without the middle one, empty parts would go on for ever.
            if kind != BODY || part.is_empty() || part.len() > size - body.len() {
                return Err(Error::Gone);
            }
            body.extend_from_slice(&part);
        }
        Ok(body)
    }

    /// Ends the connection. Its answer is waited for because the last acknowledgement may still be
    /// under way; without it, that message comes again.
    async fn close(mut self) {
        let closing = async {
            let reason = [&200_u16.to_be_bytes()[..], &short("done")?, &[0; 4]].concat();
            self.send(0, [10, 50], &reason).await?;
            loop {
                let (kind, payload) = self.frame(ANSWER_MS).await?;
                if kind == METHOD && payload.starts_with(&id([10, 51])) {
                    return Ok::<_, Error>(());
                }
            }
        };
        match timeout(Duration::from_millis(ANSWER_MS), closing).await {
            Ok(Ok(())) => {}
            ended => tracing::debug!(?ended, "closing a connection"),
        }
    }

    async fn send(&mut self, channel: u16, method: Method, rest: &[u8]) -> Result<(), Error> {
        let payload = long(&[&id(method), rest].concat())?;
        let frame = [&[METHOD], &channel.to_be_bytes()[..], &payload, &[FRAME_END]].concat();
        in_time(ANSWER_MS, self.stream.write_all(&frame)).await
    }

    /// Waits for a method; returns its arguments.
    async fn receive(&mut self, method: Method) -> Result<Vec<u8>, Error> {
        let (kind, payload) = self.frame(ANSWER_MS).await?;
        Ok(arguments(method, kind, &payload)?.to_vec())
    }

    /// The kind and the payload of the next frame that is no heartbeat.
    async fn frame(&mut self, limit_ms: u64) -> Result<(u8, Vec<u8>), Error> {
        let reading = async {
            loop {
                let mut head = [0; 7];
                self.stream.read_exact(&mut head).await?;
                let [kind, _, _, size @ ..] = head;
                let size = u32::from_be_bytes(size);
                if size > self.frame_max {
                    return Err(io::Error::other("a frame that is too long"));
                }
                let size = usize::try_from(size).map_err(io::Error::other)?;
                let mut payload = vec![0; size + 1];
                self.stream.read_exact(&mut payload).await?;
                if payload.pop() != Some(FRAME_END) {
                    return Err(io::Error::other("a frame without its end"));
                }
                if kind != HEARTBEAT {
                    return Ok((kind, payload));
                }
            }
        };
        in_time(limit_ms, reading).await
    }
}

async fn in_time<T>(limit_ms: u64, work: impl Future<Output = io::Result<T>>) -> Result<T, Error> {
    match timeout(Duration::from_millis(limit_ms), work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            tracing::debug!(%error, "salvaging");
            Err(Error::Gone)
        }
        Err(_) => Err(Error::Timeout(limit_ms)),
    }
}

fn id([class, method]: Method) -> [u8; 4] {
    ((u32::from(class) << 16) | u32::from(method)).to_be_bytes()
}

/// The arguments of a method, if a frame is that method.
fn arguments(method: Method, kind: u8, payload: &[u8]) -> Result<&[u8], Error> {
    let arguments = payload.strip_prefix(&id(method)).filter(|_| kind == METHOD);
    arguments.ok_or_else(|| {
        // Mostly the broker's reason to close the channel or the connection, among other bytes.
        tracing::debug!(answer = lossy(payload), ?method, "salvaging: another answer");
        Error::Gone
    })
}

fn short(text: &str) -> Result<Vec<u8>, Error> {
    let size = u8::try_from(text.len());
    let size = size.map_err(|_| Error::TooLong(text.chars().take(80).collect()))?;
    Ok([&[size], text.as_bytes()].concat())
}

fn long(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let size = u32::try_from(bytes.len()).map_err(|_| Error::Gone)?;
    Ok([&size.to_be_bytes(), bytes].concat())
}
