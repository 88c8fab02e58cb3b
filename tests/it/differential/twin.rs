//! A real store and the model beside it: each operation goes to both, and what they answer and hold
//! is compared.
//!
//! Scripts take the time from Redis, which is asked for it in the same round trip before and after
//! each: nearly always both are one millisecond, and the model is given that. Else what the store
//! holds and answers shows which ones it can have been; the model is tried with each of them.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use job::Ticket;
use model::Model;
use model::image::Image;
use model::opening::Opening;
use model::outbox::{Posted, Taken};
use protocol::UnixMillis;
use redis::aio::MultiplexedConnection;
use store::outbox::{Entry, Reader};
use store::timed::timed;
use store::{JobName, Store};

use super::cast::{OUTBOX_MAX, SECRET, name};
use super::look::{self, Difference};
use super::operation::{Fence, Name, Number, Op, When};
use super::tally::Tally;

/// How far instants of a sequence are from its beginning.
const FAR_MS: i64 = 7_200_000;

/// Between which two instants the store made a round trip.
type Span = (UnixMillis, UnixMillis);

/// An entry as a notifier knows it, on both sides.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) entry: Entry,
    pub(super) taken: Taken,
    pub(super) posted: Posted,
}

pub(super) struct Twin {
    settings: store::Settings,
    pub(super) store: Store,
    pub(super) reader: Reader,
    redis: MultiplexedConnection,
    /// Nothing but the deployment.
    empty: Model,
    pub(super) model: Model,
    pub(super) known: Vec<Known>,
    /// The store's names of entries that were read.
    pub(super) ids: BTreeMap<u64, String>,
    pub(super) tally: Tally,
    /// The store's time when it was last asked for.
    last: i64,
    start: i64,
    opened: u64,
}

impl Twin {
    pub(super) async fn new(url: &str, prefix: &str, slots: u16) -> anyhow::Result<Self> {
        let settings = store::Settings {
            url: url.to_owned(),
            prefix: prefix.to_owned(),
            slots,
            connect_timeout_ms: 5000,
            response_timeout_ms: 30_000,
            outbox_per_client_max: OUTBOX_MAX,
            secret: Some(SECRET.to_owned()),
        };
        let redis = look::connect(url).await?;
        let store = Store::connect(settings.clone()).await?;
        let reader = store.outbox_reader("one").await?;
        let model = Model::new(store.keys().clone(), SECRET.as_bytes(), OUTBOX_MAX);
        let mut twin = Self {
            settings,
            store,
            reader,
            redis,
            empty: model.clone(),
            model,
            known: Vec::new(),
            ids: BTreeMap::new(),
            tally: Tally::default(),
            last: 0,
            start: 0,
            opened: 0,
        };
        let opening = twin.opening();
        twin.empty.open(&opening, UnixMillis(0));
        Ok(twin)
    }

    /// Forgets everything but the deployment, on both sides.
    pub(super) async fn begin(&mut self) -> Result<(), Difference> {
        let prefix = &self.settings.prefix;
        self.last = look::empty(&mut self.redis, prefix, self.settings.slots).await?;
        self.model = self.empty.clone();
        self.known.clear();
        self.ids.clear();
        self.start = self.last;
        Ok(())
    }

    /// One sequence, from nothing; what is held is compared at the end.
    pub(super) async fn run(&mut self, sequence: &[Op]) -> Result<(), Difference> {
        self.begin().await?;
        for (place, op) in sequence.iter().enumerate() {
            let at = |difference: Difference| difference.at(place, op);
            match op {
                Op::Reopen => self.reopen().await.map_err(at)?,
                Op::Chatter { name, stages } => {
                    for n in 0..*stages {
                        let call = self.chatter(*name, n);
                        self.step(call).await.map_err(at)?;
                    }
                }
                Op::Crowd { name, requests } => {
                    for _ in 0..*requests {
                        let call = self.crowd(*name);
                        self.step(call).await.map_err(at)?;
                    }
                }
                op => {
                    if let Some(call) = self.resolve(op) {
                        self.step(call).await.map_err(at)?;
                    }
                }
            }
        }
        let held = self.held().await?;
        look::compare(&held, &self.image(&self.model)).map_err(|it| it.at_the_end(sequence))
    }

    async fn step(&mut self, call: super::call::Call) -> Result<(), Difference> {
        let (answer, spans) = timed(call.on_store(self)).await;
        let answer = answer?;
        let instants = self.within(&call, &spans);
        self.last = *instants.end();
        let now = self.last;
        if instants.start() == instants.end() {
            let expected = call.on_model(&mut self.model, UnixMillis(now));
            expected.compare(&answer)?;
            return self.learn(expected, answer);
        }
        let held = self.held().await?;
        let mut difference = None;
        let instants = look::instants(&held, answer.text(), instants);
        for (model, expected) in call.ways(&self.model, &instants, answer.text()) {
            let seen = expected
                .compare(&answer)
                .and_then(|()| look::compare(&held, &self.image_with(&model, &expected, &answer)));
            match seen {
                Ok(()) => {
                    self.model = model;
                    return self.learn(expected, answer);
                }
                Err(found) => difference = Some(found),
            }
        }
        Err(difference.unwrap_or_else(|| Difference::of("the answer", answer.text(), instants)))
    }

    /// The first and the last instant at which what matters of a call can have been done.
    fn within(&self, call: &super::call::Call, spans: &[Span]) -> RangeInclusive<i64> {
        let spans = call.deciding(spans);
        let first = spans.first().map_or(self.last, |(before, _)| before.0);
        let last = spans.last().map_or(first, |(_, after)| after.0);
        first..=last
    }

    fn learn(
        &mut self,
        expected: super::answer::Expected,
        answer: super::answer::Answer,
    ) -> Result<(), Difference> {
        for (script, word) in expected.tallies {
            self.tally.add(script, &word);
        }
        for (taken, posted, entry) in super::answer::pairs(expected.entries, answer.entries) {
            self.ids.insert(taken.number, entry.id.clone());
            self.known.push(Known { entry, taken, posted });
        }
        Ok(())
    }

    /// What Redis holds now.
    pub(super) async fn held(&mut self) -> Result<Image, Difference> {
        look::held(&mut self.redis, &self.settings.prefix).await
    }

    fn image(&self, model: &Model) -> Image {
        model.image(|number| self.ids.get(&number).cloned().unwrap_or_default())
    }

    /// As it will be when the names of new entries are learned.
    fn image_with(
        &self,
        model: &Model,
        expected: &super::answer::Expected,
        answer: &super::answer::Answer,
    ) -> Image {
        let mut ids = self.ids.clone();
        let pairs = super::answer::pairs(expected.entries.clone(), answer.entries.clone());
        ids.extend(pairs.into_iter().map(|(taken, _, it)| (taken.number, it.id)));
        model.image(|number| ids.get(&number).cloned().unwrap_or_default())
    }

    fn opening(&mut self) -> Opening {
        self.opened += 1;
        Opening {
            run_id: format!("run {}", self.opened),
            survives: false,
            slots: self.settings.slots,
            layout: store::opening::LAYOUT,
            secret: SECRET.into(),
            known_epoch: 0,
        }
    }

    /// Another Redis process, as far as the store can tell, and a process that connects to it.
    async fn reopen(&mut self) -> Result<(), Difference> {
        look::other_run(&mut self.redis, &self.store.keys().deployment()).await?;
        self.store = Store::connect(self.settings.clone()).await.map_err(Difference::failed)?;
        let now = look::time(&mut self.redis).await?;
        let opening = self.opening();
        self.empty.open(&opening, UnixMillis(now));
        self.model.open(&opening, UnixMillis(now));
        self.last = now;
        let same = self.store.epoch() == self.model.epoch();
        self.tally.add("lua/open.lua", "Another");
        if same {
            Ok(())
        } else {
            Err(Difference::of("epoch", self.store.epoch(), self.model.epoch()))
        }
    }

    pub(super) fn instant(&self, when: When) -> UnixMillis {
        match when {
            When::Past => UnixMillis(self.start - FAR_MS),
            When::Far => UnixMillis(self.start + FAR_MS),
        }
    }

    fn recorded(
        &self,
        of: Name,
        field: impl Fn(&store::Record) -> Option<String>,
    ) -> Option<String> {
        field(&self.model.read(&name(of))?)
    }

    pub(super) fn fence(&self, of: Name, fence: Fence) -> String {
        match fence {
            Fence::Current => self.recorded(of, |it| it.fence.clone()).unwrap_or("0-none".into()),
            Fence::Of(starts, nonce) => format!("{starts}-{nonce}"),
        }
    }

    pub(super) fn number(&self, of: Name, number: Number) -> u64 {
        let current = self.recorded(of, |it| it.dispatch.clone());
        let current: u64 = current.and_then(|text| text.parse().ok()).unwrap_or(1);
        match number {
            Number::Current => current,
            Number::Other(by) => current.saturating_add_signed(by.into()),
        }
    }

    pub(super) fn ticket(&self, name: &JobName) -> Ticket {
        self.store.ticket(name)
    }
}
