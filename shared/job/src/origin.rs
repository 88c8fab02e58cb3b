//! What makes the identifiers of one client's machines differ.

use std::fmt;
use std::net::IpAddr;

use crate::id::{InvalidId, JobId};

/// The machine, or the label, that made an identifier: part of every identifier that the library
/// makes (`<origin>-<UUIDv7>`) and recorded with the job in plain text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    part: String,
    text: String,
}

impl Origin {
    /// The machine's address, in hexadecimal within the identifier.
    pub fn ip(address: IpAddr) -> Self {
        let part = match address {
            IpAddr::V4(v4) => format!("{:08x}", u32::from(v4)),
            IpAddr::V6(v6) => format!("{:032x}", u128::from(v6)),
        };
        Self { part, text: address.to_string() }
    }

    /// A label that the user sets.
    ///
    /// # Errors
    /// [`InvalidId`] if the label is not 1 to 32 letters, digits, `_` or `-` after a first letter
    /// or digit.
    pub fn label(label: &str) -> Result<Self, InvalidId> {
        let valid = (1..=32).contains(&label.len())
            && label.as_bytes()[0].is_ascii_alphanumeric()
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || b"_-".contains(&c));
        if valid {
            Ok(Self { part: label.to_owned(), text: label.to_owned() })
        } else {
            Err(InvalidId {
                kind: "origin",
                rule: "1 to 32 characters of A-Z a-z 0-9 _ -, beginning with a letter or a digit",
            })
        }
    }

    /// The host's name, for a machine without an address: what is not allowed in an identifier
    /// becomes `-`.
    pub fn host_name(name: &str) -> Self {
        let mut part: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .skip_while(|c| *c == '-')
            .take(32)
            .collect();
        if part.is_empty() {
            part.push_str("host");
        }
        Self { part, text: name.chars().take(255).collect() }
    }

    /// The identifier of a new job of this origin.
    pub fn job_id(&self, unique: uuid::Uuid) -> JobId {
        let text = format!("{}-{}", self.part, unique.hyphenated());
        match JobId::parse(&text) {
            Ok(id) => id,
            // An origin's part is at most 32 characters of a narrower alphabet by construction.
            Err(_) => unreachable!("an origin and a UUID make a valid job id"),
        }
    }
}

/// The plain text that is recorded with the job.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_hexadecimal_in_the_id_and_plain_beside_it() {
        let origin = Origin::ip("192.168.1.20".parse().unwrap());
        let id = origin.job_id(uuid::Uuid::nil());
        assert_eq!(id.as_str(), "c0a80114-00000000-0000-0000-0000-000000000000");
        assert_eq!(origin.to_string(), "192.168.1.20");
        let v6 = Origin::ip("fe80::1".parse().unwrap());
        assert!(
            v6.job_id(uuid::Uuid::nil()).as_str().starts_with("fe800000000000000000000000000001-")
        );
    }

    #[test]
    fn a_host_name_is_made_to_fit() {
        assert!(
            Origin::host_name("till-1.shop.example")
                .job_id(uuid::Uuid::nil())
                .as_str()
                .starts_with("till-1-shop-example-")
        );
        assert!(Origin::host_name("…").job_id(uuid::Uuid::nil()).as_str().starts_with("host-"));
        assert!(Origin::label("").is_err());
        assert!(Origin::label("till 1").is_err());
    }
}
