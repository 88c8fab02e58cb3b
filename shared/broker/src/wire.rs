//! What is read off the wire, as functions over bytes: the two readers of a message's frames, for
//! whoever wants to try what they withstand.

use protocol::Properties;

use crate::Delivery;
use crate::convert::from_lapin;
use crate::salvage::content;

/// A message's frames, as [`crate::salvage()`] reads them.
#[derive(Debug)]
pub struct Frames {
    /// The message, without its body.
    pub delivery: Delivery,
    /// The size of the body, as the header says it.
    pub size: u64,
    /// Whether lapin reads them too.
    pub is_readable: bool,
}

/// Reads the arguments of a `basic.deliver` and a content header. `None` where nothing can be done
/// with the message: without a tag it cannot be acknowledged.
pub fn read(deliver: &[u8], header: &[u8]) -> Option<Frames> {
    let (delivery, size, is_readable) = content(deliver, header)?;
    Some(Frames { delivery, size, is_readable })
}

/// Whether lapin reads the arguments of a `basic.deliver`, to the end.
pub fn lapin_reads_deliver(deliver: &[u8]) -> bool {
    use lapin::protocol::basic::parse_deliver;
    parse_deliver(deliver).is_ok_and(|(rest, _)| rest.is_empty())
}

/// What lapin, and so a consumer, makes of a content header's flags and properties. lapin descends
/// as deep as tables are nested, until its stack is used up: to be asked of a header that
/// [`read`] finds readable, or of a short one.
pub fn lapin_reads_properties(properties: &[u8]) -> Option<Properties> {
    use lapin::protocol::basic::parse_properties;
    let (rest, properties) = parse_properties(properties).ok()?;
    rest.is_empty().then(|| from_lapin(properties))
}
