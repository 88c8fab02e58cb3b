//! Reading the file: in pages, beside whoever writes, and where nothing may be written.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::{ToSql, Type};
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension as _, Row, params, params_from_iter,
};

use super::file::{beside, check, explain, failed, is_there};
use super::identity::{Here, Origin, look};
use super::{JournalEntry, Standing};
use crate::Error;

/// A place in the order of entries: by time, then by id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(i64, String);

/// Which entries.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Only these standings; all if none is named.
    pub standings: Vec<Standing>,
    /// Only what comes after this place.
    pub after: Option<Cursor>,
    /// Only what comes before this place, and the entry there.
    pub until: Option<Cursor>,
    /// At most so many.
    pub limit: usize,
    /// With their bodies; these are empty otherwise.
    pub bodies: bool,
}

impl Query {
    /// A page of so many entries, without bodies, from the first on.
    pub fn page(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }
}

impl JournalEntry {
    /// Its place in the order.
    pub fn cursor(&self) -> Cursor {
        Cursor(self.journaled_at_ms, self.job_id.clone())
    }
}

/// Reads one client's entries and changes nothing: of a file that is written at the same time, of
/// one that may only be read, and of an older version.
///
/// Every page is a look of its own, so that a long reading holds up nobody; an entry that is
/// removed in the meantime is passed over.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    path: PathBuf,
    client: String,
}

const COLUMNS: &str =
    "job_id, type, options, standing, ticket, outcome, journaled_at_ms, changed_at_ms";

impl Reader {
    /// Opens a client's journal for reading; `None` if there is no file yet. Says so in the log if
    /// the file is a copy.
    ///
    /// # Errors
    /// [`Error::Journal`] says what is wrong with the file, and what to do.
    pub fn open(path: &Path, client: &str) -> Result<Option<Self>, Error> {
        if !is_there(path)? {
            return Ok(None);
        }
        let (connection, version) = connect(path)?;
        if version >= 2 {
            let origin = look(&connection, &Here::of(path)).map_err(|e| explain(path, &e))?;
            if origin != Origin::Same {
                let (path, is) = (path.display(), origin.as_str());
                tracing::warn!(%path, is, "this journal is not where it was made");
            }
        }
        Ok(Some(Self { connection, path: path.to_owned(), client: client.to_owned() }))
    }

    /// Entries, oldest first.
    ///
    /// # Errors
    /// [`Error::Journal`] if the file cannot be read.
    pub fn page(&self, query: &Query) -> Result<Vec<JournalEntry>, Error> {
        self.read(query, "").map_err(|error| explain(&self.path, &error))
    }

    /// The place of the newest entry.
    ///
    /// # Errors
    /// [`Error::Journal`] if the file cannot be read.
    pub fn last(&self, standings: &[Standing]) -> Result<Option<Cursor>, Error> {
        let query = Query { standings: standings.to_vec(), ..Query::page(1) };
        let newest = self.read(&query, "DESC").map_err(|error| explain(&self.path, &error))?;
        Ok(newest.first().map(JournalEntry::cursor))
    }

    /// One entry, with its body.
    ///
    /// # Errors
    /// [`Error::Journal`] if the file cannot be read.
    pub fn entry(&self, job_id: &str) -> Result<Option<JournalEntry>, Error> {
        let select =
            format!("SELECT {COLUMNS}, body FROM submissions WHERE client = ?1 AND job_id = ?2");
        self.connection
            .query_row(&select, params![self.client, job_id], entry)
            .optional()
            .map_err(|error| explain(&self.path, &error))
    }

    fn read(&self, query: &Query, order: &str) -> rusqlite::Result<Vec<JournalEntry>> {
        let body = if query.bodies { "body" } else { "x''" };
        let mut select = format!("SELECT {COLUMNS}, {body} FROM submissions WHERE client = ?");
        let mut values: Vec<&dyn ToSql> = vec![&self.client];
        if !query.standings.is_empty() {
            let words: Vec<&str> = query.standings.iter().map(|one| one.as_str()).collect();
            // As text, so that SQLite sees that an index of these standings will do.
            select.push_str(&format!(" AND standing IN ('{}')", words.join("', '")));
        }
        for (cursor, sign) in [(&query.after, ">"), (&query.until, "<=")] {
            if let Some(Cursor(at, id)) = cursor {
                select.push_str(&format!(" AND (journaled_at_ms, job_id) {sign} (?, ?)"));
                values.extend([at as &dyn ToSql, id]);
            }
        }
        let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
        select.push_str(&format!(" ORDER BY journaled_at_ms {order}, job_id {order} LIMIT ?"));
        values.push(&limit);
        let mut statement = self.connection.prepare_cached(&select)?;
        statement.query_map(params_from_iter(values), entry)?.collect()
    }
}

fn entry(row: &Row<'_>) -> rusqlite::Result<JournalEntry> {
    let options: String = row.get(2)?;
    let standing: String = row.get(3)?;
    let unreadable =
        |column, error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error);
    let known = Standing::ALL.iter().copied().find(|known| known.as_str() == standing);
    Ok(JournalEntry {
        job_id: row.get(0)?,
        job_type: row.get(1)?,
        options: serde_json::from_str(&options).map_err(|error| unreadable(2, error.into()))?,
        standing: known.ok_or_else(|| unreadable(3, standing.into()))?,
        ticket: row.get(4)?,
        outcome: row.get(5)?,
        journaled_at_ms: row.get(6)?,
        changed_at_ms: row.get(7)?,
        body: row.get(8)?,
    })
}

fn connect(path: &Path) -> Result<(Connection, i32), Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags);
    let connection = connection.map_err(|error| explain(path, &error))?;
    connection.busy_timeout(Duration::from_secs(10)).map_err(|error| explain(path, &error))?;
    let first = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
    let no_index = first.as_ref().is_err_and(|error| {
        matches!(
            error.sqlite_error_code(),
            Some(
                ErrorCode::CannotOpen
                    | ErrorCode::ReadOnly
                    | ErrorCode::PermissionDenied
                    | ErrorCode::SystemIoFailure
            )
        )
    });
    if !no_index {
        let version = check(path, &connection)?;
        return Ok((connection, version));
    }
    // Where nothing can be made beside the file (no right, no room), nobody writes to it; without a
    // log the file is all there is.
    let log = beside(path, "-wal");
    if std::fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
        let log = log.display();
        let message = format!(
            "nothing can be written to its directory, and {log} has to be worked in first: copy \
             both files to a directory where you may write, and read them there"
        );
        return Err(failed(path, message));
    }
    let path_as_uri = format!("file:{}?immutable=1", escaped(path));
    let connection = Connection::open_with_flags(path_as_uri, flags | OpenFlags::SQLITE_OPEN_URI);
    let connection = connection.map_err(|error| explain(path, &error))?;
    let version = check(path, &connection)?;
    Ok((connection, version))
}

/// A path as a URI has it (<https://www.sqlite.org/uri.html>).
fn escaped(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    let escape = |byte: u8| {
        if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    bytes.iter().copied().map(escape).collect()
}
