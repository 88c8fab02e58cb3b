//! `key`: where a job stands in Redis.

use job::{ClientName, JobId};
use serde_json::json;
use store::{JobName, Keys};

use crate::cli::{self, Arguments};
use crate::exit::Exit;
use crate::output;
use crate::settings::Settings;

pub(crate) fn run(arguments: &Arguments, options: &cli::Key) -> anyhow::Result<Exit> {
    let settings = Settings::load(arguments)?;
    let keys = Keys::new(&settings.redis.prefix, settings.redis.slots);
    let name = JobName {
        client: ClientName::parse(&options.client)?,
        job_id: JobId::parse_recorded(&options.job_id)?,
    };
    let key = keys.job(&name);
    if arguments.json {
        output::json(&json!({ "key": key, "slot": keys.slot(&name) }))?;
    } else {
        output::line(&key);
    }
    Ok(Exit::Done)
}
