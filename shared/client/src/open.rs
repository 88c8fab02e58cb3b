//! What is not settled yet, and when a submission is sent again.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::outgoing::Outgoing;

/// The pause before a submission is sent again doubles each time, so often: where the line is long,
/// more of the same makes it longer.
const DOUBLINGS: u32 = 4;

/// When a submission was last sent on this connection, and how often it was that it may stand in
/// the line from.
#[derive(Default)]
pub(crate) struct Sent {
    at: Option<Instant>,
    times: u32,
}

impl Sent {
    fn now(&mut self, now: Instant) {
        *self = Self { at: Some(now), times: self.times.saturating_add(1) };
    }

    /// Whether it is to be sent again.
    fn is_due(&self, pause: Duration, now: Instant) -> bool {
        let doublings = self.times.saturating_sub(1).min(DOUBLINGS);
        let pause = pause.saturating_mul(1 << doublings);
        self.at.is_none_or(|at| now.duration_since(at) >= pause)
    }
}

/// What is not settled, across connections.
#[derive(Default)]
pub(crate) struct Open {
    pub(crate) submissions: HashMap<String, (Outgoing, Sent)>,
    pub(crate) questions: HashMap<String, (&'static str, Vec<u8>)>,
}

impl Open {
    pub(crate) fn add(&mut self, outgoing: impl Iterator<Item = Outgoing>, sent_at: Instant) {
        let sent = || Sent { at: Some(sent_at), times: 1 };
        self.submissions.extend(outgoing.map(|it| (it.job_id.clone(), (it, sent()))));
    }

    /// The connection is another one: everything is sent again, whatever became of it.
    pub(crate) fn nobody_knows(&mut self) {
        for (_, sent) in self.submissions.values_mut() {
            sent.at = None;
        }
    }

    /// No queue took these: they make no line longer, so their next pause is not a longer one.
    pub(crate) fn not_taken(&mut self, job_ids: &[String]) {
        for job_id in job_ids {
            if let Some((_, sent)) = self.submissions.get_mut(job_id) {
                sent.times = 0;
            }
        }
    }

    /// Up to so many submissions whose pause is over: they are sent now.
    pub(crate) fn take_due(&mut self, pause: Duration, most: usize, now: Instant) -> Vec<Outgoing> {
        let due = self.submissions.values_mut().filter(|(_, sent)| sent.is_due(pause, now));
        due.take(most)
            .map(|(outgoing, sent)| {
                sent.now(now);
                outgoing.clone()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::submission::Options;

    const PAUSE: Duration = Duration::from_secs(10);

    /// Seconds until a submission is sent again, so many times in a row.
    fn pauses(open: &mut Open, now: &mut Instant, count: usize) -> Vec<u64> {
        let mut pauses = Vec::new();
        for _ in 0..count {
            let from = *now;
            while open.take_due(PAUSE, 1, *now).is_empty() {
                *now += Duration::from_secs(1);
            }
            pauses.push((*now - from).as_secs());
        }
        pauses
    }

    fn open_with_one(now: Instant) -> Open {
        let mut open = Open::default();
        let outgoing = Outgoing {
            job_id: "A-1".to_owned(),
            journaled_at_ms: 1_700_000_000_000,
            job_type: "a.b".to_owned(),
            body: Vec::new(),
            options: Options::default(),
        };
        open.add(std::iter::once(outgoing), now);
        open
    }

    /// At the same pace for ever, a line that was once behind by more than one pause filled up with
    /// copies of what stood in it already.
    #[test]
    fn the_pause_before_a_submission_is_sent_again_doubles_up_to_sixteen_times() {
        let mut now = Instant::now();
        let mut open = open_with_one(now);
        assert_eq!(pauses(&mut open, &mut now, 6), [10, 20, 40, 80, 160, 160]);
        open.nobody_knows();
        assert_eq!(pauses(&mut open, &mut now, 2), [0, 160]);
    }

    /// A client that came before the exchange had lost it so often that, when that was there
    /// and its queue a moment later, it waited sixteen pauses to try again.
    #[test]
    fn what_no_queue_took_is_sent_again_after_one_pause() {
        let mut now = Instant::now();
        let mut open = open_with_one(now);
        assert_eq!(pauses(&mut open, &mut now, 5), [10, 20, 40, 80, 160]);
        for _ in 0..3 {
            open.not_taken(&["A-1".to_owned()]);
            assert_eq!(pauses(&mut open, &mut now, 1), [10]);
        }
        assert_eq!(pauses(&mut open, &mut now, 2), [10, 20]);
    }
}
