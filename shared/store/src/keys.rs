//! Every key, in one place. `docs/REDIS.md` describes them for readers; this is what it is tested
//! against.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `<prefix>:{<slot>}:job:<client>:<job_id>` | hash | the record |
//! | `<prefix>:{<slot>}:ticket:<ticket>` | string | `<client>:<job_id>` |
//! | `<prefix>:{<slot>}:history:<client>:<job_id>` | list | the timeline |
//! | `<prefix>:{<slot>}:due` | sorted set | timers, by ms since 1970 |
//! | `<prefix>:{<slot>}:<state>` | sorted set | jobs in a state, by when they entered it |
//! | `<prefix>:{<slot>}:parked:<type>` | sorted set | parked jobs of one type |
//! | `<prefix>:{<slot>}:client:<client>` | sorted set | a client's jobs, by acceptance |
//! | `<prefix>:{<slot>}:tag:<client>:<tag>` | sorted set | those with a tag |
//! | `<prefix>:{<slot>}:recent:<type>` | list | the last finished jobs of a type |
//! | `<prefix>:{<slot>}:unfinished` | hash | how many jobs are not finished, by client |
//! | `<prefix>:{<slot>}:retire` | sorted set | finished jobs, by when their record is retired |
//! | `<prefix>:{<slot>}:retention` | hash | for how long finished jobs are kept, by outcome |
//! | `<prefix>:{<slot>}:waits` | sorted set | jobs that somebody waits for, by time limit |
//! | `<prefix>:{<slot>}:outbox` | stream | messages still to be delivered |
//! | `<prefix>:{<slot>}:outbox:later` | sorted set | those that are tried again later |
//! | `<prefix>:{<slot>}:outbox:waiting` | hash | how many wait, by client |
//! | `<prefix>:types` | hash | type → queue, as workers announced it |
//! | `<prefix>:short` | set | types whose jobs are short, as workers announced it |
//! | `<prefix>:deployment` | hash | layout version, slots, epoch, run id |
//! | `<prefix>:secret` | string | what tickets are derived from |

use job::{ClientName, JobId, JobType, State, Ticket};

/// A job's full name: the client, and the client's identifier.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobName {
    /// Who owns the job.
    pub client: ClientName,
    /// The client's identifier.
    pub job_id: JobId,
}

impl JobName {
    /// The member that stands for the job in sets: a client's name holds no colon.
    pub fn member(&self) -> String {
        format!("{}:{}", self.client, self.job_id)
    }

    /// Reads a member back.
    pub fn from_member(member: &str) -> Option<Self> {
        let (client, job_id) = member.split_once(':')?;
        Some(Self {
            client: ClientName::parse(client).ok()?,
            job_id: JobId::parse_recorded(job_id).ok()?,
        })
    }
}

/// Builds keys for one deployment.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: String,
    slots: u16,
}

impl Keys {
    /// Keys that begin with a prefix, spread over a power of two of slots.
    pub fn new(prefix: &str, slots: u16) -> Self {
        Self { prefix: prefix.to_owned(), slots: slots.max(1) }
    }

    /// Every slot.
    pub fn slots(&self) -> impl Iterator<Item = u16> + use<> {
        0..self.slots
    }

    /// The slot of a job: CRC16 of `<client>:<job_id>` modulo the number of slots. The number is a
    /// power of two, so that it equals `CLUSTER KEYSLOT <client>:<job_id>` modulo it.
    pub fn slot(&self, name: &JobName) -> u16 {
        if self.slots == 1 {
            return 0;
        }
        crc16(name.member().as_bytes()) % self.slots
    }

    /// A key of a slot. Built by hand: every call of a script has a dozen of them.
    fn of_slot(&self, slot: u16, what: &str, whose: &[&str]) -> String {
        // The braces, the colons, and a number of five digits.
        let length = what.len() + whose.iter().map(|part| part.len() + 1).sum::<usize>() + 9;
        let mut key = String::with_capacity(self.prefix.len() + length);
        key.push_str(&self.prefix);
        key.push_str(":{");
        match slot {
            0 => key.push('0'),
            other => key.push_str(&other.to_string()),
        }
        key.push_str("}:");
        key.push_str(what);
        for part in whose {
            key.push(':');
            key.push_str(part);
        }
        key
    }

    /// The record.
    pub fn job(&self, name: &JobName) -> String {
        self.of_slot(self.slot(name), "job", &[name.client.as_str(), name.job_id.as_str()])
    }

    /// The timeline.
    pub fn history(&self, name: &JobName) -> String {
        self.of_slot(self.slot(name), "history", &[name.client.as_str(), name.job_id.as_str()])
    }

    /// What names a ticket's job. The ticket carries its slot.
    pub fn ticket(&self, ticket: Ticket) -> String {
        self.of_slot(ticket.slot(), "ticket", &[&ticket.to_string()])
    }

    /// Timers.
    pub fn due(&self, slot: u16) -> String {
        self.of_slot(slot, "due", &[])
    }

    /// The set that lists the jobs of a state; `None` for states that are not listed.
    pub fn state(&self, slot: u16, state: State, job_type: &JobType) -> Option<String> {
        match state {
            State::Parked => Some(self.parked(slot, job_type.as_str())),
            _ => self.state_set(slot, state),
        }
    }

    /// The same for a state whose jobs of all types are in one set.
    pub fn state_set(&self, slot: u16, state: State) -> Option<String> {
        match state {
            State::Succeeded | State::Cancelled | State::Expired | State::Parked => None,
            _ => Some(self.of_slot(slot, state.as_str(), &[])),
        }
    }

    /// The parked jobs of a type.
    pub fn parked(&self, slot: u16, job_type: &str) -> String {
        self.of_slot(slot, State::Parked.as_str(), &[job_type])
    }

    /// A client's jobs.
    pub fn client_jobs(&self, slot: u16, client: &ClientName) -> String {
        self.of_slot(slot, "client", &[client.as_str()])
    }

    /// A client's jobs with a tag.
    pub fn tag(&self, slot: u16, client: &ClientName, tag: &str) -> String {
        self.of_slot(slot, "tag", &[client.as_str(), tag])
    }

    /// The last finished jobs of a type.
    pub fn recent(&self, slot: u16, job_type: &JobType) -> String {
        self.of_slot(slot, "recent", &[job_type.as_str()])
    }

    /// How many jobs are not finished, by client.
    pub fn unfinished(&self, slot: u16) -> String {
        self.of_slot(slot, "unfinished", &[])
    }

    /// When records are retired.
    pub fn retire(&self, slot: u16) -> String {
        self.of_slot(slot, "retire", &[])
    }

    /// For how long finished jobs are kept.
    pub fn retention(&self, slot: u16) -> String {
        self.of_slot(slot, "retention", &[])
    }

    /// Jobs that somebody waits for.
    pub fn waits(&self, slot: u16) -> String {
        self.of_slot(slot, "waits", &[])
    }

    /// Messages still to be delivered.
    pub fn outbox(&self, slot: u16) -> String {
        self.of_slot(slot, "outbox", &[])
    }

    /// Those that are tried again later.
    pub fn outbox_later(&self, slot: u16) -> String {
        self.of_slot(slot, "outbox", &["later"])
    }

    /// How many wait, by client.
    pub fn outbox_waiting(&self, slot: u16) -> String {
        self.of_slot(slot, "outbox", &["waiting"])
    }

    /// Which queue serves which type.
    pub fn types(&self) -> String {
        format!("{}:types", self.prefix)
    }

    /// Which types' jobs are short.
    pub fn short_types(&self) -> String {
        format!("{}:short", self.prefix)
    }

    /// Layout version, slots, epoch.
    pub fn deployment(&self) -> String {
        format!("{}:deployment", self.prefix)
    }

    /// What tickets are derived from.
    pub fn secret(&self) -> String {
        format!("{}:secret", self.prefix)
    }
}

/// CRC16 as Redis Cluster uses it (XMODEM: polynomial 0x1021, initial value 0).
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever reads with redis-cli can compute it (H32).
    #[test]
    fn the_slot_is_the_one_that_redis_cluster_computes() {
        // The check value of CRC16/XMODEM, also in the Redis Cluster specification.
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }

    /// Whatever the client is called and the job (H8).
    #[test]
    fn no_two_jobs_share_a_key() {
        let keys = Keys::new("counterfoil", 1);
        let name = |client: &str, id: &str| JobName {
            client: ClientName::parse(client).unwrap(),
            job_id: JobId::parse(id).unwrap(),
        };
        assert_eq!(keys.job(&name("shop", "A-1001")), "counterfoil:{0}:job:shop:A-1001");
        assert_ne!(keys.job(&name("a", "b:c")), keys.job(&name("a", "b")));
        assert_eq!(JobName::from_member("a:b:c"), Some(name("a", "b:c")));
    }
}
