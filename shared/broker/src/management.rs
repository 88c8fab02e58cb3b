//! RabbitMQ's management interface, as far as an operator's commands need it: users, rights, and the
//! arguments of queues, which AMQP does not show
//! ([HTTP API](https://www.rabbitmq.com/docs/http-api-reference)).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use ureq::http::Method;
use url::Url;

use crate::definitions::User;
use crate::rights::{Rights, Role};

/// What the management interface could not do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManagementError {
    /// The URL is none that can be used.
    #[error("the management URL: {0} (http://user:password@host:15672)")]
    Url(String),
    /// Nobody answers there.
    #[error("RabbitMQ's management interface does not answer")]
    Unavailable(#[source] Box<ureq::Error>),
    /// It says no: mend user, password or right.
    #[error("RabbitMQ's management interface answers {status} to {request}: {reason}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What was asked.
        request: String,
        /// What it says.
        reason: String,
    },
}

/// A management interface, and who asks.
#[derive(Clone)]
pub struct Management {
    base: String,
    authorization: String,
}

impl std::fmt::Debug for Management {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Management").field("base", &self.base).finish_non_exhaustive()
    }
}

/// A queue as it is.
#[derive(Debug, Clone, Deserialize)]
pub struct QueueSeen {
    /// Its name.
    pub name: String,
    /// Its arguments.
    #[serde(default)]
    pub arguments: Map<String, Value>,
    /// What a policy adds to them.
    #[serde(default)]
    pub effective_policy_definition: Value,
}

/// An answer's body that is longer is none of these requests'.
const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;

impl Management {
    /// The interface behind a URL with user and password.
    ///
    /// # Errors
    /// [`ManagementError::Url`].
    pub fn new(url: &str) -> Result<Self, ManagementError> {
        let mut url = Url::parse(url).map_err(|error| ManagementError::Url(error.to_string()))?;
        if url.scheme() != "http" {
            return Err(ManagementError::Url(format!("{}: only http", url.scheme())));
        }
        let decoded = |text: &str| {
            let pairs = format!("x={}", text.replace('+', "%2B"));
            url::form_urlencoded::parse(pairs.as_bytes())
                .next()
                .map(|(_, value)| value.into_owned())
                .unwrap_or_default()
        };
        let user = decoded(url.username());
        let password = decoded(url.password().unwrap_or_default());
        let authorization = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        // An http URL can always do without.
        url.set_username("").ok();
        url.set_password(None).ok();
        let base = url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { base, authorization })
    }

    /// Whether there is a user of that name.
    ///
    /// # Errors
    /// The interface cannot be asked.
    pub fn has_user(&self, name: &str) -> Result<bool, ManagementError> {
        match self.request(Method::GET, &["users", name], None) {
            Ok(_) => Ok(true),
            Err(ManagementError::Refused { status: 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Creates a user, or gives it this password.
    ///
    /// # Errors
    /// The interface cannot be asked, or says no.
    pub fn put_user(&self, user: &User, password: &str) -> Result<(), ManagementError> {
        let tags = if user.role == Role::Administrator { "administrator" } else { "" };
        let body = json!({ "password": password, "tags": tags });
        self.request(Method::PUT, &["users", &user.name], Some(&body)).map(drop)
    }

    /// Gives a user its rights in a virtual host, and no others there.
    ///
    /// # Errors
    /// The interface cannot be asked, or says no.
    pub fn put_rights(&self, vhost: &str, user: &User) -> Result<(), ManagementError> {
        let Rights { configure, write, read } = user.role.rights(&user.name);
        let body = json!({ "configure": configure, "write": write, "read": read });
        self.request(Method::PUT, &["permissions", vhost, &user.name], Some(&body)).map(drop)
    }

    /// Imports a definitions file.
    ///
    /// # Errors
    /// The interface cannot be asked, or says no.
    pub fn import(&self, definitions: &Value) -> Result<(), ManagementError> {
        self.request(Method::POST, &["definitions"], Some(definitions)).map(drop)
    }

    /// Removes a virtual host and all that is in it.
    ///
    /// # Errors
    /// The interface cannot be asked, or says no.
    pub fn delete_vhost(&self, vhost: &str) -> Result<(), ManagementError> {
        self.request(Method::DELETE, &["vhosts", vhost], None).map(drop)
    }

    /// The queues of a virtual host.
    ///
    /// # Errors
    /// The interface cannot be asked, or says no.
    pub fn queues(&self, vhost: &str) -> Result<Vec<QueueSeen>, ManagementError> {
        let text = self.request(Method::GET, &["queues", vhost], None)?;
        serde_json::from_str(&text).map_err(|error| ManagementError::Refused {
            status: 200,
            request: "queues".to_owned(),
            reason: error.to_string(),
        })
    }

    fn request(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
    ) -> Result<String, ManagementError> {
        let path: Vec<String> = path.iter().map(|part| encoded(part)).collect();
        let request = format!("{method} /api/{}", path.join("/"));
        let unavailable = |error| ManagementError::Unavailable(Box::new(error));
        let call = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}/api/{}", self.base, path.join("/")))
            .header("Authorization", &self.authorization)
            .header("Content-Type", "application/json")
            .body(body.map(Value::to_string).unwrap_or_default())
            .map_err(|error| ManagementError::Url(error.to_string()))?;
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .timeout_global(Some(std::time::Duration::from_secs(30)))
            .build()
            .new_agent();
        let mut answer = agent.run(call).map_err(unavailable)?;
        let status = answer.status().as_u16();
        let reading = answer.body_mut().with_config().limit(BODY_BYTES_MAX);
        let text = reading.read_to_string().map_err(unavailable)?;
        if status < 300 {
            return Ok(text);
        }
        let reason = text.chars().take(200).collect();
        Err(ManagementError::Refused { status, request, reason })
    }
}

/// One part of a path.
fn encoded(part: &str) -> String {
    url::form_urlencoded::byte_serialize(part.as_bytes()).collect::<String>().replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gives_user_and_password_and_keeps_them_to_itself() {
        let management = Management::new("http://ad%40min:p%3Aw%2B@rabbit:15672/").unwrap();
        assert_eq!(management.base, "http://rabbit:15672");
        let expected = format!("Basic {}", STANDARD.encode("ad@min:p:w+"));
        assert_eq!(management.authorization, expected);
        assert!(!format!("{management:?}").contains("p:w"));
        assert!(Management::new("rabbit:15672").is_err());
        assert_eq!(encoded("/a b"), "%2Fa%20b");
    }
}
