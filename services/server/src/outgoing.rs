//! Messages to clients. What goes to one queue, and may come in one message, is put together: a
//! broker's cost is by the message.

use std::collections::HashMap;

use protocol::batch::{BYTES_MAX, Batch, MESSAGES_MAX, Message};
use protocol::{Destination, Properties, VERSION};

/// A message to a client.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) to: Destination,
    pub(crate) properties: Properties,
    pub(crate) body: Vec<u8>,
    /// Whether it may come in one message with others.
    pub(crate) batch: bool,
}

/// Messages that are sent as one.
struct Parcel {
    messages: Vec<Outgoing>,
    bytes: usize,
}

impl Parcel {
    fn has_room_for(&self, message: &Outgoing) -> bool {
        self.messages.len() < MESSAGES_MAX && self.bytes + message.body.len() <= BYTES_MAX
    }
}

/// Puts messages together where their clients asked for it. The second list says for each message
/// in which of the first it travels.
pub(crate) fn together(messages: Vec<Outgoing>) -> (Vec<Outgoing>, Vec<usize>) {
    let mut parcels: Vec<Parcel> = Vec::with_capacity(messages.len());
    let mut open: HashMap<String, usize> = HashMap::new();
    let mut places = Vec::with_capacity(messages.len());
    for message in messages {
        let bytes = message.body.len();
        // Direct reply-to is not confirmed, and is lost as a whole.
        if message.batch && matches!(message.to, Destination::Queue(_)) {
            let place = open.get(message.to.name()).copied();
            if let Some(place) = place.filter(|place| parcels[*place].has_room_for(&message)) {
                parcels[place].messages.push(message);
                parcels[place].bytes += bytes;
                places.push(place);
                continue;
            }
            open.insert(message.to.name().to_owned(), parcels.len());
        }
        places.push(parcels.len());
        parcels.push(Parcel { messages: vec![message], bytes });
    }
    (parcels.into_iter().map(sealed).collect(), places)
}

/// One message for what is in a parcel; what stands alone stays as it is.
fn sealed(parcel: Parcel) -> Outgoing {
    let mut messages = parcel.messages;
    if messages.len() == 1
        && let Some(only) = messages.pop()
    {
        return only;
    }
    let to = messages[0].to.clone();
    let messages = messages
        .into_iter()
        .filter_map(|message| Message::of(&message.properties, message.body))
        .collect();
    let body = Batch { v: VERSION, messages }.to_json();
    Outgoing { to, properties: Batch::properties(), body, batch: false }
}

#[cfg(test)]
mod tests {
    use protocol::{Answer, AnswerWord, Kind};

    use super::*;

    fn message(to: &str, batch: bool, job_id: &str) -> Outgoing {
        let answer = Answer { job_id: Some(job_id.to_owned()), ..Answer::new(AnswerWord::Found) };
        Outgoing {
            to: Destination::Queue(to.to_owned()),
            properties: answer.properties(Kind::Receipt, Some(format!("c-{job_id}"))),
            body: answer.to_json(),
            batch,
        }
    }

    #[test]
    fn what_goes_to_one_queue_travels_together_if_it_was_asked_for() {
        let (sent, places) = together(vec![
            message("a", true, "1"),
            message("b", true, "2"),
            message("a", false, "3"),
            message("a", true, "4"),
        ]);
        assert_eq!(places, [0, 1, 2, 0]);
        let batch = Batch::read(&sent[0].body).unwrap();
        let ids: Vec<Option<String>> =
            batch.messages.iter().map(|m| m.answer().unwrap().job_id).collect();
        assert_eq!(ids, [Some("1".to_owned()), Some("4".to_owned())]);
        assert_eq!(batch.messages[1].correlation_id.as_deref(), Some("c-4"));
        assert_eq!(batch.messages[1].kind(), Some(Kind::Receipt));
        assert_eq!(sent[1].properties.kind.as_deref(), Some("receipt"));
    }

    #[test]
    fn a_batch_ends_where_it_would_be_too_long() {
        let mut long = message("a", true, "1");
        long.body = format!("{{\"x\":\"{}\"}}", "x".repeat(BYTES_MAX / 2)).into_bytes();
        let (sent, places) = together(vec![long.clone(), long.clone(), message("a", true, "2")]);
        assert_eq!(places, [0, 1, 1]);
        assert_eq!(sent.len(), 2);
    }
}
