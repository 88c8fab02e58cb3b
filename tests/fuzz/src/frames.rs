//! The frames of a message: read by the salvage and by lapin.

use broker::Delivery;
use broker::wire;

/// Cuts a text of bytes into the arguments of a `basic.deliver`, a content header and a body: each
/// but the last behind its length in two bytes.
pub fn cut(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (deliver, rest) = part(data)?;
    let (header, body) = part(rest)?;
    Some((deliver, header, body))
}

fn part(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = data.split_first_chunk::<2>()?;
    rest.split_at_checked(u16::from_be_bytes(*length).into())
}

/// The other way round.
pub fn joined(deliver: &[u8], header: &[u8], body: &[u8]) -> Vec<u8> {
    let length = |part: &[u8]| u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&length(deliver)[..], deliver, &length(header), header, body].concat()
}

/// The message that some bytes stand for, as a session would get it.
pub fn message(data: &[u8]) -> Option<Delivery> {
    let (deliver, header, body) = cut(data)?;
    let frames = wire::read(deliver, header)?;
    Some(Delivery { body: body.to_vec(), ..frames.delivery })
}

/// What the salvage finds readable lapin reads, with the same properties; and what it does not,
/// lapin does not either, except for tables that are nested too deep.
pub fn frames(data: &[u8]) {
    let Some((deliver, header, _)) = cut(data) else { return };
    let Some(read) = wire::read(deliver, header) else { return };
    for text in [&read.delivery.exchange, &read.delivery.routing_key] {
        assert!(text.len() <= 255, "it is to be written into a short string again");
    }
    let properties = header.get(12..).unwrap_or_default();
    if read.is_readable {
        assert!(wire::lapin_reads_deliver(deliver), "lapin reads the delivery");
        let by_lapin = wire::lapin_reads_properties(properties);
        let by_lapin = by_lapin.unwrap_or_else(|| panic!("lapin reads the properties"));
        let ours = &read.delivery.properties;
        assert_eq!(sorted(&by_lapin), sorted(ours), "both read the same");
    } else if header.len() < 300 && wire::lapin_reads_deliver(deliver) {
        // So few bytes cannot be nested as deep as the salvage goes.
        assert!(wire::lapin_reads_properties(properties).is_none(), "lapin does not read them");
    }
}

/// lapin keeps headers in the order of their names, and of two with one name the last.
fn sorted(properties: &protocol::Properties) -> protocol::Properties {
    let headers = properties.headers.iter();
    let by_name: std::collections::BTreeMap<String, protocol::HeaderValue> =
        headers.map(|(name, value)| (name.to_owned(), value.clone())).collect();
    let mut sorted = protocol::Headers::default();
    by_name.into_iter().for_each(|(name, value)| sorted.push(name, value));
    protocol::Properties { headers: sorted, ..properties.clone() }
}
