//! Identifiers and their alphabets. A value of one of these types is valid: it is parsed once, at
//! the edge, and never checked again.

use std::fmt;
use std::sync::Arc;

/// Why a text is not an identifier of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} must be {rule}")]
pub struct InvalidId {
    /// What the text was meant to be, e.g. `job id`.
    pub kind: &'static str,
    /// The alphabet and length, in words.
    pub rule: &'static str,
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        ///
        /// Clones share the text: a job's identifiers go with it through many hands.
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The alphabet and length, in words.
            pub const RULE: &'static str = $rule;

            /// Takes a text that obeys [`Self::RULE`].
            ///
            /// # Errors
            /// [`InvalidId`] otherwise; the sender has to mend its identifier.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                let valid: fn(&[u8]) -> bool = $valid;
                if valid(text.as_bytes()) {
                    Ok(Self(text.into()))
                } else {
                    Err(InvalidId { kind: $kind, rule: $rule })
                }
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &self.0)
            }
        }
    };
}

identifier!(
    /// The *first identifier*: made by the client, before sending; unique per client.
    JobId,
    "job id",
    "1 to 128 characters of A-Z a-z 0-9 . _ : @ -, beginning with a letter or a digit",
    |text| {
        (1..=128).contains(&text.len())
            && text[0].is_ascii_alphanumeric()
            && text.iter().all(|c| c.is_ascii_alphanumeric() || b"._:@-".contains(c))
    }
);

identifier!(
    /// Who owns a job: the AMQP user that the broker has verified. No character of it can be taken
    /// for a separator of a Redis key or of a reply queue's name.
    ClientName,
    "client",
    "1 to 64 characters of A-Z a-z 0-9 _ -",
    |text| (1..=64).contains(&text.len())
        && text.iter().all(|c| c.is_ascii_alphanumeric() || b"_-".contains(c))
);

identifier!(
    /// What is to be done, e.g. `order.place`: the routing key of a submission.
    JobType,
    "type",
    "words of a-z 0-9 _ - joined by dots, at most 100 bytes",
    |text| text.len() <= 100 && is_dotted_words(text)
);

identifier!(
    /// A work queue, which serves one or more types.
    QueueName,
    "queue",
    "words of a-z 0-9 _ - joined by dots, at most 64 bytes",
    |text| text.len() <= 64 && is_dotted_words(text)
);

impl JobId {
    /// Reads an identifier that a record may have: a client's, or the one that a replay made from
    /// it, e.g. `A-1001~2`. No client can submit under the latter.
    ///
    /// # Errors
    /// [`InvalidId`] if it is neither.
    pub fn parse_recorded(text: &str) -> Result<Self, InvalidId> {
        let Some((base, number)) = text.split_once('~') else { return Self::parse(text) };
        Self::parse(base)?;
        match number.parse::<u32>() {
            Ok(n) if n >= 2 && n.to_string() == number => Ok(Self(text.into())),
            _ => Err(InvalidId { kind: "job id", rule: Self::RULE }),
        }
    }

    /// The identifier of this job's replay: `A-1001~2` for `A-1001`, `A-1001~3` for that.
    #[must_use]
    pub fn replayed(&self) -> Self {
        let (base, number) = self.0.split_once('~').unwrap_or((&self.0, "1"));
        let next = number.parse::<u32>().unwrap_or(1).saturating_add(1);
        Self(format!("{base}~{next}").into())
    }
}

fn is_dotted_words(text: &[u8]) -> bool {
    text.split(|c| *c == b'.').all(|word| {
        !word.is_empty()
            && word
                .iter()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"_-".contains(c))
    })
}

impl QueueName {
    /// The queue of every type whose worker names none.
    pub const DEFAULT: &'static str = "default";
}

impl Default for QueueName {
    fn default() -> Self {
        Self(Self::DEFAULT.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_either_allowed_in_a_job_id_or_refused() {
        for byte in 0..=255u8 {
            let allowed = byte.is_ascii_alphanumeric() || b"._:@-".contains(&byte);
            let text = String::from_utf8_lossy(&[b'a', byte]).into_owned();
            assert_eq!(JobId::parse(&text).is_ok(), allowed, "byte {byte}");
            let first = String::from_utf8_lossy(&[byte]).into_owned();
            assert_eq!(JobId::parse(&first).is_ok(), byte.is_ascii_alphanumeric(), "byte {byte}");
        }
    }

    /// What is made of them must fit into the 255 bytes of a short string (H33).
    #[test]
    fn lengths_are_held_at_both_ends() {
        assert!(JobId::parse("").is_err());
        assert!(JobId::parse(&"a".repeat(128)).is_ok());
        assert!(JobId::parse(&"a".repeat(129)).is_err());
        assert!(ClientName::parse("").is_err());
        assert!(ClientName::parse(&"c".repeat(64)).is_ok());
        assert!(ClientName::parse(&"c".repeat(65)).is_err());
        assert!(JobType::parse(&"t".repeat(100)).is_ok());
        assert!(JobType::parse(&"t".repeat(101)).is_err());
        assert!(QueueName::parse(&"q".repeat(65)).is_err());
    }

    /// It is a part of keys, of queue names and of rights (H8).
    #[test]
    fn a_client_name_holds_no_separator() {
        for name in ["a:b", "alice.b", "a b", "a/b", "{a}", "ä"] {
            assert!(ClientName::parse(name).is_err(), "{name}");
        }
        assert!(ClientName::parse("till_1-A").is_ok());
    }

    #[test]
    fn a_type_is_lower_case_words_joined_by_dots() {
        for good in ["order.place", "a", "a-b_c.d1"] {
            assert!(JobType::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "Order", "a b", "a#", "a*"] {
            assert!(JobType::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_tilde_is_left_to_replays() {
        assert!(JobId::parse("A-1001~2").is_err());
        let first = JobId::parse("A-1001").unwrap();
        assert_eq!(first.replayed().as_str(), "A-1001~2");
        assert_eq!(first.replayed().replayed().as_str(), "A-1001~3");
        assert_eq!(JobId::parse_recorded("A-1001~2"), Ok(first.replayed()));
        for bad in ["~2", "A~1", "A~02", "A~", "A~2~3", "A~x"] {
            assert!(JobId::parse_recorded(bad).is_err(), "{bad}");
        }
    }
}
