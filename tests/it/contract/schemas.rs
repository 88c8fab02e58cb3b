//! The JSON Schemas, as they stand and in a strict form.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use boon::{Compiler, SchemaIndex, Schemas};
use harness::workspace;
use serde_json::Value;

/// The folder of version 1.
pub(crate) const FOLDER: &str = "docs/schemas/v1";
/// What the schemas refer to each other under. Nothing is fetched from there.
const BASE: &str = "file:///v1";

/// Every schema and every definition in one, compiled.
pub(crate) struct Contract {
    schemas: Schemas,
    indices: BTreeMap<String, SchemaIndex>,
}

/// As published: what a client holds a message to. Later versions may add fields.
pub(crate) static OPEN: LazyLock<Contract> = LazyLock::new(|| Contract::new(false));
/// What this version's own messages are held to: a field that no schema describes is an error.
/// Each object that is open says so by `"unevaluatedProperties": true`.
pub(crate) static STRICT: LazyLock<Contract> = LazyLock::new(|| Contract::new(true));

/// Name and text of every schema.
pub(crate) fn files() -> BTreeMap<String, Value> {
    let entries = std::fs::read_dir(workspace().join(FOLDER)).unwrap();
    entries
        .map(|entry| {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let json = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
            (name, json)
        })
        .collect()
}

impl Contract {
    fn new(is_strict: bool) -> Self {
        let mut compiler = Compiler::new();
        compiler.enable_format_assertions();
        let mut names = Vec::new();
        for (name, mut schema) in files() {
            names.push(name.trim_end_matches(".json").to_owned());
            let definitions = schema["$defs"].as_object().into_iter().flatten();
            names.extend(definitions.map(|(definition, _)| format!("{name}#/$defs/{definition}")));
            if is_strict {
                close(&mut schema);
            }
            compiler.add_resource(&format!("{BASE}/{name}"), schema).unwrap();
        }
        let mut schemas = Schemas::new();
        let mut index = |name: &String| {
            let file = if name.contains('#') { name.clone() } else { format!("{name}.json") };
            let compiled = compiler.compile(&format!("{BASE}/{file}"), &mut schemas);
            compiled.unwrap_or_else(|error| panic!("{file}: {error:#}"))
        };
        let indices = names.into_iter().map(|name| (name.clone(), index(&name))).collect();
        Self { schemas, indices }
    }

    /// Why a value does not keep to a schema, named as its file is, e.g. `status`, or to a
    /// definition in one, e.g. `redis-record.json#/$defs/waits`.
    pub(crate) fn fault(&self, schema: &str, value: &Value) -> Option<String> {
        let index = self.indices.get(schema).unwrap_or_else(|| panic!("no schema {schema}"));
        self.schemas.validate(value, *index).err().map(|error| format!("{error:#}"))
    }

    pub(crate) fn check(&self, schema: &str, value: &Value, what: &str) {
        if let Some(fault) = self.fault(schema, value) {
            panic!("{what}: {fault}\n{value:#}");
        }
    }

    pub(crate) fn holds(&self, schema: &str, value: &Value) -> bool {
        self.fault(schema, value).is_none()
    }
}

fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name == "unevaluatedProperties" {
                    *value = Value::Bool(false);
                } else {
                    close(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

#[test]
fn every_schema_is_one_and_refers_to_what_is_there() {
    for (name, schema) in files() {
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{name}");
        for text in ["title", "description"] {
            assert!(schema[text].as_str().is_some_and(|text| !text.is_empty()), "{name}: {text}");
        }
    }
    // Compiling holds them against the meta-schema and resolves what they refer to.
    assert_eq!(OPEN.indices.len(), STRICT.indices.len());
}

#[test]
fn a_field_that_no_schema_describes_is_seen() {
    let mut answer = serde_json::json!({
        "v": 1, "answer": "unknown", "job_id": "A-1", "as_of": "2026-01-31T12:00:00.000Z",
    });
    assert!(STRICT.holds("status", &answer));
    answer["news"] = serde_json::json!(1);
    assert!(OPEN.holds("status", &answer), "a later version may add it");
    assert!(!STRICT.holds("status", &answer), "this version does not have it");
}
