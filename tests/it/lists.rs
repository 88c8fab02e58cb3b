//! Lists of one's own jobs.

use std::collections::BTreeSet;

use protocol::Code;
use serde_json::{Value, json};

use crate::refusals::{Desk, assert_refused};

async fn all(desk: &mut Desk, mut question: Value) -> anyhow::Result<(Vec<String>, usize)> {
    let (mut ids, mut pages) = (Vec::new(), 0);
    loop {
        let page = desk.ask("list", &question.to_string()).await?;
        assert_eq!((page.kind.as_str(), page.text("answer")), ("status", "found"));
        assert!(!page.text("as_of").is_empty());
        pages += 1;
        for job in page.body["jobs"].as_array().into_iter().flatten() {
            ids.push(job["job_id"].as_str().unwrap_or_default().to_owned());
        }
        match page.body.get("next_page") {
            Some(next) => question["page"] = next.clone(),
            None => return Ok((ids, pages)),
        }
    }
}

#[tokio::test]
async fn a_client_lists_its_own_jobs_newest_first_in_pages() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    for n in 0..25 {
        desk.accepted(&format!("A-{n:02}")).await?;
    }
    let till = desk.world.raw("till").await?;
    let mut others = till.inbox("till").await?;
    till.submit_job("order.place", "foreign", &others.queue, &[], "{}").await?;
    others.next_of("receipt").await?;

    let (ids, pages) = all(&mut desk, json!({ "limit": 10 })).await?;
    let expected: Vec<String> = (0..25).rev().map(|n| format!("A-{n:02}")).collect();
    assert_eq!((ids, pages), (expected, 3));
    till.ask("list", &others.queue, json!({})).await?;
    let theirs = others.next_of("status").await?;
    assert_eq!(theirs.body["jobs"].as_array().map(Vec::len), Some(1));
    desk.close().await
}

/// Jobs of one millisecond are neither lost between two pages nor listed twice.
#[tokio::test]
async fn jobs_that_were_accepted_in_the_same_millisecond_are_each_listed_once() -> anyhow::Result<()>
{
    let mut desk = Desk::open().await?;
    let shop = desk.world.client("shop")?;
    let many =
        (0..120).map(|n| client::Submission::new("order.place", "{}").job_id(format!("{n}")));
    for submitted in shop.submit_many(many.collect()).await? {
        submitted.accepted().await?;
    }
    let (ids, _) = all(&mut desk, json!({ "limit": 7 })).await?;
    let distinct: BTreeSet<&String> = ids.iter().collect();
    assert_eq!((ids.len(), distinct.len()), (120, 120));
    desk.close().await
}

#[tokio::test]
async fn a_list_is_restricted_by_state_type_tag_and_time() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    let submit = async |desk: &mut Desk, job_type: &str, job_id: &str, tags: &str| {
        let headers = [("job-tags", tags)];
        let queue = desk.inbox.queue.clone();
        desk.shop.submit_job(job_type, job_id, &queue, &headers, "{}").await?;
        desk.inbox.next_of("receipt").await
    };
    submit(&mut desk, "order.place", "A-1", "vip,north").await?;
    let second = submit(&mut desk, "order.place", "A-2", "north").await?;
    submit(&mut desk, "order.refund", "A-3", "vip").await?;
    desk.ask("cancel", r#"{"job_id":"A-2"}"#).await?;
    let at = second.text("accepted_at").to_owned();
    for (question, expected) in [
        (json!({"state": "parked"}), "A-3 A-1"),
        (json!({"state": ["cancelled", "failed"]}), "A-2"),
        (json!({"state": ["cancelled", "parked"]}), "A-3 A-2 A-1"),
        (json!({"type": "order.place"}), "A-2 A-1"),
        (json!({"tag": "vip"}), "A-3 A-1"),
        (json!({"tag": "vip", "type": "order.place", "state": "parked"}), "A-1"),
        (json!({"tag": "v"}), ""),
        (json!({"after": at, "state": "cancelled"}), "A-2"),
        (json!({"before": at, "state": "cancelled"}), ""),
        (json!({"after": "2100-01-01T00:00:00Z"}), ""),
    ] {
        let (ids, _) = all(&mut desk, question.clone()).await?;
        assert_eq!(ids.join(" "), expected, "{question}");
    }
    desk.close().await
}

#[tokio::test]
async fn a_list_that_asks_for_a_million_rows_is_refused() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    for body in [r#"{"limit":1000000}"#, r#"{"limit":501}"#, r#"{"page":"there"}"#] {
        let refused = desk.ask("list", body).await?;
        assert_refused(&refused, Code::BadRequest, "");
    }
    // The most that may be asked for.
    assert_eq!(desk.ask("list", r#"{"limit":500}"#).await?.text("answer"), "found");
    desk.close().await
}

/// A page is one message: what is too much for it goes to the next.
#[tokio::test]
async fn a_page_ends_before_it_gets_too_large_for_a_message() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    let tags = vec!["t".repeat(60); 16].join(",");
    let origin = "o".repeat(1000);
    let headers: Vec<(&'static str, &str)> =
        vec![("job-tags", tags.as_str()), ("job-origin", origin.as_str())];
    let queue = desk.inbox.queue.clone();
    for n in 0..300 {
        desk.shop.submit_job("order.place", &format!("A-{n}"), &queue, &headers, "{}").await?;
    }
    for _ in 0..300 {
        desk.inbox.next_of("receipt").await?;
    }
    let first = desk.ask("list", r#"{"limit":500}"#).await?;
    assert!(first.body.to_string().len() < 600 * 1024);
    assert!(first.body.get("next_page").is_some());
    let (ids, pages) = all(&mut desk, json!({ "limit": 500 })).await?;
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 300);
    assert!(pages > 1);
    desk.close().await
}
