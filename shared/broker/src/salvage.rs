//! Takes messages off a queue that lapin cannot read.
//!
//! # Why there is a second AMQP client
//! AMQP allows any bytes in a short string: a routing key, a `message_id`, the name of a header. The
//! broker passes them on, and lapin, which wants UTF-8 there, answers such a delivery by closing
//! the connection. So one message, which any client may publish, would end every consumer of its
//! queue for ever. What is here reads bytes, with no more of the protocol than it takes to get at
//! the head of one queue: <https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf>.
//!
//! # What it never does
//! It keeps no message that lapin can read, and never sends `basic.cancel`: the connection ends
//! with the message unacknowledged, which returns it to where it was (see [`crate::Consumer`]). It
//! does not speak TLS.

use std::future::Future;
use std::io;
use std::time::Duration;

use lapin::uri::{AMQPScheme, AMQPUri};
use protocol::{HeaderValue, Headers, Properties};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::{Delivery, Error, Settings};

/// How long an answer, or a part of a message, may take.
const ANSWER_MS: u64 = 5000;
/// How long the queue may be silent. Silence is nothing unusual: it is empty, or it is a
/// single-active one and another consumer has it.
const SILENCE_MS: u64 = 1000;
/// RabbitMQ offers 128 KiB and allows "no limit", which is none for us.
const FRAME_MAX: u32 = 16 * 1024 * 1024;
const BODY_MAX: usize = 256 * 1024 * 1024;
/// How deep tables may nest. lapin descends until its stack is used up.
const DEPTH_MAX: usize = 64;
/// The longest short string.
const SHORT_MAX: usize = 255;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
const FRAME_END: u8 = 0xce;

/// A method: its class and its number in that class.
type Method = [u16; 2];

/// Takes messages off the head of a queue that lapin cannot read. Each is handed over with its
/// texts made readable (see [`String::from_utf8_lossy`]; none is longer than a short string may
/// be), and acknowledged when `handle` has returned true. The first readable one ends it and stays,
/// as does one for which `handle` returns false. Returns how many were taken.
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

/// A connection of which every byte is read here.
struct Wire {
    stream: TcpStream,
    frame_max: u32,
}

impl Wire {
    async fn open(uri: &AMQPUri, connect_timeout_ms: u64) -> Result<Self, Error> {
        let address = (uri.authority.host.as_str(), uri.authority.port);
        let stream = in_time(connect_timeout_ms, TcpStream::connect(address)).await?;
        let mut wire = Self { stream, frame_max: FRAME_MAX };
        in_time(ANSWER_MS, wire.stream.write_all(b"AMQP\x00\x00\x09\x01")).await?;
        wire.receive([10, 10]).await?;
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
        // One at a time, so that what is behind a readable message is not even touched.
        self.send(1, [60, 10], &[0, 0, 0, 0, 0, 1, 0]).await?;
        self.receive([60, 11]).await?;
        // No consumer tag, no flags (so with acknowledgements), no arguments.
        let target = [vec![0; 2], short(queue)?, vec![0; 6]].concat();
        self.send(1, [60, 20], &target).await?;
        self.receive([60, 21]).await.map(|_| ())
    }

    /// The next message if lapin cannot read it; `None` if it can, or if none comes.
    async fn unreadable(&mut self) -> Result<Option<Delivery>, Error> {
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
        if content.readable {
            return Ok(None);
        }
        let body = self.body(content.size).await?;
        Ok(Some(Delivery { body, ..content.delivery }))
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

/// No longer than a short string, for it is to be written into one again.
fn lossy(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    text.truncate(text.floor_char_boundary(SHORT_MAX));
    text
}

/// A message without its body.
struct Content {
    delivery: Delivery,
    size: u64,
    /// Whether lapin can read it.
    readable: bool,
}

impl Content {
    /// `None` without a tag, by which it would be acknowledged, or without a size.
    fn parse(deliver: &[u8], header: &[u8]) -> Option<Self> {
        let mut deliver = Reader::new(deliver);
        let mut readable = deliver.text().is_some();
        let tag = u64::from_be_bytes(deliver.array()?);
        let redelivered = deliver.byte()? & 1 != 0;
        let (exchange, routing_key) = (deliver.text()?, deliver.text()?);
        let mut header = Reader::new(header);
        let _class_and_weight: [u8; 4] = header.array()?;
        let size = u64::from_be_bytes(header.array()?);
        let mut properties = Properties::default();
        // What has been read before it went wrong is kept.
        readable &= header.properties(&mut properties).is_some();
        readable &= [deliver, header].iter().all(|it| it.rest.is_empty() && !it.lossy);
        let body = Vec::new();
        let delivery = Delivery { tag, exchange, routing_key, redelivered, properties, body };
        Some(Self { delivery, size, readable })
    }
}

/// Reads what a frame holds and no further. `None` is where lapin would give up.
struct Reader<'a> {
    rest: &'a [u8],
    /// Whether a short string was no UTF-8.
    lossy: bool,
}

impl<'a> Reader<'a> {
    fn new(rest: &'a [u8]) -> Self {
        Self { rest, lossy: false }
    }

    fn take(&mut self, size: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(size)?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn text(&mut self) -> Option<String> {
        let size = self.byte()?;
        let bytes = self.take(size.into())?;
        self.lossy |= std::str::from_utf8(bytes).is_err();
        Some(lossy(bytes))
    }

    fn long(&mut self) -> Option<&'a [u8]> {
        let size = u32::from_be_bytes(self.array()?);
        self.take(usize::try_from(size).ok()?)
    }

    fn properties(&mut self, to: &mut Properties) -> Option<()> {
        let flags = u16::from_be_bytes(self.array()?);
        let text = |it: &mut Self, n: u32, to: &mut Option<String>| {
            if flags & (1 << n) != 0 {
                *to = Some(it.text()?);
            }
            Some(())
        };
        text(self, 15, &mut to.content_type)?;
        text(self, 14, &mut to.content_encoding)?;
        if flags & (1 << 13) != 0 {
            self.entries(true, DEPTH_MAX, &mut to.headers)?;
        }
        if flags & (1 << 12) != 0 {
            to.persistent = self.byte()? == 2;
        }
        if flags & (1 << 11) != 0 {
            let _priority = self.byte()?;
        }
        text(self, 10, &mut to.correlation_id)?;
        text(self, 9, &mut to.reply_to)?;
        text(self, 8, &mut to.expiration)?;
        text(self, 7, &mut to.message_id)?;
        if flags & (1 << 6) != 0 {
            to.timestamp = Some(u64::from_be_bytes(self.array()?));
        }
        text(self, 5, &mut to.kind)?;
        text(self, 4, &mut to.user_id)?;
        text(self, 3, &mut to.app_id)?;
        text(self, 2, &mut None)
    }

    /// The entries of a table, or of an array, which has no names.
    fn entries(&mut self, named: bool, depth: usize, to: &mut Headers) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        let mut inner = Self::new(self.long()?);
        while !inner.rest.is_empty() {
            let name = if named { inner.text()? } else { String::new() };
            to.push(name, inner.value(depth)?);
        }
        self.lossy |= inner.lossy;
        Some(())
    }

    /// A value, by the letters that RabbitMQ and lapin give to the types.
    fn value(&mut self, depth: usize) -> Option<HeaderValue> {
        use HeaderValue::{Bool, Int, Other, Text};
        Some(match self.byte()? {
            b'S' => std::str::from_utf8(self.long()?).map_or(Other, |text| Text(text.to_owned())),
            b't' => Bool(self.byte()? != 0),
            b'b' => Int(i8::from_be_bytes(self.array()?).into()),
            b'B' => Int(self.byte()?.into()),
            b's' | b'U' => Int(i16::from_be_bytes(self.array()?).into()),
            b'u' => Int(u16::from_be_bytes(self.array()?).into()),
            b'I' => Int(i32::from_be_bytes(self.array()?).into()),
            b'i' => Int(u32::from_be_bytes(self.array()?).into()),
            b'l' | b'L' => Int(i64::from_be_bytes(self.array()?)),
            b'T' => i64::try_from(u64::from_be_bytes(self.array()?)).map_or(Other, Int),
            b'f' => self.take(4).map(|_| Other)?,
            b'D' => self.take(5).map(|_| Other)?,
            b'd' => self.take(8).map(|_| Other)?,
            b'x' => self.long().map(|_| Other)?,
            kind @ (b'F' | b'A') => {
                self.entries(kind == b'F', depth, &mut Headers::default()).map(|()| Other)?
            }
            b'V' => Other,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: &[u8] = b"\xff\xfe";
    const BAD_LOSSY: &str = "\u{fffd}\u{fffd}";

    fn short(text: &[u8]) -> Vec<u8> {
        [&[text.len() as u8], text].concat()
    }

    fn table(entries: &[(&[u8], &[u8])]) -> Vec<u8> {
        let entries = entries.iter().flat_map(|(name, value)| [short(name), value.to_vec()]);
        long(&entries.collect::<Vec<_>>().concat()).unwrap()
    }

    fn deliver(key: &[u8]) -> Vec<u8> {
        [&short(b"tag")[..], &7_u64.to_be_bytes(), &[1], &short(b"exchange"), &short(key)].concat()
    }

    fn header(flags: u16, properties: &[u8]) -> Vec<u8> {
        [&[0, 60, 0, 0][..], &9_u64.to_be_bytes(), &flags.to_be_bytes(), properties].concat()
    }

    /// A header with every property, the texts of which are `text`.
    fn full(text: &[u8], headers: &[u8]) -> Vec<u8> {
        let (text, time) = (short(text), 5_u64.to_be_bytes());
        let rest: Vec<&[u8]> = vec![&text; 4];
        let first = [&text, &text, headers, &[2, 0], &rest.concat()].concat();
        header(0xfffc, &[&first[..], &time, &rest.concat()].concat())
    }

    /// The values of every type.
    fn values() -> Vec<u8> {
        let nested = table(&[(b"in", b"t\x01")]);
        let values: [Vec<u8>; 10] = [
            b"S\0\0\0\x02hi".to_vec(),
            b"S\0\0\0\x02\xff\xfe".to_vec(),
            b"b\xff".to_vec(),
            b"U\xff\xfe".to_vec(),
            b"i\xff\xff\xff\xff".to_vec(),
            [b"T", &u64::MAX.to_be_bytes()[..]].concat(),
            b"D\x01\0\0\0\x01".to_vec(),
            [b"F", &nested[..]].concat(),
            b"A\0\0\0\x03Vt\0".to_vec(),
            b"x\0\0\0\x01\xff".to_vec(),
        ];
        table(&values.iter().map(|value| (&b"h"[..], &value[..])).collect::<Vec<_>>())
    }

    /// What lapin makes of the same bytes.
    fn lapin_reads(deliver: &[u8], header: &[u8]) -> bool {
        use lapin::protocol::basic::{parse_deliver, parse_properties};
        parse_deliver(deliver).is_ok_and(|(rest, _)| rest.is_empty())
            && parse_properties(&header[12..]).is_ok_and(|(rest, _)| rest.is_empty())
    }

    #[test]
    fn texts_are_made_readable() {
        assert!(Content::parse(&deliver(b"key"), &full(b"text", &values())).unwrap().readable);
        let content = Content::parse(&deliver(BAD), &full(BAD, &values())).unwrap();
        assert!(!content.readable);
        assert_eq!((content.size, content.delivery.tag), (9, 7));
        assert_eq!(content.delivery.routing_key, BAD_LOSSY);
        let properties = content.delivery.properties;
        assert!(properties.persistent);
        assert_eq!(properties.timestamp, Some(5));
        for text in [properties.content_type, properties.message_id, properties.app_id] {
            assert_eq!(text.as_deref(), Some(BAD_LOSSY));
        }
        use HeaderValue::{Int, Other, Text};
        let ints = [Int(-1), Int(-2), Int(u32::MAX.into())];
        let expected = [&[Text("hi".into()), Other], &ints[..], &[const { Other }; 5]].concat();
        assert!(properties.headers.iter().map(|(_, value)| value).eq(&expected));
        // Three bytes stand for each of the 255, but it must fit into a short string again.
        let long = Content::parse(&deliver(&[0xff; 255]), &header(0, b"")).unwrap();
        assert_eq!(long.delivery.routing_key.len(), 255);
    }

    #[test]
    fn one_bad_text_anywhere_makes_a_message_unreadable() {
        let nested = [b"F", &table(&[(BAD, b"V")])[..]].concat();
        for headers in [table(&[(BAD, b"V")]), table(&[(b"h", &nested)]), table(&[(b"h", b"?")])] {
            let content = Content::parse(&deliver(b"key"), &header(1 << 13, &headers)).unwrap();
            assert!(!content.readable);
        }
        let mut deep = table(&[]);
        for _ in 0..10_000 {
            deep = table(&[(b"", &[b"F", &deep[..]].concat())]);
        }
        assert!(!Content::parse(&deliver(b""), &header(1 << 13, &deep)).unwrap().readable);
    }

    #[test]
    fn it_agrees_with_lapin_on_broken_bytes() {
        let (deliver, header) = (deliver(b"key"), full(b"text", &values()));
        for end in 0..deliver.len() {
            assert!(Content::parse(&deliver[..end], &header).is_none());
        }
        for end in 0..12 {
            assert!(Content::parse(&deliver, &header[..end]).is_none());
        }
        for end in 12..header.len() {
            assert!(!Content::parse(&deliver, &header[..end]).unwrap().readable);
            for byte in [0, 1, 2, b'F', b'A', b'S', b'x', 0x7f, 0x80, 0xff] {
                let mut changed = header.clone();
                changed[end] = byte;
                let content = Content::parse(&deliver, &changed).unwrap();
                assert_eq!(content.readable, lapin_reads(&deliver, &changed), "{end}: {byte}");
            }
        }
    }
}
