//! Prints the events that come to a queue, as any AMQP client could.

use harness::Raw;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let queue = std::env::args().nth(1).unwrap_or_default();
    let raw = Raw::from_settings().await?;
    raw.connection.declare_durable_inbox(&queue, 600_000).await?;
    let mut inbox = raw.read(&queue).await?;
    println!("listening");
    loop {
        let event = inbox.next_of("event").await?;
        let stage = event.text("stage");
        println!(
            "{} {} {} {stage}",
            event.text("job_id"),
            event.text("event"),
            event.text("state")
        );
    }
}
