//! A link that fails on demand: a TCP proxy that knows where frames end.
//!
//! A cut is armed for "the n-th frame of this kind in this direction" and falls exactly before or
//! after it: after a publish and before its confirm, after a script has run and before its reply.
//! Without a cut, all connections of a link can be reset, swallowed, slowed or lost.

mod frames;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub use frames::{Language, Scanner, What};

/// Which way a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the program to RabbitMQ or Redis.
    Up,
    /// From RabbitMQ or Redis to the program.
    Down,
}

/// How a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Both sides get a reset.
    Reset,
    /// Both sides get nothing any more, and no word of it, until the link is healed.
    BlackHole,
}

/// One cut that is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    /// Frames that go this way are counted.
    pub direction: Direction,
    /// Of this kind; of any kind without.
    pub what: Option<What>,
    /// Which of them, from 1.
    pub nth: u64,
    /// Whether that frame still passes.
    pub passes: bool,
    /// What happens then.
    pub how: How,
}

/// What all connections of a link do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Open,
    /// New connections are taken, and nothing passes on any.
    Swallow,
    /// So many bytes a second, each way.
    Slow(u32),
}

/// A link; its connections end with it.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    language: Language,
    mode: watch::Sender<Mode>,
    state: Mutex<State>,
    /// A cut has fallen.
    fell: Notify,
    /// What the connections share that were made since the last one was replaced.
    round: Mutex<Round>,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    armed: Option<(Cut, u64)>,
    passed: HashMap<(Direction, What), u64>,
    cuts: u64,
}

/// Connections that are reset together, or that nothing passes on any more.
#[derive(Debug, Clone, Default)]
struct Round {
    /// Which way nothing passes.
    lost: watch::Sender<[bool; 2]>,
    over: CancellationToken,
}

/// Connections that are lost; they are reset when this is dropped, as a peer does that comes back
/// and knows nothing of them.
#[derive(Debug)]
pub struct Lost(Round);

impl Drop for Lost {
    fn drop(&mut self) {
        self.0.over.cancel();
    }
}

/// The connection is to end at once.
struct ToReset;

/// What becomes of a frame.
enum Verdict {
    Pass,
    PassAndCut(How),
    Cut(How),
}

impl Proxy {
    /// Listens on a free port of this machine and passes everything on.
    ///
    /// # Errors
    /// There is no port.
    pub async fn start(language: Language, upstream: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("a port")?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            upstream,
            language,
            mode: watch::Sender::new(Mode::Open),
            state: Mutex::default(),
            fell: Notify::new(),
            round: Mutex::default(),
            stop: CancellationToken::new(),
        });
        tokio::spawn(Arc::clone(&shared).accept(listener));
        Ok(Self { port, shared })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits for a frame and cuts its connection there. Takes the place of a cut that waits.
    pub fn arm(&self, cut: Cut) {
        lock(&self.shared.state).armed = Some((cut, 0));
    }

    /// Waits until the cut that was armed has fallen.
    pub async fn fallen(&self) {
        loop {
            let fell = self.shared.fell.notified();
            if lock(&self.shared.state).armed.is_none() {
                return;
            }
            fell.await;
        }
    }

    /// Resets every connection.
    pub fn reset(&self) {
        let round = std::mem::take(&mut *lock(&self.shared.round));
        round.over.cancel();
    }

    /// Lets nothing pass any more on the connections that there are, or nothing one way: each end
    /// believes that the other one is there. New connections work.
    pub fn lose(&self, direction: Option<Direction>) -> Lost {
        let round = std::mem::take(&mut *lock(&self.shared.round));
        round.lost.send_replace(
            [Direction::Up, Direction::Down].map(|way| direction.is_none_or(|only| only == way)),
        );
        Lost(round)
    }

    /// Takes everything and passes on nothing: a peer that is gone without a word.
    pub fn swallow(&self) {
        self.shared.mode.send_replace(Mode::Swallow);
    }

    /// Lets through so many bytes a second, each way of each connection.
    pub fn slow(&self, bytes_per_second: u32) {
        self.shared.mode.send_replace(Mode::Slow(bytes_per_second));
    }

    /// Lets everything through again. Connections on which something was swallowed are reset, as
    /// they are when a network comes back after its state was lost.
    pub fn heal(&self) {
        let before = self.shared.mode.send_replace(Mode::Open);
        lock(&self.shared.state).armed = None;
        if before == Mode::Swallow {
            self.reset();
        }
    }

    /// How many frames of a kind have passed one way.
    pub fn passed(&self, direction: Direction, what: Option<What>) -> u64 {
        let state = lock(&self.shared.state);
        let is_meant = |of: &(Direction, What)| of.0 == direction && what.is_none_or(|w| w == of.1);
        state.passed.iter().filter(|(of, _)| is_meant(of)).map(|(_, count)| count).sum()
    }

    /// How many cuts have fallen.
    pub fn cuts(&self) -> u64 {
        lock(&self.shared.state).cuts
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

impl Shared {
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let stop = self.stop.clone();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            let Ok((client, _)) = accepted else { continue };
            tokio::spawn(Arc::clone(&self).carry(client));
        }
    }

    async fn carry(self: Arc<Self>, mut client: TcpStream) {
        let Ok(mut server) = TcpStream::connect(self.upstream).await else { return };
        // A failure shows itself when the first byte passes.
        client.set_nodelay(true).ok();
        server.set_nodelay(true).ok();
        let round = lock(&self.round).clone();
        let is_orderly = {
            let (client_in, client_out) = client.split();
            let (server_in, server_out) = server.split();
            let up = self.pump(&round, Direction::Up, client_in, server_out);
            let down = self.pump(&round, Direction::Down, server_in, client_out);
            tokio::select! {
                ended = async { tokio::try_join!(up, down) } => ended.is_ok(),
                () = round.over.cancelled() => false,
                () = self.stop.cancelled() => false,
            }
        };
        if !is_orderly {
            // Without this the end would be a polite one.
            client.set_zero_linger().ok();
            server.set_zero_linger().ok();
        }
    }

    /// Passes frames on until the connection ends, or is to be reset.
    async fn pump(
        &self,
        round: &Round,
        direction: Direction,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
    ) -> Result<(), ToReset> {
        let mut scanner = Scanner::new(self.language, direction == Direction::Up);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = match from.read(&mut buffer).await {
                Ok(0) => break,
                Ok(read) => read,
                Err(_) => return Err(ToReset),
            };
            if round.lost.borrow()[usize::from(direction == Direction::Down)] {
                // It comes to an end with the reset that follows.
                std::future::pending::<()>().await;
            }
            let mode = *self.mode.borrow();
            match mode {
                Mode::Slow(bytes_per_second) => {
                    let pause = read as f64 / f64::from(bytes_per_second.max(1));
                    tokio::time::sleep(Duration::from_secs_f64(pause)).await;
                }
                // It comes to an end with the reset that follows the healing.
                Mode::Swallow => std::future::pending().await,
                Mode::Open => {}
            }
            for (what, frame) in scanner.feed(&buffer[..read]) {
                let verdict = self.judge(direction, what);
                if !matches!(verdict, Verdict::Cut(_)) {
                    to.write_all(&frame).await.map_err(|_| ToReset)?;
                }
                match verdict {
                    Verdict::Pass => {}
                    Verdict::PassAndCut(How::Reset) | Verdict::Cut(How::Reset) => {
                        return Err(ToReset);
                    }
                    Verdict::PassAndCut(How::BlackHole) | Verdict::Cut(How::BlackHole) => {
                        self.mode.send_replace(Mode::Swallow);
                        std::future::pending().await
                    }
                }
            }
        }
        // The other direction may have something to say still.
        to.shutdown().await.map_err(|_| ToReset)
    }

    fn judge(&self, direction: Direction, what: What) -> Verdict {
        let mut state = lock(&self.state);
        *state.passed.entry((direction, what)).or_default() += 1;
        let Some((cut, seen)) = &mut state.armed else { return Verdict::Pass };
        if cut.direction != direction || cut.what.is_some_and(|wanted| wanted != what) {
            return Verdict::Pass;
        }
        *seen += 1;
        if *seen < cut.nth {
            return Verdict::Pass;
        }
        let cut = *cut;
        state.armed = None;
        state.cuts += 1;
        self.fell.notify_waiters();
        if cut.passes { Verdict::PassAndCut(cut.how) } else { Verdict::Cut(cut.how) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
