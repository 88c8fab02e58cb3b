//! The `counterfoil` command as a person or a script uses it.

use harness::{Process, World};
use serde_json::Value;

/// What a command printed, and its exit status.
async fn run(world: &World, arguments: &[&str]) -> anyhow::Result<(Vec<String>, i32)> {
    let environment = world.environment("shop");
    let (process, mut lines) =
        Process::start("counterfoil", arguments, &environment, &world.directory)?;
    let printed = lines.rest().await?;
    Ok((printed, process.ended().await?.unwrap_or(-1)))
}

#[tokio::test]
async fn submit_status_watch_and_cancel_say_what_happened_by_their_exit_status()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let (server, worker) = (world.server().await?, world.demo_worker().await?);
    let (printed, exit) =
        run(&world, &["submit", "demo.echo", "1", "--id", "A-1", "--until", "done"]).await?;
    assert_eq!((exit, printed[0].ends_with("succeeded")), (0, true), "{printed:?}");
    let (printed, exit) = run(&world, &["--json", "status", "A-1", "--history"]).await?;
    let status: Value = serde_json::from_str(&printed[0])?;
    assert_eq!((exit, &status["history"][0]["event"]), (0, &Value::from("accepted")));
    let (_, exit) = run(&world, &["status", "A-2"]).await?;
    assert_eq!(exit, 4);
    let fatal = ["submit", "demo.fail", r#"{"fatal":true}"#, "--id", "A-3", "--until", "done"];
    assert_eq!(run(&world, &fatal).await?.1, 3);
    let (printed, exit) = run(&world, &["watch", "A-3"]).await?;
    assert_eq!((exit, printed.len()), (3, 3), "{printed:?}");
    let (printed, exit) = run(&world, &["cancel", "A-4"]).await?;
    assert!(exit == 0 && printed.concat().contains("voided"), "{printed:?}");
    assert_eq!(run(&world, &["watch", "A-5"]).await?.1, 4);
    assert_eq!(run(&world, &["status", "no id"]).await?.1, 2);
    assert_eq!(run(&world, &["cancel", "A-1"]).await?.1, 3);
    let (_, exit) = run(&world, &["submit", "demo.echo", "1", "--id", "A-4"]).await?;
    assert_eq!(exit, 3);
    // Retired before it is asked for: the tombstone says how it ended.
    for (body, status) in [(r#"{"a":1}"#, 0), (r#"{"a":2}"#, 0)] {
        let keep = ["submit", "demo.echo", body, "--header", "job-keep-ms=0", "--until", "done"];
        let (printed, exit) = run(&world, &keep).await?;
        assert_eq!(exit, status, "{printed:?}");
    }
    let fatal = ["submit", "demo.fail", r#"{"fatal":true}"#, "--header", "job-keep-ms=0"];
    let (printed, exit) = run(&world, &[&fatal[..], &["--until", "done"]].concat()).await?;
    assert_eq!(exit, 3, "{printed:?}");
    let (printed, _) = run(&world, &["--json", "journal"]).await?;
    for entry in &printed {
        let entry: Value = serde_json::from_str(entry)?;
        assert_ne!((&entry["standing"], &entry["outcome"]), (&"refused".into(), &Value::Null));
    }
    assert_eq!(run(&world, &["status", "A-6", "--void-if-unknown"]).await?.1, 0);
    worker.stop().await?;
    Ok(server.stop().await?)
}

#[tokio::test]
async fn many_lines_are_submitted_and_the_journal_shows_them() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (server, worker) = (world.server().await?, world.demo_worker().await?);
    let file = world.directory.join("many.jsonl");
    let lines: String = (0..300).map(|n| format!("{{\"n\":\"N-{n}\"}}\n")).collect();
    std::fs::write(&file, lines)?;
    let file = file.to_string_lossy();
    let (printed, exit) =
        run(&world, &["submit", "demo.echo", "--jsonl", &file, "--id-field", "n"]).await?;
    assert_eq!((exit, printed.len()), (0, 300));
    let (printed, _) = run(&world, &["--json", "journal"]).await?;
    assert_eq!(printed.len(), 300);
    let (printed, exit) = run(&world, &["recover"]).await?;
    assert_eq!(exit, 0, "{printed:?}");
    worker.stop().await?;
    Ok(server.stop().await?)
}

#[tokio::test]
async fn wrong_settings_are_one_line_that_names_the_key() -> anyhow::Result<()> {
    let world = World::new().await?;
    let file = world.directory.join("wrong.toml");
    for (text, key) in [
        ("[worker]\nbeat_ms = 5000\n", "worker.beat_ms"),
        ("[amqp]\nulr = \"x\"\n", "amqp.ulr"),
        ("[server]\nroles = [\"boss\"]\n", "roles"),
        ("[log]\nformat = \"xml\"\n", "allowed are text and json"),
        ("[redis]\nslots = 3\n", "redis.slots is 3; allowed is a power of two"),
        ("[amqp]\nurl = \"rabbit\"\n", "amqp.url"),
        ("[client]\nanswer_timeout_ms = 0\n", "client.answer_timeout_ms"),
    ] {
        std::fs::write(&file, text)?;
        let path = file.to_string_lossy().into_owned();
        let output = std::process::Command::new(harness::binary("counterfoil")?)
            .args(["--config", &path, "server"])
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(key), "{key}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_or_virtual_host_is_said_at_once() -> anyhow::Result<()> {
    let world = World::new().await?;
    let right = world.amqp_url("server");
    for wrong in [right.replace(":secret@", ":wrong@"), format!("{right}-not-there")] {
        let output = std::process::Command::new(harness::binary("counterfoil")?)
            .arg("server")
            .env("COUNTERFOIL_AMQP_URL", wrong)
            .env("COUNTERFOIL_REDIS_URL", &world.settings.redis.url)
            .env("COUNTERFOIL_REDIS_PREFIX", &world.name)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("RabbitMQ refuses this program"), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_broker_that_is_away_is_said_once_and_tried_again() -> anyhow::Result<()> {
    let world = World::new().await?;
    let port = nodes::ports::free(1)?[0];
    let mut child = tokio::process::Command::new(harness::binary("counterfoil")?)
        .arg("server")
        .env("COUNTERFOIL_AMQP_URL", format!("amqp://a:b@127.0.0.1:{port}/"))
        .env("COUNTERFOIL_REDIS_URL", &world.settings.redis.url)
        .env("COUNTERFOIL_REDIS_PREFIX", &world.name)
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    // Somebody listens at last, and is connected to: so it was tried again and again.
    let stderr = child.stderr.take().ok_or_else(|| anyhow::anyhow!("no stderr"))?;
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(stderr));
    let said = harness::within("a word about it", lines.next_line()).await??.unwrap_or_default();
    assert!(said.contains("trying again until it works"), "{said}");
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    for _ in 0..2 {
        drop(harness::within("another try", listener.accept()).await??);
    }
    child.kill().await?;
    let mut rest = 0;
    while lines.next_line().await?.is_some() {
        rest += 1;
    }
    assert_eq!(rest, 0, "said more than once");
    Ok(())
}

#[tokio::test]
async fn what_is_missing_or_malformed_is_wrong_usage() -> anyhow::Result<()> {
    let world = World::new().await?;
    for arguments in [
        &["subscribe", "A-1"][..],
        &["list", "--state", "foo"],
        &["list", "--after", "nonsense"],
        &["report", "TOKEN"],
        &["report", "TOKEN", "--progress", "101"],
        &["report", "TOKEN", "--outcome", "maybe"],
        &["submit", "demo.echo"],
    ] {
        assert_eq!(run(&world, arguments).await?.1, 2, "{arguments:?}");
    }
    Ok(())
}

/// Closing the terminal of `dev` left its RabbitMQ and Redis behind.
#[tokio::test]
async fn the_end_of_the_terminal_ends_a_process_in_order() -> anyhow::Result<()> {
    let world = World::new().await?;
    for role in ["server", "worker"] {
        let environment = world.environment(role);
        let (process, mut lines) =
            Process::start("counterfoil", &[role], &environment, &world.directory)?;
        lines.until("working").await?;
        nodes::signal(process.pid()?, "-HUP");
        assert_eq!(process.ended().await?, Some(0), "{role}");
    }
    Ok(())
}
