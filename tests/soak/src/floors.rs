//! How much of each thing a campaign must have met with: one that has tested nothing fails.

use serde::Serialize;

use crate::checker::Counters;
use crate::faults::{Fault, Kind, by_kind};

/// One of them.
#[derive(Debug, Clone, Serialize)]
pub struct Floor {
    /// What was counted.
    pub of: &'static str,
    /// So much at least. A shorter campaign has its share.
    pub at_least: f64,
    /// So much there was.
    pub seen: f64,
}

impl Floor {
    /// Whether there was as much.
    pub fn is_met(&self) -> bool {
        self.seen >= self.at_least
    }
}

/// What was counted, how much of it there must be, and where it stands.
pub type Counted = (&'static str, f64, fn(&Counters) -> usize);

/// The floors of a full campaign that count, and so grow with its length.
pub const COUNTED: [Counted; 9] = [
    ("writes of superseded attempts that were refused", 30.0, |c| c.refused_writes),
    ("submissions that were recognised as duplicates", 500.0, |c| c.duplicates),
    ("messages that were delivered again", 500.0, |c| c.redeliveries as usize),
    ("submissions that nobody had confirmed, published again", 100.0, |c| c.lost_confirms),
    ("workers that crashed when they had rebuilt a record", 5.0, |c| c.crashes),
    ("calls of `submit` that a failing disk let fail", 10.0, |c| c.not_journaled),
    ("answers `found`", 5000.0, |c| c.word("found")),
    ("answers `unknown`", 500.0, |c| c.word("unknown")),
    ("answers `voided`", 100.0, |c| c.word("voided")),
];

/// Of the jobs that were asked for.
const JOBS_SHARE: f64 = 0.95;
/// A frame that is to be cut may not come in time, a process be dead already.
const HIT_PERCENT: f64 = 90.0;
/// A kind that was made so often has taken hold once, or it never does.
const OFTEN: usize = 3;

/// Holds what was counted against the floors.
pub fn floors(share: f64, jobs: u64, faults: &[Fault], counters: &Counters) -> Vec<Floor> {
    let counted = COUNTED.map(|(of, full, seen)| {
        let at_least = (full * share).floor().max(1.0);
        Floor { of, at_least, seen: seen(counters) as f64 }
    });
    let of = |kinds: &[Kind]| -> Vec<&Fault> {
        faults.iter().filter(|fault| kinds.contains(&fault.kind)).collect()
    };
    let all_noticed = |what, kinds: &[Kind]| {
        let made = of(kinds);
        let seen = made.iter().filter(|fault| fault.effect.noticed == Some(true)).count() as f64;
        Floor { of: what, at_least: made.len() as f64, seen }
    };
    let kills = of(&[Kind::WorkerKilled]).len().max(1) as f64;
    let mut floors = counted.to_vec();
    floors.push(Floor {
        of: "percent of the workers' deaths that came while a handler ran",
        at_least: 50.0,
        seen: (counters.kills_while_running as f64 / kills * 100.0).round(),
    });
    floors.push(all_noticed(
        "alarms that a client was told of",
        &[Kind::MemoryAlarm, Kind::DiskAlarm],
    ));
    let roll_backs = &[Kind::RolledBack, Kind::StaleReplica];
    floors.push(all_noticed("roll-backs that were noticed", roll_backs));
    floors.push(Floor {
        of: "jobs that were submitted",
        at_least: (jobs as f64 * JOBS_SHARE).floor(),
        seen: counters.jobs as f64,
    });
    let hit = faults.iter().filter(|fault| !fault.effect.has_missed).count();
    floors.push(Floor {
        of: "percent of the faults that took hold",
        at_least: HIT_PERCENT,
        seen: (hit as f64 / faults.len().max(1) as f64 * 100.0).floor(),
    });
    let often = by_kind(faults).into_iter().filter(|(_, count)| *count >= OFTEN);
    let often: Vec<Kind> = often.map(|(kind, _)| kind).collect();
    let took_hold = |kind: &&Kind| of(&[**kind]).iter().any(|fault| !fault.effect.has_missed);
    floors.push(Floor {
        of: "kinds of fault that took hold, of those made three times",
        at_least: often.len() as f64,
        seen: often.iter().filter(took_hold).count() as f64,
    });
    floors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_campaign_that_has_tested_nothing_meets_no_floor_that_counts() {
        let floors = floors(1.0, 30_000, &[], &Counters::default());
        assert!(floors[..COUNTED.len()].iter().all(|floor| !floor.is_met()));
        assert_eq!(floors[0].at_least, 30.0);
    }

    #[test]
    fn a_short_campaign_has_its_share_of_the_floors_and_never_none() {
        let floors = floors(0.01, 500, &[], &Counters::default());
        let counted: Vec<f64> = floors.iter().take(COUNTED.len()).map(|f| f.at_least).collect();
        assert_eq!(counted, [1.0, 5.0, 5.0, 1.0, 1.0, 1.0, 50.0, 5.0, 1.0]);
    }
}
