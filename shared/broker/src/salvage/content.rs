//! What a delivery's frames hold, read byte by byte, with lapin's idea of what is readable.

use protocol::{HeaderValue, Headers, Properties};

use crate::Delivery;

/// How deep tables may nest. lapin descends until its stack is used up.
const DEPTH_MAX: usize = 64;
/// The longest short string.
const SHORT_MAX: usize = 255;

/// No longer than a short string, for it is to be written into one again.
pub(super) fn lossy(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    text.truncate(text.floor_char_boundary(SHORT_MAX));
    text
}

/// A message without its body.
pub(super) struct Content {
    pub(super) delivery: Delivery,
    pub(super) size: u64,
    /// Whether lapin can read it.
    pub(super) readable: bool,
}

impl Content {
    /// `None` without a tag, by which it would be acknowledged, or without a size.
    pub(super) fn parse(deliver: &[u8], header: &[u8]) -> Option<Self> {
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
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// Whether a short string was no UTF-8.
    lossy: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest, lossy: false }
    }

    fn take(&mut self, size: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(size)?;
        self.rest = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
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
            to.priority = Some(self.byte()?);
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

    /// A table.
    pub(super) fn table(&mut self) -> Option<Headers> {
        let mut table = Headers::default();
        self.entries(true, DEPTH_MAX, &mut table)?;
        Some(table)
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
#[path = "content_tests.rs"]
mod tests;
