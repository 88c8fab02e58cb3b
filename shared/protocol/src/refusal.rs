//! What is answered when something is not done: stable codes, each with a sentence and an advice.

use std::fmt;

macro_rules! codes {
    ($(
        $(#[$doc:meta])*
        $variant:ident = $word:literal, retryable: $retryable:literal, $action:literal;
    )*) => {
        /// Why something was refused. The list is closed for version 1.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $variant,)* }

        impl Code {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The public word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// Whether the same message may be accepted later.
            pub const fn is_retryable(self) -> bool {
                match self { $(Self::$variant => $retryable,)* }
            }

            /// What the sender does about it.
            pub const fn action(self) -> &'static str {
                match self { $(Self::$variant => $action,)* }
            }
        }
    };
}

codes! {
    /// No user that the broker has verified, or a name outside the alphabet.
    InvalidClient = "invalid_client", retryable: false,
        "Set the user_id property to the name of the AMQP user of your connection.";
    /// A job id or ticket outside its alphabet, or none.
    InvalidId = "invalid_id", retryable: false,
        "Set message_id to 1 to 128 characters of A-Z a-z 0-9 . _ : @ -, beginning with a letter or a digit.";
    /// A routing key that is no type.
    InvalidType = "invalid_type", retryable: false,
        "Publish with a type as routing key: words of a-z 0-9 _ - joined by dots, at most 100 bytes.";
    /// A header or property of the wrong form.
    BadHeader = "bad_header", retryable: false,
        "Mend the header or property that the message names and send again with the same id.";
    /// A request whose body cannot be understood.
    BadRequest = "bad_request", retryable: false,
        "Send a JSON object as the protocol describes it for this request.";
    /// A request that does not exist.
    UnknownRequest = "unknown_request", retryable: false,
        "Publish with one of the documented requests as routing key.";
    /// A `job-protocol` that this server does not speak.
    UnknownVersion = "unknown_version", retryable: false,
        "Use protocol version 1, or leave the header out.";
    /// A body above the limit.
    PayloadTooLarge = "payload_too_large", retryable: false,
        "Store the data elsewhere and send a reference to it.";
    /// A reply queue that this client may not name.
    ReplyToNotAllowed = "reply_to_not_allowed", retryable: false,
        "Name a queue reply.<client>.…, a server-named queue, or direct reply-to where it is allowed.";
    /// The id is another job's already.
    IdConflict = "id_conflict", retryable: false,
        "Use a new id for a new job; ask for the status of this id to see the first one.";
    /// A job id and a ticket that name different jobs.
    IdMismatch = "id_mismatch", retryable: false,
        "Ask with either identifier, or with the two of one job.";
    /// The id was made unusable before the submission arrived.
    Voided = "voided", retryable: false,
        "This id will never be accepted; submit again under a new id if the job is still wanted.";
    /// The id was a job's whose record has been retired, or the submission is older than the horizon.
    Forgotten = "forgotten", retryable: false,
        "The job was, or may have been, done once; submit under a new id if it is wanted again.";
    /// The client has too much in the system.
    Quota = "quota", retryable: true,
        "Send again later.";
    /// This client may not do that, or not where the job is now.
    NotPermitted = "not_permitted", retryable: false,
        "Do what the message says first, or ask the operator for the right.";
    /// A report without a valid token or outcome.
    BadReport = "bad_report", retryable: false,
        "Report with the token that the handler received when it handed over.";
    /// The store cannot be asked or written now.
    Unavailable = "unavailable", retryable: true,
        "Ask again after retry_after_ms.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A code with a sentence that says what was wrong with this very message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The code.
    pub code: Code,
    /// A sentence for a person.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closed_list_of_version_1_is_whole() {
        let words: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(
            words.join(" "),
            "invalid_client invalid_id invalid_type bad_header bad_request unknown_request \
             unknown_version payload_too_large reply_to_not_allowed id_conflict id_mismatch voided \
             forgotten quota not_permitted bad_report unavailable"
        );
    }
}
