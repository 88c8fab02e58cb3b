//! What the corpus begins with: the golden messages as they are on the wire, and inputs that a
//! decoder is known to stumble over.

mod wire;

use std::path::Path;

use counterfoil_fuzz::frames::joined;
use serde_json::Value;

use wire::{deliver, header, nested, table};

type Seed = (&'static str, String, Vec<u8>);

/// Every seed: its target, its name, its bytes.
pub(super) fn all() -> Vec<Seed> {
    let mut seeds = golden();
    seeds.extend(hurtful());
    seeds.extend(texts());
    seeds.extend(files());
    seeds
}

fn golden() -> Vec<Seed> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/protocol/testdata/v1");
    let mut seeds = Vec::new();
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    for file in files {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let message: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let target = match name.split('-').next().unwrap() {
            "submission" => "submission",
            "submissions" => "submissions",
            "request" => "request",
            "internal" if name.ends_with("question") => "forwarded",
            "internal" => "work",
            "codes" => continue,
            kind => {
                let target = if kind == "batch" { "batch" } else { "answer" };
                let body = match &message["body"] {
                    Value::String(text) => text.clone().into_bytes(),
                    json => json.to_string().into_bytes(),
                };
                seeds.push((target, name, body));
                continue;
            }
        };
        let bytes = of_golden(&message);
        seeds.push((target, name.clone(), bytes.clone()));
        seeds.push(("frames", name, bytes));
    }
    seeds
}

fn of_golden(message: &Value) -> Vec<u8> {
    let key = message["routing_key"].as_str().unwrap_or_default();
    let body = match &message["body"] {
        Value::String(text) => text.clone().into_bytes(),
        json => json.to_string().into_bytes(),
    };
    let headers = table(&message["headers"]);
    joined(&deliver(key.as_bytes()), &header(&message["properties"], &headers, body.len()), &body)
}

/// One submission, with other headers.
fn submission(headers: &[u8], properties: &Value) -> Vec<u8> {
    joined(&deliver(b"order.place"), &header(properties, headers, 2), b"{}")
}

fn hurtful() -> Vec<Seed> {
    let smallest = serde_json::json!({ "message_id": "A-1", "user_id": "shop" });
    // What made the broker close the server's connection (541).
    let direct = serde_json::json!({
        "message_id": "A-1", "user_id": "shop", "reply_to": "amq.rabbitmq.reply-to.a.b"
    });
    let empty = table(&Value::Null);
    let whole = submission(&empty, &smallest);
    let bad_text = [&[0, 0, 0, 7][..], b"\x01h", b"S\0\0\0\x04\xff\xfe"].concat();
    let bad_name = [&[0, 0, 0, 5][..], b"\x02\xff\xfet\x01"].concat();
    let long_table = [&[0xff; 4][..], b"\x01hV"].concat();
    let long_text = [&[0, 0, 0, 7][..], b"\x01hS\xff\xff\xff\xff"].concat();
    let mut seeds: Vec<(&str, Vec<u8>)> = vec![
        ("a-malformed-direct-reply-to", submission(&empty, &direct)),
        ("tables-nested-60-deep", submission(&nested(60), &smallest)),
        ("tables-nested-70-deep", submission(&nested(70), &smallest)),
        ("tables-nested-2000-deep", submission(&nested(2000), &smallest)),
        ("a-text-that-is-no-utf-8", submission(&bad_text, &smallest)),
        ("a-name-that-is-no-utf-8", submission(&bad_name, &smallest)),
        ("a-table-of-4-gib", submission(&long_table, &smallest)),
        ("a-text-of-4-gib", submission(&long_text, &smallest)),
        ("every-flag-and-nothing-behind", {
            let flags = [&[0, 60, 0, 0][..], &[0; 8], &[0xff, 0xff]].concat();
            joined(&deliver(b"k"), &flags, b"")
        }),
    ];
    for part in 1..4 {
        let cut = whole[..whole.len() * part / 4].to_vec();
        seeds.push((["", "cut-at-1-4", "cut-at-2-4", "cut-at-3-4"][part], cut));
    }
    let both = seeds.into_iter().flat_map(|(name, data)| {
        ["frames", "submission"].map(|target| (target, name.to_owned(), data.clone()))
    });
    both.chain(questions()).chain(several()).collect()
}

/// Lists and batches.
fn several() -> Vec<Seed> {
    let mine = serde_json::json!({
        "type": "submissions", "user_id": "shop", "reply_to": "reply.shop.a", "message_id": "A-1"
    });
    let of = |body: &str| {
        let header = header(&mine, &table(&Value::Null), body.len());
        joined(&deliver(b"order.place"), &header, body.as_bytes())
    };
    let list = |entries: &str| of(&format!("{{\"v\":1,\"submissions\":[{entries}]}}"));
    let deep = format!("{{\"job_id\":\"A\",\"headers\":{{\"a\":{}", "[".repeat(4000));
    let long = |field: &str| format!(r#"{{"job_id":"{}",{field}}}"#, "x".repeat(3000));
    let trace = "\\\"".repeat(3000);
    let kinds = r#"{"job-batch":true,"job-timeout-ms":18446744073709551615,"job-tags":null,
        "job-notify":["*"],"job-keep-ms":1.5,"x-death":{}}"#;
    let lists = [
        ("none", list("")),
        ("a-version-that-is-a-long-text", of(&format!(r#"{{"v":"{}"}}"#, "x".repeat(3000)))),
        ("a-long-id-and-bad-base64", list(&long("\"body_base64\":\"A\""))),
        ("a-long-correlation-id", list(&long("\"correlation_id\":\"\""))),
        (
            "a-long-trace",
            list(&format!(r#"{{"job_id":"A","headers":{{"tracestate":"{trace}"}}}}"#)),
        ),
        ("one-too-many", list(&vec!["{}"; 501].join(","))),
        ("five-hundred", list(&vec!["{}"; 500].join(","))),
        ("no-list", of("[{\"job_id\":\"A-1\"}]")),
        ("two-bodies", list(r#"{"job_id":"A-1","body":"","body_base64":""}"#)),
        ("bad-base64", list(r#"{"job_id":"A-1","body_base64":"AB=="}"#)),
        ("headers-of-every-kind", list(&format!(r#"{{"job_id":"A-1","headers":{kinds}}}"#))),
        ("a-type-of-its-own", list(r#"{"job_id":"A-1","type":"a.b"},{"job_id":"A-1","type":""}"#)),
        ("a-field-twice", list(r#"{"job_id":"A-1","job_id":"A-2"}"#)),
        ("json-nested-4000-deep", list(&deep)),
    ];
    let deep = format!(r#"{{"v":1,"messages":[{{"type":"event","body":{}"#, "[".repeat(4000));
    let batches = [
        ("none", r#"{"v":1,"messages":[]}"#),
        ("no-answer-in-it", r#"{"v":1,"messages":[{"type":"news","body":[1e999]}]}"#),
        ("no-body", r#"{"v":1,"messages":[{"type":"event"}]}"#),
        ("a-batch-in-it", r#"{"v":1,"messages":[{"type":"batch","body":{"v":1,"messages":[]}}]}"#),
        ("nested-4000-deep", &deep),
    ];
    let lists = lists.into_iter().map(|(name, data)| ("submissions", name.to_owned(), data));
    let batches = batches.map(|(name, text)| ("batch", name.to_owned(), text.as_bytes().to_vec()));
    lists.chain(batches).collect()
}

fn questions() -> Vec<Seed> {
    let asked = serde_json::json!({
        "user_id": "shop", "reply_to": "reply.shop.a", "correlation_id": "c"
    });
    let of = |key: &str, body: &[u8]| {
        joined(&deliver(key.as_bytes()), &header(&asked, &table(&Value::Null), body.len()), body)
    };
    let deep = [b"{\"job_id\":".as_slice(), &b"[".repeat(4000)].concat();
    let work = serde_json::json!({ "message_id": "x/1", "type": "order.place" });
    let forged = joined(&deliver(b"default"), &header(&work, &table(&Value::Null), 0), b"");
    [
        ("request", "json-nested-4000-deep", of("status", &deep)),
        ("request", "no-object", of("status", b"[\"A-1\"]")),
        ("request", "no-jobs", of("cancel", b"{\"jobs\":[]}")),
        ("request", "a-number-that-is-too-great", of("status", b"{\"job_id\":1e999}")),
        ("request", "an-unknown-request", of("steal", b"{}")),
        ("forwarded", "no-client", of("", b"{\"ask\":{\"verb\":\"cancel\"}}")),
        ("forwarded", "no-ask", of("", b"{}")),
        ("work", "no-headers", forged.clone()),
        ("work", "cut", forged[..forged.len() / 2].to_vec()),
    ]
    .map(|(target, name, data)| (target, name.to_owned(), data))
    .into()
}

fn texts() -> Vec<Seed> {
    // A process identifier in external term format, and a key: what RabbitMQ gives.
    let direct = "g2h3EHJhYmJpdEBsb2NhbGhvc3QAAAAAAAAAAAAAAAA=.BwcHBwcHBwcHBwcHBwcHBw==";
    let ticket = "00038717-e66d-8452-b0ff-31d0a0d90e47";
    let token = format!("{ticket}.000102030405060708090a0b0c0d0e0f");
    let record = "job\nshop\nA-1~2\n00038717-e66d-8452-b0ff-31d0a0d90e47\norder.place\nqueued\n1\n1\
                  \n0\n1\n0-n\n1\nsucceeded\n1\n2\n3\n4\nhigh\n5\na,b\n6\n50\n{}\n[]\n7";
    let no_date = "job\nshop\nA-1\n00038717-e66d-8452-b0ff-31d0a0d90e47\norder.place\nqueued\n1\n\
                   1\n0\n1\n0-n\n1\n\n\n922337203685477580";
    let great = "job\n\n\n\n\n\n99999999999999999999\n-1\n\n\n\n\n\n9223372036854775807";
    let lists: &[(&'static str, &[&str])] = &[
        ("reply_to", &["reply.alice.till-1", "amq.gen-Fg6", "a.b", direct, "reply.alice.", "."]),
        (
            "reply_to",
            &["counterfoil.intake", "reply.alice.a\nb", "amq.rabbitmq.reply-to", "AAAA.AA=="],
        ),
        ("identifiers", &["A-1001", "A-1001~2", "shop:A-1", "order.place", "A~4294967295", "~"]),
        ("identifiers", &["till-\u{e4}.example.org", "-", "a..b"]),
        ("subscription", &["running, terminal,stage", "*", ",, ,", "done", "progress,progress"]),
        ("ticket", &[ticket, &token, "{00038717e66d8452b0ff31d0a0d90e47}", "urn:uuid:", "."]),
        ("time", &["2026-01-31T12:00:00Z", "2026-02-02T03:40:00.25+01:00", "9999-12-31T23:59:60Z"]),
        ("time", &["-009999-01-02T01:59:59Z", "9999-12-30T22:00:00.999999999Z", "20260131T12Z"]),
        ("record", &[record, great, no_date, "voided", "\n\n\n"]),
        (
            "reply",
            &["*2\r\n$8\r\naccepted\r\n:5\r\n", "$-1\r\n", "*1\r\n*1\r\n*1\r\n:1\r\n", "+OK\r\n"],
        ),
        (
            "reply",
            &["*1000000000\r\n", "$9223372036854775807\r\nx", "-ERR no\r\n", "%1\r\n+a\r\n#t\r\n"],
        ),
        (
            "answer",
            &["{\"v\":1,\"answer\":\"found\",\"result\":1e999}", "{\"v\":1,\"answer\":\"found\"}"],
        ),
    ];
    let mut seeds = Vec::new();
    for (place, (target, texts)) in lists.iter().enumerate() {
        for (number, text) in texts.iter().enumerate() {
            seeds.push((*target, format!("text-{place}-{number}"), text.as_bytes().to_vec()));
        }
    }
    seeds.push(("reply", "arrays-nested-3000-deep".to_owned(), b"*1\r\n".repeat(3000)));
    seeds.push(("answer", "nested-4000-deep".to_owned(), {
        [b"{\"v\":1,\"answer\":\"found\",\"result\":".as_slice(), &b"[".repeat(4000)].concat()
    }));
    seeds
}

fn files() -> Vec<Seed> {
    let settings: &[(&str, &[u8])] = &[
        ("a-wrong-key", b"[amqp]\nulr = \"amqp://a\"\n"),
        ("no-section", b"url = 1\n"),
        ("no-toml", b"[[[[[\n=\n"),
        ("nested", b"[amqp]\nurl = [[[[{ a = { b = 1 } }]]]]\n"),
        ("a-great-number", b"[amqp]\nheartbeat_s = 99999999999999999999\n"),
        (
            "variables",
            b"---\nCOUNTERFOIL_AMQP_URL=amqp://a:b@c/\nCOUNTERFOIL_AMQP_HEARTBEAT_S=-1\n",
        ),
        ("a-variable-of-no-section", b"---\nCOUNTERFOIL_\nCOUNTERFOIL_=1\nCOUNTERFOIL_X_Y=1\n"),
    ];
    let rows: &[(&str, &[u8])] = &[
        ("good", b"A-1\norder.place\nconfirmed\n{\"headers\":[[\"job-notify\",\"*\"]]}\n{}"),
        ("options-of-another-kind", b"A-1\no\ndone\n[]\n\xff\xfe"),
        ("no-standing", b"A-1\no\nlost\n{}\n"),
        ("nothing", b"\n\n\n\n"),
    ];
    let mut seeds: Vec<Seed> = Vec::new();
    let named = |target: &'static str, list: &[(&str, &[u8])]| -> Vec<Seed> {
        list.iter().map(|(name, data)| (target, (*name).to_owned(), data.to_vec())).collect()
    };
    seeds.extend(named("settings_file", settings));
    seeds.extend(named("journal_row", rows));
    seeds
}
