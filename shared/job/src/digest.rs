//! What makes two submissions of one identifier the same.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// SHA-256 over what a submission asks for, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Digest(String);

impl Digest {
    /// Over the parts, each with its name and its length, so that no two lists of parts are alike.
    /// A part that is absent differs from one that is empty.
    pub fn over(parts: &[(&str, Option<&[u8]>)]) -> Self {
        let mut hash = Sha256::new();
        for (name, value) in parts {
            let Some(value) = value else { continue };
            for piece in [name.as_bytes(), value] {
                hash.update((piece.len() as u64).to_be_bytes());
                hash.update(piece);
            }
        }
        Self(hex(&hash.finalize()))
    }

    /// Reads a digest that was written by [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        let valid = text.len() == 64 && text.bytes().all(|c| c.is_ascii_hexdigit());
        valid.then(|| Self(text.to_owned()))
    }

    /// 64 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let digest = |a: &'static str, b: Option<&'static str>| {
            Digest::over(&[("type", Some(a.as_bytes())), ("body", b.map(str::as_bytes))])
        };
        assert_eq!(digest("a", Some("b")), digest("a", Some("b")));
        assert_ne!(digest("ab", Some("c")), digest("a", Some("bc")));
        assert_ne!(digest("a", Some("")), digest("a", None));
        assert_eq!(digest("a", None).as_str().len(), 64);
    }
}
