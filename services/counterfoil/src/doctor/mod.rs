//! `doctor`: looks at RabbitMQ, Redis and the settings without changing anything, and says what is
//! wrong, what that means, and what to do about it.

mod rabbitmq;
mod redis;

use comfy_table::{Cell, Color};
use serde::Serialize;

use crate::cli::{self, Arguments};
use crate::exit::Exit;
use crate::output;
use crate::settings::Settings;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// It works; something is to be known, or to be done in time.
    Warning,
    /// A promise cannot be kept, or nothing works.
    Error,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What was looked at: a stable word.
    pub(crate) check: &'static str,
    pub(crate) level: Level,
    /// What was seen.
    pub(crate) found: String,
    /// What follows from it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) meaning: String,
    /// What to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) remedy: String,
}

impl Finding {
    pub(crate) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        let (meaning, remedy) = (String::new(), String::new());
        Self { check, level: Level::Ok, found: found.into(), meaning, remedy }
    }

    pub(crate) fn warning(
        check: &'static str,
        found: impl Into<String>,
        meaning: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (meaning, remedy) = (meaning.into(), remedy.into());
        Self { check, level: Level::Warning, found: found.into(), meaning, remedy }
    }

    pub(crate) fn error(
        check: &'static str,
        found: impl Into<String>,
        meaning: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { level: Level::Error, ..Self::warning(check, found, meaning, remedy) }
    }
}

pub(crate) async fn run(arguments: &Arguments, options: &cli::Doctor) -> anyhow::Result<Exit> {
    let settings = Settings::load(arguments)?;
    let (mut findings, seen) = redis::examine(&settings.redis).await;
    let types = seen.map(|seen| seen.types).unwrap_or_default();
    findings.extend(rabbitmq::examine(&settings, options, &types).await);
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    if arguments.json {
        for finding in &findings {
            output::json(finding)?;
        }
    } else {
        say(&findings);
    }
    Ok(if worst == Level::Error { Exit::Failed } else { Exit::Done })
}

fn say(findings: &[Finding]) {
    let mut table = output::table(&["", "looked at", "found"]);
    for finding in findings {
        let (word, colour) = match finding.level {
            Level::Ok => ("ok", Color::Green),
            Level::Warning => ("warning", Color::Yellow),
            Level::Error => ("error", Color::Red),
        };
        table.add_row([
            Cell::new(word).fg(colour),
            Cell::new(finding.check),
            Cell::new(&finding.found),
        ]);
    }
    output::line(&table.to_string());
    for finding in findings.iter().filter(|finding| finding.level != Level::Ok) {
        output::line(&format!("\n{}: {}", finding.check, finding.found));
        output::line(&format!("  means: {}", finding.meaning));
        output::line(&format!("  do:    {}", finding.remedy));
    }
}
