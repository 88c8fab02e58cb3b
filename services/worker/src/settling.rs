//! Acknowledges and gives back. What waits is handed over together, one by one by its tag: that one
//! acknowledgement can be of all before it gains nothing that could be measured, and to know when
//! it can be is to remember whatever has ended behind a long job.

use broker::Acker;
use faults::{Point, crash_point};
use tokio::sync::mpsc;

use crate::runs::Settle;

/// Taken in one go.
const CHUNK: usize = 256;

/// Settles what is to be settled, until nobody is left who could want it.
pub(crate) async fn settle(
    acker: Acker,
    mut waiting: mpsc::UnboundedReceiver<Settle>,
) -> Result<(), broker::Error> {
    let mut taken = Vec::new();
    while waiting.recv_many(&mut taken, CHUNK).await > 0 {
        let (mut to_ack, mut back) = (Vec::with_capacity(taken.len()), Vec::new());
        for settle in taken.drain(..) {
            match settle {
                Settle::Ack(tag) => to_ack.push(tag),
                Settle::GiveBack(tag) => back.push(tag),
            }
        }
        for tag in &back {
            acker.give_back(*tag).await?;
        }
        acker.ack(&to_ack).await?;
        if !to_ack.is_empty() {
            crash_point(Point::WorkAcknowledged);
        }
    }
    Ok(())
}
