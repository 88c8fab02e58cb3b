//! What is shown, step by step, and the table of it.

use anyhow::Context as _;
use broker::rights::{SERVER_USER, WORKER_USER};
use harness::{Process, workspace};

use crate::shop::{Said, counterfoil, quietly};
use crate::stage::Stage;

/// What was promised, what was seen, and whether it holds.
#[derive(Default)]
pub(crate) struct Table(Vec<(&'static str, String, bool)>);

impl Table {
    fn add(&mut self, promised: &'static str, seen: impl Into<String>, holds: bool) {
        self.0.push((promised, seen.into(), holds));
    }

    pub(crate) fn holds(&self) -> bool {
        self.0.len() == LINES && self.0.iter().all(|(_, _, holds)| *holds)
    }

    pub(crate) fn print(&self) {
        let width =
            |of: fn(&(&str, String, bool)) -> usize| self.0.iter().map(of).max().unwrap_or(0);
        let promised = width(|(text, ..)| text.chars().count());
        let seen = width(|(_, text, _)| text.chars().count());
        println!("\n    {:<promised$}  {:<seen$}", "promised", "seen");
        for (text, what, holds) in &self.0 {
            let mark = if *holds { "ok" } else { "NO" };
            println!("{mark}  {text:<promised$}  {what:<seen$}");
        }
        let kept = self.0.iter().filter(|(_, _, holds)| *holds).count();
        println!("\n{kept} of {LINES} lines hold");
    }
}

/// So many lines make the table whole.
const LINES: usize = 13;
/// Orders of the sample file, and how many of them are wrong.
const ORDERS: usize = 24;
const WRONG: usize = 7;
/// How long each stage of the slow desk takes.
const SLOW: &str = "1500";

pub(crate) async fn tell(stage: &Stage, table: &mut Table) -> anyhow::Result<()> {
    let orders = workspace().canonicalize()?.join("services/order-desk/orders.jsonl");
    let orders = orders.to_str().context("a path that is text")?;
    journaled_then_killed(stage, table, orders).await?;
    let server = serve(stage).await?;
    recovered(stage, table).await?;
    let (desk, _) = stage.start(WORKER_USER, "order-desk", &[])?;
    finished(stage, table).await?;
    answered(stage, table).await?;
    repeated(stage, table).await?;
    desk.terminate().await?;
    worker_killed(stage, table).await?;
    let status = server.terminate().await?;
    table.add(
        "SIGTERM ends the server in order",
        format!("status {}", status.unwrap_or(-1)),
        status == Some(0),
    );
    Ok(())
}

async fn serve(stage: &Stage) -> anyhow::Result<Process> {
    let (server, mut output) = stage.start(SERVER_USER, "counterfoil", &["server"])?;
    output.until("working").await?;
    Ok(server)
}

/// A client is killed after it has journaled and before any receipt: no server runs yet.
async fn journaled_then_killed(
    stage: &Stage,
    table: &mut Table,
    orders: &str,
) -> anyhow::Result<()> {
    println!("\n1. A shop submits {ORDERS} orders. No server runs yet, so no receipt can come.");
    // The exchanges are there, as on any broker that has seen a server.
    serve(stage).await?.terminate().await?;
    let arguments = ["--json", "submit", "order.place", "--jsonl", orders, "--id-field", "order"];
    println!("  $ counterfoil submit order.place --jsonl orders.jsonl --id-field order");
    let (client, _output) = stage.start("shop", "counterfoil", &arguments)?;
    let journal = loop {
        let journal = quietly(stage, &["journal", "--open"]).await?;
        if journal.lines.len() == ORDERS {
            break journal;
        }
    };
    println!("  the client is killed (SIGKILL)");
    client.kill().await?;
    let seen = format!("{} ids on disk, no receipt", journal.lines.len());
    let no_ticket = journal.lines.iter().all(|entry| entry["ticket"].is_null());
    table.add("ids are journaled before they are sent", seen, no_ticket);
    Ok(())
}

async fn recovered(stage: &Stage, table: &mut Table) -> anyhow::Result<()> {
    println!("\n2. A server starts; another process of the shop recovers the journal.");
    let recovered = counterfoil(stage, &["recover"]).await?;
    let known = recovered.lines.iter().filter(|line| line["server"] != "unknown").count();
    let again = recovered.lines.len() - known;
    let seen = format!("{known} had arrived, {again} sent again");
    table.add("recover asks for every open id", seen, recovered.lines.len() == ORDERS);
    let open = counterfoil(stage, &["journal", "--open"]).await?;
    let accepted = open.lines.iter().filter(|entry| entry["ticket"].is_string()).count();
    table.add("every order has a ticket", format!("{accepted} of {ORDERS}"), accepted == ORDERS);
    Ok(())
}

/// The orders waited for a desk; now there is one.
async fn finished(stage: &Stage, table: &mut Table) -> anyhow::Result<()> {
    println!("\n3. The orders were parked: no worker had announced their type. Now the desk runs.");
    let ids = counterfoil(stage, &["journal"]).await?;
    println!("  $ counterfoil status ID --wait     (for each of them)");
    let (mut confirmed, mut failed) = (0, 0);
    for entry in &ids.lines {
        let id = entry["job_id"].as_str().unwrap_or_default();
        let status = quietly(stage, &["status", id, "--wait"]).await?;
        match status.text("state").as_str() {
            "succeeded" => confirmed += 1,
            "failed" => failed += 1,
            _ => {}
        }
    }
    let seen = format!("{confirmed} confirmed, {failed} failed with a reason");
    table.add(
        "parked orders run once a desk is there",
        seen,
        (confirmed, failed) == (ORDERS - WRONG, WRONG),
    );
    let wrong = counterfoil(stage, &["status", "A-1017"]).await?;
    let error = wrong.text("error");
    table.add("a wrong order says why", error.clone(), error.contains("no such article"));
    Ok(())
}

async fn answered(stage: &Stage, table: &mut Table) -> anyhow::Result<()> {
    println!("\n4. Either id answers, from any process; an id that was never sent is unknown.");
    let by_id = counterfoil(stage, &["status", "A-1001"]).await?;
    let ticket = by_id.text("ticket");
    table.add(
        "an answer by the client's id",
        by_id.text("state"),
        by_id.text("state") == "succeeded",
    );
    let by_ticket = counterfoil(stage, &["status", &ticket]).await?;
    let same = by_ticket.text("job_id") == "A-1001";
    table.add("an answer by the ticket", format!("{ticket} is A-1001"), same);
    let never = counterfoil(stage, &["status", "A-9999"]).await?;
    let seen = format!("{}, exit status {}", never.text("answer"), never.exit);
    table.add("unknown means unknown", seen, never.text("answer") == "unknown" && never.exit == 4);
    Ok(())
}

async fn repeated(stage: &Stage, table: &mut Table) -> anyhow::Result<()> {
    println!(
        "\n5. The same order again, and another order under the same id, from another machine."
    );
    let orders = include_str!("../../../services/order-desk/orders.jsonl");
    let first = orders.lines().next().context("an order")?;
    let again: Said = from_elsewhere(stage, "second", first).await?;
    let duplicate = again.lines.first().is_some_and(|line| line["duplicate"] == true);
    let seen = format!("duplicate, {}", again.text("state"));
    table.add("the same id and order is one job", seen, duplicate && again.exit == 0);
    // The second machine's own journal would refuse it, before it is sent.
    let conflict = from_elsewhere(stage, "third", "{}").await?;
    let code = conflict.text("code");
    table.add("the same id, another order", code.clone(), code == "id_conflict");
    Ok(())
}

/// Submits under the first order's id, with the journal of another machine.
async fn from_elsewhere(stage: &Stage, machine: &str, body: &str) -> anyhow::Result<Said> {
    let settings = stage.directory.join(format!("{machine}.toml"));
    std::fs::write(&settings, format!("[client]\njournal = \"{machine}.db\"\n"))?;
    let settings = settings.to_str().context("a path that is text")?;
    let arguments = ["--config", settings, "submit", "order.place", body, "--id", "A-1001"];
    counterfoil(stage, &arguments).await
}

async fn worker_killed(stage: &Stage, table: &mut Table) -> anyhow::Result<()> {
    println!("\n6. A desk is killed in the middle of an order; the next one finishes it.");
    let (slow, _) = stage.start(WORKER_USER, "order-desk", &["--pace-ms", SLOW])?;
    let events = "reply.shop.orders";
    let body = r#"{"order":"A-2001","customer":"customer-1","lines":[{"sku":"A1","qty":1}]}"#;
    // The client that hears the events is a process of its own, as any AMQP client would be.
    let (listener, mut heard) = stage.start("shop", "counterfoil-demo-listener", &[events])?;
    heard.until("listening").await?;
    let arguments =
        ["submit", "order.place", body, "--id", "A-2001", "--notify", "*", "--notify-to", events];
    counterfoil(stage, &arguments).await?;
    let reserved = heard.until("stock-reserved").await?;
    println!("  {reserved}\n  the desk is killed (SIGKILL)");
    slow.kill().await?;
    let (next, _) = stage.start(WORKER_USER, "order-desk", &[])?;
    let done = counterfoil(stage, &["status", "A-2001", "--wait"]).await?;
    let attempt = done.lines.first().map(|line| line["attempt"].clone()).unwrap_or_default();
    let seen = format!("{} in attempt {attempt}", done.text("state"));
    let holds = done.text("state") == "succeeded" && attempt == 2;
    table.add("an order outlives the desk that ran it", seen, holds);
    let last = heard.until("succeeded").await?;
    table.add("events come to the queue that was named", last.clone(), last.contains("A-2001"));
    listener.kill().await?;
    next.terminate().await?;
    Ok(())
}
