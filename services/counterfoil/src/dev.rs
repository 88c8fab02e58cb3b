//! `dev`: everything on one machine, as children of this process; all of it gone at its end.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use broker::rights::{SERVER_USER, WORKER_USER};
use nodes::{Deployment, ports};
use serde_json::json;
use server::Server;
use store::acl::READER_USER;
use tokio_util::sync::CancellationToken;
use worker::Worker;

use crate::cli::{self, Arguments};
use crate::exit::Exit;
use crate::output;
use crate::settings::Settings;
use crate::signal;

/// The client of the examples.
const CLIENT: &str = "shop";

pub(crate) async fn run(arguments: &Arguments, options: &cli::Dev) -> anyhow::Result<Exit> {
    let settings = Settings::load(arguments)?;
    let temporary = std::env::temp_dir().join(format!("counterfoil-dev-{}", std::process::id()));
    let directory = options.data.as_deref().unwrap_or(&temporary);
    let done = run_in(directory, settings, arguments.json, options).await;
    // Whatever came of it, nothing stays behind that nobody asked for.
    if temporary.exists() {
        std::fs::remove_dir_all(&temporary).with_context(|| temporary.display().to_string())?;
    }
    done
}

async fn run_in(
    directory: &Path,
    mut settings: Settings,
    is_json: bool,
    options: &cli::Dev,
) -> anyhow::Result<Exit> {
    let stop = signal::token()?;
    tell(is_json, "starting RabbitMQ and Redis …");
    let starting = {
        let (directory, prefix) = (directory.to_owned(), settings.redis.prefix.clone());
        let (amqp, redis) = (options.amqp_port, options.redis_port);
        tokio::task::spawn_blocking(move || start(&directory, amqp, redis, &prefix))
    };
    let private = starting.await?.context("dev")?;
    settings.amqp.url = private.amqp_url(SERVER_USER);
    settings.redis.url = private.redis_url(SERVER_USER);
    let worked = serve(&private, &settings, is_json, &stop).await;
    tokio::task::spawn_blocking(move || drop(private)).await?;
    worked
}

async fn serve(
    private: &Deployment,
    settings: &Settings,
    is_json: bool,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let mut server =
        Server::start(settings.server.clone(), settings.amqp.clone(), settings.redis.clone());
    let mut as_worker = settings.for_worker();
    as_worker.amqp.url = private.amqp_url(WORKER_USER);
    as_worker.redis.url = private.redis_url(WORKER_USER);
    let mut worker = worker::demo::add(Worker::new(as_worker))?.start();
    tokio::select! {
        ready = async { server.ready().await?; worker.ready().await } => {
            if ready.is_ok() {
                say(private, is_json)?;
                stop.cancelled().await;
                tell(is_json, "stopping …");
            }
        }
        () = stop.cancelled() => {}
    }
    worker.stop().await.context("worker")?;
    server.stop().await.context("server")?;
    Ok(Exit::Done)
}

fn start(
    directory: &Path,
    amqp_port: u16,
    redis_port: u16,
    prefix: &str,
) -> Result<Deployment, nodes::Error> {
    let free = ports::free(2)?;
    let pick = |wanted: u16, other: u16| if ports::is_open(wanted) { other } else { wanted };
    let (amqp_port, redis_port) = (pick(amqp_port, free[0]), pick(redis_port, free[1]));
    // Absolute, because the nodes have working directories of their own.
    let directory: PathBuf =
        std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    Deployment::start(&directory, (amqp_port, redis_port), prefix, &[CLIENT], &[])
}

/// A word for a person.
fn tell(is_json: bool, text: &str) {
    if !is_json {
        output::line(text);
    }
}

fn say(private: &Deployment, is_json: bool) -> anyhow::Result<()> {
    let shop = private.amqp_url(CLIENT);
    // A client reads the store, if it does, as anybody may: without the right to change it.
    let redis = private.redis_url(READER_USER);
    if is_json {
        let urls = json!({ "amqp_url": shop, "redis_url": redis });
        return output::json(&urls);
    }
    let program = program();
    output::line(&format!(
        "RabbitMQ  {shop}\nRedis     {redis}\n\
         a server and a worker (demo.echo, demo.sleep, demo.fail) are running\n\n\
         In another terminal:\n  \
         export COUNTERFOIL_AMQP_URL={shop} COUNTERFOIL_REDIS_URL={redis}\n  \
         {program} submit demo.echo '{{\"hello\":\"world\"}}' --id first --until done\n  \
         {program} status first --history\n\n\
         Not for production. Ctrl-C stops all of it."
    ));
    Ok(())
}

/// How this program was called, so that what is said can be typed: it need not be on the path.
fn program() -> String {
    let called = std::env::args().next().filter(|name| name.contains('/'));
    called.unwrap_or_else(|| "counterfoil".to_owned())
}
