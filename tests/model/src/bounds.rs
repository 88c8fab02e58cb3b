//! How far a search goes, and which mistake it makes on purpose.

/// How often each thing may happen that need not. A search is exhaustive within its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Clients, each with one job; at most two.
    pub clients: u8,
    /// Worker processes; at most two.
    pub workers: u8,
    /// Deliveries that the registrar holds.
    pub prefetch: usize,
    /// Attempts of a job.
    pub attempts: u8,
    /// What may still happen.
    pub budget: Budget,
}

/// Faults, and what else happens at most so often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Budget {
    /// Submissions sent again while the first is still under way.
    pub copies: u8,
    /// Publishes that are lost on the way.
    pub drops: u8,
    /// Questions `status`.
    pub asks: u8,
    /// Questions `status` with `void_if_unknown`.
    pub voids: u8,
    /// Requests `cancel`.
    pub cancels: u8,
    /// Deliveries that a crash of the inquiry doubles, and work messages that come twice.
    pub repeats: u8,
    /// Work messages that the broker drops.
    pub dead_letters: u8,
    /// Processes that die: registrar, worker, scheduler, notifier, client.
    pub crashes: u8,
    /// Connections that break while their process lives and goes on.
    pub disconnects: u8,
    /// Calls of the store that fail, before or after the script has run.
    pub hiccups: u8,
    /// Leases that end though their owner lives.
    pub lapses: u8,
    /// Attempts that fail and are tried again.
    pub errors: u8,
    /// Runs that are detached by their own worker.
    pub detaches: u8,
    /// Runs that a worker gives back.
    pub give_backs: u8,
    /// How often the store is rolled back to what is on its disk.
    pub losses: u8,
    /// How often the disk catches up with the memory before.
    pub syncs: u8,
}

impl Bounds {
    /// One client and its job, nothing that need not happen.
    pub fn of(budget: Budget) -> Self {
        Self { clients: 1, workers: 1, prefetch: 2, attempts: 2, budget }
    }
}

/// A mistake that somebody could build in. Each must be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mistake {
    /// The registrar acknowledges before it has decided.
    LineAckedFirst,
    /// To hand over, the registrar cancels its consumer and keeps what it holds.
    ConsumerCancelled,
    /// A negative is said while something in front of the question is undecided.
    NegativeTooSoon,
    /// The worker acknowledges when it starts.
    WorkAckedFirst,
    /// The fence is a number without a nonce.
    FenceWithoutNonce,
    /// Whoever writes last is right.
    NoFence,
    /// A claim honours any dispatch number.
    AnyDispatch,
    /// A redelivered submission is a duplicate and nothing else.
    NotDispatchedAgain,
    /// An entry leaves the outbox before it is confirmed.
    OutboxFirst,
    /// A loss of the store goes unnoticed.
    LossUnnoticed,
    /// An inquiry process says `unknown` itself.
    LinePassedBy,
    /// A voided id is written over.
    VoidForgotten,
    /// The scheduler drops payload and timer before the broker has confirmed.
    PayloadDroppedFirst,
    /// A second publish of the same id is a second job.
    NoDuplicates,
    /// A redelivered submission is sent again under the next number. A registrar that is no longer
    /// the active one takes it and dies before it has sent anything: the message that is out is
    /// worthless.
    NumberInVain,
    /// A worker whose right was taken acknowledges its message. If the one that took it had lost
    /// its own delivery in the meantime, its death is noticed by nobody.
    RefusedAndAcked,
    /// The scheduler hears of its confirm late: the message has been claimed, detached and given
    /// back meanwhile, under the same number, and the job waits for the scheduler again. The late
    /// word takes body and timer away.
    LateConfirm,
    /// A second loss takes away the record of the first, and the epoch that it began is given once
    /// more: two changes have one epoch and revision.
    EpochGivenTwice,
    /// A submission that is sent again after a loss makes its job look as if something had been
    /// heard of it, and is lost on the way.
    EpochInVain,
    /// The broker drops the message of a run, and nobody watches the lease: if its worker is dead,
    /// it runs for ever.
    DroppedUnwatched,
}

impl Mistake {
    /// Every mistake.
    pub const ALL: &[Self] = &[
        Self::LineAckedFirst,
        Self::ConsumerCancelled,
        Self::NegativeTooSoon,
        Self::WorkAckedFirst,
        Self::FenceWithoutNonce,
        Self::NoFence,
        Self::AnyDispatch,
        Self::NotDispatchedAgain,
        Self::OutboxFirst,
        Self::LossUnnoticed,
        Self::LinePassedBy,
        Self::VoidForgotten,
        Self::PayloadDroppedFirst,
        Self::NoDuplicates,
        Self::NumberInVain,
        Self::RefusedAndAcked,
        Self::LateConfirm,
        Self::EpochGivenTwice,
        Self::EpochInVain,
        Self::DroppedUnwatched,
    ];
}
