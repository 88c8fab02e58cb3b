//! Documents that can be wrong are tested.

use std::path::Path;

use harness::{World, start, within, workspace};
use job::state::TRANSITIONS;
use job::{Event, State};
use protocol::{Answer, Code, Submissions};
use worker::Failure;

pub(crate) fn read(path: &str) -> String {
    let path = workspace().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Blocks of a language, each with the line before it.
pub(crate) fn blocks<'a>(text: &'a str, language: &str) -> Vec<(&'a str, &'a str)> {
    let fence = format!("```{language}\n");
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(&fence) {
        let before = rest[..start].trim_end().lines().next_back().unwrap_or_default();
        let body = &rest[start + fence.len()..];
        let end = body.find("```").unwrap_or(body.len());
        found.push((before, &body[..end]));
        rest = &body[end..];
    }
    found
}

/// `docs/STATES.md` is printed from the table. `UPDATE_GOLDEN=1` writes it.
#[test]
fn states_are_documented_as_the_table_has_them() {
    let mut text = String::from(
        "# States\n\nPrinted from the table in `shared/job/src/state.rs`; a test keeps it so \
         (`UPDATE_GOLDEN=1 cargo test -p counterfoil-it states_are_documented` writes it).\n\n\
         ```mermaid\nstateDiagram-v2\n",
    );
    for t in TRANSITIONS {
        let from = t.from.map_or("[*]", State::as_str);
        text.push_str(&format!("    {from} --> {}: {}\n", t.to, t.event));
    }
    for end in State::terminal() {
        text.push_str(&format!("    {end} --> [*]\n"));
    }
    text.push_str("```\n\n| what happens | ");
    let sources: Vec<Option<State>> =
        std::iter::once(None).chain(State::ALL.iter().copied().map(Some)).collect();
    let name = |from: &Option<State>| from.map_or("new", State::as_str);
    text.push_str(&sources.iter().map(name).collect::<Vec<_>>().join(" | "));
    text.push_str(&format!(" |\n|---|{}\n", "---|".repeat(sources.len())));
    for event in Event::ALL {
        let cells: Vec<&str> = sources
            .iter()
            .map(|from| job::state::next(*from, *event).map_or("·", State::as_str))
            .collect();
        text.push_str(&format!("| {event} | {} |\n", cells.join(" | ")));
    }
    text.push_str("\n`·` is refused. Final: ");
    text.push_str(&State::terminal().map(State::as_str).collect::<Vec<_>>().join(", "));
    text.push_str(".\n");
    let path = workspace().join("docs/STATES.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap_or_else(|error| panic!("{error}"));
    }
    assert_eq!(read("docs/STATES.md"), text);
}

#[test]
fn every_json_example_of_the_protocol_is_what_it_says() -> anyhow::Result<()> {
    let text = read("docs/PROTOCOL.md");
    let examples = blocks(&text, "json");
    assert!(examples.len() >= 6, "{} examples", examples.len());
    for (before, example) in examples {
        let value: serde_json::Value = serde_json::from_str(example)?;
        if before.to_lowercase().contains("request") {
            let properties = protocol::Properties {
                user_id: Some("shop".to_owned()),
                reply_to: Some("reply.shop.a".to_owned()),
                ..protocol::Properties::default()
            };
            let verb = before.split('`').nth(1).unwrap_or_default();
            let request = protocol::Request::read(verb, &properties, example.as_bytes());
            assert!(request.is_ok(), "{before}: {:?}", request.err());
        } else if before.starts_with("**Submissions**") {
            let list: Submissions = serde_json::from_value(value.clone())?;
            let again: serde_json::Value = serde_json::from_slice(&list.to_json())?;
            assert_eq!(again, value, "a field that no submission has: {before}");
        } else if before.contains("kind `batch`") {
            let batch = protocol::Batch::read(example.as_bytes())?;
            assert_eq!(serde_json::to_value(&batch)?, value, "a field that no batch has: {before}");
            for message in &batch.messages {
                is_answer(&serde_json::from_str(message.body.get())?, before)?;
            }
        } else {
            is_answer(&value, before)?;
        }
    }
    Ok(())
}

fn is_answer(value: &serde_json::Value, before: &str) -> anyhow::Result<()> {
    let answer: Answer = serde_json::from_value(value.clone())?;
    let again: serde_json::Value = serde_json::from_slice(&answer.to_json())?;
    assert_eq!(&again, value, "a field that no answer has: {before}");
    Ok(())
}

#[test]
fn every_refusal_code_and_answer_field_is_documented() -> anyhow::Result<()> {
    let text = read("docs/PROTOCOL.md");
    for code in Code::ALL {
        let retryable = if code.is_retryable() { "| yes |" } else { "| no |" };
        let is_row =
            |line: &&str| line.starts_with(&format!("| `{code}`")) && line.contains(retryable);
        assert!(text.lines().any(|line| is_row(&line)), "{code} has no row with {retryable}");
    }
    let source = read("shared/protocol/src/answer.rs");
    let fields = source.split("\nanswer! {").nth(1).and_then(|rest| rest.split("\n}").next());
    for line in fields.unwrap_or_default().lines().filter(|line| !line.contains("///")) {
        let Some((field, _)) = line.trim().split_once(':') else { continue };
        let field = field.trim_start_matches("r#");
        assert!(text.contains(&format!("`{field}`")), "{field} is not documented");
    }
    Ok(())
}

#[test]
fn every_key_and_field_of_redis_is_documented() {
    let text = read("docs/REDIS.md");
    for field in store::Record::FIELDS.iter().chain(&["payload"]) {
        assert!(text.contains(&format!("`{field}`")), "the field {field} is not documented");
    }
    for line in read("shared/store/src/keys.rs").lines().filter(|line| line.starts_with("//! | `"))
    {
        let key = line.split('`').nth(1).unwrap_or_default();
        let key = key.trim_start_matches("<prefix>:").trim_start_matches("{<slot>}:");
        assert!(text.contains(key), "the key {key} is not documented");
    }
}

#[test]
fn claims_and_promises_name_tests_that_exist() {
    let mut tests = String::new();
    for file in std::fs::read_dir(workspace().join("tests/it")).into_iter().flatten().flatten() {
        tests.push_str(&std::fs::read_to_string(file.path()).unwrap_or_default());
    }
    let (claims, promises) = (read("docs/CLAIMS.md"), read("docs/PROMISES.md"));
    for n in 1..=18 {
        let name = format!("claim_{n:02}_");
        assert!(claims.contains(&name), "{name} is not in docs/CLAIMS.md");
        assert!(tests.contains(&format!("fn {name}")), "{name} has no test");
    }
    for n in 1..=8 {
        let name = format!("promise_{n:02}_");
        assert!(promises.contains(&name), "{name} is not in docs/PROMISES.md");
        assert!(tests.contains(&format!("fn {name}")), "{name} has no test");
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    for document in documents() {
        let text = read(&document);
        let folder = Path::new(&document).parent().unwrap_or(Path::new(""));
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.contains(' ') {
                continue;
            }
            let path = workspace().join(folder).join(target);
            assert!(path.exists(), "{document}: {link} leads nowhere");
        }
    }
}

/// A file that a document names in its code type is there: `shared/job/src/state.rs`.
#[test]
fn files_that_documents_name_exist() {
    let top = ["shared/", "services/", "tests/", "deploy/", "config/", "docs/"];
    // What a command makes is not in the checkout.
    let made = ["deploy/secrets"];
    for document in documents() {
        for word in read(&document).split('`').skip(1).step_by(2) {
            let is_path = top.iter().any(|folder| word.starts_with(folder));
            if is_path && !word.contains([' ', '*', '<', '…']) && !made.contains(&word) {
                let path = word.split(':').next().unwrap_or_default();
                assert!(workspace().join(path).exists(), "{document}: there is no {word}");
            }
        }
    }
}

/// Every document of the checkout but the licences.
pub(crate) fn documents() -> Vec<String> {
    ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
        .map(str::to_owned)
        .into_iter()
        .chain(markdown_in("docs"))
        .chain(markdown_in("docs/decisions"))
        .collect()
}

fn markdown_in(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(workspace().join(folder)).into_iter().flatten().flatten();
    entries
        .map(|entry| format!("{folder}/{}", entry.file_name().to_string_lossy()))
        .filter(|name| name.ends_with(".md"))
        .collect()
}

/// The Python producer, as printed: only the address of the broker is this test's.
#[tokio::test]
async fn the_python_producer_runs_as_printed() -> anyhow::Result<()> {
    let (readme, protocol) = (read("README.md"), read("docs/PROTOCOL.md"));
    let printed = blocks(&readme, "python");
    assert_eq!(printed[0].1, blocks(&protocol, "python")[0].1);
    let world = World::new().await?;
    let server = world.server().await?;
    let handler = || async { Ok::<_, Failure>("placed") };
    let worker = start(world.worker().handle("order.place", handler)?).await?;
    let program = printed[0].1.replace("amqp://shop:secret@localhost/", &world.amqp_url("shop"));
    let file = world.directory.join("producer.py");
    std::fs::write(&file, program)?;
    let mut child = tokio::process::Command::new("/usr/bin/python3")
        .arg("-u")
        .arg(&file)
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = child.stdout.take().ok_or_else(|| anyhow::anyhow!("no output"))?;
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(output));
    let mut kinds = std::collections::BTreeSet::new();
    while kinds.len() < 3 {
        let line = within("the producer's output", lines.next_line()).await??;
        let line = line.ok_or_else(|| anyhow::anyhow!("the producer ended: {kinds:?}"))?;
        kinds.insert(line.split(' ').next().unwrap_or_default().to_owned());
    }
    assert_eq!(kinds, ["event", "receipt", "status"].map(str::to_owned).into());
    child.kill().await?;
    worker.stop().await?;
    Ok(server.stop().await?)
}
