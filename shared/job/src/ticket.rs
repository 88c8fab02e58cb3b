//! The *second identifier*: a UUID that the server derives from the client, the job id and a
//! deployment's secret.
//!
//! Derived, not random, so that a store which lost its last second issues the same ticket again and
//! every receipt stays true. The last part is a check over the rest, so that a ticket which was
//! never issued is told from one whose record was lost.
//!
//! ```text
//!  16 bytes   slot (14 bits) │ body (76 bits) │ check (32 bits) │ 6 bits: UUID version, variant
//! ```

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;
use uuid::Uuid;

use crate::id::{ClientName, JobId};

/// The server's identifier of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(Uuid);

const SLOT_BITS: u32 = 14;
const BODY_BITS: u32 = 76;
const CHECK_BITS: u32 = 32;

impl Ticket {
    /// Reads a ticket's text. Whether it was ever issued is [`TicketKey::is_genuine`]'s to say.
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(Self)
    }

    /// The slot of the store that holds the job.
    pub fn slot(self) -> u16 {
        (self.bits() >> (BODY_BITS + CHECK_BITS)) as u16
    }

    /// The 122 bits that are ours, the version and variant taken out.
    fn bits(self) -> u128 {
        let all = self.0.as_u128();
        let high = all >> 80; // 48 bits before the version
        let middle = (all >> 64) & 0xfff; // 12 bits between version and variant
        let low = all & ((1 << 62) - 1);
        (high << 74) | (middle << 62) | low
    }

    fn from_bits(bits: u128) -> Self {
        let high = bits >> 74;
        let middle = (bits >> 62) & 0xfff;
        let low = bits & ((1 << 62) - 1);
        Self(Uuid::from_u128((high << 80) | (8 << 76) | (middle << 64) | (0b10 << 62) | low))
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// A deployment's secret, from which tickets and the seals of work messages are made.
#[derive(Clone)]
pub struct TicketKey(Hmac<Sha256>);

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKey(secret)")
    }
}

impl TicketKey {
    /// A key of any length; 32 random bytes are as good as it gets.
    pub fn new(secret: &[u8]) -> Self {
        match Hmac::new_from_slice(secret) {
            Ok(mac) => Self(mac),
            Err(_) => unreachable!("HMAC takes a key of any length"),
        }
    }

    /// The one ticket of this client's job.
    pub fn ticket(&self, client: &ClientName, job_id: &JobId, slot: u16) -> Ticket {
        let body = self.mac(&[b"ticket", client.as_str().as_bytes(), job_id.as_str().as_bytes()]);
        let body = leading_bits(&body, BODY_BITS);
        let slot = u128::from(slot) & ((1 << SLOT_BITS) - 1);
        let check = self.check(slot, body);
        Ticket::from_bits((slot << (BODY_BITS + CHECK_BITS)) | (body << CHECK_BITS) | check)
    }

    /// Whether this deployment issued the ticket, be its record still there or not.
    pub fn is_genuine(&self, ticket: Ticket) -> bool {
        let bits = ticket.bits();
        let slot = bits >> (BODY_BITS + CHECK_BITS);
        let body = (bits >> CHECK_BITS) & ((1 << BODY_BITS) - 1);
        ticket == Ticket::from_bits((bits >> CHECK_BITS << CHECK_BITS) | self.check(slot, body))
    }

    /// A seal over the parts of a work message, in hexadecimal.
    pub fn seal(&self, parts: &[&[u8]]) -> String {
        let mut all = vec![b"seal".as_slice()];
        all.extend_from_slice(parts);
        crate::digest::hex(&self.mac(&all)[..16])
    }

    fn check(&self, slot: u128, body: u128) -> u128 {
        let mac = self.mac(&[b"check", &slot.to_be_bytes(), &body.to_be_bytes()]);
        leading_bits(&mac, CHECK_BITS)
    }

    /// Every part goes in with its length, so that no two lists of parts look alike.
    fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

fn leading_bits(mac: &[u8; 32], bits: u32) -> u128 {
    let mut first = [0; 16];
    first.copy_from_slice(&mac[..16]);
    u128::from_be_bytes(first) >> (128 - bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(client: &str, id: &str) -> (ClientName, JobId) {
        (ClientName::parse(client).unwrap(), JobId::parse(id).unwrap())
    }

    #[test]
    fn the_same_job_always_gets_the_same_ticket_and_others_get_others() {
        let key = TicketKey::new(b"secret");
        let (client, id) = names("shop", "A-1");
        let ticket = key.ticket(&client, &id, 3);
        assert_eq!(ticket, key.ticket(&client, &id, 3));
        assert_eq!(Ticket::parse(&ticket.to_string()), Some(ticket));
        assert_eq!(ticket.slot(), 3);
        let (other, same_id) = names("till", "A-1");
        assert_ne!(ticket, key.ticket(&other, &same_id, 3));
        assert_ne!(ticket, TicketKey::new(b"another").ticket(&client, &id, 3));
    }

    #[test]
    fn a_ticket_that_was_never_issued_is_told_from_a_genuine_one() {
        let key = TicketKey::new(b"secret");
        let (client, id) = names("shop", "A-1");
        let ticket = key.ticket(&client, &id, 16_383);
        assert!(key.is_genuine(ticket));
        assert!(!TicketKey::new(b"another").is_genuine(ticket));
        for bit in 0..128 {
            let flipped = Ticket(Uuid::from_u128(ticket.0.as_u128() ^ (1 << bit)));
            assert!(!key.is_genuine(flipped), "bit {bit}");
        }
    }

    #[test]
    fn a_ticket_is_a_uuid_of_version_8() {
        let (client, id) = names("shop", "A-1");
        let ticket = TicketKey::new(b"s").ticket(&client, &id, 0);
        assert_eq!(ticket.0.get_version_num(), 8);
        assert_eq!(ticket.0.get_variant(), uuid::Variant::RFC4122);
    }

    #[test]
    fn a_seal_depends_on_where_one_part_ends() {
        let key = TicketKey::new(b"secret");
        assert_ne!(key.seal(&[b"ab", b"c"]), key.seal(&[b"a", b"bc"]));
    }
}
