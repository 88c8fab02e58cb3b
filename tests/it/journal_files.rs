//! What is made of a journal that is copied, cut short, of another program, or of another version.

use std::path::{Path, PathBuf};

use client::{Client, Reader, Standing, Submission};
use harness::World;
use tokio::process::Command;

use crate::journal::{alone, away, ids, run};

/// A text that is in what is said of a file, for writing and for reading.
async fn is_refused(world: &World, what: &str, text: &str) -> anyhow::Result<()> {
    let path = world.environment("shop").into_iter().find(|(k, _)| k.ends_with("CLIENT_JOURNAL"));
    let path = path.map(|(_, path)| path).unwrap_or_default();
    let before = std::fs::read(&path).ok();
    let submit = ["submit", "demo.echo", "1", "--until", "journaled"];
    for arguments in [&submit[..], &["journal", "list"], &["journal", "export"], &["recover"]] {
        let (printed, said, exit) = run(world, arguments).await?;
        assert_eq!((exit, printed.as_str()), (1, ""), "{what}, {arguments:?}: {said}");
        let error = said.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        assert!(error.contains(&path) && error.contains(text), "{what}, {arguments:?}: {said}");
    }
    assert_eq!(std::fs::read(&path).ok(), before, "{what} was changed");
    Ok(())
}

/// A journal with so many entries, closed.
async fn journal_of(world: &World, count: usize) -> anyhow::Result<PathBuf> {
    let settings = away(world);
    let shop = Client::open(settings.clone())?;
    let many = (0..count).map(|n| Submission::new("demo.echo", vec![b'x'; 500]).job_id(id(n)));
    shop.submit_many(many.collect()).await?;
    shop.close().await;
    drop(shop);
    // The writing thread ends by itself, and the last to close works the log in.
    let log = settings.client.journal.with_extension("db-wal");
    harness::eventually("the journal to be closed", || async { Ok((!log.exists()).then_some(())) })
        .await?;
    Ok(settings.client.journal)
}

fn id(n: usize) -> String {
    format!("A-{n:03}")
}

#[tokio::test]
async fn what_is_no_journal_is_refused_by_name_with_what_to_do_and_not_touched()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let path = world.client_settings("shop").client.journal;
    std::fs::write(&path, "a text\n")?;
    is_refused(&world, "a text", "name another file in client.journal").await?;
    std::fs::write(&path, "")?;
    is_refused(&world, "an empty file", "remove it and a new journal is made").await?;
    std::fs::remove_file(&path)?;
    std::fs::create_dir(&path)?;
    is_refused(&world, "a directory", "this is a directory: name a file").await?;
    std::fs::remove_dir(&path)?;
    let foreign = rusqlite::Connection::open(&path)?;
    foreign.execute_batch("CREATE TABLE notes (text TEXT)")?;
    drop(foreign);
    is_refused(&world, "a foreign database", "a database of another program").await?;
    std::fs::remove_file(&path)?;
    std::os::unix::fs::symlink("/dev/null", &path)?;
    is_refused(&world, "a device", "not an ordinary file").await?;
    Ok(())
}

#[tokio::test]
async fn a_journal_of_a_newer_version_or_one_cut_short_is_refused() -> anyhow::Result<()> {
    let world = World::new().await?;
    let path = journal_of(&world, 100).await?;
    let whole = std::fs::read(&path)?;
    for length in [whole.len() / 2, 5000, 1000, 50] {
        std::fs::write(&path, &whole[..length])?;
        let text = "truncated or damaged";
        is_refused(&world, &format!("{length} bytes"), text).await?;
    }
    std::fs::write(&path, &whole)?;
    let file = rusqlite::Connection::open(&path)?;
    file.pragma_update(None, "user_version", 99)?;
    file.pragma_update(None, "journal_mode", "DELETE")?;
    drop(file);
    is_refused(&world, "a newer version", "it has version 99, this program writes 2").await
}

/// SQLite takes a log up to where it is whole, as after a crash; so does the journal.
#[tokio::test]
async fn a_log_cut_short_loses_whole_submissions_from_its_end_and_nothing_else()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let settings = away(&world);
    let shop = Client::open(settings.clone())?;
    for n in 0..3 {
        shop.submit(Submission::new("demo.echo", "1").job_id(id(n))).await?;
    }
    // As a crash leaves them; the client still runs and would work the log in.
    let mut copied = settings.clone();
    copied.client.journal = world.directory.join("copied.db");
    let log = |path: &Path| path.with_extension("db-wal");
    std::fs::copy(&settings.client.journal, &copied.client.journal)?;
    let bytes = std::fs::read(log(&settings.client.journal))?;
    std::fs::write(log(&copied.client.journal), &bytes[..bytes.len() - 100])?;
    let copy = Client::open(copied.clone())?;
    assert_eq!(ids(&copy)?, [id(0), id(1)]);
    assert_eq!(ids(&shop)?, [id(0), id(1), id(2)]);
    // A log alone may hold submissions: nothing is made in its place.
    let mut lost = settings.clone();
    lost.client.journal = world.directory.join("lost.db");
    std::fs::write(log(&lost.client.journal), &bytes)?;
    let said = Client::open(lost).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(said.contains("put the file back, or move"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_copy_says_so_and_is_a_journal_of_its_own_whose_ids_are_the_same_jobs()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let path = journal_of(&world, 2).await?;
    let copy = world.directory.join("copy.db");
    std::fs::copy(&path, &copy)?;
    let copy_text = copy.to_string_lossy().into_owned();
    let of_copy = async |arguments: &[&str]| {
        let output = Command::new(harness::binary("counterfoil")?)
            .args(arguments)
            .envs(world.environment("shop"))
            .env("COUNTERFOIL_CLIENT_JOURNAL", &copy_text)
            .output()
            .await?;
        Ok::<_, anyhow::Error>((
            String::from_utf8_lossy(&output.stderr).into_owned(),
            output.status.code(),
        ))
    };
    // Reading says it each time and changes nothing.
    for _ in 0..2 {
        let (said, exit) = of_copy(&["journal", "list"]).await?;
        assert!(said.contains("not where it was made") && said.contains("a copy"), "{said}");
        assert_eq!(exit, Some(0));
    }
    let server = world.server().await?;
    let (said, exit) = of_copy(&["recover"]).await?;
    assert!(said.contains("it goes on as a journal of its own"), "{said}");
    assert_eq!(exit, Some(0), "{said}");
    let (said, _) = of_copy(&["journal", "list"]).await?;
    assert!(!said.contains("where it was made"), "{said}");

    // The original learns of the same jobs; nothing is sent again.
    let shop = world.client("shop")?;
    let recovered = shop.recover().await?;
    assert_eq!(recovered.len(), 2);
    assert!(recovered.iter().all(|one| one.sent_again.is_none()));
    assert_eq!(shop.journal().identity().copied_from, None);
    let mut settings = world.client_settings("shop");
    settings.client.journal = copy;
    let second = Client::open(settings)?;
    let (own, first) = (second.journal().identity(), shop.journal().identity());
    assert_eq!(own.copied_from.as_ref(), Some(&first.id));
    assert_ne!(own.id, first.id);
    // New submissions: one id is one job, whichever journal it is in.
    let same = || Submission::new("demo.echo", "1").job_id("B-1");
    assert_eq!(shop.submit(same()).await?.accepted().await?.duplicate, Some(false));
    assert_eq!(second.submit(same()).await?.accepted().await?.duplicate, Some(true));
    let other = Submission::new("demo.echo", "2").job_id("B-2");
    shop.submit(other).await?.accepted().await?;
    let conflict = second.submit(Submission::new("demo.echo", "3").job_id("B-2")).await?;
    let said = conflict.accepted().await.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(said.contains("id_conflict"), "{said}");
    Ok(server.stop().await?)
}

/// The schema of version 1, as it was.
const VERSION_1: &str = "
    CREATE TABLE submissions (
        client TEXT NOT NULL, job_id TEXT NOT NULL, type TEXT NOT NULL, options TEXT NOT NULL,
        body BLOB NOT NULL, standing TEXT NOT NULL, ticket TEXT, outcome TEXT,
        journaled_at_ms INTEGER NOT NULL, changed_at_ms INTEGER NOT NULL,
        PRIMARY KEY (client, job_id)
    ) WITHOUT ROWID;
    CREATE INDEX open_submissions ON submissions (client, journaled_at_ms)
        WHERE standing IN ('journaled', 'confirmed', 'accepted');
    PRAGMA application_id = 0x43464a31;
    PRAGMA user_version = 1;";

#[tokio::test]
async fn a_file_of_version_1_is_read_as_it_is_and_becomes_one_of_version_2() -> anyhow::Result<()> {
    let world = World::new().await?;
    let path = away(&world).client.journal;
    let old = rusqlite::Connection::open(&path)?;
    old.pragma_update(None, "journal_mode", "WAL")?;
    old.execute_batch(VERSION_1)?;
    let insert = |job_id: &str, standing: &str| {
        old.execute(
            "INSERT INTO submissions VALUES ('shop', ?1, 'demo.echo', '{}', x'3131', ?2, NULL, \
             NULL, 1, 1)",
            [job_id, standing],
        )
    };
    for standing in Standing::ALL {
        insert(standing.as_str(), standing.as_str())?;
    }
    let version = || old.query_row("PRAGMA user_version", [], |row| row.get::<_, i32>(0));
    let reader = Reader::open(&path, "shop")?.ok_or_else(|| anyhow::anyhow!("no file"))?;
    assert_eq!(reader.page(&client::journal::Query::page(9))?.len(), 5);
    assert_eq!(version()?, 1);

    let mut settings = away(&world);
    settings.client.journal_entries_max = 4;
    settings.client.journal_keep_ms = u64::MAX;
    let shop = Client::open(settings)?;
    assert_eq!((version()?, shop.journal().entries(&[])?.len()), (2, 5));
    // An old program that still has it open is counted too.
    insert("by-version-1", "journaled")?;
    let counted = old.query_row("SELECT open_entries, bytes FROM about", [], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
    })?;
    let ids: usize = Standing::ALL.iter().map(|standing| standing.as_str().len()).sum();
    let bytes = 6 * (200 + "shop".len() + "demo.echo".len() + 2 + 2) + ids + "by-version-1".len();
    assert_eq!(counted, (4, i64::try_from(bytes)?));
    let full = shop.submit(Submission::new("demo.echo", "1")).await;
    assert!(matches!(full, Err(client::Error::JournalFull { .. })), "{full:?}");
    Ok(())
}

#[tokio::test]
async fn a_journal_that_is_missing_is_an_empty_one_to_a_reader() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (printed, _, exit) = run(&world, &["journal", "list"]).await?;
    assert_eq!((exit, printed.trim_end()), (0, "the journal is empty"));
    assert_eq!(run(&world, &["journal", "show", "A-1"]).await?.2, 4);
    assert_eq!(run(&world, &["--json", "journal", "export"]).await?.0, "");
    assert!(!away(&world).client.journal.exists());
    drop(alone(&world)?);
    assert!(away(&world).client.journal.exists());
    Ok(())
}
