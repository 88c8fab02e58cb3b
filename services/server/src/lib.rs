//! The server's roles.
//!
//! In reading order: what they share for one [`session`] of connections ([`links`], [`courier`]
//! with [`outgoing`], [`dispatch`], [`hand`], [`answers`], [`asked`], [`cancel`], [`served`]), and
//! then the roles: [`registrar`] (with [`line`]), [`inquiry`], [`notifier`], [`scheduler`],
//! [`dropped`], which reads what the broker drops, and [`salvaged`], which takes off what cannot be
//! read.
//!
//! No role holds state of its own: what must survive is in the store, what is under way is
//! unacknowledged at the broker, and any of them may be killed at any line.

pub mod session;

pub(crate) mod links;

pub(crate) mod answers;
pub(crate) mod asked;
pub(crate) mod cancel;
pub(crate) mod courier;
pub(crate) mod dispatch;
pub(crate) mod hand;
pub(crate) mod outgoing;
pub(crate) mod served;

pub(crate) mod dropped;
pub(crate) mod inquiry;
pub(crate) mod line;
pub(crate) mod notifier;
pub(crate) mod registrar;
pub(crate) mod salvaged;
pub(crate) mod scheduler;

mod error;
mod settings;

pub use error::Error;
pub use session::{Server, run};
pub use settings::{Keep, Role, Settings};
