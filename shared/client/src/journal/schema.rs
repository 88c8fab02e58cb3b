//! What stands in the file: its tables, and how an older file becomes a newer one.

use rusqlite::{Connection, TransactionBehavior, params};

use super::identity::Here;

/// Says whose file this is, in SQLite's header: "CFJ1".
pub(super) const APPLICATION_ID: i32 = 0x4346_4a31;
/// The version of the schema. Version 1 had the submissions and nothing else.
pub(super) const SCHEMA_VERSION: i32 = 2;
/// What an entry without a body takes in the file, beside its texts: the row and its keys in two
/// indexes.
const ENTRY_BYTES: u32 = 200;

const SUBMISSIONS: &str = "
    CREATE TABLE submissions (
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
    CREATE INDEX open_submissions ON submissions (client, journaled_at_ms)
        WHERE standing IN ('journaled', 'confirmed', 'accepted');
";

/// What came with version 2: identity and counters of the file, horizons, indexes for retention and
/// for reading in pages.
const SINCE_2: &str = "
    CREATE TABLE about (
        only_row        INTEGER PRIMARY KEY CHECK (only_row = 1),
        journal_id      TEXT NOT NULL,     -- a UUID, made with the file
        copied_from     TEXT,              -- the journal_id of the file that this one is a copy of
        machine         TEXT,              -- a hash of the machine's id; null: it has none
        place           TEXT,              -- the file's inode and birth; null: not known
        open_entries    INTEGER NOT NULL,  -- kept by the triggers, for whoever writes
        bytes           INTEGER NOT NULL
    );
    CREATE TABLE horizons (
        client          TEXT PRIMARY KEY,
        horizon_ms      INTEGER NOT NULL   -- as the last receipt said it
    ) WITHOUT ROWID;
    CREATE INDEX submissions_by_time ON submissions (client, journaled_at_ms);
    CREATE INDEX finished_submissions ON submissions (changed_at_ms)
        WHERE standing IN ('done', 'refused');
";

/// How many bytes a row counts.
fn size(row: &str) -> String {
    let texts = ["client", "job_id", "type", "options"]
        .map(|column| format!("length(CAST({row}.{column} AS BLOB))"))
        .join(" + ");
    format!("({ENTRY_BYTES} + {texts} + length({row}.body))")
}

fn is_open(row: &str) -> String {
    format!("({row}.standing IN ('journaled', 'confirmed', 'accepted'))")
}

/// Counts every change in its own transaction, so that a bound costs one row to look at, however
/// many processes write.
fn triggers() -> String {
    let (new, old) = (size("NEW"), size("OLD"));
    let (is_open, was_open) = (is_open("NEW"), is_open("OLD"));
    format!(
        "CREATE TRIGGER count_added AFTER INSERT ON submissions BEGIN
             UPDATE about SET open_entries = open_entries + {is_open}, bytes = bytes + {new};
         END;
         CREATE TRIGGER count_changed AFTER UPDATE ON submissions BEGIN
             UPDATE about SET open_entries = open_entries + {is_open} - {was_open},
                 bytes = bytes + {new} - {old};
         END;
         CREATE TRIGGER count_removed AFTER DELETE ON submissions BEGIN
             UPDATE about SET open_entries = open_entries - {was_open}, bytes = bytes - {old};
         END;"
    )
}

/// Whose file it is, its version, and how many tables and the like it has.
pub(super) fn header(connection: &Connection) -> rusqlite::Result<(i32, i32, i64)> {
    connection.query_row(
        "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema) \
         FROM pragma_application_id, pragma_user_version",
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )
}

/// Makes an empty file a journal, or an older journal one of this version, in one transaction. Does
/// nothing to a file that is one already.
pub(super) fn upgrade(connection: &mut Connection, here: &Here) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have done it in the meantime.
    let (_, version, _) = header(&transaction)?;
    if version == SCHEMA_VERSION {
        return Ok(());
    }
    if version == 0 {
        transaction.execute_batch(SUBMISSIONS)?;
    }
    transaction.execute_batch(SINCE_2)?;
    let count = format!(
        "INSERT INTO about (only_row, journal_id, machine, place, open_entries, bytes) \
         SELECT 1, ?1, ?2, ?3, coalesce(sum({}), 0), coalesce(sum({}), 0) FROM submissions AS s",
        is_open("s"),
        size("s"),
    );
    let id = uuid::Uuid::new_v4().to_string();
    transaction.execute(&count, params![id, here.machine, here.place])?;
    transaction.execute_batch(&triggers())?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()
}
