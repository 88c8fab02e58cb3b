//! Which file this is, so that a copy is known for one.
//!
//! A file is told by its inode and the instant of its birth: both stay when it is written, when a
//! container is made anew around its volume, and when a disk is moved; a copy has others. A disk
//! that was cloned whole is told by the machine. A container often has no machine id, and its host
//! name is another one at each start: then only the file speaks, for a false alarm at each start
//! would teach people to pass it over.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::UNIX_EPOCH;

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use sha2::{Digest as _, Sha256};

/// What is stored of the machine; its id itself is not for others to see
/// (<https://www.freedesktop.org/software/systemd/man/latest/machine-id.html>).
const MACHINE_SALT: &str = "counterfoil journal: ";

/// Where a file is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Here {
    /// `None`: the machine has no id.
    pub(super) machine: Option<String>,
    /// Inode and birth; `None`: the file cannot be looked at.
    pub(super) place: Option<String>,
}

impl Here {
    pub(super) fn of(path: &Path) -> Self {
        Self { machine: machine(), place: place(path) }
    }
}

/// A journal's identity.
///
/// A file that is opened elsewhere than it was made is a copy (a backup that was put back, a file
/// that was moved to another file system, a cloned disk). It is a journal like any other: one id is
/// one job, whichever journal it is sent from. It says once that it is one, in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// A UUID, made with the file; a copy gets its own when it is first written to.
    pub id: String,
    /// The identity of the file that this one was copied from.
    pub copied_from: Option<String>,
}

/// What the place and the machine say of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Same,
    /// Another file than the one that was made: a copy, a backup that was put back, a file that was
    /// moved to another file system.
    Copy,
    /// The same file by its inode, on another machine: a cloned or moved disk, or a shared one.
    OtherMachine,
}

impl Origin {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Same => "the file itself",
            Self::Copy => "a copy",
            Self::OtherMachine => "a file of another machine",
        }
    }
}

struct About {
    identity: Identity,
    stored: Here,
}

fn about(connection: &Connection) -> rusqlite::Result<Option<About>> {
    connection
        .query_row("SELECT journal_id, copied_from, machine, place FROM about", [], |row| {
            let identity = Identity { id: row.get(0)?, copied_from: row.get(1)? };
            Ok(About { identity, stored: Here { machine: row.get(2)?, place: row.get(3)? } })
        })
        .optional()
}

/// What a reader says of a file; it changes nothing.
pub(super) fn look(connection: &Connection, here: &Here) -> rusqlite::Result<Origin> {
    Ok(about(connection)?.map_or(Origin::Same, |about| compare(&about.stored, here)))
}

/// Makes a copy a journal of its own, so that it is said once.
pub(super) fn settle(
    connection: &mut Connection,
    here: &Here,
) -> rusqlite::Result<(Identity, Origin)> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let Some(About { mut identity, stored }) = about(&transaction)? else {
        return Err(rusqlite::Error::QueryReturnedNoRows);
    };
    let origin = compare(&stored, here);
    if origin != Origin::Same {
        let id = uuid::Uuid::new_v4().to_string();
        identity =
            Identity { copied_from: Some(std::mem::replace(&mut identity.id, id)), ..identity };
    }
    if stored != *here {
        transaction.execute(
            "UPDATE about SET journal_id = ?1, copied_from = ?2, \
             machine = coalesce(?3, machine), place = coalesce(?4, place)",
            params![identity.id, identity.copied_from, here.machine, here.place],
        )?;
        transaction.commit()?;
    }
    Ok((identity, origin))
}

/// What is not known on either side says nothing.
fn compare(stored: &Here, here: &Here) -> Origin {
    let differ = |a: &Option<String>, b: &Option<String>| a.is_some() && b.is_some() && a != b;
    let places = stored.place.as_deref().zip(here.place.as_deref());
    if places.is_some_and(|(stored, here)| !is_one_place(stored, here)) {
        Origin::Copy
    } else if differ(&stored.machine, &here.machine) {
        Origin::OtherMachine
    } else {
        Origin::Same
    }
}

/// The same inode, and the same birth if both file systems tell it.
fn is_one_place(a: &str, b: &str) -> bool {
    match (a.split_once('/'), b.split_once('/')) {
        (Some((inode_a, birth_a)), Some((inode_b, birth_b))) => {
            let untold = birth_a.is_empty() || birth_b.is_empty();
            inode_a == inode_b && (untold || birth_a == birth_b)
        }
        _ => a == b,
    }
}

/// Inode and birth of a file.
pub(super) fn place(path: &Path) -> Option<String> {
    let metadata = std::fs::metadata(path).ok()?;
    let birth = metadata.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let birth = birth.map(|since| since.as_nanos().to_string()).unwrap_or_default();
    Some(format!("{}/{birth}", metadata.ino()))
}

fn machine() -> Option<String> {
    let id = std::fs::read_to_string("/etc/machine-id").ok()?;
    let id = id.trim();
    // Empty in images, `uninitialized` during the first start.
    if id.len() != 32 {
        return None;
    }
    let hash = Sha256::digest(format!("{MACHINE_SALT}{id}"));
    Some(hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(machine: Option<&str>, place: Option<&str>) -> Here {
        Here { machine: machine.map(str::to_owned), place: place.map(str::to_owned) }
    }

    #[test]
    fn a_file_is_told_by_inode_and_birth_and_a_cloned_disk_by_its_machine() {
        let made = at(Some("m1"), Some("7/100"));
        assert_eq!(compare(&made, &made), Origin::Same);
        assert_eq!(compare(&made, &at(Some("m1"), Some("8/100"))), Origin::Copy);
        assert_eq!(compare(&made, &at(Some("m1"), Some("7/200"))), Origin::Copy);
        assert_eq!(compare(&made, &at(Some("m2"), Some("7/200"))), Origin::Copy);
        assert_eq!(compare(&made, &at(Some("m2"), Some("7/100"))), Origin::OtherMachine);
    }

    #[test]
    fn what_is_not_known_raises_no_alarm() {
        let made = at(Some("m1"), Some("7/100"));
        assert_eq!(compare(&made, &at(None, Some("7/100"))), Origin::Same);
        assert_eq!(compare(&made, &at(None, Some("7/"))), Origin::Same);
        assert_eq!(compare(&made, &at(None, None)), Origin::Same);
        assert_eq!(compare(&at(None, None), &made), Origin::Same);
    }
}
