//! What a test stands on: private nodes, shared by all tests of a run; a virtual host and a key
//! prefix for each test; a raw AMQP client; the program as real processes.

mod process;
mod raw;
mod wait;
mod world;

pub use process::{Lines, Process, binary, workspace};
pub use raw::{Inbox, Message, Raw};
pub use wait::{DEADLINE, eventually, within};
pub use world::{Settings, World, start};
