//! Several messages in one, in both directions: what is in them is what it would be alone.

use protocol::batch::{Apart, Batch, Entry, Message, TO_CLIENT};
use protocol::work::Spec;
use protocol::{Answer, Code, Kind, Limits, Properties, Refusal, Submission, Submissions};
use serde_json::{Value, json};

use super::messages::{FOLDER, TICKET};
use super::requests::{read_submission, whole_spec};
use super::schemas::{OPEN, STRICT, files};
use super::{frozen, wire};

/// The schema of a whole message of several submissions.
const LIST: &str = "submissions.json#/$defs/message";

/// Golden batches, each of golden messages.
const BATCHES: [(&str, &[&str]); 2] = [
    ("batch-receipts", &["receipt-queued", "receipt-parked", "receipt-of-a-duplicate"]),
    (
        "batch-whole",
        &["receipt-queued", "event-running", "refusal-id-conflict", "event-progress-after-a-gap"],
    ),
];

fn body(message: &Value) -> Vec<u8> {
    message["body"].to_string().into_bytes()
}

fn together(names: &[&str]) -> Value {
    let messages = names.iter().map(|name| {
        let alone = frozen::read(FOLDER, name);
        Message::of(&wire::properties(&alone), body(&alone)).unwrap()
    });
    let batch = Batch { v: protocol::VERSION, messages: messages.collect() };
    let body = serde_json::from_slice(&batch.to_json()).unwrap();
    wire::message(&Batch::properties(), &body)
}

#[test]
fn golden_batches_are_what_the_code_renders() {
    for (name, of) in BATCHES {
        frozen::check(FOLDER, name, &together(of));
    }
}

#[test]
fn golden_batches_keep_to_the_schema_and_are_read_as_the_messages_in_them() {
    for (name, of) in BATCHES {
        let golden = frozen::read(FOLDER, name);
        STRICT.check("message", &golden, name);
        assert_eq!(wire::properties(&golden).kind.as_deref(), Some(TO_CLIENT));
        assert_eq!(Kind::of(&wire::properties(&golden)), None, "it is none of the kinds in it");
        let batch = Batch::read(&body(&golden)).unwrap();
        assert_eq!(batch.messages.len(), of.len());
        for (message, alone) in batch.messages.iter().zip(of) {
            let alone = frozen::read(FOLDER, alone);
            let properties = wire::properties(&alone);
            assert_eq!(message.kind(), Kind::of(&properties));
            assert_eq!(message.correlation_id, properties.correlation_id);
            assert_eq!(message.message_id, properties.message_id);
            let answer = message.answer().unwrap().to_json();
            assert_eq!(serde_json::from_slice::<Value>(&answer).unwrap(), alone["body"]);
        }
    }
    let others = frozen::names(FOLDER).into_iter().filter(|name| name.starts_with("batch-"));
    assert_eq!(others.count(), BATCHES.len(), "each is read");
}

#[test]
fn the_schema_knows_what_is_never_in_a_batch() {
    let good = together(BATCHES[1].1);
    assert!(OPEN.holds("message", &good));
    let fault = |change: fn(&mut Value)| {
        let mut message = good.clone();
        change(&mut message);
        OPEN.fault("message", &message)
    };
    let changes: [fn(&mut Value); 6] = [
        |it| it["body"]["messages"] = json!([it["body"]["messages"][0]]),
        |it| it["body"]["messages"] = json!(vec![it["body"]["messages"][0].clone(); 501]),
        |it| it["body"]["messages"][0]["type"] = json!("status"),
        |it| it["body"]["messages"][0]["message_id"] = json!(format!("{TICKET}/1.1")),
        |it| it["body"]["messages"][1]["body"] = it["body"]["messages"][0]["body"].take(),
        |it| it["properties"]["correlation_id"] = json!("order 1001"),
    ];
    for (n, change) in changes.into_iter().enumerate() {
        assert!(fault(change).is_some(), "change {n}");
    }
    let news: fn(&mut Value) = |it| it["body"]["messages"][0]["news"] = json!(1);
    assert_eq!(fault(news), None, "a later version may add it");
}

/// Takes a message of several submissions apart, and reads each.
fn read_list(message: &Value) -> Result<Vec<Submission>, Refusal> {
    let key = message["routing_key"].as_str().unwrap_or_default();
    let each = Submissions::apart(key, &wire::properties(message), &body(message))?;
    let limits = Limits { payload_bytes_max: 1 << 20 };
    each.into_iter()
        .map(|Apart { routing_key, properties, body }| {
            let read = Submission::read(&routing_key, &properties, body, limits);
            read.map_err(|rejected| rejected.refusal)
        })
        .collect()
}

#[test]
fn golden_lists_are_read_as_the_submissions_in_them() {
    let smallest = frozen::read(FOLDER, "submissions-smallest");
    STRICT.check(LIST, &smallest, "the smallest list");
    let alone = read_submission(&frozen::read(FOLDER, "submission-smallest")).unwrap();
    let [read] = &read_list(&smallest).unwrap()[..] else { panic!("it is one") };
    assert_eq!((&read.client, &read.job_id), (&alone.client, &alone.job_id));
    assert_eq!((&read.spec, &read.digest), (&alone.spec, &alone.digest));

    let whole = frozen::read(FOLDER, "submissions-whole");
    STRICT.check(LIST, &whole, "a list with everything");
    let alone = read_submission(&frozen::read(FOLDER, "submission-whole")).unwrap();
    let [first, second, third] = &read_list(&whole).unwrap()[..] else { panic!("they are three") };
    assert_eq!((first.job_id.as_str(), first.job_type.as_str()), ("A-1001", "order.place"));
    // Its own, and what it has of the message.
    assert_eq!(first.spec, Spec { batch: true, ..whole_spec() });
    assert_eq!((&first.digest, &first.body), (&alone.digest, &alone.body));
    assert_eq!((second.job_id.as_str(), second.job_type.as_str()), ("A-1002", "order.refund"));
    assert_eq!(second.body, [0xff, 0, 0xfe]);
    let of_the_message = Spec {
        correlation_id: Some("orders of noon".to_owned()),
        notify: "succeeded,failed,cancelled,expired".to_owned(),
        batch: true,
        priority: Some("low".to_owned()),
        content_type: None,
        content_encoding: None,
        not_before: None,
        deadline: None,
        timeout_ms: None,
        max_attempts: None,
        keep_ms: None,
        tags: Vec::new(),
        ..whole_spec()
    };
    assert_eq!(
        second.spec,
        Spec { batch: false, timestamp: Some(1_769_860_700), ..of_the_message.clone() }
    );
    assert_eq!((third.job_id.as_str(), &third.body[..]), ("A-1003", &b""[..]));
    assert_eq!(third.spec, of_the_message);
    for name in frozen::names(FOLDER).iter().filter(|name| name.starts_with("submissions-")) {
        assert!(read_list(&frozen::read(FOLDER, name)).is_ok(), "{name}");
    }
}

/// A list is none for the schema of one submission, and the other way round.
#[test]
fn a_list_is_told_from_a_submission_by_its_type() {
    let list = frozen::read(FOLDER, "submissions-smallest");
    assert!(Submissions::are(&wire::properties(&list)) && !OPEN.holds("submission", &list));
    for of in ["submission-smallest", "submission-whole"] {
        let mut alone = frozen::read(FOLDER, of);
        assert!(!Submissions::are(&wire::properties(&alone)) && !OPEN.holds(LIST, &alone));
        alone["properties"]["type"] = json!("order");
        assert!(!Submissions::are(&wire::properties(&alone)) && OPEN.holds("submission", &alone));
    }
}

/// Where the schema holds, each is read; where it does not, the whole is refused, or one of them.
#[test]
fn schema_and_code_agree_on_which_lists_are_good() {
    let entry = |with: Value| {
        let mut entry = json!({"job_id": "A-1"});
        let with = with.as_object().cloned().unwrap_or_default();
        entry.as_object_mut().unwrap().extend(with);
        json!({"v": 1, "submissions": [entry]})
    };
    let header = |name: &str, value: Value| entry(json!({"headers": {name: value}}));
    let many = |n: usize| json!({"v": 1, "submissions": vec![json!({"job_id": "A-1"}); n]});
    let base64 = |text: &str| entry(json!({"body_base64": text}));
    let lists = [
        many(0),
        many(1),
        many(500),
        many(501),
        json!([{"job_id": "A-1"}]),
        json!({"submissions": [{"job_id": "A-1"}]}),
        json!({"v": 1}),
        json!({"v": 2, "submissions": [{"job_id": "A-1"}]}),
        json!({"v": 1, "submissions": {"job_id": "A-1"}}),
        json!({"v": 1, "submissions": ["A-1"]}),
        json!({"v": 1, "submissions": [{}]}),
        entry(json!({"job_id": "~"})),
        entry(json!({"job_id": 1})),
        entry(json!({"news": 1})),
        entry(json!({"type": "order.refund"})),
        entry(json!({"type": "Order"})),
        entry(json!({"type": ""})),
        entry(json!({"correlation_id": 7})),
        entry(json!({"correlation_id": "x".repeat(255)})),
        entry(json!({"correlation_id": "x".repeat(256)})),
        entry(json!({"content_type": "x".repeat(256)})),
        entry(json!({"content_encoding": "x".repeat(256)})),
        entry(json!({"content_type": "text/plain", "content_encoding": "gzip"})),
        entry(json!({"timestamp": 0})),
        entry(json!({"timestamp": -1})),
        entry(json!({"timestamp": "now"})),
        entry(json!({"body": ""})),
        entry(json!({"body": {}})),
        entry(json!({"body": "x", "body_base64": "AAEC"})),
        base64(""),
        base64("AAEC"),
        base64("AAE="),
        base64("AA=="),
        base64("AB=="),
        base64("AAF="),
        base64("AA"),
        base64("A A="),
        base64("-_-_"),
        header("job-batch", json!(true)),
        header("job-batch", json!("yes")),
        header("job-timeout-ms", json!(0)),
        header("job-notify", json!("done")),
        header("app", json!([1])),
        header("x-death", json!("once")),
        entry(json!({"headers": ["job-batch"]})),
    ];
    for list in lists {
        let mut message = frozen::read(FOLDER, "submissions-smallest");
        message["properties"]["reply_to"] = json!("reply.shop.till-1");
        message["body"] = list.clone();
        let (fault, read) = (OPEN.fault(LIST, &message), read_list(&message));
        let list: String = list.to_string().chars().take(200).collect();
        assert_eq!(fault.is_none(), read.is_ok(), "{list}: {fault:?} {:?}", read.err());
    }
    let mut mine = frozen::read(FOLDER, "submissions-smallest");
    mine["properties"]["priority"] = json!(1);
    assert!(!OPEN.holds(LIST, &mine) && read_list(&mine).is_err());
}

#[test]
fn fields_of_batches_and_lists_are_those_of_the_code() {
    let keys = |value: &Value| -> Vec<String> {
        let mut keys: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    };
    let (mut schemas, text) = (files(), || Some("x".to_owned()));
    let schema = schemas.remove("batch.json").unwrap();
    let refusal = Answer::refused(&Refusal::new(Code::Quota, "x"));
    let all = Properties { message_id: text(), ..refusal.properties(Kind::Refusal, text()) };
    let message = Message::of(&all, refusal.to_json()).unwrap();
    let fields = keys(&schema["$defs"]["message"]["properties"]);
    assert_eq!(fields, keys(&serde_json::to_value(&message).unwrap()));
    let batch = Batch { v: 1, messages: vec![message] };
    assert_eq!(keys(&schema["properties"]), keys(&serde_json::to_value(&batch).unwrap()));

    let schema = schemas.remove("submissions.json").unwrap();
    // Without `..`: who adds a field comes by here.
    let entry = Entry {
        job_id: "A-1".to_owned(),
        r#type: text(),
        correlation_id: text(),
        content_type: text(),
        content_encoding: text(),
        timestamp: Some(1),
        headers: [("job-batch".to_owned(), json!(true))].into(),
        body: text(),
        body_base64: text(),
    };
    let fields = keys(&schema["$defs"]["submission"]["properties"]);
    assert_eq!(fields, keys(&serde_json::to_value(&entry).unwrap()));
    let list = Submissions { v: 1, submissions: vec![entry] };
    assert_eq!(keys(&schema["properties"]), keys(&serde_json::to_value(&list).unwrap()));
}
