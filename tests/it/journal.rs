//! The client's file, on its own: no broker is needed.

use client::{Client, Error, Standing, Submission};
use harness::World;

/// A client whose broker cannot be reached.
fn alone(world: &World) -> anyhow::Result<Client> {
    let mut settings = world.client_settings("shop");
    settings.amqp.url = "amqp://shop:secret@127.0.0.1:1/".to_owned();
    Ok(Client::open(settings)?)
}

#[tokio::test]
async fn a_call_is_written_whole_or_not_at_all() -> anyhow::Result<()> {
    let world = World::new().await?;
    let shop = alone(&world)?;
    shop.submit(Submission::new("demo.echo", "1").job_id("A-2")).await?;
    let many = ["A-1", "A-2"].map(|id| Submission::new("demo.echo", "other").job_id(id));
    let refused = shop.submit_many(many.to_vec()).await;
    assert!(matches!(refused, Err(Error::DuplicateId(id)) if id == "A-2"));
    let entries = shop.journal().entries(&[])?;
    let ids: Vec<&str> = entries.iter().map(|entry| entry.job_id.as_str()).collect();
    assert_eq!(ids, ["A-2"]);
    // The same submission again is no error.
    shop.submit(Submission::new("demo.echo", "1").job_id("A-2")).await?;
    Ok(())
}

#[tokio::test]
async fn several_clients_of_one_machine_share_a_file() -> anyhow::Result<()> {
    let world = World::new().await?;
    let clients = (0..4).map(|_| alone(&world)).collect::<anyhow::Result<Vec<_>>>()?;
    let writing = clients.iter().map(|shop| async {
        for _ in 0..25 {
            shop.submit(Submission::new("demo.echo", "1")).await?;
        }
        Ok::<_, Error>(())
    });
    for written in futures_util::future::join_all(writing).await {
        written?;
    }
    let entries = clients[0].journal().entries(&[Standing::Journaled])?;
    assert_eq!(entries.len(), 100);
    Ok(())
}

#[tokio::test]
async fn a_file_of_another_program_or_of_a_newer_version_is_refused_by_name() -> anyhow::Result<()>
{
    let world = World::new().await?;
    let path = world.client_settings("shop").client.journal;
    let foreign = rusqlite::Connection::open(&path)?;
    foreign.execute_batch("CREATE TABLE notes (text TEXT)")?;
    let refused = alone(&world).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains("a database of another program"), "{refused}");
    assert!(refused.contains(path.to_str().unwrap_or("?")), "{refused}");
    drop(foreign);
    std::fs::remove_file(&path)?;
    drop(alone(&world)?);
    rusqlite::Connection::open(&path)?.pragma_update(None, "user_version", 99)?;
    let refused = alone(&world).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains("it has version 99"), "{refused}");
    Ok(())
}
