//! What the server says: golden messages, rendered by the code from values.

use std::collections::BTreeSet;

use job::State;
use protocol::answer::Notifications;
use protocol::{Answer, AnswerWord, Code, HistoryEntry, Kind, Refusal, UnixMillis};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::schemas::{OPEN, STRICT};
use super::{frozen, wire};
use crate::documents::{blocks, read};

pub(crate) const FOLDER: &str = "shared/protocol/testdata/v1";
pub(crate) const TICKET: &str = "000054a8-6f1f-8e5b-9d0a-2f6f6f0c7a31";

/// 2026-01-31T12:00:00Z, and so many milliseconds.
fn at(ms: i64) -> Option<UnixMillis> {
    Some(UnixMillis(1_769_860_800_000 + ms))
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn json_text(text: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(text.to_owned()).ok()
}

/// An answer with every field there is. Without `..`: who adds a field comes by here.
pub(crate) fn everything() -> Answer {
    Answer {
        v: protocol::VERSION,
        answer: AnswerWord::Found,
        job_id: text("A-1001"),
        ticket: text(TICKET),
        client: text("shop"),
        r#type: text("order.place"),
        queue: text("orders"),
        state: text("running"),
        done: Some(false),
        event: text("running"),
        epoch: Some(1),
        revision: Some(4),
        gap_from: Some(2),
        attempt: Some(1),
        stage: text("stock-reserved"),
        progress: Some(60),
        progress_note: text("3 of 5 lines"),
        result: json_text("null"),
        error: text("no such article"),
        cancel_requested: Some(true),
        parked_reason: text("no worker has announced the type order.refund"),
        origin: text("192.168.1.20"),
        tags: Some(vec!["spring".to_owned(), "web".to_owned()]),
        accepted_at: at(0),
        changed_at: at(1250),
        started_at: at(40),
        finished_at: at(3000),
        not_before: at(10_000),
        deadline: at(86_400_000),
        due_at: at(10_000),
        expires_at: at(86_403_000),
        retired_at: at(86_403_500),
        outcome: text("succeeded"),
        replay_of: text("A-1001"),
        replayed_as: text("A-1001~2"),
        as_of: at(2000),
        duplicate: Some(false),
        durability: text("everysec"),
        horizon_ms: Some(2_592_000_000),
        ignored: Some(vec!["job-colour".to_owned()]),
        history: Some(vec![]),
        notifications: Some(Notifications::default()),
        jobs: Some(vec![]),
        next_page: text("1769860800000/A-1004"),
        lost_between: Some([UnixMillis(1_769_860_790_000), UnixMillis(1_769_860_795_000)]),
        code: text("quota"),
        message: text("a sentence"),
        retryable: Some(true),
        action: text("Send again later."),
        retry_after_ms: Some(1000),
    }
}

/// A job of this state, and nothing that does not always apply.
fn found(state: State, revision: u64, attempt: u32) -> Answer {
    Answer {
        job_id: text("A-1001"),
        ticket: text(TICKET),
        client: text("shop"),
        r#type: text("order.place"),
        queue: text("orders"),
        state: text(state.as_str()),
        done: Some(state.is_terminal()),
        epoch: Some(1),
        revision: Some(revision),
        attempt: Some(attempt),
        ..Answer::new(AnswerWord::Found)
    }
}

fn status(state: State, revision: u64, attempt: u32) -> Answer {
    Answer {
        accepted_at: at(0),
        changed_at: at(1250),
        as_of: at(2000),
        ..found(state, revision, attempt)
    }
}

fn receipt(answer: Answer) -> Answer {
    Answer {
        accepted_at: at(0),
        as_of: at(0),
        duplicate: Some(false),
        durability: text("everysec"),
        horizon_ms: Some(2_592_000_000),
        ..answer
    }
}

fn event(word: &str, answer: Answer) -> Answer {
    Answer { event: text(word), changed_at: at(1250), ..answer }
}

fn of_an_id(word: AnswerWord) -> Answer {
    Answer { job_id: text("A-1001"), client: text("shop"), as_of: at(2000), ..Answer::new(word) }
}

fn refused(code: Code, message: &str) -> Answer {
    Answer { job_id: text("A-1001"), ..Answer::refused(&Refusal::new(code, message)) }
}

fn receipts() -> Vec<(&'static str, Answer)> {
    let ignored = Some(vec!["job-colour".to_owned()]);
    let origin = text("192.168.1.20");
    let parked_reason = text("no worker has announced the type order.place");
    vec![
        ("receipt-queued", Answer { ignored, origin, ..receipt(found(State::Queued, 1, 0)) }),
        (
            "receipt-parked",
            Answer { parked_reason, queue: text("default"), ..receipt(found(State::Parked, 1, 0)) },
        ),
        (
            "receipt-of-a-duplicate",
            Answer {
                duplicate: Some(true),
                result: json_text(r#"{"order":"1001"}"#),
                changed_at: at(3000),
                started_at: at(40),
                finished_at: at(3000),
                expires_at: at(86_403_000),
                as_of: at(5000),
                ..receipt(found(State::Succeeded, 6, 1))
            },
        ),
    ]
}

fn statuses() -> Vec<(&'static str, Answer)> {
    let every = everything;
    let entry = |revision, ms, event: &str, state: &str, attempt, detail: Option<&str>| {
        let detail = detail.map(str::to_owned);
        let (event, state) = (event.to_owned(), state.to_owned());
        HistoryEntry { revision, at: at(ms).unwrap_or_default(), event, state, attempt, detail }
    };
    let history = vec![
        entry(1, 0, "accepted", "queued", 0, None),
        entry(2, 40, "started", "running", 1, None),
        entry(3, 900, "staged", "running", 1, Some("stock-reserved")),
        entry(4, 1250, "progressed", "running", 1, Some("60 3 of 5 lines")),
    ];
    let notifications = Notifications {
        to: "reply.shop.till-1".to_owned(),
        changes: vec!["running".to_owned(), "succeeded".to_owned()],
        delivered_revision: Some(2),
        undeliverable: 1,
        undeliverable_from: Some(3),
        reason: text("there is no such queue"),
    };
    let undelivered = Some(notifications.clone());
    let forgotten = Answer {
        ticket: text(TICKET),
        r#type: text("order.place"),
        outcome: text("succeeded"),
        accepted_at: at(0),
        finished_at: at(3000),
        retired_at: every().retired_at,
        expires_at: at(2_678_403_500),
        ..of_an_id(AnswerWord::Forgotten)
    };
    let listed = Answer { as_of: None, ..status(State::Queued, 1, 0) };
    vec![
        (
            "status-running-whole",
            Answer {
                history: Some(history),
                notifications: Some(notifications),
                event: None,
                gap_from: None,
                result: None,
                parked_reason: None,
                finished_at: None,
                due_at: None,
                expires_at: None,
                retired_at: None,
                outcome: None,
                duplicate: None,
                durability: None,
                horizon_ms: None,
                ignored: None,
                jobs: None,
                next_page: None,
                lost_between: None,
                code: None,
                message: None,
                retryable: None,
                action: None,
                retry_after_ms: None,
                ..every()
            },
        ),
        (
            "status-list",
            Answer {
                client: text("shop"),
                as_of: at(2000),
                jobs: Some(vec![listed]),
                next_page: every().next_page,
                ..Answer::new(AnswerWord::Found)
            },
        ),
        (
            "status-reported",
            Answer {
                ticket: text(TICKET),
                state: text("succeeded"),
                done: Some(true),
                epoch: Some(1),
                revision: Some(5),
                as_of: at(2000),
                ..Answer::new(AnswerWord::Found)
            },
        ),
        ("status-unknown", of_an_id(AnswerWord::Unknown)),
        (
            "status-unknown-ticket",
            Answer { ticket: text(TICKET), as_of: at(2000), ..Answer::new(AnswerWord::Unknown) },
        ),
        (
            "status-unknown-lost",
            Answer { lost_between: every().lost_between, ..of_an_id(AnswerWord::Unknown) },
        ),
        ("status-pending", of_an_id(AnswerWord::Pending)),
        ("status-forgotten", forgotten.clone()),
        ("status-forgotten-undelivered", Answer { notifications: undelivered, ..forgotten }),
        ("status-voided", of_an_id(AnswerWord::Voided)),
        (
            "status-refused",
            Answer {
                client: text("shop"),
                as_of: at(2000),
                ..refused(Code::BadHeader, "job-deadline: must be a time")
            },
        ),
        (
            "status-unavailable",
            Answer {
                answer: AnswerWord::Unavailable,
                as_of: at(2000),
                retry_after_ms: Some(1000),
                ..refused(Code::Unavailable, "an earlier submission in the line is not decided yet")
            },
        ),
    ]
}

fn events() -> Vec<(&'static str, Answer)> {
    let (result, error) = (json_text(r#"{"order":"1001","total_cents":4990}"#), everything().error);
    let of_a_stage = event("stage", found(State::Running, 3, 1));
    let of_progress = event("progress", found(State::Running, 4, 1));
    vec![
        ("event-running", event("running", found(State::Running, 2, 1))),
        ("event-stage", Answer { stage: text("stock-reserved"), ..of_a_stage }),
        (
            "event-progress-after-a-gap",
            Answer {
                gap_from: Some(3),
                stage: text("stock-reserved"),
                progress: Some(60),
                progress_note: text("3 of 5 lines"),
                ..of_progress
            },
        ),
        ("event-succeeded", Answer { result, ..event("succeeded", found(State::Succeeded, 6, 1)) }),
        ("event-failed", Answer { error, ..event("failed", found(State::Failed, 6, 3)) }),
    ]
}

fn refusals() -> Vec<(&'static str, Answer)> {
    let mine = "this id is a job with digest 9f2c; this submission has 41d8";
    let unnamed = Answer { job_id: None, ..refused(Code::BadRequest, "the body is no such JSON") };
    vec![
        ("refusal-id-conflict", refused(Code::IdConflict, mine)),
        ("refusal-quota", refused(Code::Quota, "this client has as many as it may have")),
        ("refusal-of-a-request", unnamed),
    ]
}

fn goldens() -> Vec<(&'static str, Kind, Answer)> {
    let of = |kind: Kind, list: Vec<(&'static str, Answer)>| {
        list.into_iter().map(move |(name, answer)| (name, kind, answer))
    };
    of(Kind::Receipt, receipts())
        .chain(of(Kind::Status, statuses()))
        .chain(of(Kind::Event, events()))
        .chain(of(Kind::Refusal, refusals()))
        .collect()
}

#[test]
fn golden_messages_are_what_the_code_renders() {
    for (name, kind, answer) in goldens() {
        let body: Value = serde_json::from_slice(&answer.to_json()).unwrap();
        let properties = answer.properties(kind, text("order 1001"));
        frozen::check(FOLDER, name, &wire::message(&properties, &body));
    }
}

/// Also those that this version does not write any more, if there are any.
#[test]
fn golden_messages_keep_to_the_schemas_and_are_read_whoever_sent_them() {
    let others = ["request", "submission", "internal", "codes", "batch"];
    let mut names = frozen::names(FOLDER);
    names.retain(|name| !others.iter().any(|other| name.starts_with(other)));
    for name in names {
        let golden = frozen::read(FOLDER, &name);
        STRICT.check("message", &golden, &name);
        OPEN.check("answer", &golden["body"], &name);
        // What is read back is what was sent, also by a client that has ours as its library.
        let again: Answer = serde_json::from_value(golden["body"].clone()).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&again.to_json()).unwrap(), golden["body"]);
        let kind = Kind::of(&wire::properties(&golden)).map(Kind::as_str);
        assert_eq!(kind, name.split('-').next(), "{name}");
    }
}

/// What a code tells a program, and a person, stays.
#[test]
fn codes_keep_their_meaning() {
    let codes = Code::ALL.iter().map(|code| {
        let said = json!({"retryable": code.is_retryable(), "action": code.action()});
        (code.as_str().to_owned(), said)
    });
    frozen::check(FOLDER, "codes", &codes.collect());
}

#[test]
fn every_json_example_of_the_protocol_keeps_to_its_schema() {
    let text = read("docs/PROTOCOL.md");
    let mut seen = BTreeSet::new();
    for (before, example) in blocks(&text, "json") {
        let value: Value = serde_json::from_str(example).unwrap();
        if before.starts_with("**Submissions**") {
            STRICT.check("submissions", &value, before);
            seen.insert("submissions".to_owned());
            continue;
        }
        let is_request = before.starts_with("**Request**");
        assert!(is_request || before.starts_with("**Answer**"), "{before}");
        let marked = if is_request { "`" } else { "kind `" };
        let word = before.split(marked).nth(1).unwrap_or_default();
        let word = word.split('`').next().unwrap_or_default();
        let schema = if is_request { format!("request-{word}") } else { word.to_owned() };
        STRICT.check(&schema, &value, before);
        seen.insert(schema);
    }
    let verbs = protocol::Verb::ALL.iter().map(|verb| format!("request-{verb}"));
    let kinds = ["receipt", "status", "event", "refusal", "batch"].map(str::to_owned);
    assert_eq!(seen, verbs.chain(kinds).chain(["submissions".to_owned()]).collect());
}
