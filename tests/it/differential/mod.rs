//! Every script against the model: sequences of operations that few jobs meet in, applied to a real
//! Redis and to `counterfoil_model`, which must answer and hold the same.
//!
//! `COUNTERFOIL_DIFFERENTIAL_SEQUENCES` sets how many sequences are run, and
//! `COUNTERFOIL_DIFFERENTIAL_SEED` (a number) repeats a run. A sequence that fails is shortened and
//! printed; it becomes a test of its own in `found.rs`.

mod answer;
mod call;
mod cast;
mod changing;
mod found;
mod generate;
mod look;
mod on_model;
mod on_store;
mod opening;
mod operation;
mod resolve;
mod tally;
mod twin;

use std::path::PathBuf;
use std::time::Instant;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use tally::Tally;
use twin::Twin;

/// How many sequences a run has, and how long they are at most.
const SEQUENCES: u32 = 4_000;
const OPERATIONS: usize = 24;
/// Each answer of each script is met so often at least.
const FLOOR: u64 = 2;

#[expect(clippy::disallowed_methods, reason = "the size of a test is no setting of the program")]
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// A private Redis. Without an append-only file it is quicker, and holds nothing that anybody
/// needs.
struct Node {
    redis: nodes::Redis,
    directory: PathBuf,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.redis.stop_and_wait();
        std::fs::remove_dir_all(&self.directory).ok();
    }
}

impl Node {
    fn start(keeps: bool) -> anyhow::Result<(Self, String)> {
        let directory =
            harness::workspace().join("target/worlds").join(uuid::Uuid::new_v4().to_string());
        let port = nodes::ports::free(1)?[0];
        let redis = nodes::Redis::start(&directory, port, nodes::Fsync::Everysec)?;
        let url = redis.url();
        if !keeps {
            let mut connection = redis::Client::open(url.as_str())?.get_connection()?;
            let mut set = redis::cmd("CONFIG");
            let () = set.arg("SET").arg("appendonly").arg("no").query(&mut connection)?;
        }
        Ok((Self { redis, directory }, url))
    }
}

/// Runs sequences until there were enough of them; what was met.
fn lane(url: &str, lane: u32, sequences: u32, seed: u64) -> anyhow::Result<Tally> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let slots = if lane.is_multiple_of(2) { 1 } else { 4 };
    let twin = runtime.block_on(Twin::new(url, &format!("t{lane}"), slots))?;
    let mut twin = twin;
    for sequence in found::seldom() {
        let compared = runtime.block_on(twin.run(&sequence));
        compared.map_err(|difference| anyhow::anyhow!("{difference}"))?;
    }
    let twin = std::cell::RefCell::new(twin);
    let config = Config {
        cases: sequences,
        failure_persistence: None,
        max_shrink_iters: 3000,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..12].copy_from_slice(&lane.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let ran = runner.run(&generate::sequences(OPERATIONS), |sequence| {
        let mut twin = twin.borrow_mut();
        let compared = runtime.block_on(twin.run(&sequence));
        compared.map_err(|difference| TestCaseError::fail(difference.to_string()))
    });
    match ran {
        Ok(()) => Ok(twin.into_inner().tally),
        Err(TestError::Fail(reason, sequence)) => {
            let lines: Vec<String> = sequence.iter().map(|op| format!("  {op:?},")).collect();
            let lines = lines.join("\n");
            anyhow::bail!("seed {seed}, lane {lane}: {reason}\nthe shortest sequence:\n{lines}")
        }
        Err(TestError::Abort(reason)) => anyhow::bail!("seed {seed}, lane {lane}: {reason}"),
    }
}

#[test]
fn every_script_answers_and_holds_what_the_model_does() -> anyhow::Result<()> {
    let (_node, url) = Node::start(false)?;
    let sequences = number("COUNTERFOIL_DIFFERENTIAL_SEQUENCES");
    let sequences = sequences.map_or(SEQUENCES, |it| u32::try_from(it).unwrap_or(u32::MAX));
    let seed = number("COUNTERFOIL_DIFFERENTIAL_SEED")
        .unwrap_or_else(|| uuid::Uuid::new_v4().as_u128() as u64);
    let lanes = u32::try_from(std::thread::available_parallelism()?.get().clamp(2, 8))?;
    let began = Instant::now();
    let tallies: Vec<anyhow::Result<Tally>> = std::thread::scope(|scope| {
        let run = |n| {
            scope.spawn({
                let url = &url;
                move || lane(url, n, sequences / lanes, seed)
            })
        };
        let running: Vec<_> = (0..lanes).map(run).collect();
        running.into_iter().map(|it| it.join().unwrap()).collect()
    });
    let mut tally = Tally::default();
    for of_a_lane in tallies {
        tally.merge(of_a_lane?);
    }
    println!("{sequences} sequences in {:.1?}\n{}", began.elapsed(), tally.table());
    tally.assert_floor(FLOOR);
    Ok(())
}
