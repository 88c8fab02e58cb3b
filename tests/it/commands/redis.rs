//! The commands of `redis-cli`: an operator and a reader need no program of ours.

use harness::{World, eventually};

use super::{Runner, commands_of};

#[tokio::test]
async fn redis_cli_alone_finds_a_job_by_id_and_by_ticket() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (server, worker) = (world.server().await?, world.demo_worker().await?);
    let shop = world.client("shop")?;
    let submission = client::Submission::new("demo.echo", "1").job_id("A-1001");
    let receipt = shop.submit(submission).await?.accepted().await?;
    eventually("the job to be done", || async {
        let record = world.record("shop", "A-1001").await?.unwrap_or_default();
        Ok((record.state.as_deref() == Some("succeeded")).then_some(()))
    })
    .await?;
    let ticket = receipt.ticket.unwrap_or_default();
    let port = world.settings.redis.url.rsplit([':', '/']).nth(1).unwrap_or_default();
    let commands = commands_of(Runner::Redis);
    assert!(commands.len() >= 7, "{commands:?}");
    let mut printed = String::new();
    for command in commands {
        let here = command
            .replace("redis-cli", &format!("redis-cli -p {port}"))
            .replace("counterfoil:", &format!("{}:", world.name))
            .replace("TYPE", "nobody.serves")
            .replace("$TICKET", &ticket);
        let mut shell = std::process::Command::new("sh");
        shell.arg("-ec").arg(&here).env("REDISCLI_AUTH", nodes::PASSWORD);
        let output = shell.output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{here}: {said}");
        let is_error = ["ERR", "NO"].iter().any(|error| said.starts_with(error));
        assert!(!is_error, "{here}: {said}");
        printed.push_str(&said);
    }
    for wanted in ["succeeded", "shop:A-1001", &ticket, "accepted queued 0"] {
        assert!(printed.contains(wanted), "{wanted} was not printed:\n{printed}");
    }
    worker.stop().await?;
    Ok(server.stop().await?)
}
