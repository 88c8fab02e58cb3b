//! Logs. They go to standard error; standard output is for what a command was asked for.

use std::io::IsTerminal as _;

use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// The section `[log]`; `config/default.toml` is its reference.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// A level, or directives.
    pub filter: String,
    /// `text` or `json`.
    pub format: Format,
}

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Format {
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl TryFrom<String> for Format {
    type Error = String;
    fn try_from(word: String) -> Result<Self, String> {
        match word.as_str() {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("log.format: {word:?} is none; allowed are text and json")),
        }
    }
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "log.filter: {0:?} is no filter; allowed are error, warn, info, debug, trace and directives"
)]
pub struct Error(String);

/// lapin prints method frames at trace level, the one with the password included, and says by
/// itself what its errors say anyway: these are silent, whatever the filter says.
const CAPPED: [&str; 4] = ["lapin=off", "amq_protocol=off", "async_rs=off", "redis=warn"];

/// Starts logging.
///
/// # Errors
/// The filter cannot be read.
pub fn start(settings: &Settings) -> Result<(), Error> {
    let mut filter =
        EnvFilter::try_new(&settings.filter).map_err(|_| Error(settings.filter.clone()))?;
    for directive in CAPPED {
        if let Ok(directive) = directive.parse() {
            filter = filter.add_directive(directive);
        }
    }
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match settings.format {
        Format::Text => subscriber.with_target(false).try_init(),
        Format::Json => subscriber.json().try_init(),
    };
    // A test, or an embedding program, may have started its own.
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
    Ok(())
}
