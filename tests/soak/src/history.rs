//! What each process saw, one line of JSON an entry, written at once: a process that is killed
//! leaves everything that it has seen.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::handlers::Task;

/// A point in time: microseconds since 1970 by this machine's clock, which all processes share.
pub type Micros = u64;

/// Now.
pub fn now() -> Micros {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}

/// One thing that was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub at: Micros,
    /// Who: the process's id.
    pub pid: u32,
    /// What.
    #[serde(flatten)]
    pub seen: Seen,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "seen", rename_all = "snake_case")]
pub enum Seen {
    /// `submit` has returned: identifier and job are on disk.
    Journaled {
        /// The job.
        id: String,
        /// What it is to do.
        task: Task,
    },
    /// `submit` has failed: nothing is on disk, and the caller knows.
    NotJournaled {
        /// How many jobs.
        count: u64,
    },
    /// A producer without a journal: the broker has confirmed it.
    Confirmed {
        /// The job.
        id: String,
        /// What it is to do.
        task: Task,
    },
    /// The broker has confirmed what is journaled.
    Sent {
        /// The job.
        id: String,
    },
    /// It is about to be asked to stop.
    CancelAsked {
        /// The job.
        id: String,
    },
    /// The same submission is published once more.
    Repeated {
        /// The job.
        id: String,
        /// Because its confirm was lost, not on purpose.
        is_lost: bool,
    },
    /// An answer, of whatever kind, to whatever was asked or sent.
    Told {
        /// `receipt`, `refusal`, `status`, `event`.
        kind: String,
        /// When the question was sent, for an answer to one.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        asked: Option<Micros>,
        /// By which ticket, if it was asked by one.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        ticket: Option<String>,
        /// The AMQP `message_id`, of an event.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        message_id: Option<String>,
        /// Its body.
        answer: serde_json::Value,
    },
    /// A question had no answer in time.
    Unanswered {
        /// When it was sent.
        asked: Micros,
    },
    /// A handler has begun.
    Began {
        /// The job: `<client>:<id>`.
        job: String,
        /// Which attempt.
        attempt: u32,
        /// Its fence.
        fence: String,
    },
    /// A handler has returned.
    Ended {
        /// The job.
        job: String,
        /// Its fence.
        fence: String,
    },
    /// A handler was told that another attempt has taken over, or was cut off.
    CutOff {
        /// The job.
        job: String,
        /// Its fence.
        fence: String,
    },
}

/// A file of entries.
#[derive(Debug, Clone)]
pub struct Log(Arc<File>);

impl Log {
    /// Opens it for appending.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        Ok(Self(Arc::new(OpenOptions::new().create(true).append(true).open(path)?)))
    }

    /// Writes one entry. A full disk would make the run worthless, so it ends.
    pub fn write(&self, seen: Seen) {
        let entry = Entry { at: now(), pid: std::process::id(), seen };
        let mut line = serde_json::to_vec(&entry).unwrap_or_default();
        line.push(b'\n');
        if let Err(error) = (&*self.0).write_all(&line) {
            tracing::error!(%error, "the history");
            std::process::exit(70);
        }
    }
}

/// Reads a file of entries; the last line of a killed process may be cut short.
///
/// # Errors
/// The file cannot be read, or a line in its middle is none.
pub fn read(path: &Path) -> anyhow::Result<Vec<Entry>> {
    let text = std::fs::read_to_string(path)?;
    let mut entries = Vec::new();
    for (number, line) in text.lines().enumerate() {
        match serde_json::from_str(line) {
            Ok(entry) => entries.push(entry),
            Err(error) => anyhow::bail!("{}:{}: {error}", path.display(), number + 1),
        }
    }
    Ok(entries)
}

/// How much of the end of a history is looked at: many more entries than a process has slots.
const TAIL: u64 = 32 * 1024;
/// What a client writes in some seconds, and more.
const LONG_TAIL: u64 = 1024 * 1024;

/// Whether a handler runs in a process that began after an instant, by the end of its history.
///
/// # Errors
/// The file cannot be read.
pub fn is_at_work(path: &Path, pid: u32, since: Micros) -> std::io::Result<bool> {
    let mut running = HashSet::new();
    for entry in tail(path, TAIL)? {
        match entry.seen {
            Seen::Began { fence, .. } if entry.pid == pid && entry.at >= since => {
                running.insert(fence);
            }
            Seen::Ended { fence, .. } | Seen::CutOff { fence, .. } => {
                running.remove(&fence);
            }
            _ => {}
        }
    }
    Ok(!running.is_empty())
}

/// Whether a call of `submit` has failed in a process since an instant, a few seconds ago.
///
/// # Errors
/// The file cannot be read.
pub fn has_failed_to_submit(path: &Path, pid: u32, since: Micros) -> std::io::Result<bool> {
    let failed = |entry: Entry| {
        matches!(entry.seen, Seen::NotJournaled { .. }) && entry.pid == pid && entry.at >= since
    };
    Ok(tail(path, LONG_TAIL)?.into_iter().any(failed))
}

/// The entries in so many bytes at the end of a history.
fn tail(path: &Path, bytes: u64) -> std::io::Result<Vec<Entry>> {
    let mut file = File::open(path)?;
    let from = file.metadata()?.len().saturating_sub(bytes);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    // The first and the last line may be cut.
    let entries =
        tail.split(|byte| *byte == b'\n').filter_map(|it| serde_json::from_slice(it).ok());
    Ok(entries.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_at_work_between_the_beginning_and_the_end_of_a_run_of_its_own()
    -> anyhow::Result<()> {
        let name = format!("counterfoil-soak-{}.history", std::process::id());
        let path = std::env::temp_dir().join(name);
        let log = Log::open(&path)?;
        let (job, fence) = ("shop:A-1".to_owned(), "1-a".to_owned());
        let me = std::process::id();
        assert!(!is_at_work(&path, me, 0)?);
        log.write(Seen::Began { job: job.clone(), attempt: 1, fence: fence.clone() });
        assert!(is_at_work(&path, me, 0)?);
        assert!(!is_at_work(&path, me + 1, 0)?);
        assert!(!is_at_work(&path, me, now() + 1)?);
        log.write(Seen::Ended { job, fence });
        assert!(!is_at_work(&path, me, 0)?);
        std::fs::remove_file(path)?;
        Ok(())
    }
}
