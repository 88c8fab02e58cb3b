//! Mistakes that a test build can be made to make: the campaign must notice every one of them.

macro_rules! bugs {
    ($($bug:ident $name:literal $what:literal)*) => {
        /// A mistake that this system was built not to make.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Bug {
            $(#[doc = $what] $bug,)*
        }

        impl Bug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$bug,)*];

            /// Its name in `FAULTS_SEEDED_BUG`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$bug => $name,)* }
            }

            /// What is done wrong.
            pub const fn what(self) -> &'static str {
                match self { $(Self::$bug => $what,)* }
            }
        }
    };
}

bugs! {
    AckBeforeRecord "ack-before-record"
        "The registrar acknowledges deliveries before they are recorded."
    LossUnnoticed "loss-unnoticed"
        "A store that came back with another run id is taken for the same: no new epoch."
    NoFence "no-fence"
        "A superseded attempt may write."
    OwnClock "own-clock"
        "The lease of a run ends by the worker's clock, which is an hour behind."
    NoDuplicates "no-duplicates"
        "A duplicate is accepted as a new job."
    ClearedByConfirm "cleared-by-confirm"
        "The journal closes a submission when the broker confirms it, without a receipt."
    NoSync "no-sync"
        "The journal is not synced."
    AnyConfirm "any-confirm"
        "A refused publication is taken for a confirmed one."
    ReturnByPosition "return-by-position"
        "A returned message is blamed on the publication whose confirm came next."
    DeafConsumer "deaf-consumer"
        "A consumer whose channel was closed goes on waiting."
    OutboxFirst "outbox-first"
        "An entry leaves the outbox before its message is confirmed."
    GuessedUnknown "guessed-unknown"
        "A question that the store cannot answer is answered `unknown`."
}
