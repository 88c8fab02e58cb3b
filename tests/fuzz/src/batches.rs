//! Several messages in one, in both directions.

use protocol::batch::{MESSAGES_MAX, Message, SUBMISSIONS_MAX};
use protocol::{Batch, Code, Properties, Submissions};

use crate::frames::message;
use crate::messages::{is_explained, is_read, is_written};

/// A batch that a client reads it can write, and reads the same again; and so each message in it.
pub fn batch(data: &[u8]) {
    let Ok(batch) = Batch::read(data) else { return };
    let json = batch.to_json();
    let again = match Batch::read(&json) {
        Ok(again) => again,
        Err(error) => panic!("a batch that is read can be written: {error}"),
    };
    assert_eq!(again.to_json(), json);
    for message in batch.messages.into_iter().take(MESSAGES_MAX) {
        if let Ok(answer) = message.answer() {
            is_written(&answer);
        }
        // What has come together can be put together again.
        let alone = Properties {
            kind: Some(message.r#type.clone()),
            correlation_id: message.correlation_id.clone(),
            message_id: message.message_id.clone(),
            ..Batch::properties()
        };
        let body = message.body.get().as_bytes().to_vec();
        let Some(again) = Message::of(&alone, body) else { panic!("it is JSON: {message:?}") };
        assert_eq!(format!("{again:?}"), format!("{message:?}"));
    }
}

/// A list is taken apart, or refused with a reason. What is in it is read, or refused, as what
/// comes alone is; and the list is written as it is read.
pub fn submissions(data: &[u8]) {
    let Some(sent) = message(data) else { return };
    let apart = |body: &[u8]| Submissions::apart(&sent.routing_key, &sent.properties, body);
    let each = match apart(&sent.body) {
        Ok(each) => each,
        Err(refusal) => {
            assert_eq!(refusal.code, Code::BadRequest);
            return is_explained(&refusal);
        }
    };
    assert!((1..=SUBMISSIONS_MAX).contains(&each.len()));
    let list: Submissions = match serde_json::from_slice(&sent.body) {
        Ok(list) => list,
        Err(error) => panic!("it was read before: {error}"),
    };
    assert_eq!(apart(&list.to_json()).as_ref().ok(), Some(&each), "it is written as it is read");
    for one in each {
        assert_eq!(one.properties.user_id, sent.properties.user_id, "it is nobody else's");
        assert_eq!(one.properties.reply_to, sent.properties.reply_to);
        let of = &one.properties;
        let texts = [&of.message_id, &of.correlation_id, &of.content_type, &of.content_encoding];
        let mut texts = texts.into_iter().flatten().chain([&one.routing_key]);
        assert!(texts.all(|text| text.len() <= 255), "a message of its own could carry it");
        is_read(&one.routing_key, &one.properties, one.body);
    }
}
