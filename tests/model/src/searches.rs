//! The searches: what may happen in each, and what must be seen in it. Together they hold every
//! fault at least once; each is exhaustive within its bounds.

use crate::bounds::{Bounds, Budget};
use crate::model::Protocol;
use crate::properties::{OF_A_LOSS, OF_THE_LINE, OF_THE_WORK, Sight};

/// A search: what it is about, how far it goes, and the names of what it must show.
#[derive(Debug, Clone)]
pub struct Search {
    /// What may happen in it.
    pub name: &'static str,
    /// How far.
    pub bounds: Bounds,
    /// What must be seen; named by the beginning.
    pub shows: &'static [&'static str],
}

impl Search {
    /// What is to be searched.
    pub fn protocol(&self) -> Protocol {
        let all = [OF_THE_LINE, OF_THE_WORK, OF_A_LOSS].concat();
        let is_wanted = |sight: &&Sight| self.shows.iter().any(|name| sight.0.starts_with(name));
        let sights: Vec<Sight> = all.iter().filter(is_wanted).copied().collect();
        Protocol::new(self.bounds).shows(&sights)
    }
}

fn line(budget: Budget) -> Bounds {
    Bounds { workers: 0, ..Bounds::of(budget) }
}

fn work(budget: Budget) -> Bounds {
    Bounds { workers: 2, ..Bounds::of(budget) }
}

const NONE: Budget = Budget {
    copies: 0,
    drops: 0,
    asks: 0,
    voids: 0,
    cancels: 0,
    repeats: 0,
    dead_letters: 0,
    crashes: 0,
    disconnects: 0,
    hiccups: 0,
    lapses: 0,
    errors: 0,
    detaches: 0,
    give_backs: 0,
    losses: 0,
    syncs: 0,
};

/// What every run of the tests searches.
pub fn small() -> Vec<Search> {
    let of = |name, bounds, shows| Search { name, bounds, shows };
    vec![
        of(
            "the line: a question, a store that fails, a registrar that dies",
            line(Budget { asks: 1, crashes: 1, hiccups: 1, ..NONE }),
            &[
                "a submission is del",
                "a duplicate",
                "a redel",
                "unknown is said, and is",
                "unavail",
            ],
        ),
        of(
            "the line: a submission sent twice, a question, a registrar that dies",
            line(Budget { copies: 1, asks: 1, crashes: 1, ..NONE }),
            &["a duplicate", "unknown is said, and is true"],
        ),
        of(
            "the line: an id voided, a cancellation, a registrar that dies",
            line(Budget { voids: 1, cancels: 1, crashes: 1, ..NONE }),
            &["an id is voided", "a voided submission is refused"],
        ),
        of(
            "the line: a registrar that hangs while the next one decides, and a question",
            line(Budget { asks: 1, disconnects: 1, drops: 1, ..NONE }),
            &["a former registrar"],
        ),
        of(
            "work: workers that die twice, a lease that ends early",
            work(Budget { crashes: 2, lapses: 1, ..NONE }),
            &["a work message is del", "a dead worker's", "a run is det", "attempts are used up"],
        ),
        of(
            "work: a worker that dies, a lease that ends early, a claim that is not heard",
            work(Budget { crashes: 1, lapses: 1, hiccups: 1, ..NONE }),
            &["a dead worker's", "a run is detached"],
        ),
        of(
            "work: a message that the broker drops, a worker that dies",
            work(Budget { dead_letters: 1, crashes: 1, ..NONE }),
            &["a run whose message", "a dead worker's"],
        ),
        of(
            "work: a message that the broker drops, a connection that breaks, a job given back",
            work(Budget { dead_letters: 1, disconnects: 1, lapses: 1, give_backs: 1, ..NONE }),
            &["a run whose message", "a job ends and is told"],
        ),
        of(
            "work: a message that the broker drops, a cancellation, a worker that dies",
            work(Budget { dead_letters: 1, cancels: 1, crashes: 1, ..NONE }),
            &["a run whose message"],
        ),
        of(
            "work: a connection that breaks, a job given back",
            work(Budget { disconnects: 1, give_backs: 1, ..NONE }),
            &["a work message is delivered again", "a job ends and is told"],
        ),
        of(
            "work: a lease that ends early, a connection that breaks",
            work(Budget { lapses: 1, disconnects: 1, ..NONE }),
            &["a superseded attempt", "two attempts run at once"],
        ),
        of(
            "work: detached runs, retries, jobs given back, any process dies",
            work(Budget { errors: 1, detaches: 1, give_backs: 1, crashes: 1, ..NONE }),
            &["a detached run is lost", "an event is delivered twice"],
        ),
        of(
            "work: a cancellation of what runs, is detached, fails",
            work(Budget { cancels: 1, detaches: 1, lapses: 1, errors: 1, ..NONE }),
            &["a job ends and is told"],
        ),
        of(
            "loss: the store comes back as it was, any process dies",
            work(Budget { losses: 1, syncs: 1, crashes: 1, ..NONE }),
            &[
                "a loss is noticed",
                "a work message of an older",
                "a job whose end",
                "a fence's number",
            ],
        ),
        of(
            "loss: and a cancellation of what runs",
            work(Budget { losses: 1, syncs: 1, cancels: 1, ..NONE }),
            &["a loss is noticed"],
        ),
        of(
            "loss: and detached runs, jobs given back",
            work(Budget { losses: 1, syncs: 1, detaches: 1, give_backs: 1, ..NONE }),
            &["a loss is noticed"],
        ),
        of(
            "loss: and a message that the broker drops, any process dies",
            work(Budget { losses: 1, syncs: 1, dead_letters: 1, crashes: 1, ..NONE }),
            &["a loss is noticed"],
        ),
        of(
            "loss: the store comes back as it was, twice",
            work(Budget { losses: 2, syncs: 2, ..NONE }),
            &["a loss is noticed"],
        ),
        of(
            "loss: the store comes back as it was, and a question",
            line(Budget { losses: 1, syncs: 1, asks: 1, crashes: 1, ..NONE }),
            &["unknown is said, and that something may be lost"],
        ),
        of(
            "two clients, two workers",
            Bounds { clients: 2, ..work(NONE) },
            &["a job ends and is told"],
        ),
        of(
            "two clients, two workers, a lease that ends early, a question",
            Bounds { clients: 2, ..work(Budget { lapses: 1, asks: 1, ..NONE }) },
            &["a job ends and is told"],
        ),
        of(
            "the line: everything once",
            line(Budget { asks: 1, crashes: 1, disconnects: 1, hiccups: 1, ..NONE }),
            &["a former registrar", "unavailable", "unknown is said, and is true"],
        ),
    ]
}

/// What takes minutes and gigabytes.
pub fn large() -> Vec<Search> {
    let of = |name, bounds, shows| Search { name, bounds, shows };
    vec![
        of(
            "work: workers that die twice, a lease that ends early, a claim that is not heard",
            work(Budget { crashes: 2, lapses: 1, hiccups: 1, ..NONE }),
            &["a dead worker's", "attempts are used up"],
        ),
        of(
            "work: connections that break, retries, jobs given back",
            work(Budget { errors: 1, disconnects: 1, give_backs: 1, ..NONE }),
            &["a work message is delivered again", "a job ends and is told"],
        ),
        of(
            "work: leases that end early, connections that break, messages that come twice",
            work(Budget { lapses: 1, disconnects: 1, repeats: 1, ..NONE }),
            &["a superseded attempt", "two attempts run at once"],
        ),
        of(
            "the line: submissions sent twice, voided, a registrar that hangs",
            line(Budget { copies: 1, voids: 1, disconnects: 1, ..NONE }),
            &["a voided submission is refused", "a former registrar"],
        ),
        of(
            "work: connections that break twice, a lease that ends early",
            work(Budget { disconnects: 2, lapses: 1, ..NONE }),
            &["a superseded attempt", "two attempts run at once"],
        ),
        of(
            "work: a connection that breaks, a process that dies, a lease that ends early",
            work(Budget { disconnects: 1, crashes: 1, lapses: 1, ..NONE }),
            &["a superseded attempt", "a run is detached"],
        ),
        of(
            "work: messages that the broker drops, processes that die, a lease that ends early",
            work(Budget { dead_letters: 2, crashes: 2, lapses: 1, ..NONE }),
            &["a run whose message", "a dead worker's"],
        ),
        of(
            "loss: and a process that dies, and a lease that ends early, and a question",
            work(Budget { losses: 1, syncs: 1, crashes: 1, lapses: 1, asks: 1, ..NONE }),
            &["a fence's number", "unknown is said, and that something may be lost"],
        ),
        of(
            "two clients, and a process that dies",
            Bounds { clients: 2, ..Bounds::of(Budget { crashes: 1, ..NONE }) },
            &["a dead worker's job"],
        ),
    ]
}
