//! The client's side: an identifier on disk before the first byte is sent.
//!
//! ```no_run
//! use counterfoil_client::{Client, Settings, Submission};
//!
//! # async fn example(settings: Settings) -> Result<(), counterfoil_client::Error> {
//! let client = Client::open(settings)?;
//! let order = Submission::new("order.place", r#"{"sku":"A1","qty":2}"#).notify("terminal");
//! let submitted = client.submit(order).await?; // on disk; it is sent until a receipt arrives
//! let receipt = submitted.accepted().await?; // recorded by the server
//! println!("{} {}", submitted.job_id(), receipt.ticket.unwrap_or_default());
//! let status = client.status(submitted.job_id()).await?; // any time, from any process
//! # Ok(()) }
//! ```
//!
//! In reading order: what is submitted ([`Submission`]), where it is kept ([`Journal`]), how it is
//! sent ([`Client`]), and how it is asked for ([`ask`], [`recover`](Client::recover)).

pub mod ask;

pub mod journal;

mod client;
mod inbox;
mod link;
mod open;
mod origin;
mod outgoing;
mod recover;
mod submission;
mod wait;

mod error;
mod settings;

pub use client::{Client, Submitted};
pub use error::Error;
pub use journal::{Identity, Journal, JournalEntry, Reader, Standing};
pub use origin::find as find_origin;
pub use recover::Recovered;
pub use settings::{ClientSettings, Settings};
pub use submission::Submission;

pub use protocol::answer::Notifications;
pub use protocol::{Answer, AnswerWord, HistoryEntry};
