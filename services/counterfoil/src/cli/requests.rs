//! Arguments of the requests beside `status`, `watch` and `cancel`.

use clap::Args;

use super::Subject;

#[derive(Debug, Args)]
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
    #[arg(long, value_delimiter = ',', value_name = "STATES")]
    pub(crate) state: Vec<String>,
    /// Only jobs of this type
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) job_type: Option<String>,
    /// Only jobs with this tag
    #[arg(long)]
    pub(crate) tag: Option<String>,
    /// Only jobs accepted at or after this time, e.g. 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) after: Option<String>,
    /// Only jobs accepted before this time
    #[arg(long, value_name = "TIME")]
    pub(crate) before: Option<String>,
    /// How many at most; 0 for all of them
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Report {
    /// The token that the handler gave away
    #[arg(value_name = "TOKEN")]
    pub(crate) token: String,
    /// How the job ended: succeeded, failed or cancelled
    #[arg(long, conflicts_with_all = ["stage", "progress"])]
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
    #[arg(long, value_name = "PERCENT")]
    pub(crate) progress: Option<u8>,
}
