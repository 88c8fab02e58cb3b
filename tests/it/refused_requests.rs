//! Requests that are refused, and ids that no submission may take: by raw AMQP messages. Here too
//! is the list that no code is missing from.

use harness::{World, eventually};
use protocol::{Code, Properties};
use redis::AsyncCommands as _;
use serde_json::json;
use server::Role;

use crate::refusals::{Desk, TYPE, assert_refused, assert_says};

/// Two jobs, the id of one and the ticket of the other: neither is told of, neither is cancelled.
#[tokio::test]
async fn an_id_and_a_ticket_of_different_jobs_are_refused() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    let (one, two) = (desk.accepted("A-1").await?, desk.accepted("A-2").await?);
    assert_ne!(one, two);
    for verb in ["status", "cancel"] {
        for (id, ticket) in [("A-1", &two), ("A-2", &one)] {
            let both = json!({"job_id": id, "ticket": ticket}).to_string();
            let refused = desk.ask(verb, &both).await?;
            assert_refused(&refused, Code::IdMismatch, "");
            assert_eq!(refused.text("job_id"), id);
            assert_eq!(refused.body.get("state"), None);
        }
    }
    for (id, ticket) in [("A-1", &one), ("A-2", &two)] {
        let status = desk.status(json!({"job_id": id, "ticket": ticket})).await?;
        assert_eq!((status.text("answer"), status.text("state")), ("found", "parked"));
    }
    desk.close().await
}

/// The submission stands in the line when the cancellation comes, and the cancellation behind it:
/// by then there is a job that could be cancelled by mistake.
#[tokio::test]
async fn a_mismatch_that_is_seen_in_the_line_cancels_nothing() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    let other = desk.accepted("A-1").await?;
    desk.server.stop().await?;
    desk.server = desk.world.server_with(|server| server.roles = vec![Role::Inquiry]).await?;
    desk.shop.submit(TYPE, desk.properties("A-2"), "{}").await?;
    let both = json!({"job_id": "A-2", "ticket": other}).to_string();
    // Refused at once, or `pending` and refused later.
    let first = desk.ask("cancel", &both).await?;
    desk.server.stop().await?;

    desk.server = desk.world.server().await?;
    let refused =
        if first.kind == "refusal" { first } else { desk.inbox.next_of("refusal").await? };
    assert_refused(&refused, Code::IdMismatch, "");
    let accepted = eventually("the submission is decided", || async {
        Ok(desk.world.record("shop", "A-2").await?.and_then(|record| record.state))
    });
    assert_eq!(accepted.await?, "parked");
    desk.shop.ask("status", &desk.inbox.queue, json!({"job_id": "A-2"})).await?;
    let status = desk.inbox.next_of("status").await?;
    assert_eq!(status.text("state"), "parked", "{}", status.body);
    desk.close().await
}

/// An id that is no job's and the ticket of one that is: the two can never belong together, so the
/// cancellation is refused and the id stays usable.
#[tokio::test]
async fn an_unknown_id_with_the_ticket_of_another_job_is_not_voided() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    let ticket = desk.accepted("A-1").await?;
    let both = json!({"job_id": "A-2", "ticket": ticket});
    let refused = desk.ask("cancel", &both.to_string()).await?;
    assert_refused(&refused, Code::IdMismatch, "");
    assert_refused(&desk.status(both).await?, Code::IdMismatch, "");
    desk.accepted("A-2").await?;
    desk.close().await
}

/// Another client's ticket, alone or beside an id, is answered as one that was never issued.
#[tokio::test]
async fn a_ticket_of_another_client_tells_nothing() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    let ticket = desk.accepted("A-1").await?;
    let till = desk.world.raw("till").await?;
    let mut inbox = till.inbox("desk").await?;
    let never = "6f9619ff-8b86-8011-b42d-00c04fc964ff";
    for verb in ["status", "cancel"] {
        let mut answers = Vec::new();
        for ticket in [ticket.as_str(), never] {
            till.ask(verb, &inbox.queue, json!({"ticket": ticket})).await?;
            let mut answer = inbox.next().await?.body;
            assert_eq!(answer["ticket"], json!(ticket));
            for field in ["ticket", "as_of"] {
                answer[field] = json!("");
            }
            answers.push(answer);
        }
        assert_eq!(answers[0], answers[1], "{verb}");
    }
    till.ask("status", &inbox.queue, json!({"job_id": "A-1"})).await?;
    assert_eq!(inbox.next().await?.text("answer"), "unknown");
    let status = desk.status(json!({"ticket": ticket})).await?;
    assert_eq!((status.text("job_id"), status.text("state")), ("A-1", "parked"));
    desk.close().await
}

/// "Not accepted, and never will be": the id is cancelled before its submission arrives.
#[tokio::test]
async fn a_voided_id_is_never_accepted() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    let id = json!({"job_id": "A-1"});
    assert_eq!(desk.ask("cancel", &id.to_string()).await?.text("answer"), "voided");
    for body in ["{}", "[]"] {
        let refused = desk.submit(TYPE, desk.properties("A-1"), body).await?;
        assert_refused(&refused, Code::Voided, "A-1");
        assert_eq!(desk.status(id.clone()).await?.text("answer"), "voided");
    }
    // A refused submission does not make the id usable again.
    let refused = desk.submit("No Type", desk.properties("A-1"), "{}").await?;
    assert_refused(&refused, Code::InvalidType, "A-1");
    assert_eq!(desk.status(id).await?.text("answer"), "voided");
    let refused = desk.submit(TYPE, desk.properties("A-1"), "{}").await?;
    assert_refused(&refused, Code::Voided, "A-1");
    desk.close().await
}

/// What a client submits beyond its share is refused until something of its is done; the others are
/// not touched by it.
#[tokio::test]
async fn more_unfinished_jobs_than_a_client_may_have_are_refused() -> anyhow::Result<()> {
    let mut desk = Desk::with(|settings| settings.unfinished_per_client_max = 3).await?;
    for n in 1..=3 {
        desk.accepted(&format!("A-{n}")).await?;
    }
    let refused = desk.submit(TYPE, desk.properties("A-4"), "{}").await?;
    assert_refused(&refused, Code::Quota, "A-4");
    // It was confirmed, so it is not unknown; and a duplicate is no new job.
    assert_says(&desk.status(json!({"job_id": "A-4"})).await?, Code::Quota);
    let again = desk.submit(TYPE, desk.properties("A-1"), "{}").await?;
    assert_eq!(again.body["duplicate"], json!(true));
    let till = desk.world.raw("till").await?;
    let mut theirs = till.inbox("till").await?;
    till.submit_job(TYPE, "A-4", &theirs.queue, &[], "{}").await?;
    assert_eq!(theirs.next().await?.kind, "receipt");
    // One is done: there is room again, for the same id.
    desk.ask("cancel", r#"{"job_id":"A-2"}"#).await?;
    desk.accepted("A-4").await?;
    let refused = desk.submit(TYPE, desk.properties("A-5"), "{}").await?;
    assert_refused(&refused, Code::Quota, "A-5");
    desk.close().await
}

/// A record that cannot be read is not an absent one. The record is spoiled by hand.
#[tokio::test]
async fn a_store_that_cannot_be_read_is_no_reason_to_say_unknown() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    let mut redis = redis(&desk.world).await?;
    let spoiled = key(&desk.world, "A-1").await?;
    let () = redis.set(&spoiled, "no hash").await?;
    for verb in ["status", "cancel"] {
        let answer = desk.ask(verb, r#"{"job_id":"A-1"}"#).await?;
        assert_eq!(answer.text("answer"), "unavailable", "{}", answer.body);
        assert_eq!(answer.text("code"), Code::Unavailable.as_str());
        assert_eq!(answer.body["retryable"], json!(true));
        assert!(answer.body["retry_after_ms"].as_u64() > Some(0));
    }
    let () = redis.del(&spoiled).await?;
    assert_eq!(desk.status(json!({"job_id": "A-1"})).await?.text("answer"), "unknown");
    desk.close().await
}

#[tokio::test]
async fn a_request_that_cannot_be_understood_is_refused() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    let many = format!(r#"{{"jobs":[{}]}}"#, [r#"{"job_id":"a"}"#; 101].join(","));
    let bodies = ["", "{", "A-1", "[]", "null", "{}", r#"{"jobs":[]}"#, r#"{"jobs":{}}"#];
    let typed = [r#"{"job_id":5}"#, r#"{"job_id":"A-1","history":"yes"}"#, r#"{"jobs":[{}]}"#];
    for verb in ["status", "cancel", "subscribe", "erase"] {
        for body in bodies.into_iter().chain(typed).chain([many.as_str(), "\u{0}"]) {
            let refused = desk.ask(verb, body).await?;
            assert_refused(&refused, Code::BadRequest, "");
        }
    }
    desk.close().await
}

#[tokio::test]
async fn a_request_that_does_not_exist_is_refused() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    for verb in ["", "explain", "Status", "status.", "status.now", &"s".repeat(255)] {
        let refused = desk.ask(verb, r#"{"job_id":"A-1"}"#).await?;
        assert_refused(&refused, Code::UnknownRequest, "");
    }
    desk.close().await
}

/// A job that exists is not touched by a refused submission of its id.
#[tokio::test]
async fn a_refused_submission_leaves_a_job_of_its_id_alone() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    desk.accepted("A-1").await?;
    let expiring = Properties { expiration: Some("60000".to_owned()), ..desk.properties("A-1") };
    let refused = desk.submit(TYPE, expiring, "{}").await?;
    assert_says(&refused, Code::BadHeader);
    let status = desk.status(json!({"job_id": "A-1"})).await?;
    assert_eq!((status.text("answer"), status.text("state")), ("found", "parked"));
    assert_eq!(status.body["revision"], json!(1));
    desk.close().await
}

/// Where each code is reached, by raw AMQP.
const REACHED_BY: &[(Code, &str)] = &[
    (Code::InvalidClient, "a_message_without_a_user_is_refused"),
    (Code::InvalidId, "an_id_outside_its_alphabet_is_refused"),
    (Code::InvalidType, "a_routing_key_that_is_no_type_is_refused"),
    (Code::BadHeader, "a_header_of_the_wrong_form_is_refused_by_name"),
    (Code::BadRequest, "a_request_that_cannot_be_understood_is_refused"),
    (Code::UnknownRequest, "a_request_that_does_not_exist_is_refused"),
    (Code::UnknownVersion, "a_version_that_is_not_spoken_is_refused"),
    (Code::PayloadTooLarge, "a_body_above_the_limit_is_refused"),
    (Code::ReplyToNotAllowed, "a_queue_for_events_that_is_not_the_clients_is_refused"),
    (Code::IdConflict, "another_job_under_the_same_id_is_refused"),
    (Code::IdMismatch, "an_id_and_a_ticket_of_different_jobs_are_refused"),
    (Code::Voided, "a_voided_id_is_never_accepted"),
    (
        Code::Forgotten,
        "h16_a_retired_id_is_forgotten_to_the_same_submission_and_a_conflict_to_another",
    ),
    (Code::Quota, "more_unfinished_jobs_than_a_client_may_have_are_refused"),
    (Code::NotPermitted, "what_is_not_finished_cannot_be_erased"),
    (Code::BadReport, "a_report_without_the_right_token_is_refused"),
    (Code::Unavailable, "a_store_that_cannot_be_read_is_no_reason_to_say_unknown"),
];

#[tokio::test]
async fn every_code_is_reached_by_a_test() -> anyhow::Result<()> {
    let listed: Vec<Code> = REACHED_BY.iter().map(|(code, _)| *code).collect();
    assert_eq!(listed, Code::ALL);
    let tests = concat!(
        include_str!("refusals.rs"),
        include_str!("refused_requests.rs"),
        include_str!("retention.rs"),
        include_str!("handed_over.rs")
    );
    for (code, test) in REACHED_BY {
        let start = tests.find(&format!("async fn {test}("));
        let body = start.map(|start| &tests[start..]).unwrap_or_default();
        let end = body.find("\n}\n").unwrap_or(0);
        assert!(body[..end].contains(&format!("Code::{code:?}")), "{code}: {test}");
    }
    Ok(())
}

pub(crate) async fn redis(world: &World) -> anyhow::Result<redis::aio::MultiplexedConnection> {
    let client = redis::Client::open(world.redis_url())?;
    Ok(client.get_multiplexed_async_connection().await?)
}

/// The key of one of the shop's jobs.
async fn key(world: &World, job_id: &str) -> anyhow::Result<String> {
    let name = store::JobName {
        client: job::ClientName::parse("shop")?,
        job_id: job::JobId::parse(job_id)?,
    };
    Ok(world.store().await?.keys().job(&name))
}
