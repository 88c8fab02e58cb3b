//! `server` and `worker`.

use anyhow::Context as _;
use server::Role;
use tokio::sync::watch;
use worker::Worker;

use crate::cli::{Arguments, Server};
use crate::exit::{Exit, UsageError};
use crate::settings::Settings;
use crate::signal;

pub(crate) async fn server(arguments: &Arguments, options: &Server) -> anyhow::Result<Exit> {
    let mut settings = Settings::load(arguments)?;
    if !options.roles.is_empty() {
        settings.server.roles =
            options.roles.iter().map(|role| parse_role(role)).collect::<Result<_, _>>()?;
    }
    let (ready, mut working) = watch::channel(false);
    tokio::spawn(async move {
        // The server may end before it ever worked, and says why itself.
        if working.wait_for(|ready| *ready).await.is_ok() {
            crate::output::line("counterfoil server: working");
        }
    });
    let stop = signal::token()?;
    server::run(settings.server, settings.amqp, settings.redis, stop, ready)
        .await
        .context("server")?;
    Ok(Exit::Done)
}

fn parse_role(word: &str) -> Result<Role, UsageError> {
    serde_json::from_value(serde_json::Value::String(word.to_owned())).map_err(|_| {
        UsageError(format!(
            "--roles: {word:?} is no role; allowed are registrar, inquiry, notifier, scheduler"
        ))
    })
}

pub(crate) async fn worker(arguments: &Arguments) -> anyhow::Result<Exit> {
    let settings = Settings::load(arguments)?;
    let mut running = worker::demo::add(Worker::new(settings.for_worker()))?.start();
    let stop = signal::token()?;
    tokio::select! {
        // An end before it worked: `stop` below says why.
        ready = running.ready() => if ready.is_ok() {
            crate::output::line("counterfoil worker: working");
            tokio::select! {
                () = stop.cancelled() => {}
                () = running.ended() => {}
            }
        },
        () = stop.cancelled() => {}
    }
    running.stop().await.context("worker")?;
    Ok(Exit::Done)
}
