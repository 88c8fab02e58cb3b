//! What travels over AMQP, in both directions: `docs/PROTOCOL.md` in types.
//!
//! In reading order: a message's properties ([`properties`], [`headers`], [`time`]), what a client
//! sends ([`submission`], [`request`]), where an answer may go ([`reply_to`]), what the server
//! answers ([`answer`], [`refusal`]), and what the server sends itself ([`forwarded`], [`work`],
//! [`bundle`]).
//!
//! Fields that are not known are passed over in JSON bodies; unknown `job-*` headers are listed in
//! the receipt. Nothing here knows a broker or a store.

pub mod headers;
pub mod properties;
pub mod time;

pub mod request;
pub mod submission;

pub mod reply_to;

pub mod answer;
pub mod batch;
pub mod refusal;

pub mod bundle;
pub mod forwarded;
pub mod work;

pub use answer::{Answer, AnswerWord, HistoryEntry, Kind};
pub use batch::{Batch, Submissions};
pub use forwarded::Forwarded;
pub use properties::{HeaderValue, Headers, Properties};
pub use refusal::{Code, Refusal};
pub use reply_to::Destination;
pub use request::{Ask, Rejected, Request, Subject, Verb, What};
pub use submission::{Limits, Submission};
pub use time::UnixMillis;
pub use work::WorkMessage;

/// The protocol's version, in every message from the server and, if a client likes, in its own.
pub const VERSION: u32 = 1;
