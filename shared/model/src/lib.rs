//! The rules of the store, in memory: what Redis holds of a deployment, and one method for each
//! script that changes it. Nothing here reads a clock, a random number or a network: the time comes
//! in with each call, so the same calls always lead to the same state.
//!
//! It has two uses. The scripts are compared with it on a real Redis, call by call
//! (`tests/it/differential`); and a handler is tried against it without any server
//! (`counterfoil_worker::testing`).
//!
//! It is written as rules, not after the scripts: where they keep a set, a counter or a timer
//! beside the record, the model works it out from the jobs ([`image`]). In reading order: what
//! stands under an identifier ([`standing`]), how that begins ([`accept`]), what happens to a job
//! ([`change`], [`claim`], [`report`]) and what follows from each change ([`following`]: timeline,
//! timer, those who are told), when it is looked at ([`due`]), who is told of it ([`subscribe`],
//! [`wait`], [`outbox`]), what remains of it ([`retire`]), how it is found ([`list`]) and which
//! store it is ([`opening`]).
//!
//! # Panics and errors
//! There are none: what the store refuses is an answer, in the store's own types, and the model is
//! never away.

pub mod standing;

pub mod accept;

pub mod change;
pub mod claim;
pub mod report;

pub mod following;

pub mod due;

pub mod outbox;
pub mod subscribe;
pub mod wait;

pub mod list;
pub mod opening;
pub mod retire;

pub mod image;

use std::collections::{BTreeMap, VecDeque};

use job::{JobType, QueueName, TicketKey};
use protocol::UnixMillis;
use store::{JobName, Keys, Record, Retention};

use crate::opening::Deployment;
use crate::outbox::{Posted, Taken};
use crate::standing::Standing;

/// What Redis holds of one deployment.
#[derive(Debug, Clone)]
pub struct Model {
    keys: Keys,
    ticket_key: TicketKey,
    outbox_per_client_max: u64,
    /// The epoch in which the caller writes: that of its last [`Model::open`].
    epoch: u64,
    deployment: Option<Deployment>,
    /// What stands under each identifier.
    standings: BTreeMap<JobName, Standing>,
    /// The last finished jobs, newest first, by slot and type. Their records may be gone.
    recent: BTreeMap<(u16, JobType), VecDeque<JobName>>,
    /// When somebody's patience with a job ends. It may have been answered by then.
    patience: BTreeMap<JobName, i64>,
    outbox: Vec<Posted>,
    posted: u64,
    /// When entries that were put off are tried again.
    put_off: BTreeMap<Taken, i64>,
    retention: Option<Retention>,
    served: BTreeMap<JobType, QueueName>,
}

impl Model {
    /// An empty store, in its first epoch. `secret` is what tickets are derived from,
    /// `outbox_per_client_max` the setting of that name.
    pub fn new(keys: Keys, secret: &[u8], outbox_per_client_max: u64) -> Self {
        Self {
            keys,
            ticket_key: TicketKey::new(secret),
            outbox_per_client_max,
            epoch: 1,
            deployment: None,
            standings: BTreeMap::new(),
            recent: BTreeMap::new(),
            patience: BTreeMap::new(),
            outbox: Vec::new(),
            posted: 0,
            put_off: BTreeMap::new(),
            retention: None,
            served: BTreeMap::new(),
        }
    }

    /// The epoch in which the caller writes.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The slot of a job.
    pub fn slot(&self, name: &JobName) -> u16 {
        self.keys.slot(name)
    }

    /// What tickets, and the seals of work messages, are made with.
    pub fn ticket_key(&self) -> &TicketKey {
        &self.ticket_key
    }

    /// What is recorded under an identifier, as [`store::Store::read_one`] gives it.
    pub fn read(&self, name: &JobName) -> Option<Record> {
        self.standings.get(name).map(Standing::record)
    }

    /// The payload that is kept for a job.
    pub fn payload(&self, name: &JobName) -> Option<Vec<u8>> {
        self.standings.get(name)?.fields.bytes("payload").map(<[u8]>::to_vec)
    }

    /// The timeline of a job, oldest first.
    pub fn history(&self, name: &JobName) -> Vec<protocol::HistoryEntry> {
        self.standings.get(name).map(|it| it.timeline.clone()).unwrap_or_default()
    }

    /// The job that a ticket names.
    pub fn resolve(&self, ticket: job::Ticket) -> Option<JobName> {
        let text = ticket.to_string();
        let named = |it: &&Standing| it.fields.text("ticket") == Some(&text);
        let name = self.standings.iter().find(|(_, it)| named(it))?.0;
        Some(name.clone())
    }

    /// A worker serves types on a queue. The last announcement holds.
    pub fn announce(&mut self, served: &[(JobType, QueueName)]) {
        self.served.extend(served.iter().cloned());
    }

    /// Lets go what Redis drops by itself: refusals and tombstones whose time is over. Every method
    /// that is given the time does this first.
    pub fn expire(&mut self, at: UnixMillis) {
        self.standings.retain(|_, it| it.goes_at.is_none_or(|goes| goes > at.0));
    }
}
