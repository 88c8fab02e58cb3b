//! What travels: submissions, requests, questions in the line, work messages, answers.

use job::{QueueName, TicketKey};
use protocol::bundle::{self, Part};
use protocol::{
    Answer, Code, Forwarded, HeaderValue, Kind, Limits, Properties, Refusal, Request, Submission,
    UnixMillis, WorkMessage, headers,
};

use crate::frames::message;

/// The key that the golden messages are sealed with.
const KEY: &[u8] = b"secret";

pub(crate) fn is_explained(refusal: &Refusal) {
    assert!(Code::ALL.contains(&refusal.code), "a refusal has a code");
    assert!(!refusal.message.is_empty(), "and a sentence");
    assert!(refusal.message.len() <= 2000, "which is no longer than what it is about");
}

/// A submission is read, or refused with a reason. What is read keeps every rule, and reads the
/// same a second time.
pub fn submission(data: &[u8]) {
    if let Some(sent) = message(data) {
        is_read(&sent.routing_key, &sent.properties, sent.body);
    }
}

/// One submission, alone or from a list.
pub(crate) fn is_read(routing_key: &str, properties: &Properties, body: Vec<u8>) {
    let limits = Limits { payload_bytes_max: 4096 };
    let submission = match Submission::read(routing_key, properties, body, limits) {
        Ok(submission) => submission,
        Err(rejected) => return is_explained(&rejected.refusal),
    };
    assert!(submission.body.len() <= 4096 && submission.ignored.len() <= 32);
    assert!(properties.expiration.is_none() && properties.priority.is_none());
    let spec = &submission.spec;
    let digest = protocol::submission::digest(&submission.job_type, spec, &submission.body);
    assert_eq!(digest, submission.digest, "the digest follows from what is kept");
    let again = serde_json::to_string(spec).ok().and_then(|text| serde_json::from_str(&text).ok());
    let exact =
        |at: Option<UnixMillis>| at.is_none_or(|at| UnixMillis::parse(&at.to_string()) == Some(at));
    if exact(spec.not_before) && exact(spec.deadline) {
        assert_eq!(again.as_ref(), Some(spec), "what a work message carries is read back");
    } else {
        panic!("an instant that is read can be written: {spec:?}");
    }
    work_of(&submission);
}

fn work_of(submission: &Submission) {
    let key = TicketKey::new(KEY);
    let ticket = key.ticket(&submission.client, &submission.job_id, 0);
    let work = WorkMessage {
        client: submission.client.clone(),
        job_id: submission.job_id.clone(),
        ticket,
        job_type: submission.job_type.clone(),
        queue: QueueName::default(),
        dispatch: 1,
        epoch: 1,
        spec: submission.spec.clone(),
        body: submission.body.clone(),
    };
    let properties = work.properties(&key);
    let spec = properties.headers.text(headers::SPEC).unwrap_or_default();
    assert!(spec.len() < 100_000, "the headers are one frame, of 128 KiB where nobody says else");
    let read = WorkMessage::read(&QueueName::default(), &properties, work.body.clone(), &key);
    assert_eq!(read, Ok(work.clone()), "a submission that is accepted can be dispatched");
    if let Some(part) = Part::of(&work, &key) {
        let (properties, body) = bundle::pack(&[part.clone(), part]);
        let read = bundle::read(&QueueName::default(), &properties, &body, &key);
        assert_eq!(read, Ok(vec![work.clone(), work]), "and with another one");
    }
}

/// A request is read, or refused with a reason. What is read can be forwarded to the line.
pub fn request(data: &[u8]) {
    let Some(sent) = message(data) else { return };
    match Request::read(&sent.routing_key, &sent.properties, &sent.body) {
        Ok(request) => {
            if let protocol::What::Jobs(ask, subjects) = request.what {
                assert!((1..=100).contains(&subjects.len()));
                let (client, reply_to) = (request.client, request.reply_to);
                for subject in subjects {
                    let Some(job_id) = subject.job_id().cloned() else { continue };
                    is_forwarded(&Forwarded {
                        client: client.clone(),
                        job_id,
                        ask: ask.clone(),
                        ticket: subject.ticket().map(|ticket| ticket.to_string()),
                        reply_to: reply_to.as_ref().map(|to| to.name().to_owned()),
                        correlation_id: request.correlation_id.clone(),
                    });
                }
            }
        }
        Err(rejected) => is_explained(&rejected.refusal),
    }
}

fn is_forwarded(question: &Forwarded) {
    let (properties, body) = question.message();
    let read = Forwarded::read(&properties, &body);
    assert_eq!(read.as_ref(), Some(question), "a question in the line is read back");
}

/// A question in the line is read, or it is none of ours.
pub fn forwarded(data: &[u8]) {
    let Some(sent) = message(data) else { return };
    if let Some(question) = Forwarded::read(&sent.properties, &sent.body) {
        is_forwarded(&question);
    }
}

/// A work message is believed only if its seal holds, whatever else is in it.
pub fn work(data: &[u8]) {
    let Some(mut sent) = message(data) else { return };
    let (key, queue) = (TicketKey::new(KEY), QueueName::default());
    let read = |properties: &Properties, body: &[u8]| {
        WorkMessage::read(&queue, properties, body.to_vec(), &key)
    };
    if let Ok(work) = read(&sent.properties, &sent.body) {
        let properties = work.properties(&key);
        assert_eq!(read(&properties, &work.body), Ok(work), "it is written as it is read");
        sent.body.push(b' ');
        assert!(read(&sent.properties, &sent.body).is_err(), "another body is not sealed");
    }
    // Nor does anybody get in as one of several.
    sent.properties.headers.push(headers::JOBS, HeaderValue::Int(1));
    assert!(bundle::read(&queue, &sent.properties, &sent.body, &key).is_err());
    // A client's own headers make it nobody else.
    sent.properties.headers.push("counterfoil-seal", HeaderValue::Other);
    drop(read(&sent.properties, &sent.body));
}

/// An answer that a client reads it can write, and reads the same again.
pub fn answer(data: &[u8]) {
    if let Ok(answer) = serde_json::from_slice::<Answer>(data) {
        is_written(&answer);
    }
}

pub(crate) fn is_written(answer: &Answer) {
    let json = answer.to_json();
    let again: Answer = match serde_json::from_slice(&json) {
        Ok(again) => again,
        Err(error) => panic!("an answer that is read can be written: {error}"),
    };
    assert_eq!(String::from_utf8_lossy(&again.to_json()), String::from_utf8_lossy(&json));
    for kind in [Kind::Receipt, Kind::Status, Kind::Event, Kind::Refusal] {
        let properties = answer.properties(kind, answer.job_id.clone());
        assert_eq!(Kind::of(&properties), Some(kind));
    }
}
