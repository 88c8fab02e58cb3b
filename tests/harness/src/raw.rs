//! A client that speaks AMQP as any producer would, with nothing of ours between.

use std::collections::VecDeque;

use anyhow::{Context as _, ensure};
use broker::{Connection, Consumer, Delivery, Outcome, Publication, Publisher, topology};
use protocol::{HeaderValue, Properties};
use serde_json::Value;

use crate::within;

/// A raw client.
#[derive(Debug)]
pub struct Raw {
    /// Its connection.
    pub connection: Connection,
    publisher: Publisher,
    user: String,
}

/// A queue that a raw client reads.
#[derive(Debug)]
pub struct Inbox {
    /// Its name.
    pub queue: String,
    consumer: Consumer,
    received: VecDeque<Delivery>,
}

/// A received message.
#[derive(Debug, Clone)]
pub struct Message {
    /// The AMQP `type`.
    pub kind: String,
    /// Its properties.
    pub properties: Properties,
    /// Its body.
    pub body: Value,
}

impl Message {
    /// A text of the body; empty where there is none.
    pub fn text(&self, field: &str) -> &str {
        self.body[field].as_str().unwrap_or_default()
    }
}

impl Raw {
    /// A raw client of the user whose connection the environment names.
    ///
    /// # Errors
    /// RabbitMQ cannot be reached.
    pub async fn from_settings() -> anyhow::Result<Self> {
        let settings: crate::Settings = settings::load(None)?;
        let user = settings.amqp.user()?;
        Self::connect(settings.amqp, &user).await
    }

    /// A raw client of a user.
    ///
    /// # Errors
    /// RabbitMQ cannot be reached.
    pub async fn connect(settings: broker::Settings, user: &str) -> anyhow::Result<Self> {
        let connection = Connection::open(&settings, "a test").await?;
        let publisher = connection.publisher().await?;
        Ok(Self { connection, publisher, user: user.to_owned() })
    }

    /// A queue `reply.<user>.<name>` that outlives this connection.
    ///
    /// # Errors
    /// RabbitMQ refuses it.
    pub async fn inbox(&self, name: &str) -> anyhow::Result<Inbox> {
        let queue = format!("reply.{}.{name}", self.user);
        self.connection.declare_durable_inbox(&queue, 600_000).await?;
        self.read(&queue).await
    }

    /// Reads a queue that is there.
    ///
    /// # Errors
    /// It is not there.
    pub async fn read(&self, queue: &str) -> anyhow::Result<Inbox> {
        let consumer = self.connection.consumer(queue, 1000).await?;
        Ok(Inbox { queue: queue.to_owned(), consumer, received: VecDeque::new() })
    }

    /// Properties as a client sets them: its own user, an id, a reply queue.
    pub fn properties(&self, job_id: &str, reply_to: &str) -> Properties {
        Properties {
            persistent: true,
            user_id: Some(self.user.clone()),
            message_id: Some(job_id.to_owned()).filter(|id| !id.is_empty()),
            reply_to: Some(reply_to.to_owned()).filter(|queue| !queue.is_empty()),
            ..Properties::default()
        }
    }

    /// Publishes a submission and waits for the confirm.
    ///
    /// # Errors
    /// It was not confirmed.
    pub async fn submit(
        &self,
        job_type: &str,
        properties: Properties,
        body: impl Into<Vec<u8>>,
    ) -> anyhow::Result<()> {
        self.publish(topology::SUBMIT, job_type, properties, body).await
    }

    /// Publishes the usual submission: an id, a reply queue, some headers.
    ///
    /// # Errors
    /// It was not confirmed.
    pub async fn submit_job(
        &self,
        job_type: &str,
        job_id: &str,
        reply_to: &str,
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> anyhow::Result<()> {
        let mut properties = self.properties(job_id, reply_to);
        for (name, value) in headers {
            properties.headers.push(*name, HeaderValue::Text((*value).to_owned()));
        }
        self.submit(job_type, properties, body).await
    }

    /// Publishes a request and waits for the confirm.
    ///
    /// # Errors
    /// It was not confirmed.
    pub async fn ask(&self, verb: &str, reply_to: &str, body: Value) -> anyhow::Result<()> {
        let properties = self.properties("", reply_to);
        self.publish(topology::REQUEST, verb, properties, body.to_string()).await
    }

    /// Publishes a message and waits for the confirm.
    ///
    /// # Errors
    /// It was not confirmed.
    pub async fn publish(
        &self,
        exchange: &'static str,
        routing_key: &str,
        properties: Properties,
        body: impl Into<Vec<u8>>,
    ) -> anyhow::Result<()> {
        let publication = Publication {
            exchange,
            routing_key: routing_key.to_owned(),
            mandatory: true,
            properties,
            body: body.into(),
        };
        let outcome = self.publisher.publish(vec![publication]).await;
        ensure!(outcome == [Outcome::Confirmed], "{exchange} {routing_key}: {outcome:?}");
        Ok(())
    }
}

impl Inbox {
    /// The next message.
    ///
    /// # Errors
    /// None came in time.
    pub async fn next(&mut self) -> anyhow::Result<Message> {
        self.next_where(|_| true).await
    }

    /// The next message of a kind; others stay for later calls, for events may come before their
    /// receipt.
    ///
    /// # Errors
    /// None came in time.
    pub async fn next_of(&mut self, kind: &str) -> anyhow::Result<Message> {
        self.next_where(|delivery| delivery.properties.kind.as_deref() == Some(kind)).await
    }

    /// The next message of any of these kinds.
    ///
    /// # Errors
    /// None came in time.
    pub async fn next_of_any(&mut self, kinds: &[&str]) -> anyhow::Result<Message> {
        let is_wanted = |kind: &String| kinds.contains(&kind.as_str());
        self.next_where(|delivery| delivery.properties.kind.as_ref().is_some_and(is_wanted)).await
    }

    /// The next message with a correlation id. An answer that somebody waited for may come twice,
    /// so what comes next need not be the answer to what was asked last.
    ///
    /// # Errors
    /// None came in time.
    pub async fn answer_to(&mut self, correlation_id: &str) -> anyhow::Result<Message> {
        let is_wanted = |id: &String| id == correlation_id;
        let id = |delivery: &Delivery| {
            delivery.properties.correlation_id.as_ref().is_some_and(is_wanted)
        };
        self.next_where(id).await
    }

    async fn next_where(&mut self, wanted: impl Fn(&Delivery) -> bool) -> anyhow::Result<Message> {
        loop {
            if let Some(place) = self.received.iter().position(&wanted) {
                let delivery = self.received.remove(place).context("a message")?;
                let body = serde_json::from_slice(&delivery.body).unwrap_or(Value::Null);
                let kind = delivery.properties.kind.clone().unwrap_or_default();
                return Ok(Message { kind, properties: delivery.properties, body });
            }
            let what = format!("a message on {}", self.queue);
            let chunk = within(&what, self.consumer.next_chunk(100)).await??;
            for delivery in &chunk {
                self.consumer.acker().ack(&[delivery.tag]).await?;
            }
            self.received.extend(chunk);
        }
    }

    /// The event that tells of a state or change; other events are passed over.
    ///
    /// # Errors
    /// None came in time.
    pub async fn event(&mut self, word: &str) -> anyhow::Result<Message> {
        loop {
            let message = self.next_of("event").await?;
            if message.text("event") == word {
                return Ok(message);
            }
        }
    }
}
