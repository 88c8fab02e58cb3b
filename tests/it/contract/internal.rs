//! What the server sends to itself and to its workers. It is nobody else's to read or write, but
//! two versions of the program may share a broker.

use job::{ClientName, JobId, JobType, QueueName, TicketKey};
use protocol::bundle::{self, Part};
use protocol::work::Spec;
use protocol::{Ask, Forwarded, WorkMessage};
use serde_json::{Value, json};

use super::messages::FOLDER;
use super::requests::whole_spec;
use super::{frozen, wire};

#[test]
fn what_the_server_sends_itself_is_as_version_1_sends_it() {
    let key = TicketKey::new(b"a secret for golden messages");
    let (client, job_id) = (ClientName::parse("shop").unwrap(), JobId::parse("A-1001").unwrap());
    let ticket = key.ticket(&client, &job_id, 0);
    let queue = QueueName::parse("orders").unwrap();
    let whole = WorkMessage {
        client: client.clone(),
        job_id: job_id.clone(),
        ticket,
        job_type: JobType::parse("order.place").unwrap(),
        queue: queue.clone(),
        dispatch: 2,
        epoch: 1,
        spec: whole_spec(),
        body: br#"{"sku":"A1","qty":2}"#.to_vec(),
    };
    for (name, batch) in [("internal-work", false), ("internal-work-batch", true)] {
        let work = WorkMessage { spec: Spec { batch, ..whole_spec() }, ..whole.clone() };
        let body = json!(String::from_utf8_lossy(&work.body));
        frozen::check(FOLDER, name, &wire::message(&work.properties(&key), &body));
        let golden = frozen::read(FOLDER, name);
        let read = WorkMessage::read(&queue, &wire::properties(&golden), work.body.clone(), &key);
        assert_eq!(read, Ok(work), "{name}");
    }

    let other = WorkMessage {
        body: b"any bytes \n".to_vec(),
        dispatch: 1,
        spec: Spec::default(),
        job_id: JobId::parse("A-1002").unwrap(),
        ..whole.clone()
    };
    let both = vec![
        WorkMessage { dispatch: 1, spec: Spec { priority: None, ..whole_spec() }, ..whole },
        other,
    ];
    let parts: Vec<_> = both.iter().filter_map(|work| Part::of(work, &key)).collect();
    let (properties, body) = bundle::pack(&parts);
    let name = "internal-work-of-several-jobs";
    frozen::check(
        FOLDER,
        name,
        &wire::message(&properties, &json!(String::from_utf8_lossy(&body))),
    );
    let golden = frozen::read(FOLDER, name);
    let text = golden["body"].as_str().unwrap().as_bytes();
    assert_eq!(bundle::read(&queue, &wire::properties(&golden), text, &key), Ok(both));

    let question = Forwarded {
        client,
        job_id,
        ask: Ask::Status(protocol::request::Status::default()),
        ticket: Some(ticket.to_string()),
        reply_to: Some("reply.shop.till-1".to_owned()),
        correlation_id: Some("question 7".to_owned()),
    };
    let (properties, body) = question.message();
    let body: Value = serde_json::from_slice(&body).unwrap();
    frozen::check(FOLDER, "internal-question", &wire::message(&properties, &body));
    let golden = frozen::read(FOLDER, "internal-question");
    let body = golden["body"].to_string();
    assert_eq!(Forwarded::read(&wire::properties(&golden), body.as_bytes()), Some(question));
}
