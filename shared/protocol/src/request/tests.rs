use super::*;

fn read(routing_key: &str, body: &str) -> Result<Request, Box<Rejected>> {
    let properties = Properties {
        user_id: Some("shop".to_owned()),
        reply_to: Some("reply.shop.a".to_owned()),
        ..Properties::default()
    };
    Request::read(routing_key, &properties, body.as_bytes())
}

fn jobs(routing_key: &str, body: &str) -> (Ask, Vec<Subject>) {
    match read(routing_key, body).unwrap().what {
        What::Jobs(ask, subjects) => (ask, subjects),
        other => panic!("{other:?}"),
    }
}

fn code(routing_key: &str, body: &str) -> Code {
    read(routing_key, body).unwrap_err().refusal.code
}

const TICKET: &str = "6f9619ff-8b86-8011-b42d-00c04fc964ff";

#[test]
fn a_request_names_jobs_by_either_identifier_or_both() {
    let (_, subjects) = jobs("status", r#"{"job_id":"A-1"}"#);
    assert!(matches!(subjects[..], [Subject::Id(_)]));
    let (ask, both) = jobs("cancel", &format!(r#"{{"job_id":"A-1","ticket":"{TICKET}"}}"#));
    assert!(matches!(both[..], [Subject::Both(..)]));
    assert_eq!(ask, Ask::Cancel);
    let many = format!(r#"{{"jobs":[{{"job_id":"a"}},{{"ticket":"{TICKET}"}}]}}"#);
    assert_eq!(jobs("erase", &many).1.len(), 2);
    assert_eq!(jobs("status", r#"{"job_id":"A-1~2"}"#).1.len(), 1);
}

#[test]
fn what_cannot_be_understood_is_refused_with_its_code() {
    assert_eq!(code("status", ""), Code::BadRequest);
    assert_eq!(code("list", "[]"), Code::BadRequest);
    assert_eq!(code("status", "{}"), Code::BadRequest);
    assert_eq!(code("status", "[1]"), Code::BadRequest);
    assert_eq!(code("status", r#"{"jobs":[]}"#), Code::BadRequest);
    assert_eq!(code("status", r#"{"job_id":5}"#), Code::BadRequest);
    assert_eq!(code("status", r#"{"job_id":"~"}"#), Code::InvalidId);
    assert_eq!(code("status", r#"{"ticket":"12"}"#), Code::InvalidId);
    assert_eq!(code("explain", r#"{"job_id":"A-1"}"#), Code::UnknownRequest);
    let many = format!(r#"{{"jobs":[{}]}}"#, [r#"{"job_id":"a"}"#; 101].join(","));
    assert_eq!(code("status", &many), Code::BadRequest);
    assert_eq!(code("status", &" ".repeat(70_000)), Code::PayloadTooLarge);
}

#[test]
fn a_wait_has_a_limit() {
    let (ask, _) = jobs("status", r#"{"job_id":"a","wait":{"limit_ms":5000,"past_revision":3}}"#);
    assert_eq!(ask.wait(), Some(Wait { limit_ms: 5000, past_revision: Some(3), past_epoch: None }));
    for wait in [
        "{}",
        r#"{"limit_ms":0}"#,
        r#"{"limit_ms":3600001}"#,
        "5",
        r#"{"limit_ms":5,"past_epoch":1}"#,
    ] {
        let body = format!(r#"{{"job_id":"a","wait":{wait}}}"#);
        assert_eq!(code("status", &body), Code::BadRequest, "{wait}");
    }
}

#[test]
fn a_subscription_names_changes_and_a_queue_of_the_client() {
    let body = r#"{"job_id":"a","notify":"terminal, stage","notify_to":"reply.shop.b"}"#;
    let (Ask::Subscribe(subscribe), _) = jobs("subscribe", body) else { panic!() };
    assert_eq!(subscribe.notify.as_deref(), Some("succeeded,failed,cancelled,expired,stage"));
    assert_eq!(code("subscribe", r#"{"job_id":"a"}"#), Code::BadRequest);
    assert_eq!(code("subscribe", r#"{"job_id":"a","notify":"done"}"#), Code::BadRequest);
    let elsewhere = r#"{"job_id":"a","notify_to":"reply.till.b"}"#;
    assert_eq!(code("subscribe", elsewhere), Code::ReplyToNotAllowed);
}

#[test]
fn a_list_is_restricted_by_state_type_tag_and_time() {
    let body = r#"{"state":["failed","parked"],"type":"order.place","tag":"vip","limit":500,
        "after":"2026-01-31T12:00:00Z"}"#;
    let What::List(list) = read("list", body).unwrap().what else { panic!() };
    assert_eq!(list.states.len(), 2);
    assert_eq!((list.limit, list.tag.as_deref()), (500, Some("vip")));
    let What::List(all) = read("list", "{}").unwrap().what else { panic!() };
    assert!(all.states.is_empty() && all.limit > 0);
    for body in [
        r#"{"limit":1000000}"#,
        r#"{"limit":0}"#,
        r#"{"state":"done"}"#,
        r#"{"after":"yesterday"}"#,
        r#"{"limit":-1}"#,
        "7",
    ] {
        assert_eq!(code("list", body), Code::BadRequest, "{body}");
    }
    assert_eq!(code("list", r#"{"type":"A B"}"#), Code::InvalidType);
}

#[test]
fn a_report_needs_a_token_and_something_to_say() {
    let token = ReportToken::new(job::Ticket::parse(TICKET).unwrap(), 7);
    let body = |rest: &str| format!(r#"{{"report_token":"{}"{rest}}}"#, token.as_str());
    let What::Report(report) =
        read("report", &body(r#","outcome":"succeeded","result":{"a":1}"#)).unwrap().what
    else {
        panic!()
    };
    assert_eq!(report.token.ticket().to_string(), TICKET);
    assert_eq!(report.token.hash(), token.hash());
    assert!(matches!(report.what, Reported::Outcome { result: Some(_), .. }));
    assert!(!format!("{token:?}").contains("00000007"), "the random part is a secret");
    assert!(read("report", &body(r#","stage":"packed","progress":50"#)).is_ok());
    for rest in [
        "",
        r#","outcome":"parked""#,
        r#","progress":101"#,
        r#","progress_note":"x""#,
        r#","outcome":"failed","result":1"#,
    ] {
        assert_eq!(code("report", &body(rest)), Code::BadReport, "{rest}");
    }
    for token in ["", "x", TICKET, &format!("{TICKET}.zz")] {
        let body = format!(r#"{{"report_token":"{token}","outcome":"failed"}}"#);
        assert_eq!(code("report", &body), Code::BadReport, "{token}");
    }
}
