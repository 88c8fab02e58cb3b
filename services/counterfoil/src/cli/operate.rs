//! Arguments of the commands for operators.

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct Setup {
    /// A client that is to submit and ask: the name of its user
    #[arg(long = "client", value_name = "NAME")]
    pub(crate) clients: Vec<String>,
    /// A work queue, beside the one called default
    #[arg(long = "queue", value_name = "NAME")]
    pub(crate) queues: Vec<String>,
    /// RabbitMQ's management interface, http://ADMIN:PASSWORD@HOST:15672: create users that are
    /// missing, with passwords that are printed once, and give all of them their rights
    #[arg(long, value_name = "URL")]
    pub(crate) management_url: Option<String>,
    /// Only print what would be set up, and connect to nothing
    #[arg(long, value_enum, value_name = "FORM", conflicts_with = "management_url")]
    pub(crate) print: Option<SetupPrint>,
}

/// What is printed instead of being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SetupPrint {
    /// A definitions file for RabbitMQ: users without passwords, rights, topology
    Rabbitmq,
    /// An ACL file for Redis: users without passwords
    Redis,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// RabbitMQ's management interface, http://USER:PASSWORD@HOST:15672: only it shows whether
    /// queues have other arguments than they should
    #[arg(long, value_name = "URL")]
    pub(crate) management_url: Option<String>,
    /// RabbitMQ's consumer_timeout, which cannot be asked for: 30 minutes unless it was changed
    #[arg(long, value_name = "MS", default_value_t = 1_800_000)]
    pub(crate) consumer_timeout_ms: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Config {
    #[command(subcommand)]
    pub(crate) command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check the settings and print them as they are used, without secrets
    Check,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// Who owns the job: the AMQP user
    pub(crate) client: String,
    /// The job id
    pub(crate) job_id: String,
}
