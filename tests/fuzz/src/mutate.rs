//! A small mutator for the tests: the same mutations each time, from a seed.

/// A generator of numbers that are the same for the same seed (`SplitMix64`).
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below `limit`; 0 if that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % (limit.max(1) as u64)).unwrap_or_default()
    }
}

/// What decoders stumble over: ends of ranges, lengths, separators, bytes that are no UTF-8.
const TOKENS: &[&[u8]] = &[
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x00",
    b"\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\x80",
    b"\xff\xfe",
    b"\0",
    b"18446744073709551616",
    b"-9223372036854775808",
    b"~2",
    b"{",
    b"[[[[[[[[[[[[[[[[",
    b"\"",
    b"\n",
    b".",
    b":",
    b",",
    b"+00:00",
    b"e999",
    "\u{202e}".as_bytes(),
    b"F\0\0\0\x06\x01aA\0\0\0\0",
];

/// Changes an input in a few places; `other` is one to take parts from.
pub fn mutate(data: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..=random.below(4) {
        let (at, value) = (random.below(data.len() + 1), random.below(256));
        let end = (at + 1 + random.below(16)).min(data.len());
        match random.below(8) {
            0 if at < data.len() => data[at] ^= 1 << random.below(8),
            1 if at < data.len() => data[at] = u8::try_from(value).unwrap_or_default(),
            2 => data.truncate(at),
            3 if at < end => drop(data.drain(at..end)),
            4 if at < end => {
                let copy = data[at..end].to_vec();
                drop(data.splice(at..at, copy));
            }
            5 => {
                let token = TOKENS[random.below(TOKENS.len())];
                drop(data.splice(at..at, token.iter().copied()));
            }
            6 if !other.is_empty() => {
                let from = random.below(other.len());
                let to = (from + 1 + random.below(32)).min(other.len());
                drop(data.splice(at..end.max(at), other[from..to].iter().copied()));
            }
            _ if at < data.len() => {
                let by = i8::try_from(random.below(71)).unwrap_or_default() - 35;
                data[at] = data[at].wrapping_add_signed(by);
            }
            _ => {}
        }
    }
}
