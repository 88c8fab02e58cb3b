//! The story of one job, cut at every frame of every link.
//!
//! A rig is a server, a worker and a client, each behind links of its own. The story is told once
//! without a cut, to count the frames of each link, and then once for each frame, with the cut
//! before it or after it. Whatever is cut, the story must come to its end, and must be the same.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use client::{AnswerWord, Client, Submission};
use harness::World;
use job::State;
use serde::Serialize;
use server::Server;
use tokio::sync::Mutex;

use crate::handlers::{TYPE, Task, worker};
use crate::history::{Log, Seen, read};
use crate::proxy::{Cut, Direction, How, Language, Proxy, What};
use crate::world::Link;

/// Where one cut falls.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// On which link.
    pub link: Link,
    /// Which way the frame goes, which it is, and how it is cut.
    pub cut: Cut,
    /// The link is reset first, so that frames are counted from the greeting of a new connection.
    pub is_fresh: bool,
}

/// How many frames pass while the story is told: link, direction, whether the link is reset first.
pub type Count = (Link, Direction, bool, u64);

/// What came of a number of cuts.
#[derive(Debug, Default, Serialize)]
pub struct Outcome {
    /// Stories that were told.
    pub stories: usize,
    /// Cuts that fell. The others were armed for a frame that did not come.
    pub fallen: usize,
    /// What went wrong.
    pub violations: Vec<String>,
}

impl Outcome {
    /// Whether enough of the cuts fell: some frames are of a clock and not of the story, and come
    /// when they come.
    pub fn has_tested(&self) -> bool {
        self.fallen > 0 && self.fallen * 10 >= self.stories * 8
    }
}

/// Links, and the parts that are connected by them.
pub struct Rig {
    world: World,
    links: Vec<(Link, Proxy)>,
    server: Server,
    worker: ::worker::Running,
    client: Client,
    history: std::path::PathBuf,
    stories: u64,
}

/// A story that takes longer has got stuck.
const ENDS_WITHIN: Duration = Duration::from_secs(60);
/// A link that carries nothing is healed after this: longer than anybody waits for an answer.
const SWALLOWS: Duration = Duration::from_millis(2500);
/// How often a story is told at most until its cut falls.
const TOLD_AT_MOST: usize = 4;

impl Rig {
    /// A rig that works.
    ///
    /// # Errors
    /// A part of it does not come up.
    pub async fn new() -> anyhow::Result<Self> {
        let mut world = World::new().await?;
        let amqp = address(&world.settings.amqp.url)?;
        let redis = address(&world.settings.redis.url)?;
        let mut links = Vec::new();
        for link in Link::ALL {
            let upstream = match link.language() {
                Language::Amqp => amqp,
                Language::Resp => redis,
            };
            links.push((link, Proxy::start(link.language(), upstream).await?));
        }
        let through = |link: Link, url: &str| -> anyhow::Result<String> {
            let (_, proxy) = links.iter().find(|(known, _)| *known == link).context("a link")?;
            let here = format!("127.0.0.1:{}", proxy.port());
            Ok(url.replace(&address(url)?.to_string(), &here))
        };
        world.settings.amqp.heartbeat_s = 1;
        world.settings.redis.response_timeout_ms = 1000;
        let mut worker_settings = world.worker_settings();
        worker_settings.amqp.url = through(Link::WorkerAmqp, &worker_settings.amqp.url)?;
        worker_settings.redis.url = through(Link::WorkerRedis, &worker_settings.redis.url)?;
        let mut client_settings = world.client_settings("shop");
        client_settings.amqp.url = through(Link::ClientAmqp, &client_settings.amqp.url)?;
        client_settings.client.resend_after_ms = 1000;
        client_settings.client.answer_timeout_ms = 2000;
        let (direct_amqp, direct_redis) =
            (world.settings.amqp.url.clone(), world.settings.redis.url.clone());
        world.settings.amqp.url = through(Link::ServerAmqp, &direct_amqp)?;
        world.settings.redis.url = through(Link::ServerRedis, &direct_redis)?;
        let server = world
            .server_with(|server| {
                // Fewer frames that belong to no story.
                server.sweep_ms = 1000;
                server.duplicate_redispatch_ms = 3000;
            })
            .await?;
        (world.settings.amqp.url, world.settings.redis.url) = (direct_amqp, direct_redis);
        let history = world.directory.join("worker.history");
        let worker = harness::start(worker(worker_settings, Log::open(&history)?)?).await?;
        let client = Client::open(client_settings)?;
        Ok(Self { world, links, server, worker, client, history, stories: 0 })
    }

    fn link(&self, link: Link) -> anyhow::Result<&Proxy> {
        let of = self.links.iter().find(|(known, _)| *known == link);
        of.map(|(_, proxy)| proxy).context("a link")
    }

    /// Tells the story, with each link as it is and with each link reset first, and returns how
    /// many frames have passed on it.
    ///
    /// # Errors
    /// It has gone wrong.
    pub async fn count(&mut self) -> anyhow::Result<Vec<Count>> {
        self.tell().await?;
        let mut counts = Vec::new();
        for link in Link::ALL {
            for is_fresh in [false, true] {
                let passed = |rig: &Self| -> anyhow::Result<[u64; 2]> {
                    let proxy = rig.link(link)?;
                    Ok([Direction::Up, Direction::Down].map(|way| proxy.passed(way, None)))
                };
                let before = passed(self)?;
                if is_fresh {
                    self.link(link)?.reset();
                }
                let what = || format!("{link:?}, reset first: {is_fresh}");
                self.tell().await.with_context(what)?;
                let after = passed(self)?;
                for (n, way) in [Direction::Up, Direction::Down].into_iter().enumerate() {
                    counts.push((link, way, is_fresh, after[n] - before[n]));
                }
            }
        }
        Ok(counts)
    }

    /// Tells the story with a cut in it; whether the cut fell. Where it has not fallen at the end,
    /// the story is told again: some of the frames that were counted are a clock's, not its own.
    ///
    /// # Errors
    /// It has gone wrong.
    pub async fn cut(&mut self, place: Place) -> anyhow::Result<bool> {
        let before = {
            let proxy = self.link(place.link)?;
            let before = proxy.cuts();
            proxy.arm(place.cut);
            if place.is_fresh {
                proxy.reset();
            }
            before
        };
        let mut told = Ok(());
        for _ in 0..TOLD_AT_MOST {
            told = self.tell_through(place).await;
            if told.is_err() || self.link(place.link)?.cuts() > before {
                break;
            }
        }
        let proxy = self.link(place.link)?;
        proxy.heal();
        let has_fallen = proxy.cuts() > before;
        told.map(|()| has_fallen)
    }

    /// Tells the story; where its cut lets nothing pass any more, the link is healed in time.
    async fn tell_through(&mut self, place: Place) -> anyhow::Result<()> {
        self.stories += 1;
        let healing = async {
            let proxy = self.link(place.link)?;
            proxy.fallen().await;
            if place.cut.how == How::BlackHole {
                tokio::time::sleep(SWALLOWS).await;
                proxy.heal();
            }
            std::future::pending().await
        };
        let telling = tokio::time::timeout(ENDS_WITHIN, self.story(self.stories));
        tokio::select! {
            told = telling => told.with_context(|| format!("no end within {ENDS_WITHIN:?}"))?,
            healed = healing => healed,
        }
    }

    /// Resets every connection of a link, and tells the story.
    ///
    /// # Errors
    /// It has gone wrong.
    pub async fn reset(&mut self, link: Link) -> anyhow::Result<()> {
        self.link(link)?.reset();
        self.tell().await
    }

    /// Cuts the server's link before the next message that it publishes, once a job is recorded
    /// that fails at first: that message is the one that lets it be tried again.
    ///
    /// # Errors
    /// The job is not tried again in time.
    pub async fn cut_before_another_attempt(&mut self, within: Duration) -> anyhow::Result<()> {
        self.stories += 1;
        let id = format!("A-{}", self.stories);
        let body = serde_json::to_vec(&Task::Retry(1))?;
        let submitted = self.client.submit(Submission::new(TYPE, body).job_id(&id)).await?;
        submitted.accepted().await?;
        let (direction, what) = (Direction::Up, Some(What::Publish));
        let proxy = self.link(Link::ServerAmqp)?;
        proxy.arm(Cut { direction, what, nth: 1, passes: false, how: How::Reset });
        proxy.fallen().await;
        let done = self.client.wait(id.as_str(), within, |_| {}).await?;
        ensure!(done.attempt == Some(2) && done.done == Some(true), "{done:?}");
        Ok(())
    }

    async fn tell(&mut self) -> anyhow::Result<()> {
        self.stories += 1;
        let told = tokio::time::timeout(ENDS_WITHIN, self.story(self.stories)).await;
        told.with_context(|| format!("no end within {ENDS_WITHIN:?}"))?
    }

    /// Submits, waits for the receipt and for the end, asks by both identifiers.
    async fn story(&self, number: u64) -> anyhow::Result<()> {
        let id = format!("A-{number}");
        let body = serde_json::to_vec(&Task::Work(1))?;
        let submission = Submission::new(TYPE, body).job_id(&id).notify("terminal");
        let submitted = self.client.submit(submission).await?;
        let receipt = submitted.accepted().await?;
        // The event itself goes with the client's own queue when its connection is cut.
        let done = self.client.wait(id.as_str(), ENDS_WITHIN, |_| {}).await?;
        ensure!(done.done == Some(true), "{done:?}");
        let ticket = receipt.ticket.context("a receipt has a ticket")?;
        for subject in [client::ask::Subject::Id(id.clone()), client::ask::Subject::Ticket(ticket)]
        {
            let status = loop {
                match self.client.status(subject.clone()).await {
                    // Not known is not wrong; the question is asked again.
                    Ok(status) if status.answer == AnswerWord::Unavailable => {}
                    Err(client::Error::NoAnswer(_)) => {}
                    status => break status?,
                }
            };
            ensure!(status.answer == AnswerWord::Found, "{status:?}");
            ensure!(status.state.as_deref() == Some(State::Succeeded.as_str()), "{status:?}");
        }
        Ok(())
    }

    /// Holds what is recorded against what was told: one end of each job, by the run that has it.
    ///
    /// # Errors
    /// The store or the history cannot be read.
    pub async fn check(&self) -> anyhow::Result<Vec<String>> {
        let mut wrong = Vec::new();
        let runs = read(&self.history)?;
        for number in 1..=self.stories {
            let id = format!("A-{number}");
            let Some(record) = self.world.record("shop", &id).await? else {
                wrong.push(format!("{id} is not recorded"));
                continue;
            };
            if record.state() != Some(State::Succeeded) {
                wrong.push(format!("{id} is {:?}", record.state()));
            }
            let name = format!("shop:{id}");
            let right = record.fence.as_deref();
            let has_it = |seen: &Seen| match seen {
                Seen::Began { job, fence, .. } => *job == name && Some(fence.as_str()) == right,
                _ => false,
            };
            if runs.iter().filter(|entry| has_it(&entry.seen)).count() != 1 {
                wrong.push(format!(
                    "{id} has succeeded, and no run, or two, had the right {right:?}"
                ));
            }
        }
        let open = self.client.journal().entries(client::Standing::OPEN)?;
        wrong.extend(open.iter().map(|entry| format!("{} is open in the journal", entry.job_id)));
        Ok(wrong)
    }

    /// Ends everything.
    ///
    /// # Errors
    /// A part did not end in order.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.client.close().await;
        self.worker.stop().await?;
        Ok(self.server.stop().await?)
    }
}

/// Every cut of the story on some links: before and after each frame, each way.
pub fn places(counts: &[Count], links: &[Link], hows: &[How]) -> Vec<Place> {
    let mut places = Vec::new();
    for (link, direction, is_fresh, count) in counts {
        for nth in (1..=*count).filter(|_| links.contains(link)) {
            for passes in [false, true] {
                for how in hows {
                    let cut = Cut { direction: *direction, what: None, nth, passes, how: *how };
                    places.push(Place { link: *link, cut, is_fresh: *is_fresh });
                }
            }
        }
    }
    places
}

/// Every cut of every link, or a share of them.
///
/// # Errors
/// A rig does not come up.
pub async fn enumerate(share: f64) -> anyhow::Result<Outcome> {
    let mut rig = Rig::new().await?;
    let counts = rig.count().await?;
    rig.stop().await?;
    let mut places = places(&counts, &Link::ALL, &[How::Reset, How::BlackHole]);
    fastrand::shuffle(&mut places);
    let count = (places.len() as f64 * share.min(1.0)).ceil() as usize;
    places.truncate(count);
    run(places, RIGS).await
}

/// Rigs that work beside each other: most of their time they wait.
const RIGS: usize = 6;

/// Cuts at all of these places, with so many rigs beside each other.
///
/// # Errors
/// A rig does not come up.
pub async fn run(places: Vec<Place>, rigs: usize) -> anyhow::Result<Outcome> {
    let to_come = Arc::new(Mutex::new(places));
    let tasks: Vec<_> = (0..rigs).map(|_| tokio::spawn(work(Arc::clone(&to_come)))).collect();
    let mut all = Outcome::default();
    for task in tasks {
        let outcome = task.await??;
        all.stories += outcome.stories;
        all.fallen += outcome.fallen;
        all.violations.extend(outcome.violations);
    }
    Ok(all)
}

async fn work(to_come: Arc<Mutex<Vec<Place>>>) -> anyhow::Result<Outcome> {
    let mut rig = Rig::new().await?;
    rig.tell().await?;
    let mut outcome = Outcome::default();
    loop {
        let Some(place) = to_come.lock().await.pop() else { break };
        outcome.stories += 1;
        match rig.cut(place).await {
            Ok(fell) => outcome.fallen += usize::from(fell),
            Err(error) => outcome.violations.push(format!("{place:?}: {error:#}")),
        }
    }
    // What a cut has left under way comes to its end first.
    rig.tell().await?;
    outcome.violations.extend(rig.check().await?);
    rig.stop().await?;
    Ok(outcome)
}

fn address(url: &str) -> anyhow::Result<std::net::SocketAddr> {
    let after = url.rsplit('@').next().unwrap_or(url);
    let end = after.find('/').unwrap_or(after.len());
    match after[..end].parse() {
        Ok(address) => Ok(address),
        Err(error) => bail!("{url}: {error}"),
    }
}
