//! The client's journal: a file that somebody has written over, and a row of it.

use client::Reader;
use client::journal::Query;
use rusqlite::{Connection, params};

use crate::settings_files::scratch;

/// Any file is read, or what is wrong with it is said.
pub fn journal_file(data: &[u8]) {
    let path = scratch("journal.db");
    if std::fs::write(&path, data).is_err() {
        return;
    }
    match Reader::open(&path, "shop") {
        Ok(Some(reader)) => {
            drop((reader.page(&Query::page(10)), reader.last(&[]), reader.entry("A-1")));
        }
        Ok(None) => panic!("there is a file"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    for left in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.clone().into_os_string();
        name.push(left);
        std::fs::remove_file(name).ok();
    }
}

/// Any texts in a row are an entry, or the row is said to be none. Four lines: id, type, standing,
/// options; then the body.
pub fn journal_row(data: &[u8]) {
    let path = scratch("rows.db");
    let mut parts = data.splitn(5, |byte| *byte == b'\n');
    let mut text = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let (id, job_type, standing, options) = (text(), text(), text(), text());
    let body = parts.next().unwrap_or_default();
    if let Err(error) = write(&path, [&id, &job_type, &standing, &options], body) {
        panic!("{error}");
    }
    let Ok(Some(reader)) = Reader::open(&path, "shop") else { panic!("it is a journal") };
    match reader.page(&Query { bodies: true, ..Query::page(10) }) {
        Ok(entries) => {
            let [entry] = &entries[..] else { panic!("there is one row: {entries:?}") };
            assert_eq!((&entry.job_id, &entry.job_type, &entry.body[..]), (&id, &job_type, body));
            assert_eq!(entry.standing.as_str(), standing);
            let text = serde_json::from_str::<serde_json::Value>(&options);
            assert!(text.is_ok_and(|json| json.is_object() || json.is_array()));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A journal of version 1: one table, which a reader takes as it is.
fn write(path: &std::path::Path, texts: [&str; 4], body: &[u8]) -> rusqlite::Result<()> {
    let is_new = !path.exists();
    let file = Connection::open(path)?;
    if is_new {
        file.execute_batch(include_str!("../journal-1.sql"))?;
    }
    let [id, job_type, standing, options] = texts;
    file.execute("DELETE FROM submissions", [])?;
    file.execute(
        "INSERT INTO submissions (client, job_id, type, standing, options, body, journaled_at_ms, \
         changed_at_ms) VALUES ('shop', ?1, ?2, ?3, ?4, ?5, 1, 1)",
        params![id, job_type, standing, options, body],
    )?;
    Ok(())
}
