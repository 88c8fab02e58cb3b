//! A page of a client's own jobs.

use job::ClientName;
use protocol::request::List;
use protocol::{Answer, AnswerWord, Code, Kind, Refusal};
use store::Store;
use store::list::{Cursor, Page};

use crate::answers;

/// A page ends where it gets longer than this, in bytes: it travels as one message.
const PAGE_BYTES_MAX: usize = 512 * 1024;

pub(super) async fn list(
    store: &Store,
    client: &ClientName,
    list: &List,
) -> Result<(Kind, Answer), store::Error> {
    let from = match list.page.as_deref().map(Cursor::parse) {
        None => None,
        Some(Some(cursor)) => Some(cursor),
        Some(None) => {
            let message = "page: take it from next_page of the page before";
            let refusal = Refusal::new(Code::BadRequest, message);
            return Ok((Kind::Refusal, Answer::refused(&refusal)));
        }
    };
    let Page { as_of, records, mut next } = store.list(client, list, from).await?;
    let mut jobs = Vec::with_capacity(records.len());
    let mut bytes = 0;
    let mut last = None;
    for record in &records {
        // A result may be large; whoever wants it asks for the job.
        let job = Answer {
            result: None,
            notifications: None,
            as_of: None,
            ..answers::status(store, record, as_of)
        };
        bytes += job.to_json().len();
        if bytes > PAGE_BYTES_MAX && last.is_some() {
            next = last;
            break;
        }
        last = Cursor::of(record);
        jobs.push(job);
    }
    let answer = Answer {
        client: Some(client.as_str().to_owned()),
        jobs: Some(jobs),
        next_page: next.map(|cursor| cursor.to_string()),
        as_of: Some(as_of),
        ..Answer::new(AnswerWord::Found)
    };
    Ok((Kind::Status, answer))
}
