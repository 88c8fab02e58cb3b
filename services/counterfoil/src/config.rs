//! `config check`: the settings as they are used, without secrets.

use serde_json::Value;

use crate::cli::Arguments;
use crate::exit::Exit;
use crate::output;
use crate::settings::Settings;

/// Loading them checks them.
pub(crate) fn check(arguments: &Arguments) -> anyhow::Result<Exit> {
    Settings::load(arguments)?;
    let effective = settings::effective(arguments.config.as_deref())?;
    if arguments.json {
        output::json(&effective)?;
        return Ok(Exit::Done);
    }
    for (section, keys) in effective.as_object().into_iter().flatten() {
        output::line(&format!("[{section}]"));
        for (key, value) in keys.as_object().into_iter().flatten() {
            output::line(&format!("{key} = {}", shown(value)));
        }
        output::line("");
    }
    Ok(Exit::Done)
}

/// As TOML writes it: a table in a line.
fn shown(value: &Value) -> String {
    match value {
        Value::Object(table) => {
            let pairs = table.iter().map(|(key, value)| format!("{key:?} = {}", shown(value)));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}
