//! The shop's side: the `counterfoil` command, as a person would type it.

use anyhow::Context as _;
use serde_json::Value;

use crate::stage::Stage;

/// What a command printed, as JSON, and its exit status.
pub(crate) struct Said {
    pub(crate) lines: Vec<Value>,
    pub(crate) exit: i32,
}

impl Said {
    /// A text of the first line; empty where there is none.
    pub(crate) fn text(&self, field: &str) -> String {
        let value = self.lines.first().map_or(&Value::Null, |line| &line[field]);
        value.as_str().unwrap_or_default().to_owned()
    }
}

/// Runs `counterfoil --json …` as the shop.
pub(crate) async fn counterfoil(stage: &Stage, arguments: &[&str]) -> anyhow::Result<Said> {
    let typed: Vec<String> = arguments.iter().map(|argument| quoted(argument)).collect();
    println!("  $ counterfoil {}", typed.join(" "));
    quietly(stage, arguments).await
}

/// As a shell takes it: what it would read otherwise stands in quotes.
fn quoted(argument: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=".contains(c);
    if argument.chars().all(is_plain) { argument.to_owned() } else { format!("'{argument}'") }
}

/// The same, without a word: for what is repeated.
pub(crate) async fn quietly(stage: &Stage, arguments: &[&str]) -> anyhow::Result<Said> {
    let arguments: Vec<&str> = ["--json"].into_iter().chain(arguments.iter().copied()).collect();
    let (process, mut output) = stage.start("shop", "counterfoil", &arguments)?;
    let lines = output
        .rest()
        .await?
        .iter()
        .map(|line| serde_json::from_str(line).with_context(|| line.clone()))
        .collect::<Result<_, _>>()?;
    let exit = process.ended().await?.context("an exit status")?;
    Ok(Said { lines, exit })
}
