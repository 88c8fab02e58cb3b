//! Where the server may send what a client asked for.
//!
//! The server may write to every queue of its virtual host, a client may not: a name that a client
//! gives is therefore checked here, in every role, before anything is done with it. Allowed are
//! `reply.<client>.…`, a server-named queue, and direct reply-to where no ledger is kept.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use job::ClientName;

use crate::refusal::{Code, Refusal};

/// A queue that has been checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Destination {
    /// A queue of the client's own. What cannot be delivered there is recorded.
    Queue(String),
    /// RabbitMQ's direct reply-to: sent once, on a connection that carries nothing else, because a
    /// name that the broker cannot read closes the whole connection.
    Direct(String),
}

/// What is to be sent there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A receipt or an answer.
    Answer,
    /// Pushed changes, which need a ledger and so a queue.
    Events,
}

/// AMQP's limit for a queue's name, in bytes.
const NAME_BYTES_MAX: usize = 255;
const DIRECT: &str = "amq.rabbitmq.reply-to.";
const SERVER_NAMED: &str = "amq.gen-";

impl Destination {
    /// Checks a queue's name for a client. A message without a verified client may still be
    /// answered on a queue whose name cannot be guessed.
    ///
    /// # Errors
    /// [`Code::ReplyToNotAllowed`], with the rule that the name breaks.
    pub fn check(
        client: Option<&ClientName>,
        name: &str,
        purpose: Purpose,
    ) -> Result<Self, Refusal> {
        let refused = |why: &str| {
            let shown: String = name.chars().take(80).collect();
            Err(Refusal::new(Code::ReplyToNotAllowed, format!("{shown:?} {why}")))
        };
        if name.len() > NAME_BYTES_MAX {
            return refused("is longer than a queue's name can be (255 bytes)");
        }
        if name.chars().any(char::is_control) {
            return refused("holds a control character");
        }
        if let Some(token) = name.strip_prefix(DIRECT) {
            return match purpose {
                Purpose::Events => refused("is direct reply-to, which takes answers but no events"),
                Purpose::Answer if is_direct_token(token) => Ok(Self::Direct(name.to_owned())),
                Purpose::Answer => refused("is no name that a broker gave for direct reply-to"),
            };
        }
        if name.strip_prefix(SERVER_NAMED).is_some_and(|rest| !rest.is_empty()) {
            return Ok(Self::Queue(name.to_owned()));
        }
        let Some(client) = client else {
            return refused("cannot be checked without a verified user_id");
        };
        let own = name
            .strip_prefix("reply.")
            .and_then(|rest| rest.strip_prefix(client.as_str()))
            .and_then(|rest| rest.strip_prefix('.'));
        match own {
            Some(rest) if !rest.is_empty() => Ok(Self::Queue(name.to_owned())),
            _ => refused(&format!("is not one of this client's queues, reply.{client}.…")),
        }
    }

    /// The queue's name, which is the routing key on the default exchange.
    pub fn name(&self) -> &str {
        match self {
            Self::Queue(name) | Self::Direct(name) => name,
        }
    }
}

/// Whether a token has the shape that RabbitMQ gives: an Erlang process identifier in external term
/// format and a key, each in base64, joined by a dot. Anything else makes RabbitMQ 3.10 to 4.0
/// close the publisher's connection with 541.
fn is_direct_token(token: &str) -> bool {
    let Some((pid, key)) = token.split_once('.') else { return false };
    let (Ok(pid), Ok(key)) = (STANDARD.decode(pid), STANDARD.decode(key)) else { return false };
    !key.is_empty() && is_external_pid(&pid)
}

/// `131`, then `NEW_PID_EXT` (88) or `PID_EXT` (103), a node's name as an atom, and fixed numbers:
/// <https://www.erlang.org/doc/apps/erts/erl_ext_dist.html>.
fn is_external_pid(term: &[u8]) -> bool {
    let (numbers, rest) = match term {
        [131, 88, rest @ ..] => (12, rest),
        [131, 103, rest @ ..] => (9, rest),
        _ => return false,
    };
    let (length, name) = match rest {
        [100 | 118, high, low, name @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), name),
        [115 | 119, length, name @ ..] => (usize::from(*length), name),
        _ => return false,
    };
    name.len() == length + numbers && length > 0 && name[..length].contains(&b'@')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, purpose: Purpose) -> Result<Destination, Refusal> {
        Destination::check(Some(&ClientName::parse("alice").unwrap()), name, purpose)
    }

    #[test]
    fn a_client_may_name_its_own_queues_and_nameless_ones() {
        for name in ["reply.alice.a", "reply.alice.till-1.x", "amq.gen-Fg6", "reply.alice.bob"] {
            assert_eq!(check(name, Purpose::Events), Ok(Destination::Queue(name.to_owned())));
        }
    }

    #[test]
    fn every_other_queue_is_refused() {
        let long = format!("reply.alice.{}", "a".repeat(256));
        for name in [
            "",
            "reply.alice",
            "reply.alice.",
            "reply.bob.x",
            "reply.alic.e",
            "reply.alice2.x",
            "Reply.alice.x",
            "counterfoil.intake",
            "counterfoil.work.default",
            "amq.gen-",
            "amq.direct",
            "amq.rabbitmq.trace",
            "amq.rabbitmq.reply-to",
            "reply.alice.a\nb",
            "reply.alice.\u{7f}",
            &long,
        ] {
            let refused = check(name, Purpose::Answer).unwrap_err();
            assert_eq!(refused.code, Code::ReplyToNotAllowed, "{name:?}");
        }
    }

    #[test]
    fn direct_reply_to_takes_answers_of_a_strict_shape_and_never_events() {
        let node = b"rabbit@localhost";
        let mut pid = vec![131, 88, 119, node.len() as u8];
        pid.extend_from_slice(node);
        pid.extend_from_slice(&[0; 12]);
        let name =
            |pid: &[u8]| format!("{DIRECT}{}.{}", STANDARD.encode(pid), STANDARD.encode([7; 16]));
        assert!(matches!(check(&name(&pid), Purpose::Answer), Ok(Destination::Direct(_))));
        assert!(check(&name(&pid), Purpose::Events).is_err());
        for cut in 0..pid.len() {
            assert!(check(&name(&pid[..cut]), Purpose::Answer).is_err(), "cut at {cut}");
        }
        for junk in ["a.b", "", ".", "g2dkAA.b", "a", "AAAA.AAAA", "AAAA.AAAA.AAAA"] {
            assert!(check(&format!("{DIRECT}{junk}"), Purpose::Answer).is_err(), "{junk}");
        }
    }

    #[test]
    fn without_a_client_only_names_that_cannot_be_guessed_are_answered() {
        assert!(Destination::check(None, "amq.gen-abc", Purpose::Answer).is_ok());
        assert!(Destination::check(None, "reply.alice.x", Purpose::Answer).is_err());
    }
}
