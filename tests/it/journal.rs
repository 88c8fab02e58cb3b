//! The client's file, on its own: no broker is needed.

use client::{Client, Error, Settings, Standing, Submission};
use harness::{World, within};
use serde_json::Value;

/// The settings of a client whose broker cannot be reached.
pub(crate) fn away(world: &World) -> Settings {
    let mut settings = world.client_settings("shop");
    settings.amqp.url = "amqp://shop:secret@127.0.0.1:1/".to_owned();
    settings
}

/// A client whose broker cannot be reached.
pub(crate) fn alone(world: &World) -> anyhow::Result<Client> {
    Ok(Client::open(away(world))?)
}

/// Runs a command as this client; what it printed, what it said, and its exit status.
pub(crate) async fn run(
    world: &World,
    arguments: &[&str],
) -> anyhow::Result<(String, String, i32)> {
    let output = tokio::process::Command::new(harness::binary("counterfoil")?)
        .args(arguments)
        .envs(world.environment("shop"))
        .current_dir(&world.directory)
        .kill_on_drop(true)
        .output();
    let output = within("a command to end", output).await??;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ok((text(&output.stdout), text(&output.stderr), output.status.code().unwrap_or(-1)))
}

pub(crate) fn ids(client: &Client) -> anyhow::Result<Vec<String>> {
    Ok(client.journal().entries(&[])?.into_iter().map(|entry| entry.job_id).collect())
}

/// Finishes an entry, as a final state would.
fn finish(settings: &Settings, job_id: &str) -> anyhow::Result<()> {
    let file = rusqlite::Connection::open(&settings.client.journal)?;
    let finish = "UPDATE submissions SET standing = 'done', body = x'' WHERE job_id = ?1";
    assert_eq!(file.execute(finish, [job_id])?, 1);
    Ok(())
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
async fn beyond_its_number_of_unfinished_entries_a_journal_takes_nothing() -> anyhow::Result<()> {
    let world = World::new().await?;
    let mut settings = away(&world);
    settings.client.journal_entries_max = 3;
    // Two processes count together.
    let (shop, other) = (Client::open(settings.clone())?, Client::open(settings.clone())?);
    shop.submit(Submission::new("demo.echo", "1").job_id("A-1")).await?;
    other.submit(Submission::new("demo.echo", "1").job_id("A-2")).await?;
    let two = ["A-3", "A-4"].map(|id| Submission::new("demo.echo", "1").job_id(id));
    let full = shop.submit_many(two.to_vec()).await;
    let said = full.as_ref().err().map(ToString::to_string).unwrap_or_default();
    assert!(matches!(full, Err(Error::JournalFull { limit: 3, .. })), "{said}");
    for part in ["client.journal_entries_max is 3", "counterfoil recover", "Nothing was written"] {
        assert!(said.contains(part), "{said}");
    }
    shop.submit(two[0].clone()).await?;
    let refused = other.submit(two[1].clone()).await;
    assert!(matches!(refused, Err(Error::JournalFull { .. })));
    // What is there already needs no room, and what is finished gives some.
    other.submit(two[0].clone()).await?;
    finish(&settings, "A-1")?;
    other.submit(two[1].clone()).await?;
    assert_eq!(ids(&shop)?, ["A-1", "A-2", "A-3", "A-4"]);
    Ok(())
}

#[tokio::test]
async fn beyond_its_bytes_finished_entries_give_way_and_unfinished_ones_never() -> anyhow::Result<()>
{
    let world = World::new().await?;
    let mut settings = away(&world);
    settings.client.journal_bytes_max = 10_000;
    let shop = Client::open(settings.clone())?;
    let large = |id| Submission::new("demo.echo", vec![b'x'; 4000]).job_id(id);
    shop.submit(large("A-1")).await?;
    shop.submit(large("A-2")).await?;
    let full = shop.submit(large("A-3")).await;
    assert!(
        matches!(&full, Err(Error::JournalFull { key: "client.journal_bytes_max", .. })),
        "{full:?}"
    );
    finish(&settings, "A-1")?;
    shop.submit(large("A-3")).await?;
    assert_eq!(ids(&shop)?, ["A-1", "A-2", "A-3"]);
    // 8 kB are unfinished and 200 bytes are A-1's: it goes before a submission is refused.
    shop.submit(Submission::new("demo.echo", vec![b'x'; 1200]).job_id("A-4")).await?;
    assert_eq!(ids(&shop)?, ["A-2", "A-3", "A-4"]);
    assert!(matches!(shop.submit(large("A-5")).await, Err(Error::JournalFull { .. })));
    assert_eq!(ids(&shop)?, ["A-2", "A-3", "A-4"]);
    Ok(())
}

#[tokio::test]
async fn a_full_journal_is_said_by_the_command_and_nothing_is_sent() -> anyhow::Result<()> {
    let world = World::new().await?;
    let file = world.directory.join("small.toml");
    std::fs::write(&file, "[client]\njournal_entries_max = 2\n")?;
    let file = file.to_string_lossy().into_owned();
    let submit = async |id| {
        let base = ["--config", &file, "submit", "demo.echo", "1", "--until", "journaled", "--id"];
        run(&world, &[&base[..], &[id]].concat()).await
    };
    assert_eq!((submit("A-1").await?.2, submit("A-2").await?.2), (0, 0));
    let (printed, said, exit) = submit("A-3").await?;
    assert_eq!((exit, printed.as_str()), (1, ""), "{said}");
    assert!(said.contains("client.journal_entries_max is 2"), "{said}");
    assert_eq!(run(&world, &["journal", "show", "A-3"]).await?.2, 4);
    Ok(())
}

#[tokio::test]
async fn list_show_and_export_print_everything_beside_a_client_that_writes() -> anyhow::Result<()> {
    let world = World::new().await?;
    let shop = alone(&world)?;
    let text = Submission::new("demo.echo", "{}").job_id("A-1").content_type("application/json");
    shop.submit(text.header("job-timeout-ms", "5")).await?;
    shop.submit(Submission::new("demo.echo", vec![0xff, 0]).job_id("A-2")).await?;
    let many = (0..1200).map(|n| Submission::new("demo.echo", "1").job_id(format!("N-{n:04}")));
    shop.submit_many(many.collect()).await?;
    finish(&away(&world), "A-2")?;

    let (table, _, exit) = run(&world, &["journal"]).await?;
    assert_eq!((exit, table.lines().filter(|line| line.contains("demo.echo")).count()), (0, 1202));
    let json =
        |text: &str| text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>();
    let list = async |more: &[&str]| {
        let arguments = [&["--json", "journal", "list"], more].concat();
        let (printed, said, exit) = run(&world, &arguments).await?;
        assert_eq!(exit, 0, "{said}");
        let ids = json(&printed)?.into_iter().map(|one| one["job_id"].to_string().replace('"', ""));
        Ok::<Vec<String>, anyhow::Error>(ids.collect())
    };
    assert_eq!(list(&[]).await?.len(), 1202);
    assert_eq!(list(&["--limit", "2"]).await?, ["A-1", "A-2"]);
    assert_eq!(list(&["--open", "--limit", "2"]).await?, ["A-1", "N-0000"]);
    assert_eq!(list(&["--after", "N-1197", "--limit", "9"]).await?, ["N-1198", "N-1199"]);
    assert_eq!(run(&world, &["journal", "list", "--after", "no-such"]).await?.2, 2);

    let (shown, _, exit) = run(&world, &["--json", "journal", "show", "A-1"]).await?;
    let shown: Value = serde_json::from_str(&shown)?;
    assert_eq!((exit, &shown["body"], &shown["standing"]), (0, &"{}".into(), &"journaled".into()));
    assert_eq!(shown["headers"][0], serde_json::json!(["job-timeout-ms", "5"]));
    assert!(run(&world, &["journal", "show", "A-1"]).await?.0.contains("application/json"));
    let exported = json(&run(&world, &["journal", "export"]).await?.0)?;
    assert_eq!((exported.len(), &exported[0]), (1202, &shown));
    assert_eq!(exported[1]["body"], "", "emptied when it is done");
    assert_eq!(json(&run(&world, &["journal", "export", "--open"]).await?.0)?.len(), 1201);

    shop.submit(Submission::new("demo.echo", vec![0xff, 0]).job_id("B-1")).await?;
    let (shown, _, _) = run(&world, &["--json", "journal", "show", "B-1"]).await?;
    assert_eq!(serde_json::from_str::<Value>(&shown)?["body_base64"], "/wA=");
    Ok(())
}

#[tokio::test]
async fn an_export_that_could_not_be_written_whole_is_an_error() -> anyhow::Result<()> {
    let world = World::new().await?;
    alone(&world)?.submit(Submission::new("demo.echo", "1")).await?;
    let output = tokio::process::Command::new(harness::binary("counterfoil")?)
        .args(["journal", "export"])
        .envs(world.environment("shop"))
        .stdout(std::fs::File::create("/dev/full")?)
        .stderr(std::process::Stdio::piped())
        .spawn()?
        .wait_with_output()
        .await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the export is not whole"), "{said}");
    Ok(())
}

#[tokio::test]
async fn the_ids_are_said_as_soon_as_they_are_on_disk() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let (printed, said, exit) =
        run(&world, &["--json", "submit", "demo.echo", "1", "--id", "A-1"]).await?;
    assert_eq!((exit, printed.lines().count()), (0, 1), "{said}");
    assert!(said.lines().any(|line| line == "journaled A-1"), "{said}");
    Ok(server.stop().await?)
}

#[tokio::test]
async fn what_is_only_to_be_journaled_does_not_wait_for_a_broker_however_much_it_is()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let (file, away) = (world.directory.join("many"), away(&world).amqp.url);
    std::fs::write(&file, "1\n".repeat(6000))?;
    let submit = tokio::process::Command::new(harness::binary("counterfoil")?)
        .args(["submit", "demo.echo", "--until", "journaled", "--jsonl"])
        .arg(&file)
        .envs(world.environment("shop"))
        .env("COUNTERFOIL_AMQP_URL", away)
        .kill_on_drop(true)
        .output();
    let output = within("a command to end", submit).await??;
    let printed = String::from_utf8_lossy(&output.stdout).lines().count();
    assert_eq!((output.status.code(), printed), (Some(0), 6000));
    let (listed, _, _) = run(&world, &["--json", "journal", "list", "--open"]).await?;
    assert_eq!(listed.lines().count(), 6000);
    Ok(())
}

/// What is refused for now was neither sent again nor closed: it ran, or not, a day later.
#[tokio::test]
async fn what_is_refused_for_now_is_sent_again_by_this_process_and_by_the_next()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server_with(|settings| settings.unfinished_per_client_max = 1).await?;
    let mut settings = world.client_settings("shop");
    settings.client.resend_after_ms = 200;
    let shop = client::Client::open(settings.clone())?;
    let submit = |id: &'static str| Submission::new("nobody.serves", "1").job_id(id);
    shop.submit(submit("A-1")).await?.accepted().await?;
    let second = shop.submit(submit("A-2")).await?;
    let refused = second.answered().await;
    let is_quota = |error: &client::Error| match error {
        client::Error::Answered(answer) => answer.code.as_deref() == Some("quota"),
        _ => false,
    };
    assert!(refused.as_ref().is_err_and(is_quota), "{refused:?}");
    shop.cancel("A-1").await?;
    second.accepted().await?;

    let third = shop.submit(submit("A-3")).await?;
    assert!(third.answered().await.as_ref().is_err_and(is_quota));
    shop.close().await;
    let shop = client::Client::open(settings)?;
    shop.cancel("A-2").await?;
    let recovered = shop.recover().await?;
    let again = recovered.into_iter().find_map(|one| one.sent_again).unwrap();
    assert_eq!(again.job_id(), "A-3");
    again.accepted().await?;
    shop.close().await;
    Ok(server.stop().await?)
}

/// One body that the broker does not take closed each connection, and its neighbours were never
/// sent.
#[tokio::test]
async fn a_body_that_the_broker_does_not_take_is_refused_and_its_neighbours_are_sent()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let shop = world.client("shop")?;
    let mut submitted = Vec::new();
    for n in 0..20 {
        let small = Submission::new("nobody.serves", "1").job_id(format!("A-{n}"));
        submitted.push(small);
    }
    // The private nodes take 2 MiB, as those of the deployment do.
    let huge = vec![b' '; 3 * 1024 * 1024];
    submitted.insert(10, Submission::new("nobody.serves", huge).job_id("huge"));
    for one in shop.submit_many(submitted).await? {
        let accepted = within("an answer", one.accepted()).await?;
        match accepted {
            Ok(_) => assert_ne!(one.job_id(), "huge"),
            Err(Error::Answered(refusal)) => {
                assert_eq!(one.job_id(), "huge");
                assert_eq!(refusal.code.as_deref(), Some("payload_too_large"));
                // The server, which has a limit of its own, has never seen it.
                assert!(refusal.message.is_some_and(|message| message.contains("RabbitMQ")));
            }
            Err(error) => return Err(error.into()),
        }
    }
    shop.journal().flush().await;
    assert_eq!(shop.journal().entries(&[Standing::Refused])?.len(), 1);
    shop.close().await;
    Ok(server.stop().await?)
}
