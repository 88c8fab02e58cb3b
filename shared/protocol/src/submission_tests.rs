use super::*;

const LIMITS: Limits = Limits { payload_bytes_max: 100 };

fn properties() -> Properties {
    Properties {
        user_id: Some("shop".to_owned()),
        message_id: Some("A-1".to_owned()),
        reply_to: Some("reply.shop.a".to_owned()),
        ..Properties::default()
    }
}

fn with(name: &'static str, value: HeaderValue) -> Properties {
    let mut properties = properties();
    properties.headers.push(name, value);
    properties
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::Text(value.to_owned())
}

fn read(properties: &Properties) -> Result<Submission, Box<Rejected>> {
    Submission::read("order.place", properties, b"{}".to_vec(), LIMITS)
}

fn code(properties: &Properties) -> Code {
    read(properties).unwrap_err().refusal.code
}

#[test]
fn the_smallest_submission_is_type_id_user_and_body() {
    let small = Properties { reply_to: None, ..properties() };
    let submission = read(&small).unwrap();
    assert_eq!(submission.job_id.as_str(), "A-1");
    assert_eq!(submission.spec, Spec::default());
}

#[test]
fn numbers_come_in_any_width_or_as_digits_within_their_range() {
    for (value, wanted) in [(HeaderValue::Int(250), Some(250)), (text("250"), Some(250))] {
        assert_eq!(read(&with(headers::TIMEOUT_MS, value)).unwrap().spec.timeout_ms, wanted);
    }
    for value in [HeaderValue::Int(0), HeaderValue::Int(-1), text("soon"), HeaderValue::Other] {
        assert_eq!(code(&with(headers::TIMEOUT_MS, value)), Code::BadHeader);
    }
    assert_eq!(code(&with(headers::MAX_ATTEMPTS, HeaderValue::Int(1001))), Code::BadHeader);
}

#[test]
fn each_broken_header_or_property_is_refused_by_name() {
    for (name, value) in [
        (headers::NOTIFY, text("done")),
        (headers::NOTIFY, HeaderValue::Int(1)),
        (headers::NOT_BEFORE, text("tomorrow")),
        (headers::DEADLINE, HeaderValue::Int(5)),
        (headers::PRIORITY, text("urgent")),
        (headers::TAGS, text(&"a,".repeat(17))),
    ] {
        let refused = read(&with(name, value)).unwrap_err();
        assert_eq!(refused.refusal.code, Code::BadHeader);
        assert!(refused.refusal.message.starts_with(name), "{}", refused.refusal.message);
    }
    let expiring = Properties { expiration: Some("1".to_owned()), ..properties() };
    assert_eq!(code(&expiring), Code::BadHeader);
    assert_eq!(code(&with(headers::PROTOCOL, HeaderValue::Int(2))), Code::UnknownVersion);
    assert_eq!(code(&with(headers::X_DEATH, HeaderValue::Other)), Code::InvalidClient);
}

#[test]
fn a_rejected_submission_is_answered_where_it_may_be() {
    let bad_type = Submission::read("Order", &properties(), vec![], LIMITS).unwrap_err();
    assert_eq!(bad_type.refusal.code, Code::InvalidType);
    assert_eq!(bad_type.reply_to, Some(Destination::Queue("reply.shop.a".to_owned())));
    assert_eq!(bad_type.job_id.unwrap().as_str(), "A-1");

    let foreign = Properties { reply_to: Some("reply.bob.a".to_owned()), ..properties() };
    let foreign = read(&foreign).unwrap_err();
    assert_eq!(foreign.refusal.code, Code::ReplyToNotAllowed);
    assert_eq!(foreign.reply_to, None);

    let nobody =
        Properties { user_id: None, reply_to: Some("amq.gen-x".to_owned()), ..properties() };
    let nobody = read(&nobody).unwrap_err();
    assert_eq!(nobody.refusal.code, Code::InvalidClient);
    assert_eq!(nobody.reply_to, Some(Destination::Queue("amq.gen-x".to_owned())));
    assert_eq!(nobody.client, None);
}

/// A resend has another timestamp, trace and reply queue (H29).
#[test]
fn the_digest_covers_what_is_executed_and_nothing_else() {
    let first = read(&properties()).unwrap().digest;
    let again = Properties {
        reply_to: Some("reply.shop.other".to_owned()),
        correlation_id: Some("again".to_owned()),
        timestamp: Some(5),
        ..properties()
    };
    assert_eq!(read(&again).unwrap().digest, first);
    assert_eq!(read(&with(headers::NOTIFY, text("*"))).unwrap().digest, first);
    assert_ne!(read(&with(headers::TIMEOUT_MS, HeaderValue::Int(5))).unwrap().digest, first);
    let other = Submission::read("order.refund", &properties(), b"{}".to_vec(), LIMITS).unwrap();
    assert_ne!(other.digest, first);
    let body = Submission::read("order.place", &properties(), b"[]".to_vec(), LIMITS).unwrap();
    assert_ne!(body.digest, first);
}

#[test]
fn events_never_go_to_direct_reply_to_and_need_a_place_to_go() {
    let nowhere = Properties { reply_to: None, ..with(headers::NOTIFY, text("terminal")) };
    assert_eq!(code(&nowhere), Code::BadHeader);
    let direct = with(headers::NOTIFY_TO, text("amq.rabbitmq.reply-to.a.b"));
    assert_eq!(code(&direct), Code::ReplyToNotAllowed);
}

#[test]
fn what_looks_like_ours_and_is_not_is_listed() {
    let submission = read(&with("job-colour", text("red"))).unwrap();
    assert_eq!(submission.ignored, ["job-colour"]);
}

#[test]
fn a_body_above_the_limit_is_refused_with_both_figures() {
    let refused = Submission::read("order.place", &properties(), vec![0; 101], LIMITS).unwrap_err();
    assert_eq!(refused.refusal.code, Code::PayloadTooLarge);
    assert_eq!(refused.refusal.message, "101 bytes; the limit is 100");
}
