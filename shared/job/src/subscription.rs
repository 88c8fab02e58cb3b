//! Which changes a client wants to be told of, without asking.

use std::fmt;

use crate::state::State;

/// A set of states, and of the two kinds of change inside a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Subscription(u16);

/// A word that names no change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no change to be told of; allowed are the states, terminal, stage, progress and *"
)]
pub struct UnknownChange(String);

impl Subscription {
    /// The word for a reported stage.
    pub const STAGE: &str = "stage";
    /// The word for reported progress.
    pub const PROGRESS: &str = "progress";
    /// The word for every final state.
    pub const TERMINAL: &str = "terminal";
    /// The word for everything.
    pub const EVERYTHING: &str = "*";

    const STAGE_BIT: u16 = 1 << State::ALL.len();
    const PROGRESS_BIT: u16 = Self::STAGE_BIT << 1;

    /// No change at all.
    pub const NONE: Self = Self(0);

    /// Every final state.
    pub fn terminal() -> Self {
        State::terminal().fold(Self::NONE, Self::and)
    }

    /// Every change.
    pub fn everything() -> Self {
        Self(Self::PROGRESS_BIT * 2 - 1)
    }

    /// The same, and this state too.
    #[must_use]
    pub fn and(self, state: State) -> Self {
        Self(self.0 | bit(state))
    }

    /// Reads comma-separated words: states, `terminal`, `stage`, `progress`, `*`. Blanks around a
    /// word and empty words do not count.
    ///
    /// # Errors
    /// [`UnknownChange`] names the first word that is none of these.
    pub fn parse(words: &str) -> Result<Self, UnknownChange> {
        let mut wanted = Self::NONE;
        for word in words.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            wanted.0 |= match word {
                Self::STAGE => Self::STAGE_BIT,
                Self::PROGRESS => Self::PROGRESS_BIT,
                Self::TERMINAL => Self::terminal().0,
                Self::EVERYTHING => Self::everything().0,
                state => bit(state.parse::<State>().map_err(|_| UnknownChange(word.to_owned()))?),
            };
        }
        Ok(wanted)
    }

    /// Whether nothing is wanted.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether a job's arrival in this state is wanted.
    pub fn wants(self, state: State) -> bool {
        self.0 & bit(state) != 0
    }
}

fn bit(state: State) -> u16 {
    1 << (state as u16)
}

/// The words, each spelled out, in the order of a job's life: the form that is stored.
impl fmt::Display for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let states = State::ALL.iter().filter(|s| self.wants(**s)).map(|s| s.as_str());
        let stage = (self.0 & Self::STAGE_BIT != 0).then_some(Self::STAGE);
        let progress = (self.0 & Self::PROGRESS_BIT != 0).then_some(Self::PROGRESS);
        for (n, word) in states.chain(stage).chain(progress).enumerate() {
            if n > 0 {
                f.write_str(",")?;
            }
            f.write_str(word)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_of_changes_is_read_back_from_its_words() {
        for bits in 0..=Subscription::everything().0 {
            let subscription = Subscription(bits);
            assert_eq!(Subscription::parse(&subscription.to_string()), Ok(subscription));
        }
    }

    #[test]
    fn terminal_and_star_are_spelled_out() {
        let terminal = Subscription::parse(" terminal ,running").unwrap();
        assert_eq!(terminal.to_string(), "running,succeeded,failed,cancelled,expired");
        let all = Subscription::parse("*").unwrap();
        assert!(State::ALL.iter().all(|state| all.wants(*state)));
        assert!(all.to_string().ends_with("expired,stage,progress"));
        assert!(Subscription::parse("").unwrap().is_empty());
    }

    #[test]
    fn an_unknown_word_is_named() {
        let refused = Subscription::parse("running,done").unwrap_err();
        assert!(refused.to_string().starts_with("\"done\" is no change"));
    }
}
