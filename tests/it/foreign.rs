//! Clients in other languages, written from `docs/PROTOCOL.md`: real processes of Python, Node and
//! Go. `deploy/dev/install.sh python node go` installs what they need.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, ensure};
use broker::topology;
use harness::{Lines, Process, World, eventually, start, within, workspace};
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::Value;
use tokio::process::Command;
use worker::Failure;

use crate::documents::{blocks, read};

fn source(path: &str) -> PathBuf {
    workspace().join("tests/foreign").join(path)
}

fn parse(lines: &[String]) -> anyhow::Result<Vec<Value>> {
    lines.iter().map(|line| serde_json::from_str(line).context(line.clone())).collect()
}

/// The line of a kind.
fn of_kind<'a>(printed: &'a [Value], kind: &str) -> anyhow::Result<&'a Value> {
    let found = printed.iter().find(|said| said["kind"] == kind);
    found.with_context(|| format!("no {kind} among {printed:?}"))
}

/// The Python client on a journal of the world's, as the user `shop`.
struct Python<'a> {
    world: &'a World,
    journal: &'a str,
}

impl Python<'_> {
    fn file(&self) -> PathBuf {
        self.world.directory.join(self.journal)
    }

    fn start_at(&self, url: &str, arguments: &[&str]) -> anyhow::Result<(Process, Lines)> {
        let mut command = Command::new("/usr/bin/python3");
        command.arg(source("python/counterfoil.py")).args(["--url", url, "--resend-after", "0.2"]);
        command.arg("--journal").arg(self.file()).args(arguments);
        Process::spawn(command)
    }

    fn start(&self, arguments: &[&str]) -> anyhow::Result<(Process, Lines)> {
        self.start_at(&self.world.amqp_url("shop"), arguments)
    }

    /// What a command prints, and its exit status.
    async fn run(&self, arguments: &[&str]) -> anyhow::Result<(Vec<Value>, i32)> {
        let (process, mut lines) = self.start(arguments)?;
        let printed = parse(&lines.rest().await?)?;
        Ok((printed, process.ended().await?.unwrap_or(-1)))
    }
}

/// An AMQP URL at which nobody listens, of the user `shop`.
fn nowhere() -> anyhow::Result<String> {
    Ok(format!("amqp://shop:secret@127.0.0.1:{}/", nodes::ports::free(1)?[0]))
}

/// A worker with the type `count`, and how often it has run.
async fn counting(world: &World) -> anyhow::Result<(worker::Running, Arc<AtomicU32>)> {
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let worker = world.worker().handle("count", move || {
        let runs = Arc::clone(&counted);
        async move { Ok::<_, Failure>(runs.fetch_add(1, Ordering::SeqCst)) }
    })?;
    Ok((start(worker).await?, runs))
}

async fn until_succeeded(world: &World, job_id: &str) -> anyhow::Result<store::Record> {
    eventually("the job to be done", || async {
        let record = world.record("shop", job_id).await?.unwrap_or_default();
        Ok((record.state.as_deref() == Some("succeeded")).then_some(record))
    })
    .await
}

/// Runs a producer to its end: what it says of its job is what the record says.
async fn check_producer(world: &World, command: Command) -> anyhow::Result<Value> {
    let (server, worker) = (world.server().await?, world.demo_worker().await?);
    let (process, mut lines) = Process::spawn(command)?;
    let printed = parse(&lines.rest().await?)?;
    ensure!(process.ended().await? == Some(0), "{printed:?}");
    let receipt = of_kind(&printed, "receipt")?;
    let job_id = receipt["job_id"].as_str().context("its job id")?;
    assert_eq!(printed[0]["job_id"], job_id, "the id is printed before anything is sent");
    let record = world.record("shop", job_id).await?.context("the record")?;
    for kind in ["receipt", "event", "status"] {
        let said = of_kind(&printed, kind)?;
        assert_eq!(said["ticket"].as_str(), record.ticket.as_deref(), "{kind}");
        assert_eq!((&said["v"], &said["client"]), (&Value::from(1), &Value::from("shop")));
    }
    let event = of_kind(&printed, "event")?;
    assert_eq!(event["event"], "succeeded");
    let status = of_kind(&printed, "status")?;
    assert_eq!(status["state"].as_str(), record.state.as_deref());
    assert_eq!(status["revision"].to_string(), record.revision.unwrap_or_default());
    assert_eq!((&event["result"]["n"], &status["result"]["n"]), (&7.into(), &7.into()));
    worker.stop().await?;
    server.stop().await?;
    Ok(receipt.clone())
}

#[tokio::test]
async fn a_python_program_submits_is_told_of_the_end_and_asks() -> anyhow::Result<()> {
    let world = World::new().await?;
    let mut command = Command::new("/usr/bin/python3");
    command.arg(source("python/counterfoil.py")).args(["--url", &world.amqp_url("shop")]);
    command.arg("--journal").arg(world.directory.join("python.db"));
    command.args(["submit", "demo.echo", r#"{"n":7}"#, "--notify", "terminal", "--until", "done"]);
    let receipt = check_producer(&world, command).await?;
    // The same origin as the Rust client's.
    let origin: std::net::IpAddr = receipt["origin"].as_str().unwrap_or_default().parse()?;
    let like_rust = job::Origin::ip(origin).job_id(uuid::Uuid::nil()).to_string();
    let job_id = receipt["job_id"].as_str().unwrap_or_default();
    let (part, unique) = job_id.split_once('-').context("<origin>-<uuid>")?;
    assert!(like_rust.starts_with(part), "{job_id}: {like_rust}");
    assert_eq!(uuid::Uuid::try_parse(unique)?.get_version_num(), 7);
    Ok(())
}

#[tokio::test]
async fn a_node_program_submits_is_told_of_the_end_and_asks() -> anyhow::Result<()> {
    let modules = source("node/node_modules/amqplib");
    ensure!(modules.exists(), "amqplib is missing: deploy/dev/install.sh node");
    let world = World::new().await?;
    let mut command = Command::new("node");
    command.arg(source("node/producer.js")).args(["demo.echo", r#"{"n":7}"#]);
    command.env("AMQP_URL", world.amqp_url("shop"));
    check_producer(&world, command).await.map(drop)
}

#[tokio::test]
async fn a_go_program_submits_is_told_of_the_end_and_asks() -> anyhow::Result<()> {
    let world = World::new().await?;
    let mut command = Command::new("go");
    // Debian's package of the library is no module but a folder of sources.
    command.envs([("GO111MODULE", "off"), ("GOPATH", "/usr/share/gocode")]);
    command.env("GOCACHE", workspace().join("target/go-cache"));
    command.arg("run").arg(source("go/producer.go")).args(["demo.echo", r#"{"n":7}"#]);
    command.env("AMQP_URL", world.amqp_url("shop"));
    check_producer(&world, command).await.map(drop)
}

#[tokio::test]
async fn the_recommended_inbox_is_declared_as_printed_in_each_language() -> anyhow::Result<()> {
    let protocol = read("docs/PROTOCOL.md");
    let section = protocol.split("## A recommended inbox").nth(1).unwrap_or_default();
    for (language, file) in [
        ("rust", "tests/it/foreign.rs"),
        ("py", "tests/foreign/python/counterfoil.py"),
        ("js", "tests/foreign/node/producer.js"),
        ("go", "tests/foreign/go/producer.go"),
    ] {
        let source = read(file);
        let source: Vec<&str> = source.lines().map(str::trim).collect();
        let (_, block) = *blocks(section, language).first().context(language)?;
        for line in block.lines().map(str::trim) {
            ensure!(source.contains(&line), "{file} does not have: {line}");
        }
    }
    // The others are declared by the tests above; this one here.
    let world = World::new().await?;
    let owner = lapin::Connection::connect(&world.amqp_url("shop"), Default::default()).await?;
    let channel = owner.create_channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
    arguments.insert("x-expires".into(), AMQPValue::LongLongInt(604_800_000));
    arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(104_857_600));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare("reply.shop.till-1".into(), options, arguments).await?;
    Ok(())
}

#[tokio::test]
async fn promise_01_holds_from_python_killed_before_it_could_send() -> anyhow::Result<()> {
    let world = World::new().await?;
    let python = Python { world: &world, journal: "python.db" };
    let (killed, mut lines) = python.start_at(&nowhere()?, &["submit", "count", "1"])?;
    let printed: Value = serde_json::from_str(&lines.until("journaled").await?)?;
    let job_id = printed["job_id"].as_str().context("its job id")?;
    killed.kill().await?;

    let server = world.server().await?;
    let (worker, runs) = counting(&world).await?;
    let (recovered, exit) = python.run(&["recover"]).await?;
    let said = ["job_id", "journal", "server", "done"].map(|name| recovered[0][name].clone());
    assert_eq!((said, exit), ([job_id, "journaled", "unknown", "sent again"].map(Value::from), 0));
    let record = until_succeeded(&world, job_id).await?;
    let (journal, _) = python.run(&["journal"]).await?;
    assert_eq!(Some(journal[0]["journaled_at"].to_string()), record.timestamp);
    // Recovered once more: now it is known, and nothing is sent.
    let (recovered, exit) = python.run(&["recover"]).await?;
    let said = ["server", "done", "standing"].map(|name| recovered[0][name].clone());
    assert_eq!((said, exit), (["succeeded", "nothing", "done"].map(Value::from), 0));
    assert_eq!(python.run(&["recover"]).await?, (Vec::new(), 0));
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    worker.stop().await?;
    Ok(server.stop().await?)
}

#[tokio::test]
async fn promise_01_holds_from_python_killed_between_confirm_and_receipt() -> anyhow::Result<()> {
    // The broker confirms while no server runs; that alone does not end the sending.
    let world = World::new().await?;
    let looking = world.raw("server").await?.connection;
    let python = Python { world: &world, journal: "python.db" };
    let (killed, mut lines) = python.start(&["submit", "count", "1", "--id", "A-1"])?;
    lines.until("confirmed").await?;
    eventually("it to be sent again and again", || async {
        Ok((looking.depth(topology::INTAKE_QUEUE).await?.ready >= 3).then_some(()))
    })
    .await?;
    killed.kill().await?;
    let (journal, _) = python.run(&["journal", "--open"]).await?;
    assert_eq!(journal[0]["standing"], "confirmed");

    let server = world.server().await?;
    let (worker, runs) = counting(&world).await?;
    let (recovered, exit) = python.run(&["recover"]).await?;
    assert_eq!((&recovered[0]["done"], exit), (&Value::from("nothing"), 0));
    let record = until_succeeded(&world, "A-1").await?;
    assert_eq!(Some(journal[0]["journaled_at"].to_string()), record.timestamp);
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    worker.stop().await?;
    Ok(server.stop().await?)
}

#[tokio::test]
async fn promise_01_holds_from_python_whose_entry_is_on_disk_before_the_first_byte()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("amqp://shop:secret@{}/", listener.local_addr()?);
    let python = Python { world: &world, journal: "python.db" };
    let (process, _lines) = python.start_at(&url, &["submit", "count", "1", "--id", "A-1"])?;
    let (mut stream, _) = within("a connection", listener.accept()).await??;
    let mut first = [0; 1];
    let reading = tokio::io::AsyncReadExt::read_exact(&mut stream, &mut first);
    within("the first byte", reading).await??;
    let journal = rusqlite::Connection::open(python.file())?;
    let row =
        journal.query_row("SELECT job_id, type, body, standing FROM counterfoil", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?;
    let expected: [String; 3] = ["A-1", "count", "journaled"].map(str::to_owned);
    let (job_id, job_type, body, standing): (String, String, Vec<u8>, String) = row;
    assert_eq!(([job_id, job_type, standing], body), (expected, b"1".to_vec()));
    process.kill().await
}

#[tokio::test]
async fn promise_03_holds_from_python_in_however_many_processes() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let (worker, runs) = counting(&world).await?;
    // Two on one journal and three on their own, all at once.
    let shared = Python { world: &world, journal: "shared.db" };
    let own = ["1.db", "2.db", "3.db"].map(|journal| Python { world: &world, journal });
    let submit = ["submit", "count", "1", "--id", "A-1"];
    let all = [&shared, &shared, &own[0], &own[1], &own[2]];
    let printed = futures_util::future::join_all(all.map(|python| python.run(&submit))).await;
    let mut tickets = std::collections::BTreeSet::new();
    for one in printed {
        let (printed, exit) = one?;
        assert_eq!(exit, 0, "{printed:?}");
        tickets.insert(of_kind(&printed, "receipt")?["ticket"].to_string());
    }
    let record = until_succeeded(&world, "A-1").await?;
    // And later, when it is done.
    let later = Python { world: &world, journal: "later.db" };
    let (printed, exit) = later.run(&submit).await?;
    let receipt = of_kind(&printed, "receipt")?;
    assert_eq!(
        (&receipt["duplicate"], &receipt["state"], exit),
        (&true.into(), &"succeeded".into(), 0)
    );
    tickets.insert(receipt["ticket"].to_string());
    assert_eq!(tickets, [format!("{:?}", record.ticket.unwrap_or_default())].into());
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    // Another content: the journal that knows better refuses, or else the server.
    let other = ["submit", "count", "2", "--id", "A-1"];
    assert_eq!(shared.run(&other).await?, (Vec::new(), 1));
    let (printed, exit) = Python { world: &world, journal: "new.db" }.run(&other).await?;
    assert_eq!((&of_kind(&printed, "refusal")?["code"], exit), (&"id_conflict".into(), 3));
    worker.stop().await?;
    Ok(server.stop().await?)
}

#[tokio::test]
async fn python_does_not_send_what_is_older_than_the_horizon_but_reports_it() -> anyhow::Result<()>
{
    let world = World::new().await?;
    let server = world.server().await?;
    let python = Python { world: &world, journal: "python.db" };
    let submit = ["submit", "count", "1", "--id", "A-1", "--until", "journaled"];
    assert_eq!(python.run(&submit).await?.1, 0);
    let journal = rusqlite::Connection::open(python.file())?;
    journal.execute("UPDATE counterfoil SET journaled_at = journaled_at - 31 * 86400", [])?;
    let (recovered, exit) = python.run(&["recover"]).await?;
    assert_eq!((&recovered[0]["done"], exit), (&Value::from("too old"), 1));
    assert_eq!(python.run(&["status", "A-1"]).await?.1, 4);
    assert!(world.record("shop", "A-1").await?.is_none());
    Ok(server.stop().await?)
}

#[tokio::test]
async fn the_python_command_says_what_happened_by_its_exit_status() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (server, worker) = (world.server().await?, world.demo_worker().await?);
    let python = Python { world: &world, journal: "python.db" };
    let fatal = ["submit", "demo.fail", r#"{"fatal":true}"#, "--id", "A-1", "--until", "done"];
    let (printed, exit) = python.run(&fatal).await?;
    assert_eq!((exit, &of_kind(&printed, "status")?["state"]), (3, &"failed".into()));
    let ticket = of_kind(&printed, "receipt")?["ticket"].as_str().unwrap_or_default();
    let (printed, exit) = python.run(&["status", ticket, "--history"]).await?;
    assert_eq!((exit, &printed[0]["history"][0]["event"]), (3, &"accepted".into()));
    let (printed, exit) = python.run(&["cancel", "A-2"]).await?;
    assert_eq!((exit, &printed[0]["answer"]), (0, &"voided".into()));
    assert_eq!(python.run(&["submit", "demo.echo", "1", "--id", "A-2"]).await?.1, 3);
    assert_eq!(python.run(&["cancel", "A-1"]).await?.1, 3);
    assert_eq!(python.run(&["status", "A-3"]).await?.1, 4);
    assert_eq!(python.run(&["submit", "demo.echo", "1", "--id", "no id"]).await?.1, 2);
    assert_eq!(python.run(&["submit"]).await?.1, 2);
    let away = ["--timeout", "0.2", "status", "A-1"];
    let (process, _lines) = python.start_at(&nowhere()?, &away)?;
    assert_eq!(process.ended().await?, Some(5));
    worker.stop().await?;
    Ok(server.stop().await?)
}
