//! `status`, `watch`, `cancel`.

use std::collections::HashSet;
use std::time::Duration;

use client::ask::Subject;
use client::{Answer, AnswerWord, HistoryEntry};

use crate::cli::{Arguments, Cancel, Status, Subject as Named, Watch};
use crate::exit::Exit;
use crate::output;
use crate::settings::Settings;

pub(crate) fn subject(named: &Named) -> anyhow::Result<Subject> {
    let subject = match &named.ticket {
        Some(ticket) => Subject::Both(named.id.clone(), ticket.clone()),
        None => Subject::guess(&named.id),
    };
    if let Subject::Id(id) | Subject::Both(id, _) = &subject {
        job::JobId::parse_recorded(id)?;
    }
    Ok(subject)
}

pub(crate) fn print(arguments: &Arguments, answer: &Answer) -> anyhow::Result<()> {
    if arguments.json {
        return output::json(answer);
    }
    output::answer(answer);
    Ok(())
}

pub(crate) async fn status(arguments: &Arguments, options: &Status) -> anyhow::Result<Exit> {
    let subject = subject(&options.subject)?;
    let limit = Duration::from_secs(options.timeout);
    let mut answer = Settings::as_client(arguments, async |client| {
        Ok(if options.wait {
            client.wait(subject, limit, |_| {}).await?
        } else if options.void_if_unknown {
            client.status_or_void(subject).await?
        } else {
            client.history(subject).await?
        })
    })
    .await?;
    if !options.history {
        answer.history = None;
    }
    print(arguments, &answer)?;
    if options.wait && answer.done == Some(false) {
        return Ok(Exit::NoAnswer);
    }
    // It is what was asked for.
    if options.void_if_unknown && answer.answer == AnswerWord::Voided {
        return Ok(Exit::Done);
    }
    Ok(Exit::of(&answer))
}

/// Every change comes from the timeline, so none that happens between two looks is missed. A line
/// is known by its instant too: a store that was rolled back gives revisions a second time.
pub(crate) async fn watch(arguments: &Arguments, options: &Watch) -> anyhow::Result<Exit> {
    let subject = subject(&options.subject)?;
    let limit = Duration::from_secs(options.timeout);
    let mut seen = HashSet::new();
    let changed = |answer: &Answer| {
        let timeline = answer.history.iter().flatten();
        let lines: HashSet<_> = timeline.clone().map(|entry| (entry.revision, entry.at)).collect();
        for entry in timeline.filter(|entry| !seen.contains(&(entry.revision, entry.at))) {
            tell(arguments, entry);
        }
        seen = lines;
    };
    let answer = Settings::as_client(arguments, async |client| {
        Ok(client.wait(subject, limit, changed).await?)
    })
    .await?;
    if answer.revision.is_none() {
        print(arguments, &answer)?;
    } else if answer.done != Some(true) {
        return Ok(Exit::NoAnswer);
    }
    Ok(Exit::of(&answer))
}

fn tell(arguments: &Arguments, entry: &HistoryEntry) {
    if arguments.json {
        // A history entry always has a JSON form.
        output::json(entry).ok();
    } else {
        let detail = entry.detail.as_deref().unwrap_or_default();
        let text = format!(
            "{}  {:>3}  {:<12} {:<11} {detail}",
            entry.at, entry.revision, entry.event, entry.state
        );
        output::line(text.trim_end());
    }
}

pub(crate) async fn cancel(arguments: &Arguments, options: &Cancel) -> anyhow::Result<Exit> {
    let subject = subject(&options.subject)?;
    let answer =
        Settings::as_client(arguments, async |client| Ok(client.cancel(subject).await?)).await?;
    print(arguments, &answer)?;
    // A job that is cancelled or asked to stop, or an id that is void, is what was asked for; a job
    // that had ended in another way is not.
    let is_cancelled = answer.state() == Some(job::State::Cancelled);
    Ok(match Exit::of(&answer) {
        Exit::NoAnswer => Exit::NoAnswer,
        _ if answer.done == Some(true) && !is_cancelled => Exit::JobFailed,
        _ => Exit::Done,
    })
}
