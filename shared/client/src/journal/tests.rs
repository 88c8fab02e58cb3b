//! The writing thread's own rules, with a disk that is full or gone.

use super::*;
use crate::journal::bounds::Bounds;

fn settings(path: &Path) -> ClientSettings {
    ClientSettings {
        journal: path.to_owned(),
        journal_entries_max: 1000,
        journal_bytes_max: 1 << 30,
        journal_keep_ms: 1000,
        origin: "ip".to_owned(),
        resend_after_ms: 1000,
        answer_timeout_ms: 1000,
    }
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn folder() -> Folder {
    let name = format!("counterfoil-journal-{}", uuid::Uuid::new_v4().simple());
    let path = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&path).unwrap();
    Folder(path)
}

fn writer(path: &Path) -> writer::Writer {
    writer::Writer {
        connection: file::open(path).unwrap(),
        path: path.to_owned(),
        client: "shop".to_owned(),
        bounds: Bounds::new(&settings(path)),
        horizon: Horizon::new(None),
        place: identity::place(path),
        poisoned: Arc::default(),
        is_hindered: false,
    }
}

/// Commits one submission and returns what its caller is told.
fn append(writer: &mut writer::Writer, job_id: &str, body: usize) -> Result<Vec<i64>, Error> {
    let submission = Submission::new("demo.echo", vec![b'x'; body]);
    let (reply, mut written) = oneshot::channel();
    let entry = Appended { job_id: job_id.to_owned(), submission };
    writer.commit(vec![Write::Append(vec![entry], reply)]);
    written.try_recv().unwrap()
}

fn ids(path: &Path) -> Vec<String> {
    let reader = Reader::open(path, "shop").unwrap().unwrap();
    let page = reader.page(&Query::page(100)).unwrap();
    page.into_iter().map(|entry| entry.job_id).collect()
}

#[test]
fn a_full_disk_undoes_the_submission_and_the_next_one_may_succeed() {
    let folder = folder();
    let path = folder.0.join("j.db");
    let mut writer = writer(&path);
    append(&mut writer, "A-1", 10).unwrap();
    writer.connection.query_row("PRAGMA max_page_count = 20", [], |_| Ok(())).unwrap();
    let full = append(&mut writer, "A-2", 1_000_000).unwrap_err().to_string();
    assert!(full.contains("the disk is full"), "{full}");
    writer.connection.query_row("PRAGMA max_page_count = 100000", [], |_| Ok(())).unwrap();
    append(&mut writer, "A-3", 1_000_000).unwrap();
    assert_eq!(ids(&path), ["A-1", "A-3"]);
}

#[test]
fn a_file_that_another_one_took_the_place_of_takes_nothing_more() {
    let folder = folder();
    let path = folder.0.join("j.db");
    let mut writer = writer(&path);
    append(&mut writer, "A-1", 10).unwrap();
    let aside = folder.0.join("aside.db");
    std::fs::rename(&path, &aside).unwrap();
    let failed = append(&mut writer, "A-2", 10).unwrap_err();
    assert!(matches!(failed, Error::NotSynced { .. }), "{failed}");
    // Not even when it is back: what the disk did in between nobody knows.
    std::fs::rename(&aside, &path).unwrap();
    let failed = append(&mut writer, "A-3", 10).unwrap_err();
    assert!(matches!(failed, Error::Poisoned(_)), "{failed}");
    assert_eq!(ids(&path), ["A-1"]);
}

#[test]
fn finished_entries_go_a_few_with_each_commit() {
    let folder = folder();
    let path = folder.0.join("j.db");
    let mut writer = writer(&path);
    for n in 0..60 {
        append(&mut writer, &format!("A-{n}"), 10).unwrap();
    }
    let old = "UPDATE submissions SET standing = 'done', body = x'', changed_at_ms = 1";
    writer.connection.execute(old, []).unwrap();
    append(&mut writer, "B-1", 10).unwrap();
    assert_eq!(ids(&path).len(), 61 - 18);
    for n in 2..5 {
        append(&mut writer, &format!("B-{n}"), 10).unwrap();
    }
    assert_eq!(ids(&path), ["B-1", "B-2", "B-3", "B-4"]);
    let counted: (i64, i64, i64) = writer
        .connection
        .query_row(
            "SELECT open_entries, bytes, (SELECT sum(200 + length(client || job_id || type || \
             options) + length(body)) FROM submissions) FROM about",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .unwrap();
    assert_eq!((counted.0, counted.1), (4, counted.2));
}

#[test]
fn two_processes_that_make_the_file_at_once_make_one() {
    let folder = folder();
    let path = folder.0.join("j.db");
    let opened: Vec<_> = (0..8)
        .map(|_| {
            let path = path.clone();
            std::thread::spawn(move || {
                Journal::open(&settings(&path), "shop").map(|journal| journal.identity.id)
            })
        })
        .collect();
    let mut ids: Vec<_> = opened.into_iter().map(|one| one.join().unwrap().unwrap()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 1);
    let names = std::fs::read_dir(&folder.0).unwrap();
    let names: Vec<_> = names.map(|one| one.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().contains(".new-")), "{names:?}");
}
