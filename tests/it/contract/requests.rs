//! What a client sends: golden submissions and requests, and where schema and code draw the line.

use job::{Event, State};
use protocol::request::{List, Reported, Status, Subscribe, Wait};
use protocol::work::Spec;
use protocol::{
    Ask, Limits, Rejected, Request, Subject, Submission, UnixMillis, Verb, What, headers,
};
use serde_json::{Value, json};

use super::messages::{FOLDER, TICKET};
use super::schemas::{OPEN, STRICT};
use super::{frozen, wire};

const TOKEN: &str = "000054a8-6f1f-8e5b-9d0a-2f6f6f0c7a31.8c2f4e1d9b7a60513f2e4d6c8b0a9173";

pub(crate) fn read_submission(message: &Value) -> Result<Submission, Box<Rejected>> {
    let body = message["body"].as_str().unwrap_or_default().as_bytes().to_vec();
    let key = message["routing_key"].as_str().unwrap_or_default();
    Submission::read(key, &wire::properties(message), body, Limits { payload_bytes_max: 1 << 20 })
}

fn read_request(message: &Value) -> Result<Request, Box<Rejected>> {
    let key = message["routing_key"].as_str().unwrap_or_default();
    Request::read(key, &wire::properties(message), message["body"].to_string().as_bytes())
}

/// A small submission with a header.
pub(crate) fn header(name: &str, value: Value) -> Value {
    let mut message = json!({
        "routing_key": "order.place",
        "properties": {"message_id": "A-1", "user_id": "shop", "delivery_mode": 2},
        "headers": {},
        "body": "{}",
    });
    message["headers"][name] = value;
    message
}

fn request(verb: &str, body: Value) -> Value {
    json!({
        "routing_key": verb,
        "properties": {"user_id": "shop", "reply_to": "reply.shop.till-1", "delivery_mode": 2},
        "headers": {},
        "body": body,
    })
}

#[test]
fn golden_submissions_are_read_as_what_they_mean() {
    let smallest = frozen::read(FOLDER, "submission-smallest");
    STRICT.check("submission", &smallest, "the smallest submission");
    let read = read_submission(&smallest).unwrap();
    assert_eq!((read.client.as_str(), read.job_id.as_str()), ("shop", "A-1001"));
    assert_eq!((read.job_type.as_str(), read.reply_to), ("order.place", None));
    assert_eq!(read.spec, Spec::default());
    assert_eq!(
        read.digest.as_str(),
        "582bcbd7aabd68eeea78c8e79a6ece4eb31d3709f64272ec367d97886ebff1b2"
    );

    let whole = frozen::read(FOLDER, "submission-whole");
    let unknown = STRICT.fault("submission", &whole);
    assert!(unknown.is_some_and(|fault| fault.contains("job-colour")), "an unknown header");
    OPEN.check("submission", &whole, "a submission with everything");
    let known = headers::SUBMISSION.iter().chain([&headers::TRACEPARENT, &headers::TRACESTATE]);
    let missing: Vec<_> = known.filter(|name| whole["headers"].get(**name).is_none()).collect();
    assert_eq!(missing, [&headers::BATCH], "it came later, and has a golden message of its own");
    let read = read_submission(&whole).unwrap();
    assert_eq!(read.ignored, ["job-colour"]);
    assert_eq!(read.reply_to.map(|to| to.name().to_owned()), Some("reply.shop.till-1".into()));
    assert_eq!(
        read.digest.as_str(),
        "4c9a560b32b29b57da96ed2d8df32dbe09df8508c082b49ecd96bbc8e891c228"
    );
    assert_eq!(read.spec, whole_spec());

    let batch = frozen::read(FOLDER, "submission-batch");
    STRICT.check("submission", &batch, "a submission that may be answered together with others");
    let read = read_submission(&batch).unwrap();
    assert!(read.spec.batch);
    // How it is answered is not what is done.
    let mut plain = batch;
    plain["headers"].as_object_mut().unwrap().remove(headers::BATCH);
    assert_eq!(read_submission(&plain).unwrap().digest, read.digest);
}

pub(crate) fn whole_spec() -> Spec {
    let text = |text: &str| Some(text.to_owned());
    Spec {
        reply_to: text("reply.shop.till-1"),
        correlation_id: text("order 1001"),
        notify: "running,succeeded,failed,cancelled,expired,stage".to_owned(),
        notify_to: text("reply.shop.events"),
        batch: false,
        not_before: UnixMillis::parse("2026-01-31T13:00:00Z"),
        deadline: UnixMillis::parse("2026-02-01T12:00:00.250Z"),
        timeout_ms: Some(60_000),
        max_attempts: Some(3),
        priority: text("high"),
        keep_ms: Some(3_600_000),
        tags: vec!["spring".to_owned(), "web".to_owned()],
        origin: text("192.168.1.20"),
        content_type: text("application/json"),
        content_encoding: text("identity"),
        app_id: text("till 4.2"),
        timestamp: Some(1_769_860_799),
        traceparent: text("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        tracestate: text("shop=1"),
    }
}

type Means = Box<dyn Fn(&What) -> bool>;

/// Each golden request with what it means.
fn requests() -> Vec<(&'static str, Means)> {
    let both = |ask: Ask| -> Means {
        Box::new(move |what| {
            let What::Jobs(asked, subjects) = what else { return false };
            let named = [
                matches!(&subjects[0], Subject::Id(id) if id.as_str() == "A-1001"),
                matches!(&subjects[..], [_, Subject::Ticket(t), ..] if t.to_string() == TICKET),
                matches!(&subjects[..], [_, _, Subject::Both(id, _)] if id.as_str() == "A-1~2"),
            ];
            *asked == ask && (named[0] && subjects.len() == 1 || named == [true; 3])
        })
    };
    let wait = Wait { limit_ms: 30_000, past_revision: Some(4), past_epoch: Some(1) };
    let list = List {
        states: vec![State::Failed, State::Retrying],
        job_type: job::JobType::parse("order.place").ok(),
        tag: Some("spring".to_owned()),
        after: UnixMillis::parse("2026-01-31T00:00:00Z"),
        before: UnixMillis::parse("2026-02-01T00:00:00Z"),
        limit: 100,
        page: Some("1769860800000/A-1004".to_owned()),
    };
    let subscribe = Subscribe {
        notify: Some("succeeded,failed,cancelled,expired".to_owned()),
        notify_to: Some("reply.shop.till-2".to_owned()),
        redeliver: true,
    };
    vec![
        ("request-status", both(Ask::Status(Status::default()))),
        (
            "request-status-whole",
            both(Ask::Status(Status { history: true, void_if_unknown: true, wait: Some(wait) })),
        ),
        ("request-list", Box::new(move |what| matches!(what, What::List(asked) if *asked == list))),
        ("request-cancel", both(Ask::Cancel)),
        ("request-subscribe", both(Ask::Subscribe(subscribe))),
        ("request-erase", both(Ask::Erase)),
        (
            "request-report-outcome",
            Box::new(|what| {
                let What::Report(report) = what else { return false };
                let Reported::Outcome { event, result, error } = &report.what else { return false };
                let parcel = result.as_ref().is_some_and(|it| it.get() == r#"{"parcel":"7H-33"}"#);
                let done = *event == Event::Succeeded && error.is_none() && parcel;
                done && report.token.as_str() == TOKEN
            }),
        ),
        (
            "request-report-ongoing",
            Box::new(|what| {
                let What::Report(report) = what else { return false };
                let Reported::Ongoing { stage, progress } = &report.what else { return false };
                let wanted = Some((40, "2 of 5 parcels".to_owned()));
                stage.as_deref() == Some("packed") && *progress == wanted
            }),
        ),
    ]
}

#[test]
fn golden_requests_are_read_as_what_they_mean() {
    let requests = requests();
    for (name, means) in &requests {
        let message = frozen::read(FOLDER, name);
        STRICT.check("request", &message, name);
        let read = read_request(&message).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert!(means(&read.what), "{name}: {:?}", read.what);
        assert_eq!(read.correlation_id.as_deref(), Some("question 7"), "{name}");
        assert_eq!(read.reply_to.map(|to| to.name().to_owned()), Some("reply.shop.till-1".into()));
    }
    let verbs = Verb::ALL.iter().map(|verb| format!("request-{verb}"));
    for verb in verbs {
        assert!(requests.iter().any(|(name, _)| name.starts_with(&verb)), "{verb} has no golden");
    }
}

/// What the schema takes the code takes, and what it refuses the code refuses.
#[test]
fn schema_and_code_agree_on_which_requests_are_good() {
    let id = json!("A-1001");
    let many = |n: usize| json!({"jobs": vec![json!({"job_id": "A-1"}); n]});
    let about_jobs = [
        json!({"job_id": id}),
        json!({"ticket": TICKET}),
        json!({"job_id": "A-1~2", "ticket": TICKET, "news": 1}),
        json!({"job_id": "~2"}),
        json!({"job_id": 1001}),
        json!({"ticket": "12"}),
        json!({}),
        many(0),
        many(1),
        many(100),
        many(101),
        json!({"jobs": [{"news": 1}]}),
    ];
    let wait = |wait: Value| json!({"job_id": "A-1", "wait": wait});
    let token = |mut report: Value| {
        report["report_token"] = json!(TOKEN);
        report
    };
    let of_verbs = [
        (
            "status",
            vec![
                json!({"job_id": id, "history": 1}),
                json!({"job_id": id, "void_if_unknown": "yes"}),
                wait(json!({})),
                wait(json!({"limit_ms": 0})),
                wait(json!({"limit_ms": 3_600_001})),
                wait(json!({"limit_ms": 1, "past_epoch": 1})),
                wait(json!({"limit_ms": 1, "past_revision": 0})),
                wait(json!({"limit_ms": 1, "past_revision": -1})),
            ],
        ),
        (
            "list",
            vec![
                json!({}),
                json!({"state": "failed", "limit": 500}),
                json!({"state": []}),
                json!({"state": ["failed", "gone"]}),
                json!({"type": "Order"}),
                json!({"limit": 0}),
                json!({"limit": 501}),
                json!({"after": "yesterday"}),
                json!({"after": "2026-01-31T00:00:00+01:00"}),
                json!({"tag": "x".repeat(256)}),
            ],
        ),
        (
            "subscribe",
            vec![
                json!({"job_id": id}),
                json!({"job_id": id, "redeliver": false}),
                json!({"job_id": id, "redeliver": true}),
                json!({"job_id": id, "notify": ""}),
                json!({"job_id": id, "notify": "soon"}),
                json!({"job_id": id, "notify_to": "reply.shop.a"}),
                json!({"job_id": id, "notify_to": "amq.gen-abc"}),
                json!({"job_id": id, "notify_to": "counterfoil.intake"}),
                json!({"job_id": id, "notify_to": "amq.rabbitmq.reply-to.a.b"}),
            ],
        ),
        (
            "report",
            vec![
                json!({"outcome": "succeeded"}),
                json!({"report_token": "x", "outcome": "failed"}),
                token(json!({})),
                token(json!({"outcome": "succeeded", "result": [1]})),
                token(json!({"outcome": "failed", "result": [1]})),
                token(json!({"outcome": "expired"})),
                token(json!({"stage": ""})),
                token(json!({"stage": "x".repeat(1025)})),
                token(json!({"progress": 101})),
                token(json!({"progress": 0, "progress_note": "x"})),
                token(json!({"progress_note": "x"})),
            ],
        ),
    ];
    let agrees = |verb: &str, body: &Value| {
        let message = request(verb, body.clone());
        let read = read_request(&message);
        let fault = OPEN.fault("request", &message);
        assert_eq!(fault.is_none(), read.is_ok(), "{verb} {body}: {fault:?} {:?}", read.err());
    };
    for body in &about_jobs {
        ["status", "cancel", "erase"].iter().for_each(|verb| agrees(verb, body));
    }
    for (verb, bodies) in &of_verbs {
        bodies.iter().for_each(|body| agrees(verb, body));
    }
    let mut mute = request("status", json!({"job_id": id}));
    mute["properties"].as_object_mut().unwrap().remove("reply_to");
    assert!(read_request(&mute).is_err() && !OPEN.holds("request", &mute));
    assert!(!OPEN.holds("request", &request("delete", json!({"job_id": id}))));
}

/// The same for headers of a submission.
#[test]
fn schema_and_code_agree_on_which_headers_are_good() {
    let long = "x".repeat(1021);
    for (name, values) in [
        (headers::NOTIFY, vec![json!("terminal"), json!("*"), json!("done"), json!(1)]),
        (
            headers::NOTIFY_TO,
            vec![json!("reply.shop.a"), json!("reply.shop"), json!("x"), json!(1)],
        ),
        (
            headers::BATCH,
            vec![json!(true), json!(false), json!("true"), json!("false"), json!("yes"), json!(1)],
        ),
        (headers::NOT_BEFORE, vec![json!("2026-01-31T12:00:00Z"), json!("soon"), json!(5)]),
        (
            headers::DEADLINE,
            vec![json!("2026-01-31T12:00:00+02:00"), json!("2026-02-30T00:00:00Z")],
        ),
        (headers::TIMEOUT_MS, vec![json!("250"), json!(250), json!("1.5"), json!(true), json!("")]),
        (headers::MAX_ATTEMPTS, vec![json!("3"), json!(3), json!("three")]),
        (headers::KEEP_MS, vec![json!("0"), json!(0), json!("-1")]),
        (headers::PRIORITY, vec![json!("low"), json!("normal"), json!("high"), json!("urgent")]),
        (headers::TAGS, vec![json!("a, b"), json!(""), json!("a\u{7}"), json!(long), json!(1)]),
        (headers::ORIGIN, vec![json!("10.0.0.1"), json!(long), json!(1)]),
        (headers::PROTOCOL, vec![json!(1), json!("1"), json!(2), json!("2"), json!("one")]),
        ("job-colour", vec![json!("red"), json!(1)]),
    ] {
        for value in values {
            let mut message = header(name, value.clone());
            message["properties"]["reply_to"] = json!("reply.shop.till-1");
            let read = read_submission(&message);
            let fault = OPEN.fault("submission", &message);
            assert_eq!(
                fault.is_none(),
                read.is_ok(),
                "{name}: {value}: {fault:?} {:?}",
                read.err()
            );
        }
    }
}
