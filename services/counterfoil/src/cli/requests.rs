//! Arguments of the requests beside `status`, `watch` and `cancel`.

use clap::{ArgGroup, Args};
use job::State;
use protocol::UnixMillis;

use super::Subject;

#[derive(Debug, Args)]
#[command(group = one_of("change", &["notify", "notify_to", "redeliver"]))]
pub(crate) struct Subscribe {
    #[command(flatten)]
    pub(crate) subject: Subject,
    /// Which changes to push: states, terminal, stage, progress, *; comma-separated; "" for none
    #[arg(long, value_name = "CHANGES")]
    pub(crate) notify: Option<String>,
    /// The queue that changes are pushed to, reply.CLIENT.…
    #[arg(long, value_name = "QUEUE")]
    pub(crate) notify_to: Option<String>,
    /// Push again what could not be delivered
    #[arg(long)]
    pub(crate) redeliver: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Erase {
    #[command(flatten)]
    pub(crate) subject: Subject,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only jobs in these states; comma-separated
    #[arg(long, value_delimiter = ',', value_name = "STATES", value_parser = state)]
    pub(crate) state: Vec<String>,
    /// Only jobs of this type
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) job_type: Option<String>,
    /// Only jobs with this tag
    #[arg(long)]
    pub(crate) tag: Option<String>,
    /// Only jobs accepted at or after this time, e.g. 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) after: Option<String>,
    /// Only jobs accepted before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) before: Option<String>,
    /// How many at most; 0 for all of them
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
#[command(group = one_of("what", &["outcome", "stage", "progress"]))]
pub(crate) struct Report {
    /// The token that the handler gave away
    #[arg(value_name = "TOKEN")]
    pub(crate) token: String,
    /// How the job ended: succeeded, failed or cancelled
    #[arg(
        long,
        conflicts_with_all = ["stage", "progress"],
        value_parser = ["succeeded", "failed", "cancelled"],
    )]
    pub(crate) outcome: Option<String>,
    /// The result of a success, JSON
    #[arg(long, value_name = "JSON", requires = "outcome")]
    pub(crate) result: Option<String>,
    /// Why it failed
    #[arg(long, value_name = "TEXT", requires = "outcome")]
    pub(crate) error: Option<String>,
    /// Where the processing is, in a free word
    #[arg(long, value_name = "WORD")]
    pub(crate) stage: Option<String>,
    /// How far it is, in percent
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) progress: Option<u8>,
}

/// At least one of some options has to be given: a request without any says nothing.
fn one_of(name: &'static str, options: &[&'static str]) -> ArgGroup {
    ArgGroup::new(name).required(true).multiple(true).args(options)
}

fn state(text: &str) -> Result<String, String> {
    let states = || State::ALL.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(", ");
    text.parse::<State>().map(|state| state.to_string()).map_err(|_| format!("one of {}", states()))
}

fn time(text: &str) -> Result<String, String> {
    let parsed = serde_json::from_value::<UnixMillis>(text.into());
    parsed.map(|_| text.to_owned()).map_err(|error| error.to_string())
}
