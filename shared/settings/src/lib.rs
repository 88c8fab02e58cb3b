//! Layered settings, lowest first: `config/default.toml` (compiled in), a file of one's own, the
//! environment. Nothing else reads the environment.
//!
//! `COUNTERFOIL_AMQP_URL` sets `amqp.url`: a section and a key, joined by `_`; and so for every
//! key. A variable that ends in `_FILE` names a file that holds the value, for secrets.

use std::path::Path;

use config::{Config, File, FileFormat};
use serde::de::DeserializeOwned;

/// The reference: every key, its unit, its default and why.
pub const REFERENCE: &str = include_str!("../../../config/default.toml");

/// Settings that cannot be used. The text names the key, what is wrong and what is allowed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

const PREFIX: &str = "COUNTERFOIL_";

/// Loads the sections that `T` holds.
///
/// # Errors
/// [`Error`], in one line.
pub fn load<T: DeserializeOwned>(file: Option<&Path>) -> Result<T, Error> {
    let environment = std::env::vars().collect::<Vec<_>>();
    load_with(file, environment)
}

/// All sections as they are used, with secrets made unreadable.
///
/// # Errors
/// [`Error`], in one line.
pub fn effective(file: Option<&Path>) -> Result<serde_json::Value, Error> {
    let mut all: serde_json::Value = load(file)?;
    redact(&mut all);
    Ok(all)
}

/// Loads with a given environment.
///
/// # Errors
/// [`Error`], in one line.
pub fn load_with<T: DeserializeOwned>(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<T, Error> {
    let reference = File::from_str(REFERENCE, FileFormat::Toml);
    let known = Config::builder()
        .add_source(reference.clone())
        .build()
        .and_then(Config::try_deserialize::<toml_like::Sections>)
        .map_err(|error| Error(format!("config/default.toml: {error}")))?;
    let mut builder = Config::builder().add_source(reference);
    if let Some(file) = file {
        builder = builder.add_source(File::from(file).format(FileFormat::Toml));
        known.check_file(file)?;
    }
    for (name, value) in environment {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        if is_of_kubernetes(rest) {
            continue;
        }
        let (key, value) = known.resolve(&name, rest, value)?;
        builder =
            builder.set_override(&key, value).map_err(|error| Error(format!("{name}: {error}")))?;
    }
    let config = builder.build().map_err(|error| Error(one_line(&error.to_string())))?;
    config.try_deserialize().map_err(|error| Error(one_line(&error.to_string())))
}

/// A secret, and the password of a URL.
fn redact(value: &mut serde_json::Value) {
    const HIDDEN: &str = "***";
    let serde_json::Value::Object(table) = value else { return };
    for (key, value) in table {
        match value {
            serde_json::Value::String(text) if key == "secret" => HIDDEN.clone_into(text),
            serde_json::Value::String(text) if key == "url" => {
                let Some((before, host)) = text.rsplit_once('@') else { continue };
                let user = before.find("://").map_or(0, |place| place + 3);
                if let Some(colon) = before[user..].find(':') {
                    *text = format!("{}:{HIDDEN}@{host}", &before[..user + colon]);
                }
            }
            other => redact(other),
        }
    }
}

/// Kubernetes sets variables for each service, after its name; one may be called counterfoil.
/// <https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>
fn is_of_kubernetes(rest: &str) -> bool {
    ["SERVICE_HOST", "SERVICE_PORT"].iter().any(|part| rest.contains(part))
        || rest.starts_with("PORT")
        || rest.ends_with("_PORT")
        || rest.contains("_PORT_")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

mod toml_like {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    use config::{Config, File, FileFormat, Value};

    use super::Error;

    /// The keys of every section, as the reference has them.
    #[derive(serde::Deserialize)]
    #[serde(transparent)]
    pub(super) struct Sections(BTreeMap<String, BTreeMap<String, Value>>);

    /// Keys that have no default.
    const WITHOUT_DEFAULT: &[(&str, &str)] = &[("redis", "secret"), ("server", "keep")];

    impl Sections {
        fn keys<'a>(&'a self, section: &'a str) -> BTreeSet<&'a str> {
            let extra = WITHOUT_DEFAULT.iter().filter(|(s, _)| *s == section).map(|(_, key)| *key);
            let known = self.0.get(section).into_iter().flat_map(|keys| keys.keys());
            known.map(String::as_str).chain(extra).collect()
        }

        /// The key that a variable names, and its value.
        pub(super) fn resolve(
            &self,
            name: &str,
            rest: &str,
            value: String,
        ) -> Result<(String, String), Error> {
            let lower = rest.to_ascii_lowercase();
            let (path, value) = match lower.strip_suffix("_file") {
                Some(path) if !self.is_known(&lower) => {
                    let text = std::fs::read_to_string(&value)
                        .map_err(|error| Error(format!("{name}: {value}: {error}")))?;
                    (path, text.trim_end().to_owned())
                }
                _ => (lower.as_str(), value),
            };
            let Some((section, key)) = path.split_once('_') else {
                return Err(self.unknown(name, None));
            };
            if self.keys(section).contains(key) {
                return Ok((format!("{section}.{key}"), value));
            }
            Err(self.unknown(name, Some(section)))
        }

        fn is_known(&self, path: &str) -> bool {
            path.split_once('_').is_some_and(|(section, key)| self.keys(section).contains(key))
        }

        fn unknown(&self, name: &str, section: Option<&str>) -> Error {
            let known = section.map(|section| self.keys(section)).filter(|keys| !keys.is_empty());
            match (section, known) {
                (Some(section), Some(keys)) => {
                    let keys = keys.into_iter().collect::<Vec<_>>().join(", ");
                    Error(format!("{name}: no such key in [{section}]; there are {keys}"))
                }
                _ => {
                    let sections = self.0.keys().cloned().collect::<Vec<_>>().join(", ");
                    Error(format!("{name}: no such section; there are {sections}"))
                }
            }
        }

        /// A misspelt key in a file would be passed over in silence by whoever reads only its own
        /// sections.
        pub(super) fn check_file(&self, file: &Path) -> Result<(), Error> {
            let shown = file.display().to_string();
            let config = Config::builder()
                .add_source(File::from(file).format(FileFormat::Toml))
                .build()
                .map_err(|error| {
                    Error(format!("{shown}: {}", super::one_line(&error.to_string())))
                })?;
            let given: BTreeMap<String, BTreeMap<String, Value>> =
                config.try_deserialize().map_err(|error| {
                    Error(format!("{shown}: a key stands outside a section: {error}"))
                })?;
            for (section, keys) in given {
                for key in keys.into_keys() {
                    if !self.keys(&section).contains(key.as_str()) {
                        return Err(
                            self.unknown(&format!("{shown}: {section}.{key}"), Some(&section))
                        );
                    }
                }
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Two {
        amqp: Amqp,
    }
    #[derive(Debug, serde::Deserialize)]
    struct Amqp {
        url: String,
        heartbeat_s: u16,
    }

    fn with(variables: &[(&str, &str)]) -> Result<Two, Error> {
        let owned = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        load_with(None, owned.collect::<Vec<_>>())
    }

    #[test]
    fn the_environment_overrides_the_reference_and_a_password_stays_a_text() {
        let two = with(&[("COUNTERFOIL_AMQP_URL", "0123"), ("OTHER", "x")]).unwrap();
        assert_eq!(two.amqp.url, "0123");
        assert_eq!(two.amqp.heartbeat_s, 10);
    }

    #[test]
    fn a_wrong_key_or_value_is_named_with_what_is_allowed() {
        let error = with(&[("COUNTERFOIL_AMQP_ULR", "x")]).unwrap_err().to_string();
        assert!(
            error.starts_with("COUNTERFOIL_AMQP_ULR: no such key in [amqp]; there are"),
            "{error}"
        );
        let error = with(&[("COUNTERFOIL_RABBIT_URL", "x")]).unwrap_err().to_string();
        assert!(error.contains("no such section; there are amqp"), "{error}");
        let error = with(&[("COUNTERFOIL_AMQP_HEARTBEAT_S", "soon")]).unwrap_err().to_string();
        assert!(error.contains("heartbeat_s"), "{error}");
        assert!(!error.contains('\n'));
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut all = serde_json::json!({
            "amqp": { "url": "amqp://shop:p:w@d@rabbit:5672/v" },
            "redis": { "url": "redis://localhost/0", "secret": "x" },
        });
        redact(&mut all);
        assert_eq!(all["amqp"]["url"], "amqp://shop:***@rabbit:5672/v");
        assert_eq!(all["redis"]["url"], "redis://localhost/0");
        assert_eq!(all["redis"]["secret"], "***");
    }

    #[test]
    fn the_variables_that_kubernetes_sets_are_none_of_ours() {
        let set = [
            ("COUNTERFOIL_SERVICE_HOST", "10.0.0.1"),
            ("COUNTERFOIL_PORT", "tcp://10.0.0.1:80"),
            ("COUNTERFOIL_SERVER_PORT_80_TCP_ADDR", "10.0.0.1"),
        ];
        assert!(with(&set).is_ok());
    }

    #[test]
    fn a_variable_that_ends_in_file_names_a_file_that_holds_the_value() {
        let path = std::env::temp_dir().join(format!("counterfoil-secret-{}", std::process::id()));
        std::fs::write(&path, "amqp://a:b@c/\n").unwrap();
        let two = with(&[("COUNTERFOIL_AMQP_URL_FILE", path.to_str().unwrap())]).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(two.amqp.url, "amqp://a:b@c/");
    }
}
