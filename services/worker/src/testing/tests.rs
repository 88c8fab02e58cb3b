use std::time::Duration;

use super::*;
use crate::{Bytes, Context, Failure, HandOver, Json};

/// Reports a stage, and does what the body says.
async fn handler(Json(what): Json<String>, job: Context) -> Result<u32, Failure> {
    job.stage("first").await?;
    match what.as_str() {
        "fail" => return Err(Failure::fail("never")),
        "fail once" if job.attempt() == 1 => return Err(Failure::retry("not yet")),
        "fail always" => return Err(Failure::retry("not yet")),
        "panic" => panic!("a mistake"),
        "sleep" => tokio::time::sleep(Duration::from_secs(3600)).await,
        "obey" if job.is_cancelled() => return Err(Failure::Cancelled),
        _ => {}
    }
    job.progress(50, "half").await?;
    Ok(job.attempt())
}

fn trial(what: &str) -> Trial {
    Trial::new("demo.test", handler).unwrap().body(format!("{what:?}"))
}

#[tokio::test]
async fn a_handler_that_returns_makes_its_job_succeed_with_its_result() {
    let seen = trial("return").notify_everything().run().await;
    assert_eq!(
        (seen.state, seen.result.as_deref(), seen.attempt),
        (State::Succeeded, Some("1"), 1)
    );
    assert_eq!(seen.events(), ["accepted", "started", "staged", "progressed", "succeeded"]);
    assert_eq!(seen.stages(), ["first"]);
    let told: Vec<&str> = seen.notices.iter().map(|notice| notice["event"].as_str()).collect();
    assert_eq!(told, ["queued", "running", "stage", "progress", "succeeded"]);
}

#[tokio::test]
async fn attempts_are_made_until_the_policy_or_the_client_says_that_it_is_enough() {
    let mut twice = trial("fail once");
    let seen = twice.attempt().await;
    assert_eq!((seen.state, seen.error.as_deref()), (State::Retrying, Some("not yet")));
    let pause = seen.again_in.unwrap();
    assert!(pause <= Duration::from_secs(1), "{pause:?}");
    assert_eq!(twice.attempt().await.state, State::Succeeded);
    let seen = trial("fail always").max_attempts(3).run().await;
    assert_eq!((seen.state, seen.attempt), (State::Failed, 3));
    let policy = RetryPolicy { attempts_max: 2, ..RetryPolicy::default() };
    assert_eq!(trial("panic").retry(policy).run().await.attempt, 2);
    assert_eq!(trial("fail").run().await.events().last(), Some(&"failed"));
}

#[tokio::test]
async fn a_cancellation_is_seen_by_the_handler_and_no_other_attempt_is_made() {
    let obeys = trial("obey").at_stage("first", Happening::CancelAsked).run().await;
    assert_eq!(obeys.state, State::Cancelled);
    // It says that it wants another attempt; nobody else does.
    let again = trial("fail always").at_stage("first", Happening::CancelAsked).run().await;
    assert_eq!((again.state, again.attempt), (State::Cancelled, 1));
    // It goes on, and is done.
    let done = trial("return").at_stage("first", Happening::CancelAsked).run().await;
    assert_eq!(done.state, State::Succeeded);
    let mut waiting = trial("fail once");
    waiting.attempt().await;
    assert_eq!(waiting.cancel().state, State::Cancelled);
    assert_eq!(waiting.attempt().await.attempt, 1);
}

#[tokio::test]
async fn what_a_superseded_run_reports_is_refused() {
    let seen = trial("return").at_stage("first", Happening::TakenOver).run().await;
    assert_eq!((seen.state, seen.attempt), (State::Running, 2));
    assert_eq!(seen.record.owner.as_deref(), Some("another-worker"));
    assert_eq!(seen.events(), ["accepted", "started", "staged", "started"]);
}

#[tokio::test]
async fn a_run_that_is_given_back_is_not_counted_and_one_that_died_is() {
    let back = trial("return").at_stage("first", Happening::ShutDown).run().await;
    assert_eq!((back.state, back.attempt), (State::Succeeded, 1));
    assert!(back.events().contains(&"given_back"));
    let died = trial("return").at_stage("first", Happening::Died).run().await;
    assert_eq!((died.state, died.attempt), (State::Succeeded, 2));
    let last = trial("return").max_attempts(1).at_stage("first", Happening::Died).run().await;
    assert_eq!((last.state, last.attempt), (State::Failed, 1));
    let detached = trial("return")
        .at_stage("first", Happening::Detached)
        .at_stage("first", Happening::Died)
        .run()
        .await;
    assert_eq!((detached.state, detached.attempt), (State::Succeeded, 2));
    assert!(detached.events().contains(&"lost"));
}

#[tokio::test]
async fn time_limit_and_deadline_end_a_run() {
    let late = trial("sleep").max_attempts(1).timeout(Duration::from_millis(20)).run().await;
    assert_eq!(late.error.as_deref(), Some("not done within 20 ms"));
    let expired = trial("sleep").deadline(Duration::from_millis(20)).run().await;
    assert_eq!(expired.state, State::Expired);
}

#[tokio::test]
async fn a_job_that_is_handed_over_is_finished_with_its_token_and_with_no_other() {
    async fn hands_over(Bytes(_): Bytes, job: Context) -> Result<HandOver, Failure> {
        let token = job.report_token().await?;
        job.stage(token).await?;
        Ok(HandOver::new())
    }
    let mut trial = Trial::new("demo.leave", hands_over).unwrap();
    let seen = trial.attempt().await;
    assert_eq!(seen.state, State::HandedOver);
    let token = seen.stages()[0].to_owned();
    assert!(trial.report("rubbish", Ok("1")).is_none());
    let done = trial.report(&token, Ok("{\"paid\":true}")).unwrap();
    assert_eq!((done.state, done.result.as_deref()), (State::Succeeded, Some("{\"paid\":true}")));
    assert!(trial.report(&token, Err("no")).is_none());
}
