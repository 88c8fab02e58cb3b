//! The first thing on every connection, against the model: several processes open a store that is
//! new, known, emptied, or run by another Redis process, with and without what a crash can lose.

use std::collections::BTreeMap;

use model::Model;
use model::opening::{Deployment, Opening};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use protocol::UnixMillis;
use redis::aio::MultiplexedConnection;
use store::opening::LAYOUT;
use store::{Error, Keys, Store};

use super::look::{self, Difference};
use super::{Node, cast};

const PREFIX: &str = "opened";

#[derive(Debug, Clone)]
enum Op {
    /// A process comes for the first time, with a number of slots and a secret.
    Connect(u16, &'static str),
    /// The connection of the last process that could work is cut, and it comes again.
    ConnectAgain,
    /// Another Redis process runs.
    OtherRun,
    /// Whether every acknowledged write survives a crash from now on.
    Survives(bool),
    /// The store comes back empty.
    Empty,
    Alive(i64),
}

fn operation() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (select(vec![1, 1, 1, 2]), select(vec!["a", "b"])).prop_map(connect),
        3 => Just(Op::ConnectAgain),
        3 => Just(Op::OtherRun),
        1 => any::<bool>().prop_map(Op::Survives),
        2 => Just(Op::Empty),
        1 => (1..9i64).prop_map(Op::Alive),
    ]
}

fn connect((slots, secret): (u16, &'static str)) -> Op {
    Op::Connect(slots, secret)
}

struct Pair {
    url: String,
    redis: MultiplexedConnection,
    model: Model,
    /// The last process that could work, with its slots and its secret.
    process: Option<(Store, u16, &'static str)>,
    run: u64,
    survives: bool,
    seen: BTreeMap<&'static str, u32>,
}

fn new_model() -> Model {
    Model::new(Keys::new(PREFIX, 1), b"", cast::OUTBOX_MAX)
}

impl Pair {
    async fn run(&mut self, sequence: &[Op]) -> Result<(), Difference> {
        self.empty().await?;
        self.process = None;
        for (place, op) in sequence.iter().enumerate() {
            let done = self.step(op).await;
            done.map_err(|difference| difference.at(place, op))?;
        }
        Ok(())
    }

    async fn empty(&mut self) -> Result<(), Difference> {
        let keys = Keys::new(PREFIX, 1);
        let key = [keys.deployment(), keys.secret()];
        let () = redis::cmd("DEL").arg(&key).query_async(&mut self.redis).await?;
        self.model = new_model();
        Ok(())
    }

    async fn step(&mut self, op: &Op) -> Result<(), Difference> {
        match op {
            Op::Connect(slots, secret) => {
                let settings = store::Settings {
                    url: self.url.clone(),
                    prefix: PREFIX.to_owned(),
                    slots: *slots,
                    connect_timeout_ms: 5000,
                    response_timeout_ms: 30_000,
                    outbox_per_client_max: cast::OUTBOX_MAX,
                    secret: Some((*secret).to_owned()),
                };
                let before = look::time(&mut self.redis).await?;
                let opened = Store::connect(settings).await;
                self.opened((*slots, secret, 0), before, opened.as_ref().err()).await?;
                if let Ok(store) = opened {
                    self.same_for_the_process(&store)?;
                    self.process = Some((store, *slots, secret));
                }
            }
            Op::ConnectAgain => {
                let Some((store, slots, secret)) = self.process.clone() else { return Ok(()) };
                let (known, before) = (store.epoch(), look::time(&mut self.redis).await?);
                let opened = self.cut_and_connect(&store).await?;
                self.opened((slots, secret, known), before, opened.as_ref().err()).await?;
                if opened.is_ok() {
                    self.same_for_the_process(&store)?;
                }
            }
            Op::OtherRun if self.model.deployment().is_some() => {
                self.run += 1;
                look::other_run(&mut self.redis, &Keys::new(PREFIX, 1).deployment()).await?;
            }
            Op::OtherRun => {}
            Op::Survives(survives) => {
                let policy = if *survives { "always" } else { "everysec" };
                let () = redis::cmd("CONFIG")
                    .arg("SET")
                    .arg("appendfsync")
                    .arg(policy)
                    .query_async(&mut self.redis)
                    .await?;
                self.survives = *survives;
            }
            Op::Empty => self.empty().await?,
            Op::Alive(at) if self.model.deployment().is_some() => {
                let key = Keys::new(PREFIX, 1).deployment();
                let mut set = redis::cmd("HSET");
                let () = set.arg(key).arg("alive_at").arg(at).query_async(&mut self.redis).await?;
                self.model.alive(UnixMillis(*at));
            }
            Op::Alive(_) => {}
        }
        Ok(())
    }

    /// Cuts every connection but the one that looks, and has the process ask for something.
    async fn cut_and_connect(&mut self, store: &Store) -> Result<Result<(), Error>, Difference> {
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("TYPE").arg("normal").arg("SKIPME").arg("yes");
        let _: i64 = kill.query_async(&mut self.redis).await?;
        // The first call finds the connection gone, the second one makes another.
        for _ in 0..2 {
            match store.served_types().await {
                Ok(_) => return Ok(Ok(())),
                Err(error @ Error::Unfit(_)) => return Ok(Err(error)),
                Err(_) => {}
            }
        }
        Ok(store.served_types().await.map(drop))
    }

    /// Compares what is recorded of the deployment with what the model makes of the opening.
    async fn opened(
        &mut self,
        (slots, secret, known_epoch): (u16, &'static str, u64),
        before: i64,
        failed: Option<&Error>,
    ) -> Result<(), Difference> {
        let after = look::time(&mut self.redis).await?;
        let opening = Opening {
            run_id: format!("run {}", self.run),
            survives: self.survives,
            slots,
            layout: LAYOUT,
            secret: secret.into(),
            known_epoch,
        };
        let held = self.held().await?;
        let mut expected = None;
        for at in before..=after {
            let mut model = self.model.clone();
            let deployment = model.open(&opening, UnixMillis(at));
            let same = fields(&deployment) == held;
            expected = Some(deployment);
            if same {
                let epoch = self.model.deployment().map(|it| it.epoch);
                let word = match epoch {
                    None if known_epoch > 0 => "emptied",
                    None => "new",
                    Some(epoch) if epoch < model.epoch() => "lost",
                    Some(_) if failed.is_some() => "unfit",
                    Some(_) => "known",
                };
                *self.seen.entry(word).or_default() += 1;
                self.model = model;
                let unfit = self.model.deployment().is_some_and(|it| it.slots != slots);
                let is_unfit = matches!(failed, Some(Error::Unfit(_)));
                let agree = unfit == is_unfit && (unfit || failed.is_none());
                return if agree { Ok(()) } else { Err(Difference::of("fit", failed, unfit)) };
            }
        }
        Err(Difference::of("the deployment", held, expected.as_ref().map(fields)))
    }

    async fn held(&mut self) -> Result<BTreeMap<String, String>, Difference> {
        let keys = Keys::new(PREFIX, 1);
        let mut held: BTreeMap<String, String> =
            redis::cmd("HGETALL").arg(keys.deployment()).query_async(&mut self.redis).await?;
        held.remove("run_id");
        let secret: String =
            redis::cmd("GET").arg(keys.secret()).query_async(&mut self.redis).await?;
        held.insert("the secret".to_owned(), secret);
        Ok(held)
    }

    fn same_for_the_process(&self, store: &Store) -> Result<(), Difference> {
        let expected = self.model.deployment().cloned();
        let lost = expected.as_ref().and_then(|it| it.lost);
        let lost = lost.map(|(from, to)| [UnixMillis(from), UnixMillis(to)]);
        let seen = (store.epoch(), store.lost_between());
        let expected = (expected.map_or(0, |it| it.epoch), lost);
        if seen == expected { Ok(()) } else { Err(Difference::of("process", seen, expected)) }
    }
}

fn fields(deployment: &Deployment) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::from([
        ("layout".to_owned(), deployment.layout.to_string()),
        ("slots".to_owned(), deployment.slots.to_string()),
        ("epoch".to_owned(), deployment.epoch.to_string()),
        ("alive_at".to_owned(), deployment.alive_at.to_string()),
        ("created_at".to_owned(), deployment.created_at.to_string()),
        ("the secret".to_owned(), String::from_utf8_lossy(&deployment.secret).into_owned()),
    ]);
    if let Some((from, to)) = deployment.lost {
        fields.insert("lost_from".to_owned(), from.to_string());
        fields.insert("lost_to".to_owned(), to.to_string());
    }
    fields
}

#[test]
fn every_opening_finds_the_epoch_and_the_lost_stretch_that_the_model_finds() -> anyhow::Result<()> {
    let (_node, url) = Node::start(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let redis = runtime.block_on(look::connect(&url))?;
    let pair = std::cell::RefCell::new(Pair {
        url,
        redis,
        model: new_model(),
        process: None,
        run: 0,
        survives: false,
        seen: BTreeMap::new(),
    });
    let config = Config { cases: 200, failure_persistence: None, ..Config::default() };
    let sequences = proptest::collection::vec(operation(), 1..12);
    let ran = TestRunner::new(config).run(&sequences, |sequence| {
        let mut pair = pair.borrow_mut();
        let compared = runtime.block_on(pair.run(&sequence));
        compared.map_err(|difference| TestCaseError::fail(difference.to_string()))
    });
    if let Err(TestError::Fail(reason, sequence)) = ran {
        anyhow::bail!("{reason}\nthe shortest sequence: {sequence:?}");
    }
    let seen = pair.into_inner().seen;
    for word in ["new", "known", "lost", "unfit", "emptied"] {
        assert!(seen.get(word).is_some_and(|count| *count >= 5), "{word}: {seen:?}");
    }
    Ok(())
}
