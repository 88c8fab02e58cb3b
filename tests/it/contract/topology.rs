//! `docs/asyncapi.yaml` has the exchanges, queues, bindings, requests and kinds of message that the
//! code has, and no other.

use std::collections::BTreeSet;

use broker::definitions::Definitions;
use protocol::{Kind, Verb, batch};
use saphyr::{LoadableYamlNode as _, Scalar, Yaml};
use serde_json::{Map, Value, json};

use super::schemas;
use crate::documents::read;

fn document() -> Value {
    let text = read("docs/asyncapi.yaml");
    json_of(&Yaml::load_from_str(&text).unwrap()[0])
}

fn json_of(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Value(Scalar::Boolean(value)) => json!(value),
        Yaml::Value(Scalar::Integer(value)) => json!(value),
        Yaml::Value(Scalar::String(value)) => json!(value),
        Yaml::Sequence(items) => items.iter().map(json_of).collect(),
        Yaml::Mapping(fields) => {
            let name = |name: &Yaml<'_>| name.as_str().unwrap_or_default().to_owned();
            let fields = fields.iter().map(|(key, value)| (name(key), json_of(value)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        _ => Value::Null,
    }
}

fn entries(object: &Value) -> impl Iterator<Item = (&str, &Value)> {
    object.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

fn set<T: Ord>(all: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    all.into_iter().collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// With one work queue, whose name is the document's parameter.
fn topology() -> Value {
    let queues = vec![job::QueueName::default()];
    let inquiry = broker::topology::QueueType::default();
    let definitions = Definitions { vhost: "/".to_owned(), users: vec![], queues, inquiry };
    let text = definitions.to_json().to_string();
    serde_json::from_str(
        &text
            .replace("work.default", "work.{queue}")
            .replace(r#""routing_key":"default""#, r#""routing_key":"{queue}""#),
    )
    .unwrap()
}

#[test]
fn exchanges_queues_and_bindings_are_those_of_the_code() {
    let (document, topology) = (document(), topology());
    let array = |name: &str| topology[name].as_array().cloned().unwrap_or_default();
    let mut exchanges = BTreeSet::new();
    let mut queues = BTreeSet::new();
    let mut bindings = BTreeSet::new();
    for (name, channel) in entries(&document["channels"]) {
        let amqp = &channel["bindings"]["amqp"];
        assert_eq!(amqp["bindingVersion"], "0.3.0", "{name}");
        if amqp["is"] == "routingKey" {
            let exchange = &amqp["exchange"];
            exchanges.insert((text(&exchange["name"]), text(&exchange["type"])));
            assert_eq!(
                (&exchange["durable"], &exchange["autoDelete"]),
                (&json!(true), &json!(false))
            );
        } else if name != "reply" {
            let (queue, arguments) = (&amqp["queue"], &channel["x-queue-arguments"]);
            assert_eq!(channel["address"], queue["name"], "{name}");
            assert_eq!((&queue["durable"], &queue["autoDelete"]), (&json!(true), &json!(false)));
            queues.insert((text(&queue["name"]), arguments.to_string()));
            for route in channel["x-bound-to"].as_array().into_iter().flatten() {
                exchanges.insert((text(&route["exchange"]), text(&route["type"])));
                bindings
                    .insert([&route["exchange"], &queue["name"], &route["routingKey"]].map(text));
            }
        }
    }
    let of_code = array("exchanges").into_iter().map(|it| (text(&it["name"]), text(&it["type"])));
    assert_eq!(exchanges, set(of_code));
    let of_code =
        array("queues").into_iter().map(|it| (text(&it["name"]), it["arguments"].to_string()));
    assert_eq!(queues, set(of_code));
    let of_code = array("bindings").into_iter();
    let of_code =
        of_code.map(|it| [&it["source"], &it["destination"], &it["routing_key"]].map(text));
    assert_eq!(bindings, set(of_code));
}

#[test]
fn requests_and_kinds_of_message_are_those_of_the_code() {
    let document = document();
    let verbs = set(Verb::ALL.iter().map(|verb| verb.as_str().to_owned()));
    let mut addresses = BTreeSet::new();
    for (name, channel) in entries(&document["channels"]) {
        let exchange = &channel["bindings"]["amqp"]["exchange"]["name"];
        if *exchange == broker::topology::REQUEST {
            assert_eq!(channel["address"], name);
            addresses.insert(name.to_owned());
        } else if *exchange == broker::topology::SUBMIT {
            assert_eq!((name, &channel["address"]), ("submit", &json!("{type}")));
        } else {
            assert!(exchange.is_null(), "a client does not write to {exchange}");
        }
    }
    assert_eq!(addresses, verbs);
    let sends = entries(&document["operations"]).filter(|(_, it)| it["action"] == "send");
    let sends = set(sends.map(|(name, it)| {
        assert_eq!(it["channel"]["$ref"], format!("#/channels/{name}"));
        name.to_owned()
    }));
    assert_eq!(sends, verbs.iter().cloned().chain(["submit".to_owned()]).collect());

    let kinds = [Kind::Receipt, Kind::Status, Kind::Event, Kind::Refusal].map(Kind::as_str);
    let kinds = kinds.into_iter().chain([batch::TO_CLIENT]);
    let received = &document["channels"]["reply"]["messages"];
    assert_eq!(set(entries(received).map(|(name, _)| name)), set(kinds.clone()));
    let submitted = entries(&document["channels"]["submit"]["messages"]).map(|(name, _)| name);
    assert_eq!(set(submitted), set(["submission", batch::FROM_CLIENT]));
    let messages = &document["components"]["messages"];
    for (name, message) in entries(messages) {
        let verb = name.strip_suffix("Request");
        let schema = match verb {
            Some(verb) => format!("request-{verb}"),
            None if name == "submission" => continue,
            None => {
                assert_eq!(message["bindings"]["amqp"]["messageType"], name);
                name.to_owned()
            }
        };
        assert_eq!(message["payload"]["$ref"], format!("./schemas/v1/{schema}.json"));
    }
    let names = verbs.iter().map(|verb| format!("{verb}Request"));
    let sent = ["submission", batch::FROM_CLIENT];
    let names = names.chain(kinds.chain(sent).map(str::to_owned));
    assert_eq!(set(entries(messages).map(|(name, _)| name.to_owned())), names.collect());
    assert_eq!(document["servers"]["rabbitmq"]["protocol"], "amqp");
}

/// What the document refers to is there, in itself and beside it.
#[test]
fn references_of_the_document_lead_somewhere() {
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        if let Some(reference) = value["$ref"].as_str() {
            found.insert(reference.to_owned());
        }
        entries(value).for_each(|(_, value)| references(value, found));
        value.as_array().into_iter().flatten().for_each(|value| references(value, found));
    }
    let document = document();
    let (files, mut all) = (schemas::files(), BTreeSet::new());
    references(&document, &mut all);
    assert!(all.len() > 30, "{all:?}");
    for reference in all {
        let (file, pointer) = reference.split_once('#').unwrap_or((&reference, ""));
        let root = match file.strip_prefix("./schemas/v1/") {
            Some(name) => files.get(name),
            None => Some(&document).filter(|_| file.is_empty()),
        };
        let target = root.and_then(|root| root.pointer(pointer));
        assert!(target.is_some(), "{reference} leads nowhere");
    }
}
