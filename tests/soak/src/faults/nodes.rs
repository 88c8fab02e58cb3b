//! Faults of RabbitMQ and Redis.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::{Effect, Injector, Kind};
use crate::history::now;
use crate::proxy::{Direction, What};
use crate::world::{Link, keys};

/// For so long an alarm stands, or the store is full.
const LASTS: Duration = Duration::from_secs(10);
/// A millisecond of a history's clock.
const MS: u64 = 1000;
const BROKER_STOPS: Duration = Duration::from_secs(8);
const STORE_STOPS: Duration = Duration::from_secs(5);
/// What is written in the last so many milliseconds before a loss of power is lost.
const TAIL_MS: std::ops::Range<u64> = 300..1500;
/// A replica lags so far behind.
const LAG_MS: std::ops::Range<u64> = 2000..4000;
/// A roll-back is noticed by whoever connects first.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);

impl Injector {
    pub(super) async fn node(&self, kind: Kind) -> anyhow::Result<Effect> {
        match kind {
            Kind::MemoryAlarm => {
                let alarm = "set_vm_memory_high_watermark";
                self.alarm([alarm, "0.00001"], [alarm, "0.4"]).await
            }
            Kind::DiskAlarm => {
                let alarm = "set_disk_free_limit";
                self.alarm([alarm, "100000GB"], [alarm, "50MB"]).await
            }
            Kind::ConnectionsClosed => {
                self.broker(["close_all_connections", "by the campaign"]).await?;
                Ok(Effect::default())
            }
            Kind::BrokerPaused => {
                let pid = self.world.lock().await.rabbitmq.pid();
                if let Some(pid) = pid {
                    nodes::signal(pid, "-STOP");
                    self.last(BROKER_STOPS).await;
                    nodes::signal(pid, "-CONT");
                }
                Ok(Effect::on(pid))
            }
            Kind::BrokerKilled | Kind::BrokerRestarted => {
                self.with_world(move |world| {
                    match kind {
                        Kind::BrokerKilled => world.rabbitmq.kill(),
                        _ => world.rabbitmq.stop_and_wait(),
                    }
                    world.rabbitmq.start_again()
                })
                .await?;
                Ok(Effect::default())
            }
            Kind::RolledBack => self.roll_back(TAIL_MS).await,
            Kind::StaleReplica => self.roll_back(LAG_MS).await,
            _ => self.store(kind).await.map(|()| Effect::default()),
        }
    }

    /// Takes the world away from everybody else while it works.
    async fn with_world<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut crate::world::World) -> Result<T, nodes::Error> + Send + 'static,
    ) -> anyhow::Result<T> {
        let world = Arc::clone(&self.world);
        Ok(tokio::task::spawn_blocking(move || work(&mut world.blocking_lock())).await??)
    }

    async fn broker(&self, words: [&'static str; 2]) -> anyhow::Result<()> {
        self.with_world(move |world| world.rabbitmq.control(&words)).await.map(drop)
    }

    /// Clients are told at their next publish, which comes many times in that time.
    async fn alarm(
        &self,
        raise: [&'static str; 2],
        clear: [&'static str; 2],
    ) -> anyhow::Result<Effect> {
        let told = || {
            let of = self.links.iter().find(|(link, _)| *link == Link::ClientAmqp);
            of.map_or(0, |(_, proxy)| proxy.passed(Direction::Down, Some(What::Blocked)))
        };
        let before = told();
        self.broker(raise).await?;
        self.last(LASTS).await;
        self.broker(clear).await?;
        Ok(Effect { noticed: Some(told() > before), ..Effect::default() })
    }

    async fn store(&self, kind: Kind) -> anyhow::Result<()> {
        if kind == Kind::StoreKilled {
            return self
                .with_world(|world| {
                    world.redis.kill();
                    world.redis.start_again()
                })
                .await;
        }
        let world = self.world.lock().await;
        if kind == Kind::StorePaused {
            let pid = world.redis.pid();
            nodes::signal(pid, "-STOP");
            self.last(STORE_STOPS).await;
            nodes::signal(pid, "-CONT");
            return Ok(());
        }
        let mut root = world.root().await?;
        let mut say = async |words: &[&str]| {
            let mut command = redis::cmd(words[0]);
            command.arg(&words[1..]);
            command.exec_async(&mut root).await
        };
        match kind {
            Kind::ScriptsFlushed => say(&["SCRIPT", "FLUSH"]).await?,
            Kind::StoreFull => {
                say(&["CONFIG", "SET", "maxmemory", "1mb"]).await?;
                self.last(LASTS).await;
                say(&["CONFIG", "SET", "maxmemory", "0"]).await?;
            }
            _ => {
                // Nobody listens on port 1, so nothing is taken over from there.
                say(&["REPLICAOF", "127.0.0.1", "1"]).await?;
                self.last(STORE_STOPS).await;
                say(&["REPLICAOF", "NO", "ONE"]).await?;
            }
        }
        Ok(())
    }

    /// Waits while a fault lasts.
    async fn last(&self, full: Duration) {
        tokio::time::sleep(full.mul_f64(self.pace)).await;
    }

    /// A loss of power: what was written last is not on disk. Where exactly it ends is chance, so
    /// it may end within a command.
    async fn roll_back(&self, tail_ms: std::ops::Range<u64>) -> anyhow::Result<Effect> {
        let log = newest_log(&self.world.lock().await.directory.join("redis"))?;
        // Everything that is acknowledged now is in the log up to here, and stays.
        let (kept, from) = (std::fs::metadata(&log)?.len(), now());
        tokio::time::sleep(Duration::from_millis(fastrand::u64(tail_ms))).await;
        let (epoch, _) = self.deployment().await?;
        let until = self
            .with_world(move |world| {
                world.redis.kill();
                let killed = now();
                let cut = || -> std::io::Result<()> {
                    let file = std::fs::File::options().write(true).open(&log)?;
                    let length = file.metadata()?.len();
                    file.set_len(fastrand::u64(kept.min(length)..=length))
                };
                cut().map_err(nodes::Error::system("the log of Redis"))?;
                world.redis.start_again()?;
                Ok(killed)
            })
            .await?;
        let noticed = tokio::time::timeout(NOTICED_WITHIN, async {
            loop {
                // It loads its log at first, and answers nothing.
                if let Ok((now, said)) = self.deployment().await
                    && now > epoch
                {
                    return said;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        self.rewrite_log().await?;
        // What the store says that it lost must reach up to its end.
        let is_noticed = matches!(noticed, Ok(Some((_, to))) if to + MS >= until);
        let lost = Some((from, until));
        Ok(Effect { noticed: Some(is_noticed), lost, ..Effect::default() })
    }

    /// As OPERATIONS.md says: Redis leaves the beginning of a transaction that was torn off in its
    /// log, and what comes after it would be taken for a part of it at the next start.
    async fn rewrite_log(&self) -> anyhow::Result<()> {
        let mut root = self.world.lock().await.root().await?;
        redis::cmd("BGREWRITEAOF").exec_async(&mut root).await?;
        loop {
            let info: String = redis::cmd("INFO").arg("persistence").query_async(&mut root).await?;
            let is = |line: &str| info.lines().any(|known| known == line);
            if is("aof_rewrite_in_progress:0") && is("aof_rewrite_scheduled:0") {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The epoch, and what the store says it has lost.
    async fn deployment(&self) -> anyhow::Result<(u64, Option<(u64, u64)>)> {
        let mut root = self.world.lock().await.root().await?;
        let key = keys().deployment();
        let (epoch, from, to): (Option<u64>, Option<u64>, Option<u64>) = redis::cmd("HMGET")
            .arg(key)
            .arg(&["epoch", "lost_from", "lost_to"])
            .query_async(&mut root)
            .await?;
        let micros = |ms: u64| ms.saturating_mul(MS);
        Ok((epoch.unwrap_or_default(), from.map(micros).zip(to.map(micros))))
    }
}

/// The part of the append-only file that is written now.
fn newest_log(directory: &Path) -> anyhow::Result<PathBuf> {
    let folder = directory.join("appendonlydir");
    let mut logs = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        // appendonly.aof.<number>.incr.aof
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let number = name.strip_suffix(".incr.aof").and_then(|name| name.rsplit('.').next());
        if let Some(number) = number.and_then(|number| number.parse::<u64>().ok()) {
            logs.push((number, path));
        }
    }
    let newest = logs.into_iter().max();
    Ok(newest.with_context(|| format!("no log in {}", folder.display()))?.1)
}
