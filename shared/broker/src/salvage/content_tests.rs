use super::super::long;
use super::*;

const BAD: &[u8] = b"\xff\xfe";
const BAD_LOSSY: &str = "\u{fffd}\u{fffd}";

fn short(text: &[u8]) -> Vec<u8> {
    [&[text.len() as u8], text].concat()
}

fn table(entries: &[(&[u8], &[u8])]) -> Vec<u8> {
    let entries = entries.iter().flat_map(|(name, value)| [short(name), value.to_vec()]);
    long(&entries.collect::<Vec<_>>().concat()).unwrap()
}

fn deliver(key: &[u8]) -> Vec<u8> {
    [&short(b"tag")[..], &7_u64.to_be_bytes(), &[1], &short(b"exchange"), &short(key)].concat()
}

fn header(flags: u16, properties: &[u8]) -> Vec<u8> {
    [&[0, 60, 0, 0][..], &9_u64.to_be_bytes(), &flags.to_be_bytes(), properties].concat()
}

/// A header with every property, the texts of which are `text`.
fn full(text: &[u8], headers: &[u8]) -> Vec<u8> {
    let (text, time) = (short(text), 5_u64.to_be_bytes());
    let rest: Vec<&[u8]> = vec![&text; 4];
    let first = [&text, &text, headers, &[2, 0], &rest.concat()].concat();
    header(0xfffc, &[&first[..], &time, &rest.concat()].concat())
}

/// The values of every type.
fn values() -> Vec<u8> {
    let nested = table(&[(b"in", b"t\x01")]);
    let values: [Vec<u8>; 10] = [
        b"S\0\0\0\x02hi".to_vec(),
        b"S\0\0\0\x02\xff\xfe".to_vec(),
        b"b\xff".to_vec(),
        b"U\xff\xfe".to_vec(),
        b"i\xff\xff\xff\xff".to_vec(),
        [b"T", &u64::MAX.to_be_bytes()[..]].concat(),
        b"D\x01\0\0\0\x01".to_vec(),
        [b"F", &nested[..]].concat(),
        b"A\0\0\0\x03Vt\0".to_vec(),
        b"x\0\0\0\x01\xff".to_vec(),
    ];
    table(&values.iter().map(|value| (&b"h"[..], &value[..])).collect::<Vec<_>>())
}

/// What lapin makes of the same bytes.
fn lapin_reads(deliver: &[u8], header: &[u8]) -> bool {
    use lapin::protocol::basic::{parse_deliver, parse_properties};
    parse_deliver(deliver).is_ok_and(|(rest, _)| rest.is_empty())
        && parse_properties(&header[12..]).is_ok_and(|(rest, _)| rest.is_empty())
}

#[test]
fn texts_are_made_readable() {
    assert!(Content::parse(&deliver(b"key"), &full(b"text", &values())).unwrap().readable);
    let content = Content::parse(&deliver(BAD), &full(BAD, &values())).unwrap();
    assert!(!content.readable);
    assert_eq!((content.size, content.delivery.tag), (9, 7));
    assert_eq!(content.delivery.routing_key, BAD_LOSSY);
    let properties = content.delivery.properties;
    assert!(properties.persistent);
    assert_eq!(properties.timestamp, Some(5));
    for text in [properties.content_type, properties.message_id, properties.app_id] {
        assert_eq!(text.as_deref(), Some(BAD_LOSSY));
    }
    use HeaderValue::{Int, Other, Text};
    let ints = [Int(-1), Int(-2), Int(u32::MAX.into())];
    let expected = [&[Text("hi".into()), Other], &ints[..], &[const { Other }; 5]].concat();
    assert!(properties.headers.iter().map(|(_, value)| value).eq(&expected));
    // Three bytes stand for each of the 255, but it must fit into a short string again.
    let long = Content::parse(&deliver(&[0xff; 255]), &header(0, b"")).unwrap();
    assert_eq!(long.delivery.routing_key.len(), 255);
}

#[test]
fn one_bad_text_anywhere_makes_a_message_unreadable() {
    let nested = [b"F", &table(&[(BAD, b"V")])[..]].concat();
    for headers in [table(&[(BAD, b"V")]), table(&[(b"h", &nested)]), table(&[(b"h", b"?")])] {
        let content = Content::parse(&deliver(b"key"), &header(1 << 13, &headers)).unwrap();
        assert!(!content.readable);
    }
    let mut deep = table(&[]);
    for _ in 0..10_000 {
        deep = table(&[(b"", &[b"F", &deep[..]].concat())]);
    }
    assert!(!Content::parse(&deliver(b""), &header(1 << 13, &deep)).unwrap().readable);
}

#[test]
fn it_agrees_with_lapin_on_broken_bytes() {
    let (deliver, header) = (deliver(b"key"), full(b"text", &values()));
    for end in 0..deliver.len() {
        assert!(Content::parse(&deliver[..end], &header).is_none());
    }
    for end in 0..12 {
        assert!(Content::parse(&deliver, &header[..end]).is_none());
    }
    for end in 12..header.len() {
        assert!(!Content::parse(&deliver, &header[..end]).unwrap().readable);
        for byte in [0, 1, 2, b'F', b'A', b'S', b'x', 0x7f, 0x80, 0xff] {
            let mut changed = header.clone();
            changed[end] = byte;
            let content = Content::parse(&deliver, &changed).unwrap();
            assert_eq!(content.readable, lapin_reads(&deliver, &changed), "{end}: {byte}");
        }
    }
}
