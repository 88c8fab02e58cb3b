//! `dev`: everything on one machine, as children of this process; all of it gone at its end.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nodes::{Definitions, Fsync, RabbitMq, Redis, User, ports};
use serde_json::json;
use server::Server;
use tokio_util::sync::CancellationToken;
use worker::Worker;

use crate::cli::{self, Arguments};
use crate::exit::Exit;
use crate::output;
use crate::settings::Settings;
use crate::signal;

/// Users of the private broker: the one of the default settings, and a client for the examples.
const USERS: [(&str, &str); 2] = [("guest", "guest"), ("shop", "secret")];

struct Private {
    _redis: Redis,
    _rabbitmq: RabbitMq,
    amqp_port: u16,
    redis_url: String,
}

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
        let (directory, amqp, redis) =
            (directory.to_owned(), options.amqp_port, options.redis_port);
        tokio::task::spawn_blocking(move || start(&directory, amqp, redis))
    };
    let private = starting.await?.context("dev")?;
    settings.amqp.url = url(&private, USERS[0]);
    settings.redis.url.clone_from(&private.redis_url);
    let worked = serve(&private, &settings, is_json, &stop).await;
    tokio::task::spawn_blocking(move || drop(private)).await?;
    worked
}

async fn serve(
    private: &Private,
    settings: &Settings,
    is_json: bool,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let mut server =
        Server::start(settings.server.clone(), settings.amqp.clone(), settings.redis.clone());
    let mut worker = worker::demo::add(Worker::new(settings.for_worker()))?.start();
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

fn start(directory: &Path, amqp_port: u16, redis_port: u16) -> Result<Private, nodes::Error> {
    let free = ports::free(2)?;
    let pick = |wanted: u16, other: u16| if ports::is_open(wanted) { other } else { wanted };
    let (amqp_port, redis_port) = (pick(amqp_port, free[0]), pick(redis_port, free[1]));
    let users = USERS.map(|(name, password)| User {
        name: name.to_owned(),
        password: password.to_owned(),
        administrator: false,
    });
    // Absolute, because the nodes have working directories of their own.
    let directory: PathBuf =
        std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let redis = Redis::start(&directory.join("redis"), redis_port, Fsync::Everysec)?;
    let definitions = Definitions { users: users.to_vec() };
    let rabbitmq = RabbitMq::start(&directory.join("rabbitmq"), amqp_port, &definitions, false)?;
    Ok(Private { redis_url: redis.url(), _redis: redis, _rabbitmq: rabbitmq, amqp_port })
}

fn url(private: &Private, (user, password): (&str, &str)) -> String {
    format!("amqp://{user}:{password}@127.0.0.1:{}/", private.amqp_port)
}

/// A word for a person.
fn tell(is_json: bool, text: &str) {
    if !is_json {
        output::line(text);
    }
}

fn say(private: &Private, is_json: bool) -> anyhow::Result<()> {
    let shop = url(private, USERS[1]);
    if is_json {
        let urls = json!({ "amqp_url": shop, "redis_url": private.redis_url });
        return output::json(&urls);
    }
    output::line(&format!(
        "RabbitMQ  {shop}\nRedis     {}\n\
         a server and a worker (demo.echo, demo.sleep, demo.fail) are running\n\n\
         In another terminal:\n  \
         export COUNTERFOIL_AMQP_URL={shop} COUNTERFOIL_REDIS_URL={}\n  \
         counterfoil submit demo.echo '{{\"hello\":\"world\"}}' --id first --until done\n  \
         counterfoil status first --history\n\n\
         Not for production. Ctrl-C stops all of it.",
        private.redis_url, private.redis_url
    ));
    Ok(())
}
