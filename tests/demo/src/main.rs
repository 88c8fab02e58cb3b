//! The demonstration: an order desk with real processes on a private RabbitMQ and Redis; a client
//! and a worker are killed in the middle. It ends with a table of what was promised and what was
//! seen, and fails if one line fails.

mod shop;
mod stage;
mod story;

use std::process::ExitCode;

use crate::stage::Stage;
use crate::story::Table;

#[tokio::main]
async fn main() -> ExitCode {
    let mut table = Table::default();
    let told = match Stage::set().await {
        Ok(stage) => {
            let told = story::tell(&stage, &mut table).await;
            stage.clear().await.and(told)
        }
        Err(error) => Err(error),
    };
    table.print();
    match told {
        Ok(()) if table.holds() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the demonstration broke off: {error:#}");
            ExitCode::FAILURE
        }
    }
}
