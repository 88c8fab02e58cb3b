//! When a failed attempt is tried again.

use std::time::Duration;

/// How often, and after which pauses. The pause doubles with each attempt, up to a limit, and is
/// then shortened by up to half at random, so that jobs which failed together do not return
/// together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How many attempts a job gets, the first one included; at least 1.
    pub attempts_max: u32,
    /// The pause after the first attempt.
    pub backoff_first: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts_max: 5,
            backoff_first: Duration::from_secs(1),
            backoff_max: Duration::from_secs(600),
        }
    }
}

impl RetryPolicy {
    /// The pause after attempt number `attempt` (from 1), given a random number from 0 to 1.
    pub fn backoff(&self, attempt: u32, random: f64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        let whole = self.backoff_first.saturating_mul(1 << doublings).min(self.backoff_max);
        whole.mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0)
    }

    /// Whether another attempt follows attempt number `attempt`.
    pub fn has_another(&self, attempt: u32) -> bool {
        attempt < self.attempts_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_the_limit_and_chance_takes_at_most_half() {
        let policy = RetryPolicy {
            attempts_max: 3,
            backoff_first: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
        };
        let whole: Vec<_> = (1..=8).map(|n| policy.backoff(n, 0.0).as_secs()).collect();
        assert_eq!(whole, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(policy.backoff(2, 1.0), Duration::from_secs(1));
        assert_eq!(policy.backoff(u32::MAX, 0.0), Duration::from_secs(60));
    }

    #[test]
    fn three_attempts_are_three_starts() {
        let policy = RetryPolicy { attempts_max: 3, ..RetryPolicy::default() };
        assert!(policy.has_another(1) && policy.has_another(2));
        assert!(!policy.has_another(3));
    }
}
