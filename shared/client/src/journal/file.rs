//! The file: its schema, how it is opened, how it is read.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, params_from_iter};

use super::{JournalEntry, Standing};
use crate::Error;

/// Says whose file this is, in SQLite's header: "CFJ1".
const APPLICATION_ID: i32 = 0x4346_4a31;
/// The version of the schema.
const SCHEMA_VERSION: i32 = 1;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS submissions (
        client          TEXT NOT NULL,
        job_id          TEXT NOT NULL,
        type            TEXT NOT NULL,
        options         TEXT NOT NULL,     -- JSON: content type and headers
        body            BLOB NOT NULL,     -- emptied when the job is done
        standing        TEXT NOT NULL,     -- journaled, confirmed, accepted, done, refused
        ticket          TEXT,
        outcome         TEXT,              -- last state, or code of a refusal
        journaled_at_ms INTEGER NOT NULL,
        changed_at_ms   INTEGER NOT NULL,
        PRIMARY KEY (client, job_id)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS open_submissions ON submissions (client, journaled_at_ms)
        WHERE standing IN ('journaled', 'confirmed', 'accepted');
";

pub(super) fn failed(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::Journal { path: path.display().to_string(), message: error.to_string() }
}

/// Opens the file and checks that it is a journal of this version.
pub(super) fn open(path: &Path) -> Result<Connection, Error> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| failed(path, error))?;
    }
    let fresh = !path.exists();
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(|error| failed(path, error))?;
    prepare(&connection, fresh).map_err(|error| failed(path, error))?;
    let (application, version): (i32, i32) = connection
        .query_row("SELECT * FROM pragma_application_id, pragma_user_version", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .map_err(|error| failed(path, error))?;
    if application != APPLICATION_ID {
        return Err(failed(path, "this is a database of another program; name another file"));
    }
    if version != SCHEMA_VERSION {
        let message = format!(
            "it has version {version}, this program writes {SCHEMA_VERSION}; use the program that \
             made it"
        );
        return Err(failed(path, message));
    }
    if fresh {
        sync_folder(path)?;
    }
    Ok(connection)
}

fn prepare(connection: &Connection, fresh: bool) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let version: i32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let application: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let tables: i32 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0))?;
    // Two processes may make the file at once; each statement of theirs may be run twice.
    if fresh || (version, application, tables) == (0, 0, 0) {
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {SCHEMA} PRAGMA application_id = {APPLICATION_ID}; \
             PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        ))?;
    }
    Ok(())
}

/// A file whose folder is not synced may be gone after a crash, however often it was synced itself.
fn sync_folder(path: &Path) -> Result<(), Error> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    std::fs::File::open(folder.unwrap_or(Path::new(".")))
        .and_then(|folder| folder.sync_all())
        .map_err(|error| failed(path, error))
}

pub(super) fn entries(
    connection: &Connection,
    client: &str,
    standings: &[Standing],
) -> rusqlite::Result<Vec<JournalEntry>> {
    let wanted = if standings.is_empty() { Standing::ALL } else { standings };
    let marks = vec!["?"; wanted.len()].join(",");
    let mut statement = connection.prepare(&format!(
        "SELECT job_id, type, options, body, standing, ticket, outcome, journaled_at_ms \
         FROM submissions WHERE client = ? AND standing IN ({marks}) ORDER BY journaled_at_ms"
    ))?;
    let words = std::iter::once(client).chain(wanted.iter().map(|standing| standing.as_str()));
    let rows = statement.query_map(params_from_iter(words), |row| {
        let options: String = row.get(2)?;
        let standing: String = row.get(4)?;
        Ok(JournalEntry {
            job_id: row.get(0)?,
            job_type: row.get(1)?,
            options: serde_json::from_str(&options).map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(
                    2,
                    rusqlite::types::Type::Text,
                    Box::new(error),
                )
            })?,
            body: row.get(3)?,
            standing: Standing::ALL
                .iter()
                .copied()
                .find(|known| known.as_str() == standing)
                .unwrap_or(Standing::Journaled),
            ticket: row.get(5)?,
            outcome: row.get(6)?,
            journaled_at_ms: row.get(7)?,
        })
    })?;
    rows.collect()
}
