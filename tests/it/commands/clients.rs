//! The commands of the clients in other languages, each in its folder.

use anyhow::ensure;
use harness::{Process, World, start, workspace};
use worker::Failure;

use super::{Runner, commands_of, program_of};

#[tokio::test]
async fn every_command_of_the_clients_in_other_languages_runs_as_printed() -> anyhow::Result<()> {
    let world = World::new().await?;
    let server = world.server().await?;
    let place = || async { Ok::<_, Failure>("placed") };
    let worker = start(world.worker().handle("order.place", place)?).await?;
    let commands = commands_of(Runner::Clients);
    assert!(commands.len() >= 3, "{commands:?}");
    for command in commands {
        let folder = program_of(&command).trim_end_matches('3');
        let url = world.amqp_url("shop");
        // Debian's, which pika is installed for.
        let here = command
            .replace("python3 ", "/usr/bin/python3 ")
            .replace("amqp://shop:secret@localhost/", &url)
            .replace("AMQP_URL=… ", &format!("AMQP_URL={url} "))
            .replace("counterfoil.py ", &format!("counterfoil.py --journal {} ", journal(&world)));
        let mut shell = tokio::process::Command::new("sh");
        shell.arg("-ec").arg(here).env("GOCACHE", workspace().join("target/go-cache"));
        shell.current_dir(workspace().join("tests/foreign").join(folder));
        let (process, mut lines) = Process::spawn(shell)?;
        let printed = lines.rest().await?.join("\n");
        ensure!(process.ended().await? == Some(0), "{command}: {printed}");
        assert!(printed.contains("receipt"), "{command}: {printed}");
    }
    worker.stop().await?;
    Ok(server.stop().await?)
}

/// By default it would be in the folder of the program.
fn journal(world: &World) -> String {
    world.directory.join("python.db").display().to_string()
}
