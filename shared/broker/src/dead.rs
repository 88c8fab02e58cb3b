//! The dead-letter queue: what cannot be processed is kept there, with its reason.

use job::TicketKey;
use protocol::{Properties, WorkMessage, headers};

use crate::{Delivery, Publication, topology};

/// A longer reason is cut.
const REASON_CHARS_MAX: usize = 1000;

/// The message for the dead-letter queue. Headers are made afresh: CC and BCC headers of a client
/// would make the broker write to further queues.
pub fn dead_letter(delivery: &Delivery, reason: &str) -> Publication {
    let from = &delivery.properties;
    let mut properties = Properties {
        persistent: true,
        content_type: from.content_type.clone(),
        content_encoding: from.content_encoding.clone(),
        message_id: from.message_id.clone(),
        correlation_id: from.correlation_id.clone(),
        reply_to: from.reply_to.clone().filter(|name| name != "amq.rabbitmq.reply-to"),
        app_id: from.app_id.clone(),
        kind: from.kind.clone(),
        timestamp: from.timestamp,
        ..Properties::default()
    };
    // What it quotes may be longer than a frame.
    let reason: String = reason.chars().take(REASON_CHARS_MAX).collect();
    properties.headers.push_text(headers::REASON, reason);
    properties.headers.push_text(headers::DEAD_EXCHANGE, delivery.exchange.as_str());
    properties.headers.push_text(headers::DEAD_ROUTING_KEY, delivery.routing_key.as_str());
    if let Some(user) = &from.user_id {
        properties.headers.push_text(headers::CLIENT, user.as_str());
    }
    Publication {
        exchange: topology::DEAD,
        routing_key: String::new(),
        mandatory: false,
        properties,
        body: delivery.body.clone(),
    }
}

/// The same for a work message, as if it had come alone.
pub fn dead_work_message(message: &WorkMessage, key: &TicketKey, reason: &str) -> Publication {
    let delivery = Delivery {
        tag: 0,
        exchange: topology::WORK.to_owned(),
        routing_key: message.queue.to_string(),
        redelivered: false,
        properties: message.properties(key),
        body: message.body.clone(),
    };
    dead_letter(&delivery, reason)
}
