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
        settings.server.roles = {
            let roles = options.roles.iter().map(|role| Role::parse(role));
            roles.collect::<Result<_, _>>().map_err(UsageError)?
        };
    }
    let (ready, mut working) = watch::channel(false);
    let is_json = arguments.json;
    tokio::spawn(async move {
        // The server may end before it ever worked, and says why itself.
        if working.wait_for(|ready| *ready).await.is_ok() {
            working_now(is_json, "server");
        }
    });
    let stop = signal::token()?;
    server::run(settings.server, settings.amqp, settings.redis, stop, ready)
        .await
        .context("server")?;
    Ok(Exit::Done)
}

pub(crate) async fn worker(arguments: &Arguments) -> anyhow::Result<Exit> {
    let settings = Settings::load(arguments)?;
    let mut running = worker::demo::add(Worker::new(settings.for_worker()))?.start();
    let stop = signal::token()?;
    tokio::select! {
        // An end before it worked: `stop` below says why.
        ready = running.ready() => if ready.is_ok() {
            working_now(arguments.json, "worker");
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

/// One line, for whoever started it.
fn working_now(is_json: bool, what: &str) {
    if is_json {
        crate::output::line(&format!(r#"{{"working":"{what}"}}"#));
    } else {
        crate::output::line(&format!("counterfoil {what}: working"));
    }
}
