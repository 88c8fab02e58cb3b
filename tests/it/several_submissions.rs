//! Several submissions in one message: each is decided as if it had come alone.

use broker::topology;
use protocol::batch::FROM_CLIENT;
use protocol::{Code, HeaderValue, Properties, headers};
use serde_json::{Value, json};
use store::RecordKind;

use crate::batches::{Heard, list, numbered, of_list, together};
use crate::dead_letters::{kept, nothing_more};
use crate::refusals::{Desk, TYPE, assert_refused};

/// It is no transaction: each has its own receipt or refusal, and its own record.
#[tokio::test]
async fn good_bad_and_repeated_submissions_of_one_message_are_decided_one_by_one()
-> anyhow::Result<()> {
    let mut desk = Desk::with(|settings| settings.payload_bytes_max = 20).await?;
    let mut dead = desk.world.raw("admin").await?.read(topology::DEAD_QUEUE).await?;
    desk.accepted("A-1").await?;
    let before = desk.world.record("shop", "A-1").await?.unwrap_or_default();
    let bad_deadline = json!({"job-deadline": "tomorrow"});
    let submissions = numbered(vec![
        json!({"job_id": "~", "body": "{}"}),
        json!({"job_id": "A-1", "body": "{}"}),
        json!({"job_id": "A-1", "body": "other"}),
        json!({"job_id": "B-1", "body": "{}"}),
        json!({"job_id": "B-2", "body": "x".repeat(21)}),
        json!({"job_id": "B-3", "body": "{}", "headers": bad_deadline}),
        json!({"job_id": "B-4", "body_base64": "AP8="}),
        json!({"job_id": "B-1", "body": "{}"}),
        json!({"job_id": "B-5", "body": "{}", "type": "No Type"}),
        json!({"body": "{}"}),
        json!({"job_id": "B-6"}),
    ]);
    let properties = together(of_list(&desk.shop, &desk.inbox.queue));
    desk.shop.submit(TYPE, properties, list(&submissions)).await?;
    let Desk { world, server, shop, inbox } = desk;
    let mut heard = Heard::on(inbox);
    let answers = heard.answers((0..submissions.len()).map(|n| format!("about {n}"))).await?;
    let answer = |n: usize| &answers[&format!("about {n}")];
    for (n, id, is_duplicate) in [
        (1, "A-1", true),
        (3, "B-1", false),
        (6, "B-4", false),
        (7, "B-1", true),
        (10, "B-6", false),
    ] {
        let (receipt, _) = answer(n);
        assert_eq!((receipt.kind.as_str(), receipt.text("job_id")), ("receipt", id));
        assert_eq!(receipt.body["duplicate"], json!(is_duplicate), "{id}");
        let record = world.record("shop", id).await?.unwrap_or_default();
        assert_eq!(record.kind(), Some(RecordKind::Job), "{id}");
        assert_eq!(record.ticket.as_deref(), Some(receipt.text("ticket")), "{id}");
    }
    let after = world.record("shop", "A-1").await?.unwrap_or_default();
    assert_eq!((after.digest, after.revision), (before.digest, before.revision));
    let binary = world.record("shop", "B-4").await?.unwrap_or_default();
    assert_eq!(binary.payload_bytes.as_deref(), Some("2"));
    assert_refused(&answer(2).0, Code::IdConflict, "2");
    for (n, id, code) in [
        (4, "B-2", Code::PayloadTooLarge),
        (5, "B-3", Code::BadHeader),
        (8, "B-5", Code::InvalidType),
    ] {
        let (refusal, together) = answer(n);
        assert_refused(refusal, code, &n.to_string());
        assert!(!together, "a breach of the protocol is refused in a message of its own");
        assert_eq!(refusal.text("job_id"), id);
        let record = world.record("shop", id).await?.unwrap_or_default();
        assert_eq!(record.kind(), Some(RecordKind::Refused), "{id}");
        assert_eq!(record.code.as_deref(), Some(code.as_str()), "{id}");
    }
    // What names no job is kept, as if it had come alone.
    for (n, id) in [(0, "~"), (9, "")] {
        assert_refused(&answer(n).0, Code::InvalidId, &n.to_string());
        assert_eq!(answer(n).0.body.get("job_id"), None);
        kept(&mut dead, id, ["invalid_id: ", topology::SUBMIT, TYPE, "shop"]).await?;
    }
    nothing_more(&shop, &mut dead).await?;
    Ok(server.stop().await?)
}

/// Nobody can say which submissions it held: it is refused whole, kept, and records nothing.
#[tokio::test]
async fn a_list_that_cannot_be_read_is_refused_whole_and_kept() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    let mut dead = desk.world.raw("admin").await?.read(topology::DEAD_QUEUE).await?;
    let good = json!({"job_id": "A-1", "body": "{}"});
    let and = |bad: Value| list(&[good.clone(), bad]);
    let lists = [
        "{".to_owned(),
        String::new(),
        json!([good]).to_string(),
        json!({"submissions": [good]}).to_string(),
        list(&[]),
        list(&vec![good.clone(); 501]),
        and(json!("A-2")),
        and(json!({"job_id": 2})),
        and(json!({"job_id": "A-2", "body": "{}", "body_base64": "AA=="})),
        and(json!({"job_id": "A-2", "body_base64": "A"})),
    ];
    for (n, body) in lists.into_iter().enumerate() {
        let properties = Properties {
            correlation_id: Some(format!("about {n}")),
            message_id: Some("A-9".to_owned()),
            ..together(of_list(&desk.shop, &desk.inbox.queue))
        };
        desk.shop.submit(TYPE, properties, body.clone()).await?;
        let refusal = desk.inbox.next().await?;
        assert_refused(&refusal, Code::BadRequest, &n.to_string());
        assert_eq!(refusal.body.get("job_id"), None, "{}", refusal.body);
        kept(&mut dead, "A-9", ["bad_request: ", topology::SUBMIT, TYPE, "shop"]).await?;
    }
    // Without a queue to answer to it is kept all the same, as it was.
    desk.shop.submit(TYPE, of_list(&desk.shop, ""), r#"{"v":1}"#).await?;
    let message = dead.next().await?;
    assert_eq!((message.kind.as_str(), &message.body), (FROM_CLIENT, &json!({"v": 1})));
    // Neither what was good in them nor the message's own id is anything.
    for id in ["A-1", "A-9"] {
        assert_eq!(desk.status(json!({"job_id": id})).await?.text("answer"), "unknown", "{id}");
        desk.accepted(id).await?;
    }
    nothing_more(&desk.shop, &mut dead).await?;
    desk.close().await
}

/// How it is sent is not what is done: alone or in company it has one digest.
#[tokio::test]
async fn a_job_alone_and_the_same_in_a_list_are_one_job() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    let (body, deadline) = (r#"{"sku":"A1"}"#, "2999-01-31T12:00:00Z");
    let alone = |id: &str| {
        let mut properties = desk.properties(id);
        properties.content_type = Some("text/plain".to_owned());
        properties.headers.push_text(headers::DEADLINE, deadline);
        properties.headers.push(headers::TIMEOUT_MS, HeaderValue::Int(60_000));
        properties
    };
    let (first, second) = (alone("A-1"), alone("A-2"));
    let ticket = desk.submit(TYPE, first, body).await?.text("ticket").to_owned();
    let submissions = ["A-1", "A-2"].map(|id| {
        let headers = json!({"job-deadline": deadline, "job-timeout-ms": 60_000});
        json!({"job_id": id, "content_type": "text/plain", "headers": headers, "body": body})
    });
    for is_duplicate in [[true, false], [true, true]] {
        let common = of_list(&desk.shop, &desk.inbox.queue);
        desk.shop.submit(TYPE, common, list(&numbered(submissions.to_vec()))).await?;
        for (n, is_duplicate) in is_duplicate.into_iter().enumerate() {
            let receipt = desk.inbox.answer_to(&format!("about {n}")).await?;
            assert_eq!(receipt.kind, "receipt", "{}", receipt.body);
            assert_eq!(receipt.body["duplicate"], json!(is_duplicate), "{}", receipt.body);
            assert_eq!(receipt.text("ticket") == ticket, n == 0);
        }
    }
    let receipt = desk.submit(TYPE, second, body).await?;
    assert_eq!((receipt.kind.as_str(), &receipt.body["duplicate"]), ("receipt", &json!(true)));
    // Base64 of the same bytes is the same body.
    let mut base64 = submissions[0].clone();
    base64.as_object_mut().unwrap().remove("body");
    base64["body_base64"] = json!("eyJza3UiOiJBMSJ9");
    let common = of_list(&desk.shop, &desk.inbox.queue);
    desk.shop.submit(TYPE, common, list(&numbered(vec![base64]))).await?;
    assert_eq!(desk.inbox.answer_to("about 0").await?.body["duplicate"], json!(true));
    desk.close().await
}

/// What a submission has of its own counts; what it has not, it has of the message. What says what
/// the list is says nothing of its members.
#[tokio::test]
async fn what_a_submission_of_a_list_says_itself_counts() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    let now = protocol::UnixMillis::now().0.unsigned_abs() / 1000;
    let mut common = Properties {
        correlation_id: Some("about all".to_owned()),
        app_id: Some("till 4.2".to_owned()),
        content_encoding: Some("identity".to_owned()),
        timestamp: Some(now),
        ..of_list(&desk.shop, &desk.inbox.queue)
    };
    common.headers.push_text(headers::TAGS, "web");
    common.headers.push_text(headers::ORIGIN, "10.0.0.1");
    let own = json!({
        "job_id": "A-1", "type": "order.refund", "correlation_id": "about A-1",
        "content_type": "text/plain", "content_encoding": "gzip", "timestamp": now - 1,
        "headers": {"job-tags": "spring", "job-batch": "true", "job-keep-ms": 5000},
        "body": "{}",
    });
    desk.shop.submit(TYPE, common, list(&[own, json!({"job_id": "A-2"})])).await?;
    let own = desk.inbox.answer_to("about A-1").await?;
    assert_eq!((own.text("job_id"), own.text("type")), ("A-1", "order.refund"));
    let other = desk.inbox.answer_to("about all").await?;
    assert_eq!((other.text("job_id"), other.text("type")), ("A-2", TYPE));
    let spec = |id: &'static str| async {
        let record = desk.world.record("shop", id).await?.unwrap_or_default();
        anyhow::Ok(record.spec())
    };
    let (own, other) = (spec("A-1").await?, spec("A-2").await?);
    assert_eq!((own.content_type.as_deref(), other.content_type), (Some("text/plain"), None));
    assert_eq!((own.content_encoding.as_deref(), other.content_encoding), (Some("gzip"), None));
    assert_eq!((own.timestamp, other.timestamp), (Some(now - 1), Some(now)));
    assert_eq!((&own.tags[..], &other.tags[..]), (&["spring".into()][..], &["web".into()][..]));
    assert_eq!((own.batch, other.batch), (true, false));
    assert_eq!((own.keep_ms, other.keep_ms), (Some(5000), None));
    for spec in [&own.origin, &other.origin] {
        assert_eq!(spec.as_deref(), Some("10.0.0.1"));
    }
    for spec in [&own.app_id, &other.app_id] {
        assert_eq!(spec.as_deref(), Some("till 4.2"));
    }
    desk.close().await
}

/// A quota is for those who came first, also where they ask for different things: the second one
/// was refused once, and the third one taken.
#[tokio::test]
async fn a_quota_takes_those_of_a_list_that_stand_first() -> anyhow::Result<()> {
    let mut desk = Desk::with(|settings| settings.unfinished_per_client_max = 2).await?;
    let tagged = json!({"job_id": "A-2", "body": "{}", "headers": {"job-tags": "spring"}});
    let one = |id: &str| json!({"job_id": id, "body": "{}"});
    let submissions = numbered(vec![one("A-1"), tagged, one("A-3")]);
    desk.shop.submit(TYPE, of_list(&desk.shop, &desk.inbox.queue), list(&submissions)).await?;
    for (n, id) in [(0, "A-1"), (1, "A-2")] {
        let receipt = desk.inbox.answer_to(&format!("about {n}")).await?;
        assert_eq!((receipt.kind.as_str(), receipt.text("job_id")), ("receipt", id));
    }
    assert_refused(&desk.inbox.answer_to("about 2").await?, Code::Quota, "2");
    desk.close().await
}
