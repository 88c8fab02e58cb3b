//! A connection that is made anew when it fails, and beside it one for what must not wait: they are
//! given up together, so that neither knows less of the store than the other. Not redis-rs's
//! connection manager: it reconnects without telling, and keeps a connection whose peer hangs or
//! was demoted.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use job::TicketKey;
use protocol::UnixMillis;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo, Pipeline, Value};

use crate::opening::{self, Deployment, Durability};
use crate::{Error, Keys, Settings};
use crate::{scripts, timed};

/// A handle on the store; clones share a connection.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
    lane: Lane,
}

/// Which of the connections a handle uses.
#[derive(Clone, Copy)]
enum Lane {
    Main,
    Apart,
}

pub(crate) struct Inner {
    settings: Settings,
    keys: Keys,
    client: Client,
    current: Mutex<Current>,
    /// Held while a connection is made: whoever needs one waits for it instead of making another.
    opening: tokio::sync::Mutex<()>,
    deployment: RwLock<Deployment>,
    ticket_key: TicketKey,
    /// Written whenever the store is opened anew: one that comes back empty must not keep jobs for
    /// ever.
    pub(crate) retention: OnceLock<Pipeline>,
}

/// The connections in use, by lane, and how often they were given up.
struct Current {
    connections: [Option<MultiplexedConnection>; 2],
    generation: u64,
}

impl Current {
    fn is_open(&self) -> bool {
        self.connections.iter().any(Option::is_some)
    }

    /// What failed or missed something on one connection did so on the other: a restart, a server
    /// that was demoted, an epoch that somebody else has raised.
    /// The generation of what is opened next.
    fn give_up(&mut self) -> u64 {
        self.connections = [None, None];
        self.generation += 1;
        self.generation
    }
}

/// A connection, and what was known when it was handed out.
struct InUse {
    connection: MultiplexedConnection,
    generation: u64,
    epoch: u64,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("prefix", &self.inner.settings.prefix).finish()
    }
}

impl Store {
    /// Connects, and checks that the store is fit for what is promised.
    ///
    /// # Errors
    /// Transient ones may be tried again; the others name what to mend.
    pub async fn connect(settings: Settings) -> Result<Self, Error> {
        settings.validate().map_err(Error::Unfit)?;
        let info: ConnectionInfo =
            settings.url.as_str().into_connection_info().map_err(Error::Url)?;
        let tcp = TcpSettings::default().set_nodelay(true);
        let client = Client::open(info.set_tcp_settings(tcp)).map_err(Error::Url)?;
        let mut connection = connect(&client, &settings, true).await?;
        let deployment = opening::open(&mut connection, &settings, None).await?;
        scripts::load(&mut connection).await?;
        let inner = Inner {
            keys: Keys::new(&settings.prefix, settings.slots),
            client,
            current: Mutex::new(Current { connections: [Some(connection), None], generation: 0 }),
            opening: tokio::sync::Mutex::default(),
            ticket_key: TicketKey::new(&deployment.secret),
            deployment: RwLock::new(deployment),
            retention: OnceLock::new(),
            settings,
        };
        Ok(Self { inner: Arc::new(inner), lane: Lane::Main })
    }

    /// The same store over a connection apart. Redis carries out in turn what comes on one: what is
    /// asked here does not wait for all that was sent there.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), lane: Lane::Apart }
    }

    /// The names of keys.
    pub fn keys(&self) -> &Keys {
        &self.inner.keys
    }

    /// The store's settings.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// What tickets and seals are made with.
    pub fn ticket_key(&self) -> &TicketKey {
        &self.inner.ticket_key
    }

    /// Grows by one when the store was rolled back.
    pub fn epoch(&self) -> u64 {
        self.deployment().epoch
    }

    /// What a crash of the store can lose.
    pub fn durability(&self) -> Durability {
        self.deployment().durability
    }

    /// The last stretch of time that the store lost.
    pub fn lost_between(&self) -> Option<[UnixMillis; 2]> {
        self.deployment().lost_between
    }

    fn deployment(&self) -> RwLockReadGuard<'_, Deployment> {
        self.inner.deployment.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection of its own, for commands that block.
    pub(crate) async fn own_connection(&self) -> Result<MultiplexedConnection, Error> {
        connect(&self.inner.client, &self.inner.settings, false).await
    }

    /// The connection in use; a new one, opened and checked, if the last one failed.
    async fn connection(&self) -> Result<InUse, Error> {
        if let Some(in_use) = self.in_use() {
            return Ok(in_use);
        }
        let _opening = self.inner.opening.lock().await;
        loop {
            if let Some(in_use) = self.in_use() {
                return Ok(in_use);
            }
            let (connection, generation) = self.open().await?;
            self.current(|current| {
                // What was given up meanwhile may be what this one was compared with.
                if current.generation == generation {
                    current.connections[self.lane as usize] = Some(connection);
                }
            });
        }
    }

    fn current<T>(&self, look: impl FnOnce(&mut Current) -> T) -> T {
        look(&mut self.inner.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The epoch goes with the connection: a later one may be another server's.
    fn in_use(&self) -> Option<InUse> {
        self.current(|current| {
            let connection = current.connections[self.lane as usize].clone()?;
            Some(InUse { connection, generation: current.generation, epoch: self.epoch() })
        })
    }

    /// A new connection, and of which generation it is. Beside another one it is only looked
    /// whether it leads to the same server: what is known of that is known, and one that is full
    /// takes no writes but can be asked.
    async fn open(&self) -> Result<(MultiplexedConnection, u64), Error> {
        let mut connection = connect(&self.inner.client, &self.inner.settings, true).await?;
        let (mut generation, is_beside) = self.current(|it| (it.generation, it.is_open()));
        let known = self.deployment().clone();
        if is_beside {
            if opening::run_id(&mut connection).await? == known.run_id {
                return Ok((connection, generation));
            }
            generation = self.reopen();
        }
        let deployment = opening::open(&mut connection, &self.inner.settings, Some(&known)).await?;
        scripts::load(&mut connection).await?;
        if let Some(retention) = self.inner.retention.get() {
            connection.send_packed_commands(retention, 0, retention.len()).await?;
        }
        tracing::info!(redis.epoch = deployment.epoch, "connected to Redis again");
        *self.inner.deployment.write().unwrap_or_else(PoisonError::into_inner) = deployment;
        Ok((connection, generation))
    }

    /// Has the next call open the store anew. The generation of what is opened then.
    pub(crate) fn reopen(&self) -> u64 {
        self.current(Current::give_up)
    }

    fn give_up(&self, generation: u64) {
        self.current(|current| {
            if current.generation == generation {
                current.give_up();
            }
        });
    }

    /// Runs a pipeline. Every command of ours may be run again, so one lost script makes all of
    /// them run again.
    pub(crate) async fn run(&self, pipeline: &Pipeline) -> Result<Vec<Value>, Error> {
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        self.run_built(|_| Cow::Borrowed(pipeline)).await
    }

    /// Runs a pipeline that writes the epoch. It is built when there is a connection, because a new
    /// one may have found that the store was rolled back: what is written on it in the epoch before
    /// could not be told from what was lost.
    pub(crate) async fn run_in_epoch(
        &self,
        build: impl Fn(u64) -> Pipeline,
    ) -> Result<Vec<Value>, Error> {
        self.run_built(|epoch| Cow::Owned(build(epoch))).await
    }

    async fn run_built<'a>(
        &self,
        build: impl Fn(u64) -> Cow<'a, Pipeline>,
    ) -> Result<Vec<Value>, Error> {
        for _ in 0..2 {
            let InUse { mut connection, generation, epoch } = self.connection().await?;
            let pipeline = build(epoch);
            if pipeline.is_empty() {
                return Ok(Vec::new());
            }
            let pipeline = timed::between_looks(pipeline);
            let answer = connection.send_packed_commands(&pipeline, 0, pipeline.len()).await;
            let values = match answer {
                Ok(values) => values,
                Err(error) => {
                    self.give_up(generation);
                    return Err(error.into());
                }
            };
            match first_error(&values) {
                None => return timed::noted(values),
                Some(error) if error.code() == Some("NOSCRIPT") => {
                    scripts::load(&mut connection).await?;
                }
                Some(error) => {
                    // A demoted master answers reads and refuses writes: look for the new one.
                    if error.code() == Some("READONLY") {
                        self.give_up(generation);
                    }
                    return Err(error.into());
                }
            }
        }
        Err(Error::Unexpected("Redis forgets scripts as soon as they are loaded".to_owned()))
    }
}

async fn connect(
    client: &Client,
    settings: &Settings,
    times_out: bool,
) -> Result<MultiplexedConnection, Error> {
    let response = times_out.then(|| Duration::from_millis(settings.response_timeout_ms));
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_millis(settings.connect_timeout_ms)))
        .set_response_timeout(response)
        .set_pipeline_buffer_size(1024);
    Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
}

fn first_error(values: &[Value]) -> Option<redis::RedisError> {
    values.iter().find_map(|value| match value {
        Value::ServerError(error) => Some(error.clone().into()),
        _ => None,
    })
}
