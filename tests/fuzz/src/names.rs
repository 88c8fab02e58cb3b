//! Names, identifiers, tickets, times: what is parsed once, at the edge.

use job::{ClientName, JobId, JobType, Origin, QueueName, Subscription, Ticket, TicketKey};
use protocol::reply_to::Purpose;
use protocol::request::ReportToken;
use protocol::{Code, Destination, UnixMillis};
use store::{JobName, Keys};

fn text(data: &[u8]) -> &str {
    std::str::from_utf8(data).unwrap_or_default()
}

/// An identifier is what it was parsed from, and none of its characters is a separator elsewhere.
pub fn identifiers(data: &[u8]) {
    let text = text(data);
    if let Ok(id) = JobId::parse(text) {
        assert_eq!((id.as_str(), text.contains('~')), (text, false));
        assert_eq!(JobId::parse_recorded(text), Ok(id.clone()));
        assert!(JobId::parse(id.replayed().as_str()).is_err(), "no client can submit a replay");
        assert_eq!(JobId::parse_recorded(id.replayed().as_str()), Ok(id.replayed()));
    }
    if let Ok(id) = JobId::parse_recorded(text) {
        assert_eq!(id.as_str(), text);
        if let Ok(client) = ClientName::parse("shop") {
            let name = JobName { client, job_id: id };
            assert_eq!(JobName::from_member(&name.member()).as_ref(), Some(&name));
            let (ticket, keys) = (TicketKey::new(b"k"), Keys::new("counterfoil", 16));
            let slot = keys.slot(&name);
            let ticket = ticket.ticket(&name.client, &name.job_id, slot);
            assert_eq!(ticket.slot(), slot);
        }
    }
    if let Some(name) = JobName::from_member(text) {
        assert_eq!(name.member(), text);
    }
    if let Ok(client) = ClientName::parse(text) {
        assert!(!client.as_str().contains([':', '.', '{', '}', '/']));
    }
    if let Ok(job_type) = JobType::parse(text) {
        assert!(!job_type.as_str().split('.').any(str::is_empty));
    }
    if let Ok(queue) = QueueName::parse(text) {
        assert!(queue.as_str().len() <= 64);
    }
    let unique = uuid::Uuid::from_u128(u128::MAX);
    let host = Origin::host_name(text).job_id(unique);
    assert_eq!(JobId::parse(host.as_str()), Ok(host), "what we make, we take");
    if let Ok(origin) = Origin::label(text) {
        let id = origin.job_id(unique);
        assert_eq!(JobId::parse(id.as_str()), Ok(id));
    }
}

/// A queue that a client may name is its own, has no name that can be guessed, or has the shape of
/// direct reply-to, on which no event is sent.
pub fn reply_to(data: &[u8]) {
    let Ok(client) = ClientName::parse("alice") else { return };
    let text = text(data);
    let prefixed = format!("amq.rabbitmq.reply-to.{text}");
    for name in [text, &prefixed] {
        for client in [None, Some(&client)] {
            for purpose in [Purpose::Answer, Purpose::Events] {
                match Destination::check(client, name, purpose) {
                    Ok(to) => is_allowed(&to, name, client.is_some(), purpose),
                    Err(refusal) => {
                        assert_eq!(refusal.code, Code::ReplyToNotAllowed);
                        assert!(refusal.message.len() < 2000);
                    }
                }
            }
        }
    }
}

fn is_allowed(to: &Destination, name: &str, has_client: bool, purpose: Purpose) {
    assert_eq!(to.name(), name);
    assert!(name.len() <= 255 && !name.chars().any(char::is_control));
    let is_own = has_client && name.starts_with("reply.alice.");
    match to {
        Destination::Queue(name) => assert!(is_own || name.starts_with("amq.gen-")),
        Destination::Direct(name) => {
            assert_eq!(purpose, Purpose::Answer);
            let token = name.strip_prefix("amq.rabbitmq.reply-to.").unwrap_or_default();
            let parts: Vec<&str> = token.split('.').collect();
            let is_base64 = |part: &&str| {
                let is_digit = |c: u8| c.is_ascii_alphanumeric() || b"+/=".contains(&c);
                !part.is_empty() && part.bytes().all(is_digit)
            };
            // What else there is makes RabbitMQ close the connection (541).
            assert!(parts.len() == 2 && parts.iter().all(is_base64));
        }
    }
}

/// A subscription is read back from its words.
pub fn subscription(data: &[u8]) {
    if let Ok(wanted) = Subscription::parse(text(data)) {
        assert_eq!(Subscription::parse(&wanted.to_string()), Ok(wanted));
    }
}

/// A ticket is read back from its text, and is not genuine because somebody wrote it.
pub fn ticket(data: &[u8]) {
    let (text, key) = (text(data), TicketKey::new(b"a key that nobody has"));
    if let Some(ticket) = Ticket::parse(text) {
        assert_eq!(Ticket::parse(&ticket.to_string()), Some(ticket));
        assert!(ticket.slot() < 1 << 14);
        assert!(!key.is_genuine(ticket));
    }
    if let Some(token) = ReportToken::parse(text) {
        assert_eq!(ReportToken::parse(token.as_str()).map(|it| it.hash()), Some(token.hash()));
        assert!(!format!("{token:?}").contains(&text[text.len() - 32..]), "it is a secret");
    }
}

/// An instant that is read is written so that it is read again.
pub fn time(data: &[u8]) {
    if let Some(at) = UnixMillis::parse(text(data)) {
        assert_eq!(UnixMillis::parse(&at.to_string()), Some(at));
    }
}
