//! Instants: milliseconds since 1970 inside and in Redis, RFC 3339 in UTC on the wire.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// This machine's clock. No rule reads it: leases and due times use the store's clock, this one
    /// only says when an answer was made.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// Reads RFC 3339, e.g. `2026-01-31T12:00:00Z` or `2026-01-31T13:00:00.250+01:00`.
    /// What could not be written again (the last milliseconds of the last day that there is, in the
    /// year 9999) is none.
    pub fn parse(text: &str) -> Option<Self> {
        let at = text.parse::<jiff::Timestamp>().ok()?.as_millisecond();
        jiff::Timestamp::from_millisecond(at).ok().map(|_| Self(at))
    }

    /// This long from this instant.
    #[must_use]
    pub fn after(self, pause: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(pause.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for UnixMillis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UnixMillis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not an RFC 3339 time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc_with_milliseconds_and_read_in_any_zone() {
        let time = UnixMillis(1_770_000_000_250);
        assert_eq!(time.to_string(), "2026-02-02T02:40:00.250Z");
        assert_eq!(UnixMillis::parse("2026-02-02T03:40:00.25+01:00"), Some(time));
        assert_eq!(UnixMillis(1_770_000_000_000).to_string(), "2026-02-02T02:40:00.000Z");
        assert_eq!(UnixMillis::parse("tomorrow"), None);
    }

    /// A job with such a deadline was accepted, and no worker could read its work message.
    #[test]
    fn an_instant_that_can_be_read_can_be_written_and_read_again() {
        for text in ["9999-12-30T22:00:00Z", "-009999-01-02T01:59:59.5Z"] {
            let at = UnixMillis::parse(text).unwrap();
            assert_eq!(UnixMillis::parse(&at.to_string()), Some(at), "{text}");
        }
        for text in ["9999-12-30T22:00:00.001Z", "9999-12-30T22:00:00.999999999Z"] {
            assert_eq!(UnixMillis::parse(text), None, "{text}");
        }
    }
}
