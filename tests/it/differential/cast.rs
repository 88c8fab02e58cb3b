//! The few jobs, clients, words and numbers that sequences are about.

use job::{ClientName, Digest, JobId, JobType};
use store::JobName;

use super::operation::Name;

pub(super) const NAMES: usize = 5;
pub(super) const LONG_MS: u64 = 3_600_000;
pub(super) const SECRET: &str = "a secret of the test";
/// Few, so that a client's outbox is soon full.
pub(super) const OUTBOX_MAX: u64 = 4;

pub(super) fn client(number: usize) -> ClientName {
    ClientName::parse(["shop", "till"][number]).unwrap()
}

/// Two clients share an identifier, and a client's replay is a job too.
pub(super) fn name(number: Name) -> JobName {
    let (of, id) = [(0, "A"), (0, "A~2"), (0, "B"), (1, "A"), (0, "a-1")][number];
    JobName { client: client(of), job_id: JobId::parse_recorded(id).unwrap() }
}

/// A body has its type, so that another body is also another job.
pub(super) fn job_type(body: u8) -> JobType {
    JobType::parse(["demo.a", "demo.b"][usize::from(body)]).unwrap()
}

pub(super) fn digest(body: u8) -> Digest {
    Digest::over(&[("body", Some(&[body]))])
}

/// The hash of one of the report tokens.
pub(super) fn token(number: u8) -> String {
    format!("hash-{number}")
}

pub(super) const EVERYTHING: &str = "scheduled,parked,queued,running,handed_over,retrying,\
     succeeded,failed,cancelled,expired,stage,progress";
pub(super) const ENDS: &str = "succeeded,failed,cancelled,expired";
pub(super) const REPORTS: &str = "running,stage,progress";
