//! Closed lists, fields and limits: the schemas' and the code's are the same.

use std::collections::BTreeSet;

use job::{ClientName, Event, JobId, JobType, QueueName, State, Subscription};
use protocol::answer::Notifications;
use protocol::request::{PAGE_MAX, SUBJECTS_MAX, WAIT_MS_MAX};
use protocol::{
    AnswerWord, Code, HistoryEntry, Kind, Properties, UnixMillis, Verb, batch, headers,
};
use serde_json::{Value, json};
use store::Record;

use super::messages::everything;
use super::requests::{header, read_submission};
use super::schemas::{OPEN, files};

fn schema(name: &str) -> Value {
    files().remove(&format!("{name}.json")).unwrap_or_default()
}

fn set<'a>(words: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    words.into_iter().map(str::to_owned).collect()
}

fn words(schema: &Value) -> BTreeSet<String> {
    let words = schema["enum"].as_array().into_iter().flatten();
    set(words.filter_map(Value::as_str))
}

fn keys(object: &Value) -> BTreeSet<String> {
    object.as_object().map(|fields| fields.keys().cloned().collect()).unwrap_or_default()
}

/// Every word, and a failure to compile where one is added and not written here.
fn answer_words() -> BTreeSet<String> {
    use AnswerWord::{Forgotten, Found, Pending, Refused, Unavailable, Unknown, Voided};
    let all = [Found, Unknown, Forgotten, Voided, Refused, Unavailable, Pending];
    let text = |word: &AnswerWord| match word {
        Found | Unknown | Forgotten | Voided | Refused | Unavailable | Pending => json!(word),
    };
    all.iter().filter_map(|word| text(word).as_str().map(str::to_owned)).collect()
}

#[test]
fn closed_lists_are_those_of_the_code() {
    let common = schema("common");
    let list = |name: &str| words(&common["$defs"][name]);
    let states = set(State::ALL.iter().map(|state| state.as_str()));
    assert_eq!(list("state"), states);
    assert_eq!(list("final_state"), set(State::terminal().map(State::as_str)));
    assert_eq!(list("happening"), set(Event::ALL.iter().map(|event| event.as_str())));
    assert_eq!(list("code"), set(Code::ALL.iter().map(|code| code.as_str())));
    assert_eq!(list("verb"), set(Verb::ALL.iter().map(|verb| verb.as_str())));
    assert_eq!(list("answer_word"), answer_words());
    let changes: BTreeSet<String> =
        states.iter().cloned().chain(set([Subscription::STAGE, Subscription::PROGRESS])).collect();
    assert_eq!(list("change"), changes);
    let message = schema("message");
    let kinds = [Kind::Receipt, Kind::Status, Kind::Event, Kind::Refusal].map(Kind::as_str);
    let types = set(kinds.into_iter().chain([batch::TO_CLIENT]));
    assert_eq!(words(&message["properties"]["properties"]["properties"]["type"]), types);
    let cloud = words(&message["$defs"]["event_headers"]["properties"]["cloudEvents_type"]);
    let changes = changes.iter().map(|word| format!("counterfoil.job.{word}"));
    assert_eq!(cloud, changes.collect());
    let retryable = Code::ALL.iter().filter(|code| code.is_retryable());
    let refusal = &schema("answer")["$defs"]["refusal"]["if"]["properties"]["code"];
    assert_eq!(words(refusal), set(retryable.map(|code| code.as_str())));
    use store::Durability::{Everysec, Fsync, None};
    let durability = [Fsync, Everysec, None].map(store::Durability::as_str);
    assert_eq!(list("durability"), set(durability.into_iter().chain(["replicated"])));
    let kinds = words(&schema("redis-record")["properties"]["record"]);
    assert!(kinds.iter().all(|word| word.parse::<store::RecordKind>().is_ok()) && kinds.len() == 4);
}

#[test]
fn fields_are_those_of_the_code() {
    let answer = schema("answer");
    let every = everything();
    let body: Value = serde_json::from_slice(&every.to_json()).unwrap();
    assert_eq!(keys(&answer["properties"]), keys(&body));
    let entry = HistoryEntry {
        revision: 1,
        at: UnixMillis(0),
        event: String::new(),
        state: String::new(),
        attempt: 1,
        detail: Some(String::new()),
    };
    let ledger = Notifications {
        to: String::new(),
        changes: vec![String::new()],
        delivered_revision: Some(1),
        undeliverable: 1,
        undeliverable_from: Some(1),
        reason: Some(String::new()),
    };
    assert_eq!(keys(&answer["$defs"]["history_entry"]["properties"]), keys(&json!(entry)));
    assert_eq!(keys(&answer["$defs"]["notifications"]["properties"]), keys(&json!(ledger)));
    let known = headers::SUBMISSION.iter().copied();
    let known = set(known.chain([headers::TRACEPARENT, headers::TRACESTATE]));
    assert_eq!(keys(&schema("submission")["$defs"]["headers"]["properties"]), known);
    let fields = set(Record::FIELDS.iter().copied().chain(["payload"]));
    let record = schema("redis-record");
    assert_eq!(keys(&record["properties"]), fields);
    let mut described = BTreeSet::new();
    for kind in ["job", "refused", "voided", "retired"] {
        described.extend(keys(&record["$defs"][kind]["properties"]));
    }
    assert_eq!(described, fields, "each field is of some kind of record");
}

/// What one kind of answer has, `answer.json` has, and the other way round.
#[test]
fn each_field_of_an_answer_is_of_some_kind() {
    let mut described = BTreeSet::new();
    for kind in ["receipt", "event", "refusal"] {
        described.extend(keys(&schema(kind)["properties"]));
    }
    for branch in schema("status")["$defs"].as_object().into_iter().flat_map(|defs| defs.values()) {
        described.extend(keys(&branch["properties"]));
    }
    assert_eq!(described, keys(&schema("answer")["properties"]));
}

#[test]
fn limits_are_those_of_the_code() {
    let submission = schema("submission");
    let headers = &submission["$defs"]["headers"]["properties"];
    let mut ranges = 0;
    for (name, header_schema) in headers.as_object().into_iter().flatten() {
        let range = &header_schema["anyOf"][0];
        let (Some(min), Some(max)) = (range["minimum"].as_i64(), range["maximum"].as_i64()) else {
            continue;
        };
        ranges += 1;
        for (value, is_allowed) in [(min, true), (max, true), (min - 1, false), (max + 1, false)] {
            let read = read_submission(&header(name, json!(value)));
            assert_eq!(read.is_ok(), is_allowed, "{name}: {value}");
        }
    }
    assert_eq!(ranges, 3);
    let limit = &schema("request-status")["properties"]["wait"]["properties"]["limit_ms"];
    assert_eq!(limit["maximum"], json!(WAIT_MS_MAX));
    assert_eq!(schema("request-list")["properties"]["limit"]["maximum"], json!(PAGE_MAX));
    assert_eq!(schema("answer")["properties"]["jobs"]["maxItems"], json!(PAGE_MAX));
    assert_eq!(schema("request-status")["properties"]["jobs"]["maxItems"], json!(SUBJECTS_MAX));
    let list = &schema("submissions")["properties"]["submissions"];
    assert_eq!(list["maxItems"], json!(batch::SUBMISSIONS_MAX));
    let of_one = &schema("submissions")["$defs"]["submission"]["properties"]["headers"];
    let of_all = &schema("submissions")["$defs"]["message"]["properties"]["headers"];
    for headers in [of_one, of_all] {
        assert_eq!(headers["maxProperties"], json!(batch::HEADERS_MAX));
    }
    assert_eq!(schema("batch")["properties"]["messages"]["maxItems"], json!(batch::MESSAGES_MAX));
    let waits = &schema("redis-record")["$defs"]["waits"];
    assert_eq!(waits["maxItems"], json!(store::wait::WAITS_PER_JOB_MAX));
}

#[test]
fn what_is_an_identifier_for_a_schema_is_one_for_the_code() {
    let long = ["a".repeat(64), "a".repeat(65), "a".repeat(101), "a".repeat(128), "a".repeat(129)];
    let texts = [
        "",
        "a",
        "A-1001",
        "A-1001~2",
        "A-1001~1",
        "A-1001~02",
        "A~12",
        "~2",
        "-a",
        "a b",
        "a:b@c._-",
        "é",
        "order.place",
        "Order",
        "a..b",
        ".a",
        "a.",
        "shop",
        "sh.op",
        "a\n",
        "0",
        "_",
        "*",
    ];
    for text in texts.into_iter().chain(long.iter().map(String::as_str)) {
        let value = json!(text);
        let is = |name: &str| OPEN.holds(&format!("common.json#/$defs/{name}"), &value);
        assert_eq!(is("job_id"), JobId::parse(text).is_ok(), "job id {text:?}");
        assert_eq!(is("recorded_job_id"), JobId::parse_recorded(text).is_ok(), "job id {text:?}");
        assert_eq!(is("client"), ClientName::parse(text).is_ok(), "client {text:?}");
        assert_eq!(is("type"), JobType::parse(text).is_ok(), "type {text:?}");
        assert_eq!(is("queue"), QueueName::parse(text).is_ok(), "queue {text:?}");
    }
    for words in
        ["", "terminal", " running , stage", "*", "running,,failed", ",", "done", "run ning"]
    {
        let is = OPEN.holds("common.json#/$defs/notify", &json!(words));
        assert_eq!(is, Subscription::parse(words).is_ok(), "notify {words:?}");
    }
}

#[test]
fn what_must_not_be_set_must_not_be_set() {
    let plain = header("app", json!("x"));
    assert!(OPEN.holds("submission", &plain) && read_submission(&plain).is_ok());
    for (name, value) in [("expiration", json!("1")), ("priority", json!(1))] {
        let mut message = plain.clone();
        message["properties"][name] = value;
        assert!(
            !OPEN.holds("submission", &message) && read_submission(&message).is_err(),
            "{name}"
        );
    }
    let dead = header(headers::X_DEATH, json!("x"));
    assert!(!OPEN.holds("submission", &dead) && read_submission(&dead).is_err());
    let nobody = super::wire::envelope(&Properties::default());
    assert!(!OPEN.holds("submission.json#/$defs/properties", &nobody["properties"]));
}
