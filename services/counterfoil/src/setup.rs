//! `setup`: what an administrator does once. The topology over AMQP, users and rights over the
//! management interface; or both as files that RabbitMQ and Redis read when they start.

use anyhow::Context as _;
use broker::definitions::{Definitions, User};
use broker::management::{Management, ManagementError};
use broker::rights::{Role, SERVER_USER, WORKER_USER};
use broker::{Connection, topology};
use job::{ClientName, QueueName};
use serde_json::json;

use crate::cli::{self, Arguments, SetupPrint};
use crate::exit::Exit;
use crate::output;
use crate::settings::Settings;

pub(crate) async fn run(arguments: &Arguments, options: &cli::Setup) -> anyhow::Result<Exit> {
    let settings = Settings::load(arguments)?;
    let definitions = definitions(&settings, options)?;
    match options.print {
        Some(SetupPrint::Rabbitmq) => {
            output::line(&serde_json::to_string_pretty(&definitions.to_json())?);
        }
        Some(SetupPrint::Redis) => {
            let acl = store::acl::render(&settings.redis.prefix, None);
            output::line(acl.trim_end());
        }
        None => set_up(arguments, &settings, options, definitions).await?,
    }
    Ok(Exit::Done)
}

fn definitions(settings: &Settings, options: &cli::Setup) -> anyhow::Result<Definitions> {
    let user = |name: &str, role| User { name: name.to_owned(), password: None, role };
    let mut users = vec![user(SERVER_USER, Role::Server), user(WORKER_USER, Role::Worker)];
    let administrator = settings.amqp.user()?;
    for client in &options.clients {
        ClientName::parse(client)?;
        anyhow::ensure!(
            *client != administrator,
            "{client} is the user of amqp.url; as a client it would lose its other rights"
        );
        match users.iter().find(|known| known.name == *client) {
            None => users.push(user(client, Role::Client)),
            // Named twice.
            Some(known) if known.role == Role::Client => {}
            Some(_) => {
                anyhow::bail!("{client} is a user of the system's own; a client needs another name")
            }
        }
    }
    let mut queues = vec![QueueName::default()];
    for queue in &options.queues {
        let queue = QueueName::parse(queue)?;
        if !queues.contains(&queue) {
            queues.push(queue);
        }
    }
    let inquiry = settings.amqp.inquiry_queue_type;
    Ok(Definitions { vhost: settings.amqp.vhost()?, users, queues, inquiry })
}

async fn set_up(
    arguments: &Arguments,
    settings: &Settings,
    options: &cli::Setup,
    definitions: Definitions,
) -> anyhow::Result<()> {
    let connection = Connection::open(&settings.amqp, "counterfoil setup").await?;
    let declared = connection.declare_topology(&definitions.queues).await;
    connection.close().await;
    declared.context("creating exchanges and queues takes an administrator's amqp.url")?;
    for queue in &definitions.queues {
        said(arguments, "queue", &topology::work_queue(queue), "is there")?;
    }
    let Some(url) = &options.management_url else {
        return Ok(());
    };
    let management = Management::new(url)?;
    let putting = move || put_users(&management, definitions);
    let (made, ended) = tokio::task::spawn_blocking(putting).await?;
    for (name, password) in made {
        match password {
            // The only time that anybody sees it.
            Some(password) => said(arguments, "user", &name, &format!("password {password}"))?,
            None => said(arguments, "user", &name, "was there; its rights are set")?,
        }
    }
    ended
}

/// Names, with the passwords of those that are new.
type Made = Vec<(String, Option<String>)>;

/// Creates the users that are missing and sets the rights of all. What was made is returned even if
/// it ended early: nobody else knows the passwords.
fn put_users(management: &Management, definitions: Definitions) -> (Made, anyhow::Result<()>) {
    let mut made = Vec::with_capacity(definitions.users.len());
    for user in definitions.users {
        let put = put_user(management, &user, &mut made)
            .and_then(|()| management.put_rights(&definitions.vhost, &user));
        if let Err(error) = put {
            return (made, Err(error.into()));
        }
    }
    (made, Ok(()))
}

fn put_user(management: &Management, user: &User, made: &mut Made) -> Result<(), ManagementError> {
    let password = if management.has_user(&user.name)? {
        None
    } else {
        let password = format!("{:x}", uuid::Uuid::new_v4().as_simple());
        management.put_user(user, &password)?;
        Some(password)
    };
    made.push((user.name.clone(), password));
    Ok(())
}

fn said(arguments: &Arguments, what: &str, name: &str, text: &str) -> anyhow::Result<()> {
    if arguments.json {
        return match text.strip_prefix("password ") {
            Some(password) => output::json(&json!({ what: name, "password": password })),
            None => output::json(&json!({ what: name })),
        };
    }
    output::line(&format!("{what}  {name}  {text}"));
    Ok(())
}
