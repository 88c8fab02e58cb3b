//! Acknowledges and gives back. For the broker one acknowledgement of many deliveries costs no more
//! than one of one, so what is settled without a gap is acknowledged together.

use std::collections::BTreeSet;

use broker::Acker;
use faults::{Point, crash_point};
use tokio::sync::mpsc;

use crate::runs::Settle;

/// Taken in one go.
const CHUNK: usize = 256;

/// Which deliveries of a channel are settled. RabbitMQ numbers them from 1, without gaps.
#[derive(Debug, Default)]
struct Settled {
    /// Everything up to this one.
    through: u64,
    beyond: BTreeSet<u64>,
}

/// How some deliveries are acknowledged.
#[derive(Debug, Default, PartialEq, Eq)]
struct Acks {
    /// Everything up to this one, which is itself not acknowledged yet: RabbitMQ knows no other.
    through: Option<u64>,
    /// One by one: something before them is not settled.
    each: Vec<u64>,
}

impl Settled {
    /// Takes deliveries that are to be acknowledged, and some that have been given back.
    fn take(&mut self, to_ack: &[u64], given_back: &[u64]) -> Acks {
        self.beyond.extend(to_ack.iter().chain(given_back));
        while self.beyond.first() == Some(&(self.through + 1)) {
            self.beyond.pop_first();
            self.through += 1;
        }
        Acks {
            through: to_ack.iter().copied().filter(|tag| *tag <= self.through).max(),
            each: to_ack.iter().copied().filter(|tag| *tag > self.through).collect(),
        }
    }
}

/// Settles what is to be settled, until nobody is left who could want it.
pub(crate) async fn settle(
    acker: Acker,
    mut waiting: mpsc::UnboundedReceiver<Settle>,
) -> Result<(), broker::Error> {
    let mut settled = Settled::default();
    let mut taken = Vec::new();
    while waiting.recv_many(&mut taken, CHUNK).await > 0 {
        let (mut to_ack, mut back) = (Vec::with_capacity(taken.len()), Vec::new());
        for settle in taken.drain(..) {
            match settle {
                Settle::Ack(tag) => to_ack.push(tag),
                Settle::GiveBack(tag) => back.push(tag),
            }
        }
        // First: an acknowledgement of all before it must not take them along.
        for tag in &back {
            acker.give_back(*tag).await?;
        }
        let acks = settled.take(&to_ack, &back);
        if let Some(tag) = acks.through {
            acker.ack_through(tag).await?;
        }
        acker.ack(&acks.each).await?;
        if !to_ack.is_empty() {
            crash_point(Point::WorkAcknowledged);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_settled_without_a_gap_is_acknowledged_together() {
        let mut settled = Settled::default();
        let mut take = |to_ack: &[u64], back: &[u64]| {
            let acks = settled.take(to_ack, back);
            (acks.through, acks.each)
        };
        assert_eq!(take(&[2, 1], &[]), (Some(2), vec![]));
        // The third still runs.
        assert_eq!(take(&[5, 4], &[]), (None, vec![5, 4]));
        assert_eq!(take(&[7], &[6]), (None, vec![7]));
        // Those after it are acknowledged, or given back, already.
        assert_eq!(take(&[3], &[]), (Some(3), vec![]));
        assert_eq!(take(&[], &[8]), (None, vec![]));
        assert_eq!(take(&[9, 11], &[]), (Some(9), vec![11]));
    }
}
