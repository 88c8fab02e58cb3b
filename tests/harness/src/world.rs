use std::fs::File;
use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::Context as _;
use broker::definitions::{Definitions, User};
use broker::management::Management;
use broker::rights::Role;
use nodes::shared::{ADMINISTRATOR, Nodes, USERS, acquire};
use nodes::{Fsync, PASSWORD, Redis, ports};
use serde::Deserialize;
use server::Server;
use store::{JobName, Record, Store};
use worker::Worker;

use crate::process::workspace;
use crate::raw::Raw;

/// Every section of the settings.
#[derive(Debug, Clone, Deserialize)]
pub struct Settings {
    /// How to reach RabbitMQ.
    pub amqp: broker::Settings,
    /// How to reach Redis.
    pub redis: store::Settings,
    /// The server.
    pub server: server::Settings,
    /// The worker.
    pub worker: worker::WorkerSettings,
    /// The client.
    pub client: client::ClientSettings,
}

/// A virtual host and a key prefix of a test's own, on the shared nodes.
pub struct World {
    /// The virtual host, and the prefix.
    pub name: String,
    /// The settings that everything in it starts with.
    pub settings: Settings,
    /// A folder of its own.
    pub directory: PathBuf,
    nodes: &'static Nodes,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The user of Redis who may do everything: not one of the shipped ones.
const LOOKING: &str = "looking";

/// The nodes of this process's run. The lock is held until the process ends.
fn shared_nodes() -> anyhow::Result<&'static Nodes> {
    static NODES: OnceLock<Result<(Nodes, File), String>> = OnceLock::new();
    let started = NODES.get_or_init(|| {
        // Whoever looks into the store from outside has a user for it.
        let acl = store::acl::render("t*", Some(PASSWORD));
        let acl = format!("{acl}user {LOOKING} on >{PASSWORD} ~* &* +@all\n");
        let folder = nodes::Distribution::current().folder("nodes");
        let folder = workspace().join("target").join(folder);
        acquire(&folder, &acl).map_err(|error| format!("{error:#}"))
    });
    match started {
        Ok((nodes, _)) => Ok(nodes),
        Err(error) => anyhow::bail!("private nodes: {error}"),
    }
}

impl World {
    /// An empty world.
    ///
    /// # Errors
    /// The nodes cannot be started or asked.
    pub async fn new() -> anyhow::Result<Self> {
        static LOGGING: OnceLock<()> = OnceLock::new();
        LOGGING.get_or_init(|| {
            let filter = tracing_subscriber::EnvFilter::new("error");
            // A program that logs already goes on as it does.
            tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init().ok();
        });
        tokio::task::spawn_blocking(Self::make).await?
    }

    fn make() -> anyhow::Result<Self> {
        let nodes = shared_nodes()?;
        let name = format!("t{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
        management(nodes)?.import(&definitions(&name))?;
        let directory = workspace().join("target/worlds").join(&name);
        std::fs::create_dir_all(&directory)?;
        let mut settings: Settings = settings::load_with(None, []).context("default settings")?;
        settings.amqp.url = url(nodes, "server", &name);
        settings.redis.url = redis_url(nodes, store::acl::SERVER_USER);
        settings.redis.prefix.clone_from(&name);
        settings.client.journal = directory.join("journal.db");
        // Failures are to be seen soon.
        settings.worker.lease_ms = 1500;
        settings.worker.beat_ms = 250;
        settings.worker.backoff_first_ms = 50;
        settings.server.deliver_backoff_ms = 50;
        settings.server.deliver_tries = 3;
        // A receipt that a busy machine's broker is slow to confirm would come twice.
        settings.server.deliver_timeout_ms = 5000;
        settings.client.resend_after_ms = 2000;
        Ok(Self { name, settings, directory, nodes })
    }

    /// The URL of a user in this world.
    pub fn amqp_url(&self, user: &str) -> String {
        url(self.nodes, user, &self.name)
    }

    /// The connection of a user in this world.
    pub fn amqp(&self, user: &str) -> broker::Settings {
        broker::Settings { url: self.amqp_url(user), ..self.settings.amqp.clone() }
    }

    /// The settings of a user's client, with a journal of its own.
    pub fn client_settings(&self, user: &str) -> client::Settings {
        let journal = self.directory.join(format!("{user}.db"));
        let client = client::ClientSettings { journal, ..self.settings.client.clone() };
        client::Settings { amqp: self.amqp(user), client }
    }

    /// A client of a user.
    ///
    /// # Errors
    /// Its journal cannot be opened.
    pub fn client(&self, user: &str) -> anyhow::Result<client::Client> {
        Ok(client::Client::open(self.client_settings(user))?)
    }

    /// A server with all roles, working.
    ///
    /// # Errors
    /// It ended instead.
    pub async fn server(&self) -> anyhow::Result<Server> {
        self.server_with(|_| {}).await
    }

    /// A server with changed settings, working.
    ///
    /// # Errors
    /// It ended instead.
    pub async fn server_with(
        &self,
        change: impl FnOnce(&mut server::Settings),
    ) -> anyhow::Result<Server> {
        let mut settings = self.settings.server.clone();
        change(&mut settings);
        let mut server =
            Server::start(settings, self.settings.amqp.clone(), self.settings.redis.clone());
        crate::within("the server works", server.ready()).await??;
        Ok(server)
    }

    /// The settings of a worker.
    pub fn worker_settings(&self) -> worker::Settings {
        let mut redis = self.settings.redis.clone();
        redis.url = redis.url.replace(store::acl::SERVER_USER, store::acl::WORKER_USER);
        worker::Settings { amqp: self.amqp("worker"), redis, worker: self.settings.worker.clone() }
    }

    /// Another work queue, as `counterfoil setup --queue` creates it.
    ///
    /// # Errors
    /// RabbitMQ refuses it.
    pub async fn work_queue(&self, queue: &str) -> anyhow::Result<()> {
        let queue = job::QueueName::parse(queue)?;
        let connection = broker::Connection::open(&self.amqp(ADMINISTRATOR), "a test").await?;
        connection.declare_work_queue(&queue).await?;
        connection.close().await;
        Ok(())
    }

    /// Puts a message with an id into a queue, as an administrator may: the end of what a test
    /// looks for there.
    ///
    /// # Errors
    /// It was not confirmed.
    pub async fn mark(&self, queue: &str, id: &str) -> anyhow::Result<()> {
        let admin = self.raw(ADMINISTRATOR).await?;
        admin.publish(broker::topology::DEFAULT, queue, admin.properties(id, ""), "").await
    }

    /// RabbitMQ's management interface, with its administrator's password.
    pub fn management_url(&self) -> String {
        management_url(self.nodes)
    }

    /// Where the store is looked into from outside, with every right.
    pub fn redis_url(&self) -> String {
        redis_url(self.nodes, LOOKING)
    }

    /// A worker without handlers.
    pub fn worker(&self) -> Worker {
        Worker::new(self.worker_settings())
    }

    /// A worker with the demo types, working.
    ///
    /// # Errors
    /// It ended instead.
    pub async fn demo_worker(&self) -> anyhow::Result<worker::Running> {
        start(worker::demo::add(self.worker())?).await
    }

    /// The store of this world.
    ///
    /// # Errors
    /// Redis cannot be reached.
    pub async fn store(&self) -> anyhow::Result<Store> {
        Ok(Store::connect(self.settings.redis.clone()).await?)
    }

    /// The record of a job.
    ///
    /// # Errors
    /// Redis cannot be reached, or a name is none.
    pub async fn record(&self, user: &str, job_id: &str) -> anyhow::Result<Option<Record>> {
        let name =
            JobName { client: job::ClientName::parse(user)?, job_id: job::JobId::parse(job_id)? };
        Ok(self.store().await?.read_one(&name).await?)
    }

    /// A raw AMQP client.
    ///
    /// # Errors
    /// RabbitMQ cannot be reached.
    pub async fn raw(&self, user: &str) -> anyhow::Result<Raw> {
        Raw::connect(self.amqp(user), user).await
    }

    /// Environment variables with which a process of the program joins this world as a user.
    pub fn environment(&self, user: &str) -> Vec<(String, String)> {
        let redis = &self.settings.redis;
        [
            ("COUNTERFOIL_AMQP_URL", self.amqp_url(user)),
            ("COUNTERFOIL_REDIS_URL", redis_url_of(user, &redis.url)),
            ("COUNTERFOIL_REDIS_PREFIX", redis.prefix.clone()),
            ("COUNTERFOIL_WORKER_LEASE_MS", self.settings.worker.lease_ms.to_string()),
            ("COUNTERFOIL_WORKER_BEAT_MS", self.settings.worker.beat_ms.to_string()),
            (
                "COUNTERFOIL_CLIENT_JOURNAL",
                self.directory.join(format!("{user}.db")).display().to_string(),
            ),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// Starts a Redis of this world's own, which may be killed, and makes it the world's store.
    ///
    /// # Errors
    /// It did not come up.
    pub fn own_redis(&mut self, fsync: Fsync) -> anyhow::Result<Redis> {
        let redis = Redis::start(&self.directory.join("redis"), ports::free(1)?[0], fsync)?;
        self.settings.redis.url = redis.url();
        Ok(redis)
    }

    /// Runs a command of `rabbitmqctl` on the shared node.
    ///
    /// # Errors
    /// It cannot be run.
    pub async fn rabbitmqctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let (nodes, arguments) = (self.nodes, arguments.iter().map(|a| (*a).to_owned()));
        let arguments: Vec<String> = arguments.collect();
        let run = move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            nodes.control(&arguments)
        };
        Ok(tokio::task::spawn_blocking(run).await??)
    }
}

/// Starts a worker and waits until it works.
///
/// # Errors
/// It ended instead.
pub async fn start(worker: Worker) -> anyhow::Result<worker::Running> {
    let mut running = worker.start();
    crate::within("the worker works", running.ready()).await??;
    Ok(running)
}

impl Drop for World {
    fn drop(&mut self) {
        // The folder of a failed test stays for whoever looks into it.
        if !std::thread::panicking() {
            std::fs::remove_dir_all(&self.directory).ok();
        }
        let deleted = management(self.nodes).and_then(|it| Ok(it.delete_vhost(&self.name)?));
        if let Err(error) = deleted {
            eprintln!("virtual host {} stays behind: {error}", self.name);
        }
    }
}

/// A worker has rights of its own in the store.
fn redis_url_of(user: &str, url: &str) -> String {
    match user {
        "worker" => url.replace(store::acl::SERVER_USER, store::acl::WORKER_USER),
        _ => url.to_owned(),
    }
}

/// The virtual host, the rights of the users in it, and the topology.
fn definitions(vhost: &str) -> serde_json::Value {
    let users = USERS.iter().chain([&ADMINISTRATOR]).map(|name| User {
        name: (*name).to_owned(),
        password: None,
        role: match *name {
            ADMINISTRATOR => Role::Administrator,
            "server" => Role::Server,
            "worker" => Role::Worker,
            _ => Role::Client,
        },
    });
    let definitions = Definitions {
        vhost: vhost.to_owned(),
        users: users.collect(),
        queues: vec![job::QueueName::default()],
        inquiry: broker::topology::QueueType::default(),
    };
    let mut json = definitions.to_json();
    // They are there already, with their passwords.
    json["users"] = serde_json::json!([]);
    json
}

fn management_url(nodes: &Nodes) -> String {
    format!("http://{ADMINISTRATOR}:{PASSWORD}@127.0.0.1:{}", nodes.management_port)
}

fn management(nodes: &Nodes) -> anyhow::Result<Management> {
    Ok(Management::new(&management_url(nodes))?)
}

fn redis_url(nodes: &Nodes, user: &str) -> String {
    format!("redis://{user}:{PASSWORD}@127.0.0.1:{}/0", nodes.redis_port)
}

fn url(nodes: &Nodes, user: &str, vhost: &str) -> String {
    format!("amqp://{user}:{PASSWORD}@127.0.0.1:{}/{vhost}", nodes.amqp_port)
}
