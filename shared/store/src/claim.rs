//! The right to run: claimed from a delivered work message, renewed while it lasts.

use faults::{Bug, is_seeded};
use job::{Event, JobType, State};

use crate::each::JobCall;
use crate::keys::JobName;
use crate::reply::Reply;
use crate::scripts;
use crate::{Error, Store};

/// A delivered work message that a worker would run.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Whose job, by which identifier.
    pub name: JobName,
    /// What is to be done.
    pub job_type: JobType,
    /// The number that the message carries.
    pub dispatch: u64,
    /// Whether the broker delivered it before.
    pub redelivered: bool,
    /// The worker process.
    pub owner: String,
    /// Random, and the same when this claim is repeated because its answer was lost.
    pub nonce: String,
    /// How long the right lasts unless it is renewed.
    pub lease_ms: u64,
    /// Whether nothing else runs in the worker.
    pub idle: bool,
    /// How many attempts the job has.
    pub attempts_max: u32,
    /// Attempts in a row without an outcome after which the next one runs alone.
    pub alone_after: u32,
    /// Whether this process was told to attach the message to a run, and has no such run.
    pub not_here: bool,
    /// The body; needed only where the message was redelivered.
    pub payload: Vec<u8>,
}

/// What a delivered work message means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// Run it.
    Start {
        /// Which attempt this is, from 1.
        attempt: u32,
        /// The right to write.
        fence: String,
        /// The revision that the start made.
        revision: u64,
        /// Whether it must run alone.
        alone: bool,
    },
    /// It is somebody else's, or done: acknowledge.
    Drop,
    /// This process runs it already, under this fence: the delivery belongs to that run.
    Attach {
        /// The run's right to write.
        fence: String,
    },
    /// Another process runs it; the scheduler watches its lease now: acknowledge.
    Detached,
    /// It must run alone: ask again when nothing else runs here.
    Wait,
    /// Its worker died after a client had asked it to stop.
    CancelAsked {
        /// The dead attempt's right to write.
        fence: String,
    },
    /// Its worker died and no attempts are left.
    Exhausted {
        /// The dead attempt's right to write.
        fence: String,
        /// How many were made.
        attempts: u32,
    },
    /// There is no record.
    Missing,
}

/// What became of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// It is renewed.
    Held {
        /// Whether a client has asked the job to stop.
        cancel_requested: bool,
    },
    /// Another attempt has the right now, or the job is done.
    Lost,
}

/// A run whose lease is to be renewed.
#[derive(Debug, Clone)]
pub struct Lease {
    /// Whose job, by which identifier.
    pub name: JobName,
    /// The right to write.
    pub fence: String,
    /// The body, to detach the run from its work message.
    pub detach: Option<Vec<u8>>,
}

/// How far behind a clock is that nobody should rely on.
const HOUR_MS: i64 = 3_600_000;

/// Whether the next attempt runs alone, after `lost` in a row without an outcome: from
/// `alone_after` of them, and also if it is the last that is `allowed`, so that no neighbour takes
/// it away.
pub fn runs_alone(lost: u32, alone_after: u32, attempt: u32, allowed: u32) -> bool {
    lost > 0 && (lost >= alone_after || attempt + 1 >= allowed)
}

impl Store {
    /// Decides what delivered messages mean, and starts what is to be started; the answers are in
    /// the same order.
    ///
    /// # Errors
    /// Nothing is known of any of them: call again with the same nonces.
    pub async fn claim(&self, claims: &[Claim]) -> Result<Vec<Claimed>, Error> {
        if claims.is_empty() {
            return Ok(Vec::new());
        }
        let build = |epoch| claims.iter().map(|claim| self.claim_call(claim, epoch)).collect();
        let answers = self.each(&scripts::CLAIM, build).await?;
        answers.into_iter().map(|value| claimed(&Reply::new(value)?)).collect()
    }

    fn claim_call(&self, claim: &Claim, epoch: u64) -> JobCall {
        let slot = self.keys().slot(&claim.name);
        let mut keys: Vec<String> = self.change_keys(&claim.name).into();
        for state in [State::Queued, State::Running] {
            keys.extend(self.keys().state(slot, state, &claim.job_type));
        }
        JobCall::new(slot, keys)
            .arg(claim.name.member())
            .arg(claim.dispatch)
            .arg(u8::from(claim.redelivered))
            .arg(claim.owner.as_str())
            .arg(claim.nonce.as_str())
            .arg(claim.lease_ms)
            .arg(u8::from(claim.idle))
            .arg(claim.attempts_max)
            .arg(State::Queued.as_str())
            .arg(State::Running.as_str())
            .arg(Event::Started.as_str())
            .arg(self.settings().outbox_per_client_max)
            .arg(epoch)
            .arg(u8::from(claim.not_here))
            .arg(claim.payload.as_slice())
            .arg(claim.alone_after)
    }

    /// Renews leases; the answers are in the same order.
    ///
    /// # Errors
    /// It is not known which are renewed: call again.
    pub async fn beat(&self, leases: &[Lease], lease_ms: u64) -> Result<Vec<Beat>, Error> {
        let behind = if is_seeded(Bug::OwnClock) { HOUR_MS } else { 0 };
        let lease_ms = i64::try_from(lease_ms).unwrap_or(i64::MAX) - behind;
        let call = |lease: &Lease| {
            JobCall::new(self.keys().slot(&lease.name), self.change_keys(&lease.name))
                .arg(lease.name.member())
                .arg(lease.fence.as_str())
                .arg(lease_ms)
                .arg(lease.detach.as_deref().unwrap_or_default())
                .arg(u8::from(lease.detach.is_some()))
        };
        let answers = self.each(&scripts::BEAT, |_| leases.iter().map(call).collect()).await?;
        answers
            .into_iter()
            .map(|value| {
                let reply = Reply::new(value)?;
                match reply.word() {
                    "held" => Ok(Beat::Held { cancel_requested: reply.optional(1).is_some() }),
                    "lost" => Ok(Beat::Lost),
                    other => Err(Error::unexpected(other)),
                }
            })
            .collect()
    }
}

fn claimed(reply: &Reply) -> Result<Claimed, Error> {
    Ok(match reply.word() {
        "start" => Claimed::Start {
            attempt: reply.parse(1)?,
            fence: reply.text(2).to_owned(),
            revision: reply.parse(3)?,
            alone: reply.optional(4).is_some(),
        },
        "drop" => Claimed::Drop,
        "attach" => Claimed::Attach { fence: reply.text(1).to_owned() },
        "detached" => Claimed::Detached,
        "wait" => Claimed::Wait,
        "cancel" => Claimed::CancelAsked { fence: reply.text(1).to_owned() },
        "exhausted" => {
            Claimed::Exhausted { fence: reply.text(1).to_owned(), attempts: reply.parse(2)? }
        }
        "none" => Claimed::Missing,
        other => return Err(Error::unexpected(other)),
    })
}
