//! The program's own commands.

use anyhow::{Context as _, ensure};
use harness::{Process, World};

use super::{Runner, commands_of};

/// What stands for the words in capitals, and for what a reader has elsewhere.
fn arguments(command: &str, world: &World) -> Vec<String> {
    let here = |word: &str| match word.trim_matches(['[', ']']) {
        "NAME" => "orders".to_owned(),
        "CLIENT" => "shop".to_owned(),
        "ID" | "JOB_ID" => "A-1001".to_owned(),
        "N" => "2".to_owned(),
        "http://ADMIN:PASSWORD@HOST:15672" => world.management_url(),
        word => word.to_owned(),
    };
    let program = command.strip_prefix("cargo run -p counterfoil --").unwrap_or(command);
    program.trim_start_matches("counterfoil").split_whitespace().map(here).collect()
}

/// The user as which a command is run.
fn user(verb: &str) -> &'static str {
    match verb {
        "server" | "replay" | "config" | "doctor" => "server",
        "worker" => "worker",
        "setup" => "admin",
        _ => "shop",
    }
}

fn start(world: &World, arguments: &[String]) -> anyhow::Result<(Process, harness::Lines)> {
    let verb = arguments.first().context("a verb")?;
    let environment = world.environment(user(verb));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Process::start("counterfoil", &arguments, &environment, &world.directory)
}

/// Runs to its end, or until it works.
async fn run(world: &World, command: &str) -> anyhow::Result<()> {
    let mut arguments = arguments(command, world);
    // Named in a sentence; what it takes stands elsewhere.
    if arguments == ["submit"] {
        arguments.extend(["demo.echo".to_owned(), "1".to_owned()]);
    }
    let (process, mut lines) = start(world, &arguments)?;
    if let "server" | "worker" = arguments[0].as_str() {
        lines.until("working").await?;
        let status = process.terminate().await?;
        return ensure_is(status, 0);
    }
    lines.rest().await?;
    // The job has failed already: a cancellation says so.
    let expected = if arguments[0] == "cancel" { 3 } else { 0 };
    ensure_is(process.ended().await?, expected)
}

fn ensure_is(status: Option<i32>, expected: i32) -> anyhow::Result<()> {
    ensure!(status == Some(expected), "status {status:?} instead of {expected}");
    Ok(())
}

#[tokio::test]
async fn every_command_of_the_program_runs_as_printed() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (server, worker) = (world.server().await?, world.demo_worker().await?);
    let fatal = ["submit", "demo.fail", r#"{"fatal":true}"#, "--id", "A-1001", "--until", "done"];
    let (failing, mut lines) = start(&world, &fatal.map(str::to_owned))?;
    lines.rest().await?;
    ensure_is(failing.ended().await?, 3)?;
    let commands = commands_of(Runner::Program);
    let (dev, others): (Vec<_>, Vec<_>) = commands.into_iter().partition(|c| c.ends_with(" dev"));
    assert!(!dev.is_empty() && others.len() >= 15, "{others:?}");
    for command in others {
        run(&world, &command).await.with_context(|| command.clone())?;
    }
    worker.stop().await?;
    Ok(server.stop().await?)
}

/// `dev` says what to type next; what it says works. With `--data` it goes on where it was.
#[tokio::test]
async fn dev_starts_everything_and_what_it_says_to_type_works() -> anyhow::Result<()> {
    let world = World::new().await?;
    type_what_dev_says(&world, &["dev"], &["submit", "status"]).await?;
    let data = world.directory.join("data").display().to_string();
    let dev = ["dev", "--data", data.as_str()];
    type_what_dev_says(&world, &dev, &["submit", "status"]).await?;
    type_what_dev_says(&world, &dev, &["status"]).await
}

async fn type_what_dev_says(world: &World, dev: &[&str], commands: &[&str]) -> anyhow::Result<()> {
    let (dev, mut said) = Process::start("counterfoil", dev, &[], &world.directory)?;
    let mut script = "set -eu\n".to_owned();
    script.push_str(&said.until("export ").await?);
    for command in commands {
        script.push('\n');
        script.push_str(&said.until(command).await?);
    }
    let mut shell = tokio::process::Command::new("sh");
    shell.arg("-c").arg(script).current_dir(&world.directory);
    shell.env("COUNTERFOIL_CLIENT_JOURNAL", world.directory.join("dev.db"));
    let (shell, mut printed) = Process::spawn(shell)?;
    let printed = printed.rest().await?.join("\n");
    ensure_is(shell.ended().await?, 0).with_context(|| printed.clone())?;
    assert!(printed.contains("succeeded"), "{printed}");
    ensure_is(dev.terminate().await?, 0)
}
