//! The commands for operators: `setup`, `doctor`, `config check`, `replay`.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};

use harness::{Process, World, eventually};
use nodes::{Fsync, Redis, ports};
use serde_json::Value;

/// What a command printed, one JSON value a line, and its exit status.
pub(crate) async fn run(
    world: &World,
    environment: &[(String, String)],
    arguments: &[&str],
) -> anyhow::Result<(Vec<Value>, i32)> {
    let arguments: Vec<&str> = ["--json"].into_iter().chain(arguments.iter().copied()).collect();
    let (process, mut lines) =
        Process::start("counterfoil", &arguments, environment, &world.directory)?;
    let printed = lines.rest().await?;
    let printed =
        printed.iter().map(|line| serde_json::from_str(line)).collect::<Result<_, _>>()?;
    Ok((printed, process.ended().await?.unwrap_or(-1)))
}

pub(crate) fn with(world: &World, user: &str, name: &str, value: &str) -> Vec<(String, String)> {
    let mut environment = world.environment(user);
    environment.retain(|(known, _)| known != name);
    environment.push((name.to_owned(), value.to_owned()));
    environment
}

/// A client that is set up on a broker that has nothing can submit and ask; a second time changes
/// nothing.
#[tokio::test]
async fn setup_makes_topology_users_and_rights_and_may_be_repeated() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    let client = format!("{}-shop", world.name);
    let setup = [
        "setup",
        "--client",
        &client,
        "--queue",
        "orders",
        "--management-url",
        &world.management_url(),
    ];
    let (printed, exit) = run(&world, &world.environment("admin"), &setup).await?;
    assert_eq!(exit, 0, "{printed:?}");
    let queues: Vec<&str> = printed.iter().filter_map(|line| line["queue"].as_str()).collect();
    assert_eq!(queues, ["counterfoil.work.default", "counterfoil.work.orders"]);
    let user = printed.iter().find(|line| line["user"] == client.as_str());
    let password = user.and_then(|user| user["password"].as_str()).unwrap_or_default();
    assert!(password.len() >= 32, "{printed:?}");

    let server = world.server().await?;
    let url = world.amqp_url("shop").replace("shop:secret", &format!("{client}:{password}"));
    world.settings.amqp.url = url;
    let shop = world.client_settings("shop");
    let amqp = world.settings.amqp.clone();
    let shop = client::Client::open(client::Settings { amqp, ..shop })?;
    let submitted = shop.submit(client::Submission::new("order.place", "{}").job_id("A-1")).await?;
    assert_eq!(submitted.accepted().await?.client.as_deref(), Some(client.as_str()));

    let (printed, exit) = run(&world, &world.environment("admin"), &setup).await?;
    assert_eq!(exit, 0);
    assert!(printed.iter().all(|line| line.get("password").is_none()), "{printed:?}");
    assert_eq!(shop.status("A-1").await?.state.as_deref(), Some("parked"));
    shop.close().await;
    Ok(server.stop().await?)
}

/// Nobody else knows a new user's password, so it is said even if the next step fails.
#[tokio::test]
async fn setup_says_the_passwords_that_it_made_before_it_failed() -> anyhow::Result<()> {
    let world = World::new().await?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://admin:secret@{}", listener.local_addr()?);
    // Knows no user, takes a new one, and fails at its rights.
    std::thread::spawn(move || {
        for status in ["404 Not Found", "201 Created", "500 Internal Server Error"] {
            let Ok((mut stream, _)) = listener.accept() else { return };
            // Whatever it asks, in one piece.
            let _size = stream.read(&mut [0; 4096]).unwrap_or(0);
            let answer = "Content-Length: 0\r\nConnection: close\r\n\r\n";
            stream.write_all(format!("HTTP/1.1 {status}\r\n{answer}").as_bytes()).ok();
        }
    });
    let setup = ["setup", "--management-url", &url];
    let (printed, exit) = run(&world, &world.environment("admin"), &setup).await?;
    assert_ne!(exit, 0);
    let user = printed.iter().find(|line| line["user"] == "counterfoil-server");
    let password = user.and_then(|user| user["password"].as_str()).unwrap_or_default();
    assert!(password.len() >= 32, "{printed:?}");
    Ok(())
}

#[tokio::test]
async fn setup_says_what_it_cannot_do() -> anyhow::Result<()> {
    let world = World::new().await?;
    let said = |arguments: Vec<String>, environment: Vec<(String, String)>| async move {
        let output = std::process::Command::new(harness::binary("counterfoil")?)
            .args(arguments)
            .envs(environment)
            .output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok::<_, anyhow::Error>((output.status.code(), text))
    };
    let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    // A client has no right to configure.
    let (exit, text) = said(own(&["setup"]), world.environment("shop")).await?;
    assert_eq!(exit, Some(1), "{text}");
    assert!(text.contains("administrator's amqp.url"), "{text}");
    for (arguments, expected) in [
        (own(&["setup", "--client", "a.b"]), "client must be"),
        (own(&["setup", "--client", "counterfoil-server"]), "another name"),
        (own(&["setup", "--client", "admin"]), "lose its other rights"),
        (own(&["setup", "--queue", "A B"]), "queue must be"),
        (own(&["setup", "--management-url", "https://rabbit"]), "only http"),
    ] {
        let (exit, text) = said(arguments, world.environment("admin")).await?;
        assert!(exit != Some(0) && text.contains(expected), "{text}");
    }
    Ok(())
}

/// The findings by what was looked at, the worst of each.
pub(crate) fn findings(printed: &[Value]) -> BTreeMap<String, String> {
    let mut worst = BTreeMap::new();
    for finding in printed {
        let level = finding["level"].as_str().unwrap_or_default().to_owned();
        if level != "ok" {
            for field in ["found", "meaning", "remedy"] {
                assert!(finding[field].as_str().is_some_and(|text| !text.is_empty()), "{finding}");
            }
        }
        let check = finding["check"].as_str().unwrap_or_default().to_owned();
        let known = worst.entry(check).or_insert_with(|| level.clone());
        if level == "error" || (level == "warning" && known == "ok") {
            *known = level;
        }
    }
    worst
}

#[tokio::test]
async fn doctor_finds_nothing_wrong_where_nothing_is() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (server, worker) = (world.server().await?, world.demo_worker().await?);
    let doctor = ["doctor", "--management-url", &world.management_url()];
    let (printed, exit) = run(&world, &world.environment("server"), &doctor).await?;
    let found = findings(&printed);
    assert_eq!(exit, 0, "{printed:#?}");
    assert!(found.values().all(|level| level == "ok"), "{printed:#?}");
    for check in [
        "redis version",
        "redis access",
        "redis eviction",
        "redis persistence",
        "redis layout",
        "clocks",
        "parked jobs",
        "acknowledgement limit",
        "rabbitmq version",
        "topology",
        "consumers",
        "dead letters",
        "queue arguments",
    ] {
        assert!(found.contains_key(check), "{check}: {printed:#?}");
    }
    worker.stop().await?;
    Ok(server.stop().await?)
}

#[tokio::test]
async fn doctor_names_what_is_missing_what_differs_and_what_waits() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (server, worker) = (world.server().await?, world.demo_worker().await?);
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    shop.submit_job("none.such", "A-1", &inbox.queue, &[], "{}").await?;
    inbox.next_of("receipt").await?;
    shop.submit("order.place", shop.properties("~", ""), "{}").await?;
    let looking = world.raw("admin").await?;
    eventually("it is dead-lettered", || async {
        let depth = looking.connection.depth("counterfoil.dead").await?;
        Ok((depth.ready == 1).then_some(()))
    })
    .await?;
    worker.stop().await?;
    server.stop().await?;
    // Somebody has made the queue of dead letters anew, by hand, and another one not at all.
    let admin = lapin::Connection::connect(
        &world.amqp_url("admin"),
        lapin::ConnectionProperties::default(),
    )
    .await?;
    let channel = admin.create_channel().await?;
    channel.queue_delete("counterfoil.dropped".into(), Default::default()).await?;
    channel.queue_delete("counterfoil.inquiry".into(), Default::default()).await?;
    let durable = lapin::options::QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare("counterfoil.inquiry".into(), durable, Default::default()).await?;

    let url = world.management_url();
    let arguments = ["doctor", "--management-url", &url, "--consumer-timeout-ms", "60000"];
    let found = eventually("the management interface sees it", || async {
        let (printed, exit) = run(&world, &world.environment("server"), &arguments).await?;
        assert_eq!(exit, 1, "{printed:#?}");
        let found = findings(&printed);
        Ok((found.get("queue arguments").map(String::as_str) == Some("error")).then_some(printed))
    })
    .await?;
    let levels = findings(&found);
    for (check, level) in [
        ("topology", "error"),
        ("queue arguments", "error"),
        ("acknowledgement limit", "error"),
        ("consumers", "error"),
        ("parked jobs", "warning"),
        ("dead letters", "warning"),
    ] {
        assert_eq!(levels.get(check).map(String::as_str), Some(level), "{check}: {found:#?}");
    }
    let text = serde_json::to_string(&found)?;
    for part in ["counterfoil.dropped does not exist", "x-delivery-limit is absent", "none.such"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn doctor_names_a_store_that_is_not_fit() -> anyhow::Result<()> {
    let world = World::new().await?;
    let port = ports::free(1)?[0];
    let redis = Redis::start(&world.directory.join("redis"), port, Fsync::Everysec)?;
    let client = redis::Client::open(redis.url())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let mut set = async |name: &str, value: &str| {
        let set = redis::cmd("CONFIG").arg("SET").arg(name).arg(value).to_owned();
        set.exec_async(&mut connection).await
    };
    set("maxmemory-policy", "allkeys-lru").await?;
    set("appendonly", "no").await?;
    set("maxmemory", "2mb").await?;
    let key = format!("{}:deployment", world.name);
    let newer = redis::cmd("HSET").arg(&key).arg(&["layout", "99", "slots", "1"]).to_owned();
    newer.exec_async(&mut client.get_multiplexed_async_connection().await?).await?;
    let environment = with(&world, "server", "COUNTERFOIL_REDIS_URL", &redis.url());
    let (printed, exit) = run(&world, &environment, &["doctor"]).await?;
    let found = findings(&printed);
    assert_eq!(exit, 1);
    for check in ["redis eviction", "redis persistence", "redis layout"] {
        assert_eq!(found.get(check).map(String::as_str), Some("error"), "{printed:#?}");
    }
    assert!(found.contains_key("redis memory"));
    assert_eq!(found.get("redis access").map(String::as_str), Some("warning"));
    // Without the management interface it says that it has not looked.
    assert_eq!(found.get("queue arguments").map(String::as_str), Some("warning"));
    redis.stop();
    // And neither is there.
    let mut environment = with(&world, "server", "COUNTERFOIL_REDIS_URL", "redis://127.0.0.1:1/");
    environment.push(("COUNTERFOIL_AMQP_URL".into(), "amqp://a:b@127.0.0.1:1/".into()));
    let (printed, exit) = run(&world, &environment, &["doctor"]).await?;
    let found = findings(&printed);
    assert_eq!((exit, found["redis"].as_str(), found["rabbitmq"].as_str()), (1, "error", "error"));
    Ok(())
}

/// A store whose layout is newer is not touched.
#[tokio::test]
async fn a_server_does_not_start_on_a_store_whose_layout_is_newer() -> anyhow::Result<()> {
    let world = World::new().await?;
    let client = redis::Client::open(world.redis_url())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let key = format!("{}:deployment", world.name);
    let newer = redis::cmd("HSET").arg(&key).arg(&["layout", "2", "slots", "1"]).to_owned();
    newer.exec_async(&mut connection).await?;
    for role in ["server", "worker"] {
        let output = std::process::Command::new(harness::binary("counterfoil")?)
            .arg(role)
            .envs(world.environment(role))
            .output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{text}");
        assert!(text.contains("layout 2") && text.contains("redis.prefix"), "{text}");
    }
    let keys: Vec<String> =
        redis::cmd("KEYS").arg(format!("{}:*", world.name)).query_async(&mut connection).await?;
    assert!(keys.iter().all(|key| !key.contains(":job:") && !key.contains(":types")), "{keys:?}");
    Ok(())
}

#[tokio::test]
async fn config_check_prints_what_is_used_without_secrets() -> anyhow::Result<()> {
    let world = World::new().await?;
    let file = world.directory.join("mine.toml");
    let text = "[redis]\nsecret = \"quicksilver\"\n[server.keep.\"order.place\"]\nfailed_ms = 5\n";
    std::fs::write(&file, text)?;
    let file = file.to_string_lossy().into_owned();
    let check = ["--config", &file, "config", "check"];
    let (printed, exit) = run(&world, &world.environment("server"), &check).await?;
    let all = &printed[0];
    assert_eq!(exit, 0);
    assert_eq!(all["server"]["keep"]["order.place"]["failed_ms"], 5);
    assert_eq!(all["redis"]["secret"], "***");
    assert_eq!(all["redis"]["prefix"], world.name.as_str());
    assert!(all["amqp"]["url"].as_str().is_some_and(|url| url.contains("server:***@")), "{all}");
    let text = all.to_string();
    assert!(!text.contains("quicksilver") && !text.contains(":secret@"), "{text}");

    std::fs::write(world.directory.join("mine.toml"), "[server.keep.\"Order\"]\nfailed_ms = 5\n")?;
    let output =
        std::process::Command::new(harness::binary("counterfoil")?).args(check).output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("server.keep") && text.contains("type must be"), "{text}");
    Ok(())
}

#[tokio::test]
async fn replay_prints_the_new_id_and_says_why_it_cannot() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (server, worker) = (world.server().await?, world.demo_worker().await?);
    let environment = world.environment("server");
    assert_eq!(run(&world, &environment, &["replay", "shop", "A-1"]).await?.1, 4);
    let shop = world.raw("shop").await?;
    let mut inbox = shop.inbox("a").await?;
    let notify = [("job-notify", "terminal")];
    let fatal = r#"{"fatal":true}"#;
    shop.submit_job("demo.fail", "A-1", &inbox.queue, &notify, fatal).await?;
    inbox.event("failed").await?;
    let (printed, exit) = run(&world, &environment, &["replay", "shop", "A-1"]).await?;
    assert_eq!((exit, printed[0]["job_id"].as_str()), (0, Some("A-1~2")));
    assert_eq!(inbox.event("failed").await?.text("job_id"), "A-1~2");
    shop.submit_job("demo.echo", "A-2", &inbox.queue, &notify, "1").await?;
    inbox.event("succeeded").await?;
    assert_eq!(run(&world, &environment, &["replay", "shop", "A-2"]).await?.1, 1);
    worker.stop().await?;
    Ok(server.stop().await?)
}
