mod operate;
mod requests;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
pub(crate) use operate::{Config, ConfigCommand, Doctor, Replay, Setup, SetupPrint};
pub(crate) use requests::{Erase, List, Report, Subscribe};

/// Jobs over RabbitMQ that you can always ask about; the client keeps the counterfoil.
///
/// Exit status: 0 done; 1 failed; 2 wrong usage or settings; 3 the job failed, was cancelled,
/// expired or was refused; 4 the id is unknown; 5 no answer in time.
///
/// COUNTERFOIL_AMQP_URL and COUNTERFOIL_REDIS_URL say where RabbitMQ and Redis are; every other
/// setting is in config/default.toml and can be set the same way.
#[derive(Debug, Parser)]
#[command(name = "counterfoil", version, max_term_width = 100)]
pub(crate) struct Arguments {
    /// A settings file; it need only hold what differs from the defaults
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON, one value a line; what went wrong is said as text, on standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a private RabbitMQ and Redis, a server and a worker, to try things out
    Dev(Dev),
    /// Run the server's roles
    Server(Server),
    /// Run a worker with the demo types (demo.echo, demo.sleep, demo.fail)
    Worker,
    /// Submit jobs: to the journal on disk first, then to RabbitMQ
    Submit(Submit),
    /// Ask what has become of a job
    Status(Status),
    /// Print each change of a job until it is done
    Watch(Watch),
    /// Cancel a job, or make an id unusable that never arrived
    Cancel(Cancel),
    /// List one's own jobs, newest first
    List(List),
    /// Change what is pushed of a job and where, or push again what was not delivered
    Subscribe(Subscribe),
    /// Remove body, result and timeline of a finished job at once
    Erase(Erase),
    /// Say what became of a job that its handler handed over
    Report(Report),
    /// After a crash: ask for every open submission, send again what never arrived
    Recover,
    /// List, show and export what the journal holds; reads only, and needs no RabbitMQ
    Journal(Journal),
    /// For operators: create exchanges and queues, and users with no more rights than they need
    Setup(Setup),
    /// For operators: look for what is wrong, and say what to do about it
    Doctor(Doctor),
    /// For operators: check the settings
    Config(Config),
    /// For operators: run a finished job again, as a new job (needs Redis)
    Replay(Replay),
    /// Print the Redis key of a job
    Key(Key),
}

#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// The port of RabbitMQ; another one if it is taken
    #[arg(long, default_value_t = 5672)]
    pub(crate) amqp_port: u16,
    /// The port of Redis; another one if it is taken
    #[arg(long, default_value_t = 6379)]
    pub(crate) redis_port: u16,
    /// Keep the data of both in this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Server {
    /// Only these roles: registrar, inquiry, notifier, scheduler
    #[arg(long, value_delimiter = ',', value_name = "ROLES")]
    pub(crate) roles: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Submit {
    /// What is to be done, e.g. order.place
    #[arg(value_name = "TYPE")]
    pub(crate) job_type: String,
    /// The body, or - for standard input
    #[arg(value_name = "BODY", conflicts_with_all = ["file", "jsonl"])]
    pub(crate) body: Option<String>,
    /// Read the body from a file
    #[arg(long, value_name = "FILE", conflicts_with = "jsonl")]
    pub(crate) file: Option<PathBuf>,
    /// Submit one job for each line of a file (- for standard input)
    #[arg(long, value_name = "FILE")]
    pub(crate) jsonl: Option<PathBuf>,
    /// With --jsonl: take the job id from this field of each line
    #[arg(long, value_name = "FIELD", requires = "jsonl")]
    pub(crate) id_field: Option<String>,
    /// The job id; made for you otherwise
    #[arg(long, conflicts_with = "jsonl")]
    pub(crate) id: Option<String>,
    /// MIME type of the body
    #[arg(long, value_name = "TYPE")]
    pub(crate) content_type: Option<String>,
    /// Which changes to push: states, terminal, stage, progress, *; comma-separated
    #[arg(long, value_name = "CHANGES")]
    pub(crate) notify: Option<String>,
    /// The queue that changes are pushed to, reply.CLIENT.…
    #[arg(long, value_name = "QUEUE")]
    pub(crate) notify_to: Option<String>,
    /// Another header of the protocol, e.g. job-timeout-ms=5000
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    pub(crate) headers: Vec<(String, String)>,
    /// How far to wait
    #[arg(long, value_enum, default_value_t = Until::Accepted)]
    pub(crate) until: Until,
}

/// How far a submission is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Until {
    /// On disk; sent by the next `counterfoil recover`, if not now
    Journaled,
    /// RabbitMQ has it
    Confirmed,
    /// The server has recorded it
    Accepted,
    /// It has reached a final state
    Done,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[derive(Debug, Args)]
pub(crate) struct Subject {
    /// The job id, or the ticket
    #[arg(value_name = "ID|TICKET")]
    pub(crate) id: String,
    /// The ticket beside the id: both must name the same job
    #[arg(long)]
    pub(crate) ticket: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) subject: Subject,
    /// Wait until the job is done
    #[arg(long)]
    pub(crate) wait: bool,
    /// With --wait: how many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub(crate) timeout: u64,
    /// Show the timeline
    #[arg(long)]
    pub(crate) history: bool,
    /// If nothing is known of the id, make it unusable: then it never will be accepted
    #[arg(long, conflicts_with_all = ["wait", "history"])]
    pub(crate) void_if_unknown: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    pub(crate) subject: Subject,
    /// For how many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub(crate) timeout: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Cancel {
    #[command(flatten)]
    pub(crate) subject: Subject,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Journal {
    #[command(subcommand)]
    pub(crate) command: Option<JournalCommand>,
    #[command(flatten)]
    pub(crate) list: JournalList,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JournalCommand {
    /// One line for each submission, oldest first; `counterfoil journal` alone does the same
    List(JournalList),
    /// Everything about one submission, with its body
    Show {
        /// The job id
        #[arg(value_name = "ID")]
        job_id: String,
    },
    /// Every submission with its body, as JSON, one a line
    Export {
        /// Only submissions that are not known to be done
        #[arg(long)]
        open: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct JournalList {
    /// Only submissions that are not known to be done
    #[arg(long)]
    pub(crate) open: bool,
    /// At most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,
    /// Only those after this one, e.g. the last of the page before
    #[arg(long, value_name = "ID")]
    pub(crate) after: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Key {
    /// Who owns the job: the AMQP user
    pub(crate) client: String,
    /// The job id
    pub(crate) job_id: String,
}
