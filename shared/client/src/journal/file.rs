//! The file: how it is made, opened for writing, and what is said of one that is no journal.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use faults::{Bug, is_seeded};
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags};

use super::identity::Here;
use super::schema::{self, APPLICATION_ID, SCHEMA_VERSION};
use crate::Error;

/// How long another process may hold the file.
const BUSY: Duration = Duration::from_secs(10);
/// What stays of the log after it was worked in, so that one large submission does not keep its
/// room for ever.
const WAL_KEEPS: i64 = 64 << 20;

pub(super) fn failed(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::Journal { path: path.display().to_string(), message: error.to_string() }
}

/// What SQLite says, and what to do about it.
pub(super) fn explain(path: &Path, error: &rusqlite::Error) -> Error {
    let Some(code) = error.sqlite_error_code() else { return failed(path, error) };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let what = match code {
        ErrorCode::DiskFull => "the disk is full: make room and try again; it needs no repair",
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
            "another process has held it for 10 s: try again"
        }
        ErrorCode::NotADatabase => {
            "this is no journal, and was not changed: name another file in client.journal"
        }
        ErrorCode::DatabaseCorrupt => {
            return failed(
                path,
                format!(
                    "it is truncated or damaged ({error}). Keep it and {name}-wal: `sqlite3 \
                     {name} .dump` prints what can be read. Put a whole copy in its place, or \
                     move both away and a new journal is made"
                ),
            );
        }
        ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied => {
            return not_writable(path, "it cannot be opened or made");
        }
        ErrorCode::SystemIoFailure => {
            return failed(
                path,
                format!("it cannot be read or written ({error}): is the disk full, or failing?"),
            );
        }
        _ => return failed(path, error),
    };
    failed(path, what)
}

fn not_writable(path: &Path, why: &str) -> Error {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let message = format!(
        "{why}: this user must be allowed to write {name}, {name}-wal, {name}-shm and their \
         directory; or name another file in client.journal"
    );
    failed(path, message)
}

/// A file beside the journal, e.g. its log.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// Opens the file for writing; makes it if there is none, and brings an older one to this version.
pub(super) fn open(path: &Path) -> Result<Connection, Error> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(|error| {
            failed(path, format!("its directory {} cannot be made: {error}", folder.display()))
        })?;
    }
    if !is_there(path)? {
        make(path)?;
    }
    let said = |error: rusqlite::Error| explain(path, &error);
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(said)?;
    let version = check(path, &connection)?;
    // SQLite opens for reading what it may not write, and says so at the first write.
    if connection.is_readonly(MAIN_DB).map_err(said)? {
        return Err(not_writable(path, "it can only be read"));
    }
    let prepared = prepare(&connection).and_then(|()| {
        if version < SCHEMA_VERSION {
            schema::upgrade(&mut connection, &Here::of(path))?;
            tracing::info!(path = %path.display(), version, "the journal has a newer version now");
        }
        Ok(())
    });
    prepared.map_err(said)?;
    Ok(connection)
}

/// Whether there is a file that can be a journal.
pub(super) fn is_there(path: &Path) -> Result<bool, Error> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(path, error)),
    };
    if metadata.is_dir() {
        return Err(failed(path, "this is a directory: name a file in client.journal"));
    }
    if !metadata.is_file() {
        return Err(failed(path, "this is not an ordinary file: name another in client.journal"));
    }
    if metadata.len() == 0 {
        // A journal is never empty: it is made under another name. Beginning anew would hide that
        // everything in it is lost.
        let message = "it is empty, so it has been truncated or is none: put a copy in its place, \
                       or remove it and a new journal is made";
        return Err(failed(path, message));
    }
    Ok(true)
}

/// Checks that a file is a journal, before anything is changed; says which version it has.
pub(super) fn check(path: &Path, connection: &Connection) -> Result<i32, Error> {
    let (application, version, tables) =
        schema::header(connection).map_err(|error| explain(path, &error))?;
    match (application, version) {
        (APPLICATION_ID, 1..=SCHEMA_VERSION) => Ok(version),
        (APPLICATION_ID, _) => Err(failed(
            path,
            format!(
                "it has version {version}, this program writes {SCHEMA_VERSION}; use the program \
                 that made it"
            ),
        )),
        // The file system knows no second names, and the file is being made under its own.
        (0, 0) if tables == 0 => Ok(0),
        _ => Err(failed(
            path,
            "this is a database of another program, and was not changed; name another file in \
             client.journal",
        )),
    }
}

fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

/// A commit returns when it is on disk, also on a system whose `fsync` leaves it in the disk's
/// memory.
fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    let synchronous = if is_seeded(Bug::NoSync) { "OFF" } else { "FULL" };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "fullfsync", true)?;
    connection.query_row(&format!("PRAGMA journal_size_limit = {WAL_KEEPS}"), [], |_| Ok(()))
}

/// Makes the file whole under another name and gives it its own in one step, so that a crash leaves
/// no half of one, and two processes make one.
fn make(path: &Path) -> Result<(), Error> {
    let log = beside(path, "-wal");
    // Looked at in this order: whoever made the file in the meantime made it before its log.
    let holds_some = fs::metadata(&log).is_ok_and(|log| log.len() > 0);
    if holds_some && !path.exists() {
        let log = log.display();
        let message = format!(
            "it is gone, and {log} of it is left, which may hold submissions: put the file back, \
             or move {log} away and a new journal is made"
        );
        return Err(failed(path, message));
    }
    let new = beside(path, &format!(".new-{}", uuid::Uuid::new_v4().simple()));
    let linked = make_as(&new, path).and_then(|()| link(&new, path));
    for suffix in ["", "-wal", "-shm"] {
        // Usually only the first is there.
        fs::remove_file(beside(&new, suffix)).ok();
    }
    if !linked? {
        make_as(path, path)?;
    }
    sync_folder(path)
}

/// Makes a journal under a name; what goes wrong is said of the file that is wanted.
fn make_as(new: &Path, path: &Path) -> Result<(), Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let said = |error: rusqlite::Error| explain(path, &error);
    let mut connection = connect(new, flags).map_err(said)?;
    prepare(&connection)
        .and_then(|()| schema::upgrade(&mut connection, &Here::of(new)))
        .map_err(said)?;
    // Works the log into the file.
    connection.close().map_err(|(_, error)| said(error))?;
    fs::File::open(new).and_then(|file| file.sync_all()).map_err(|error| failed(path, error))
}

/// Gives a file its own name, unless another process was first. `false`: this file system has no
/// second names (FAT, some network file systems).
fn link(new: &Path, path: &Path) -> Result<bool, Error> {
    match fs::hard_link(new, path) {
        Ok(()) => Ok(true),
        Err(error) => match error.kind() {
            ErrorKind::AlreadyExists => Ok(true),
            ErrorKind::Unsupported | ErrorKind::PermissionDenied => Ok(false),
            _ => Err(failed(path, error)),
        },
    }
}

/// A file whose folder is not synced may be gone after a crash, however often it was synced itself.
fn sync_folder(path: &Path) -> Result<(), Error> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    fs::File::open(folder.unwrap_or(Path::new(".")))
        .and_then(|folder| folder.sync_all())
        .map_err(|error| failed(path, error))
}
