//! What every decoder must withstand: any bytes at all, without a panic; and what it reads, it
//! writes so that it reads the same again.
//!
//! A target is a function of bytes. The tests give each its corpus, and some thousand mutations of
//! it; `libfuzzer/` builds each as a libFuzzer binary for as long as one likes. What such a run
//! finds is added to the corpus, made small, under a name that says what it is.

pub mod batches;
pub mod frames;
pub mod messages;
pub mod mutate;
pub mod names;
pub mod records;
pub mod settings_files;

mod journals;

pub use journals::{journal_file, journal_row};
pub(crate) use records::Error;

/// A target: its name, which is that of its corpus and of its libFuzzer binary; and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("answer", messages::answer),
    ("batch", batches::batch),
    ("forwarded", messages::forwarded),
    ("frames", frames::frames),
    ("identifiers", names::identifiers),
    ("journal_file", journal_file),
    ("journal_row", journal_row),
    ("record", records::record),
    ("reply", records::reply),
    ("reply_to", names::reply_to),
    ("request", messages::request),
    ("settings_file", settings_files::settings_file),
    ("submission", messages::submission),
    ("submissions", batches::submissions),
    ("subscription", names::subscription),
    ("ticket", names::ticket),
    ("time", names::time),
    ("work", messages::work),
];
