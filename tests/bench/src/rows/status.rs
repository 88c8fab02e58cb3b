//! E: questions. A round trip by id, by ticket and of an unknown id, against a raw echo over the
//! same kind of reply queue; alone, and while jobs run.

use std::collections::{HashSet, VecDeque};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use broker::topology::{self, QueueType};
use broker::{Connection, Consumer, Publication, Publisher};
use harness::Process;
use job::{ClientName, JobId};
use nodes::Fsync;
use protocol::{Answer, AnswerWord, Properties};
use serde_json::json;
use store::{JobName, Store};

use crate::fleet::{Fleet, Make, Size};
use crate::ground::{CLIENT, Ground, STRANGER};
use crate::report::{Bound, Report};
use crate::stats::{median, percentile, ratios};
use crate::traffic::{self, Answers, Traffic};
use crate::verify::{run_to_the_end, until_all_done};
use crate::{Plan, directory, echo};

/// Jobs that are asked about.
const JOBS: usize = 2000;
/// Questions that may be on their way when the rate is measured.
const AHEAD: usize = 256;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Echo,
    QuorumEcho,
    ById,
    ByTicket,
    Unknown,
}

impl Question {
    const ALL: [Self; 5] =
        [Self::Echo, Self::QuorumEcho, Self::ById, Self::ByTicket, Self::Unknown];

    /// What is asked, alone.
    fn alone(inquiry: QueueType) -> &'static [Self] {
        match inquiry {
            QueueType::Quorum => &Self::ALL,
            QueueType::Classic => &[Self::Echo, Self::ById, Self::ByTicket, Self::Unknown],
        }
    }

    /// What is asked while jobs run.
    fn busy(inquiry: QueueType) -> &'static [Self] {
        match inquiry {
            QueueType::Quorum => &[Self::Echo, Self::ById, Self::ByTicket, Self::Unknown],
            QueueType::Classic => &[Self::ById, Self::ByTicket],
        }
    }

    /// Whether it goes to the echo.
    fn is_raw(self) -> bool {
        matches!(self, Self::Echo | Self::QuorumEcho)
    }

    fn user(self) -> &'static str {
        if self.is_raw() { STRANGER } else { CLIENT }
    }

    /// Its name in the report.
    fn name(self, inquiry: QueueType) -> String {
        let name = match self {
            Self::Echo => "raw echo",
            Self::QuorumEcho => "raw echo through a quorum queue",
            Self::ById => "found, by id",
            Self::ByTicket => "found, by ticket",
            Self::Unknown => "unknown",
        };
        match inquiry {
            QueueType::Quorum => name.to_owned(),
            QueueType::Classic if self.is_raw() => format!("{name}, beside the classic queue"),
            QueueType::Classic => format!("{name} (classic queue)"),
        }
    }

    /// What an answer must say.
    fn is_answered(self, body: &[u8]) -> bool {
        match self {
            Self::Echo | Self::QuorumEcho => true,
            Self::ById | Self::ByTicket => word(body) == Some(AnswerWord::Found),
            Self::Unknown => word(body) == Some(AnswerWord::Unknown),
        }
    }
}

fn word(body: &[u8]) -> Option<AnswerWord> {
    serde_json::from_slice::<Answer>(body).ok().map(|answer| answer.answer)
}

/// Who asks: a connection, and a queue for the answers.
struct Asker {
    user: &'static str,
    queue: String,
    publisher: Publisher,
    consumer: Consumer,
    tickets: Vec<String>,
    prefix: String,
    _connections: [Connection; 2],
}

impl Asker {
    async fn open(ground: &Ground, user: &'static str, tickets: &[String]) -> anyhow::Result<Self> {
        let amqp = ground.amqp(user);
        let (consume, publish) =
            (Connection::open(&amqp, "asker").await?, Connection::open(&amqp, "asker").await?);
        let queue = format!("reply.{user}.asker-{}", fastrand::u64(..));
        consume.declare_inbox(&queue).await?;
        let consumer = consume.consumer(&queue, 1000).await?;
        let publisher = publish.publisher().await?;
        let (tickets, prefix) = (tickets.to_vec(), "e0".to_owned());
        let _connections = [consume, publish];
        Ok(Self { user, queue, publisher, consumer, tickets, prefix, _connections })
    }

    fn message(&self, question: Question, number: usize) -> Publication {
        let job_id = format!("{}-{}", self.prefix, number % JOBS);
        let (exchange, routing_key, body) = match question {
            Question::Echo => (topology::DEFAULT, echo::QUEUE, json!({ "job_id": job_id })),
            Question::QuorumEcho => (topology::WORK, echo::QUORUM, json!({ "job_id": job_id })),
            Question::ById => (topology::REQUEST, "status", json!({ "job_id": job_id })),
            Question::ByTicket => {
                let ticket = &self.tickets[number % self.tickets.len()];
                (topology::REQUEST, "status", json!({ "ticket": ticket }))
            }
            Question::Unknown => {
                let job_id = format!("nobody-{number}");
                (topology::REQUEST, "status", json!({ "job_id": job_id }))
            }
        };
        Publication {
            exchange,
            routing_key: routing_key.to_owned(),
            mandatory: true,
            properties: Properties {
                persistent: true,
                user_id: Some(self.user.to_owned()),
                reply_to: Some(self.queue.clone()),
                correlation_id: Some(number.to_string()),
                ..Properties::default()
            },
            body: body.to_string().into_bytes(),
        }
    }

    /// One question after another; the round trips in milliseconds.
    async fn round_trips(&mut self, question: Question, count: usize) -> anyhow::Result<Vec<f64>> {
        let acker = self.consumer.acker();
        let mut times = Vec::with_capacity(count);
        for number in 0..count {
            let began = Instant::now();
            let confirmed = self.publisher.begin(vec![self.message(question, number)]).await?;
            let answer = loop {
                let next = self.consumer.next_chunk(1);
                let answer =
                    harness::within("an answer", next).await??.pop().context("an answer")?;
                // Behind submissions it is said at once that it is pending, and then what it is.
                if question != Question::Unknown || word(&answer.body) != Some(AnswerWord::Pending)
                {
                    break answer;
                }
                acker.ack_through(answer.tag).await?;
            };
            times.push(began.elapsed().as_secs_f64() * 1000.0);
            let is_right = answer.properties.correlation_id == Some(number.to_string())
                && question.is_answered(&answer.body);
            ensure!(is_right, "{question:?}: {}", String::from_utf8_lossy(&answer.body));
            acker.ack_through(answer.tag).await?;
            confirmed.await?;
        }
        Ok(times)
    }

    /// As many as are answered in a second, with [`AHEAD`] on their way.
    async fn rate(&mut self, question: Question, count: usize) -> anyhow::Result<f64> {
        let acker = self.consumer.acker();
        let began = Instant::now();
        let (mut sent, mut answered) = (0, 0);
        let mut confirms = VecDeque::new();
        let mut open = HashSet::with_capacity(AHEAD);
        while answered < count {
            let more = (answered + AHEAD).min(count) - sent;
            if more >= AHEAD / 4 || sent + more == count && more > 0 {
                open.extend((sent..sent + more).map(|number| number.to_string()));
                let batch = (sent..sent + more).map(|number| self.message(question, number));
                confirms.push_back(self.publisher.begin(batch.collect()).await?);
                sent += more;
            }
            let next = self.consumer.next_chunk(AHEAD);
            let chunk = harness::within("an answer", next).await??;
            for answer in &chunk {
                ensure!(question.is_answered(&answer.body), "{question:?}");
                let number = answer.properties.correlation_id.as_deref().context("a number")?;
                // Each of the same question comes once.
                ensure!(open.remove(number), "{question:?}: a second answer to {number}");
            }
            answered += chunk.len();
            acker.ack_through(chunk.last().context("an answer")?.tag).await?;
        }
        Ok(count as f64 / began.elapsed().as_secs_f64())
    }
}

/// Measures it.
///
/// # Errors
/// An answer was not what it had to be.
pub async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    for inquiry in [QueueType::Quorum, QueueType::Classic] {
        measure_by(inquiry, plan, report).await?;
    }
    Ok(())
}

/// With requests in a queue of this type.
async fn measure_by(inquiry: QueueType, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let directory = directory()?.join(format!("status-{}", inquiry.as_str()));
    let ground = Ground::start_with(&directory, Fsync::Everysec, inquiry)?;
    let fleet = Fleet::start(&ground, Make::Ours, Size::ONE).await?;
    let echo = start_echo(&ground).await?;
    let store = ground.store().await?;
    let traffic = Traffic::new("e0", JOBS, Answers::None);
    run_to_the_end(&ground, &store, &fleet, &traffic).await?;
    let tickets = tickets(&store, &traffic)?;
    let count = plan.questions;
    let mut p50 = Question::ALL.map(|_| Vec::new());
    let mut p99 = p50.clone();
    let mut rates = p50.clone();
    for _ in 0..plan.rounds {
        for question in Question::alone(inquiry).iter().copied() {
            let place = question as usize;
            let mut asker = Asker::open(&ground, question.user(), &tickets).await?;
            asker.round_trips(question, count / 10).await?;
            let times = asker.round_trips(question, count).await?;
            p50[place].push(median(&times));
            p99[place].push(percentile(&times, 99.0));
            rates[place].push(asker.rate(question, 4 * count).await?);
        }
    }
    for question in Question::alone(inquiry) {
        let place = *question as usize;
        let name = question.name(inquiry);
        report.figure('E', &format!("{name}, p50"), "ms", &p50[place]);
        report.figure('E', &format!("{name}, p99"), "ms", &p99[place]);
        report.figure('E', &format!("{name}, rate"), "answers/s", &rates[place]);
    }
    let aim = Bound::at_most(None, Some(1.5));
    let must = Bound::at_most(Some(2.0), None);
    let mut against = |echo: Question, [for_p50, for_p99]: [Bound; 2]| {
        for question in [Question::ById, Question::ByTicket] {
            let (found, name) = (question.name(inquiry), echo.name(inquiry));
            let of =
                |times: &[Vec<f64>; 5]| ratios(&times[question as usize], &times[echo as usize]);
            report.ratio('E', &format!("{found}, p50, against {name}"), &of(&p50), for_p50);
            report.ratio('E', &format!("{found}, p99, against {name}"), &of(&p99), for_p99);
        }
    };
    against(Question::Echo, [aim, must]);
    if inquiry == QueueType::Quorum {
        // What the question's own queue costs, which syncs before it delivers, is not in this one.
        against(Question::QuorumEcho, [Bound::at_most(None, None); 2]);
    }
    let busy = Busy { plan, ground: &ground, fleet: &fleet, store: &store, tickets: &tickets };
    busy.measure(inquiry, report).await?;
    echo.terminate().await?;
    fleet.stop().await
}

async fn start_echo(ground: &Ground) -> anyhow::Result<Process> {
    let environment = [("COUNTERFOIL_AMQP_URL".to_owned(), ground.amqp_url(STRANGER))];
    let (echo, mut says) =
        Process::start("counterfoil-bench", &["echo"], &environment, &ground.directory)?;
    says.until("working").await?;
    Ok(echo)
}

fn tickets(store: &Store, traffic: &Traffic) -> anyhow::Result<Vec<String>> {
    let client = ClientName::parse(CLIENT)?;
    let ticket = |number| -> anyhow::Result<String> {
        let job_id = JobId::parse(&traffic.job_id(number))?;
        Ok(store.ticket(&JobName { client: client.clone(), job_id }).to_string())
    };
    (0..traffic.jobs).map(ticket).collect()
}

/// Fewer questions than this, while jobs run, tell nothing. They are few: one that goes through the
/// line waits for everything before it.
const BUSY_MIN: usize = 5;
/// Nor does the hundredth part of fewer than these.
const P99_MIN: usize = 100;

/// Jobs run, as fast as they can.
struct Busy<'a> {
    plan: &'a Plan,
    ground: &'a Ground,
    fleet: &'a Fleet,
    store: &'a Store,
    tickets: &'a [String],
}

impl Busy<'_> {
    /// The same questions; the echo too.
    async fn measure(&self, inquiry: QueueType, report: &mut Report) -> anyhow::Result<()> {
        for question in Question::busy(inquiry).iter().copied() {
            let times = self.asked(question).await?;
            let name = question.name(inquiry);
            report.figure('E', &format!("{name}, p50, busy"), "ms", &[median(&times)]);
            if times.len() >= P99_MIN {
                let p99 = percentile(&times, 99.0);
                report.figure('E', &format!("{name}, p99, busy"), "ms", &[p99]);
            }
            report.figure('E', &format!("{name}, asked while busy"), "", &[times.len() as f64]);
        }
        Ok(())
    }

    async fn asked(&self, question: Question) -> anyhow::Result<Vec<f64>> {
        let Self { plan, ground, fleet, store, tickets } = *self;
        let jobs = plan.questions * 25;
        let traffic = Traffic::new(format!("busy{question:?}"), jobs, Answers::Each);
        let mut asker = Asker::open(ground, question.user(), tickets).await?;
        let running = traffic::run(ground, fleet, &traffic);
        tokio::pin!(running);
        // No longer than the jobs run: what comes after them is answered by an idle server.
        let mut times = Vec::new();
        let run = loop {
            tokio::select! {
                biased;
                run = &mut running => break run?,
                more = asker.round_trips(question, 5) => times.extend(more?),
            }
        };
        ensure!(times.len() >= BUSY_MIN, "only {} questions while jobs ran", times.len());
        until_all_done(ground, store, &traffic, &run).await?;
        Ok(times)
    }
}
