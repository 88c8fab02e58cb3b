//! Where one frame ends and the next begins, for AMQP 0-9-1 and for Redis's protocol (RESP).
//!
//! A scanner is fed what came over a connection in one direction, in whatever pieces, and returns
//! whole frames, so that a cut falls exactly between two of them.

/// The language of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// To RabbitMQ.
    Amqp,
    /// To Redis.
    Resp,
}

/// What a frame is, as far as a cut may want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    /// AMQP: `basic.publish`, with the header and body that follow it.
    Publish,
    /// AMQP: a confirm of the broker's, `basic.ack` or `basic.nack`.
    Confirm,
    /// AMQP: an acknowledgement of a consumer's.
    Ack,
    /// AMQP: `basic.deliver`, with the header and body that follow it.
    Deliver,
    /// The same, of a message that was delivered before.
    Redelivered,
    /// AMQP: `connection.blocked`: the broker has raised an alarm.
    Blocked,
    /// AMQP: a heartbeat.
    Heartbeat,
    /// RESP: a script.
    Script,
    /// Anything else.
    Other,
}

/// Cuts a stream of bytes into frames.
#[derive(Debug)]
pub struct Scanner {
    language: Language,
    from_client: bool,
    waiting: Vec<u8>,
    /// AMQP: the header "AMQP0091" of a connection has passed.
    greeted: bool,
}

const AMQP_HEADER: usize = 8;

impl Scanner {
    /// A scanner for one direction of one connection.
    pub fn new(language: Language, from_client: bool) -> Self {
        // Only the client begins with the protocol's header.
        Self { language, from_client, waiting: Vec::new(), greeted: !from_client }
    }

    /// Takes bytes and returns the frames that are whole now. A message with its content is one.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<(What, Vec<u8>)> {
        self.waiting.extend_from_slice(bytes);
        let mut frames = Vec::new();
        while let Some((what, length)) = self.next() {
            let rest = self.waiting.split_off(length);
            frames.push((what, std::mem::replace(&mut self.waiting, rest)));
        }
        frames
    }

    fn next(&mut self) -> Option<(What, usize)> {
        match self.language {
            Language::Amqp if !self.greeted => (self.waiting.len() >= AMQP_HEADER).then(|| {
                self.greeted = true;
                (What::Other, AMQP_HEADER)
            }),
            Language::Amqp => amqp(&self.waiting, self.from_client),
            Language::Resp => resp(&self.waiting, 0).map(|end| (script(&self.waiting[..end]), end)),
        }
    }
}

/// `type(1) channel(2) size(4) payload(size) 0xCE`; a method with content is followed by a header
/// frame, with the size of the body, and by frames of the body.
fn amqp(bytes: &[u8], from_client: bool) -> Option<(What, usize)> {
    let (kind, payload, end) = amqp_frame(bytes)?;
    if kind == 8 {
        return Some((What::Heartbeat, end));
    }
    let method = (kind == 1 && payload.len() >= 4).then(|| {
        (u16::from_be_bytes([payload[0], payload[1]]), u16::from_be_bytes([payload[2], payload[3]]))
    });
    let what = match method {
        Some((60, 40)) => What::Publish,
        Some((60, 60)) if is_redelivered(payload) => What::Redelivered,
        Some((60, 60)) => What::Deliver,
        // basic.return carries content too.
        Some((60, 50)) => What::Other,
        Some((60, 80 | 120)) => {
            return Some((if from_client { What::Ack } else { What::Confirm }, end));
        }
        Some((10, 60)) => return Some((What::Blocked, end)),
        _ => return Some((What::Other, end)),
    };
    let (next, header, mut at) = amqp_frame(&bytes[end..]).map(|(k, p, e)| (k, p, end + e))?;
    if next != 2 {
        // Another channel's frame in between: the content comes by itself.
        return Some((what, end));
    }
    let size = u64::from_be_bytes(header.get(4..12)?.try_into().ok()?);
    let mut seen = 0;
    while seen < size {
        let (_, body, length) = amqp_frame(&bytes[at..])?;
        seen += body.len() as u64;
        at += length;
    }
    Some((what, at))
}

/// `basic.deliver`: class and method, the consumer's tag with its length, the delivery's tag, and
/// a bit.
fn is_redelivered(payload: &[u8]) -> bool {
    let tag = payload.get(4).copied().unwrap_or_default();
    payload.get(5 + usize::from(tag) + 8).is_some_and(|bits| bits & 1 == 1)
}

fn amqp_frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let size = u32::from_be_bytes(bytes.get(3..7)?.try_into().ok()?) as usize;
    let payload = bytes.get(7..7 + size)?;
    bytes.get(7 + size)?;
    Some((bytes[0], payload, 8 + size))
}

/// The end of the value that begins at a place: a line, a text of a stated length, or a list of a
/// stated number of values.
fn resp(bytes: &[u8], at: usize) -> Option<usize> {
    let line_end = at + bytes.get(at..)?.windows(2).position(|pair| pair == b"\r\n")?;
    let after = line_end + 2;
    let number = || std::str::from_utf8(&bytes[at + 1..line_end]).ok()?.parse::<i64>().ok();
    match bytes.get(at)? {
        b'$' | b'=' | b'!' => match number()? {
            size if size < 0 => Some(after),
            size => {
                let end = after + usize::try_from(size).ok()? + 2;
                (bytes.len() >= end).then_some(end)
            }
        },
        kind @ (b'*' | b'~' | b'>' | b'%') => {
            let count = number()?.max(0) * if *kind == b'%' { 2 } else { 1 };
            (0..count).try_fold(after, |end, _| resp(bytes, end))
        }
        _ => Some(after),
    }
}

fn script(frame: &[u8]) -> What {
    let start = &frame[..frame.len().min(32)];
    if start.windows(4).any(|word| word.eq_ignore_ascii_case(b"EVAL")) {
        What::Script
    } else {
        What::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[kind, 0, 1], &size[..], payload, &[0xCE]].concat()
    }

    #[test]
    fn a_message_with_its_content_is_one_frame_in_whatever_pieces_it_comes() {
        let publish = frame(1, &[0, 60, 0, 40, 0, 0]);
        let header = frame(2, &[&[0, 60, 0, 0][..], &5u64.to_be_bytes(), &[0, 0]].concat());
        let whole = [publish, header, frame(3, b"he"), frame(3, b"llo")].concat();
        let stream = [b"AMQP\x00\x00\x09\x01".to_vec(), whole.clone(), frame(8, b"")].concat();
        for size in 1..stream.len() {
            let mut scanner = Scanner::new(Language::Amqp, true);
            let frames: Vec<_> = stream.chunks(size).flat_map(|part| scanner.feed(part)).collect();
            let kinds: Vec<What> = frames.iter().map(|(what, _)| *what).collect();
            assert_eq!(kinds, [What::Other, What::Publish, What::Heartbeat], "in pieces of {size}");
            assert_eq!(frames[1].1, whole);
        }
    }

    #[test]
    fn an_acknowledgement_is_told_from_a_confirm_by_its_direction() {
        let ack = frame(1, &[0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        for (from_client, what) in [(true, What::Ack), (false, What::Confirm)] {
            let mut scanner =
                Scanner { greeted: true, ..Scanner::new(Language::Amqp, from_client) };
            assert_eq!(scanner.feed(&ack), [(what, ack.clone())]);
        }
    }

    #[test]
    fn a_message_that_comes_again_is_told_from_a_new_one() {
        for (bit, what) in [(0, What::Deliver), (1, What::Redelivered)] {
            let method = [&[0, 60, 0, 60, 3][..], b"tag", &7u64.to_be_bytes(), &[bit, 0, 0]];
            let header = frame(2, &[&[0, 60, 0, 0][..], &0u64.to_be_bytes(), &[0, 0]].concat());
            let mut scanner = Scanner::new(Language::Amqp, false);
            let frames = scanner.feed(&[frame(1, &method.concat()), header].concat());
            assert_eq!(frames.iter().map(|(what, _)| *what).collect::<Vec<_>>(), [what]);
        }
    }

    #[test]
    fn replies_of_redis_are_cut_at_their_ends_however_deep_they_are() {
        let parts: [&[u8]; 6] = [
            b"+OK\r\n",
            b":12\r\n",
            b"$5\r\nhe\r\no\r\n",
            b"*3\r\n$-1\r\n*2\r\n:1\r\n$1\r\na\r\n+x\r\n",
            b"*0\r\n",
            b"*3\r\n$7\r\nEVALSHA\r\n$1\r\na\r\n$1\r\n0\r\n",
        ];
        let stream = parts.concat();
        for size in 1..stream.len() {
            let mut scanner = Scanner::new(Language::Resp, true);
            let frames: Vec<_> = stream.chunks(size).flat_map(|part| scanner.feed(part)).collect();
            let texts: Vec<&[u8]> = frames.iter().map(|(_, frame)| frame.as_slice()).collect();
            assert_eq!(texts, parts, "in pieces of {size}");
            assert_eq!(frames[5].0, What::Script);
            assert!(frames[..5].iter().all(|(what, _)| *what == What::Other));
        }
    }
}
