//! What a sequence is made of: operations that name few things, so that they meet.

use job::{Event, State};

/// One of the few jobs: see [`super::cast::name`].
pub(super) type Name = usize;

/// An instant, seen from the beginning of the sequence.
#[derive(Debug, Clone, Copy)]
pub(super) enum When {
    Past,
    Far,
}

/// A fence: that of the last run, or one by its number and nonce.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fence {
    Current,
    Of(u8, u8),
}

/// A dispatch number: the one that is out, or another.
#[derive(Debug, Clone, Copy)]
pub(super) enum Number {
    Current,
    Other(i8),
}

/// Who speaks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Speaker {
    Server,
    Run(Fence),
    Outside(u8),
}

#[derive(Debug, Clone)]
pub(super) enum First {
    Queued,
    Scheduled(When),
    Parked(When),
}

/// What a client asks for beside type and body.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) notify: &'static str,
    pub(super) notify_to: Option<&'static str>,
    pub(super) reply_to: Option<&'static str>,
    pub(super) correlation_id: Option<&'static str>,
    pub(super) batch: bool,
    pub(super) deadline: Option<When>,
    pub(super) keep_ms: Option<u64>,
    pub(super) max_attempts: Option<u32>,
    pub(super) tags: &'static [&'static str],
}

/// A change, in the forms in which the server and the workers make them, or any other.
#[derive(Debug, Clone)]
pub(super) struct Changing {
    pub(super) event: Event,
    pub(super) speaker: Speaker,
    pub(super) dispatch: Option<Number>,
    pub(super) except_from: Option<State>,
    pub(super) unless: store::change::Unless,
    pub(super) redispatch: bool,
    pub(super) timer: Timer,
    pub(super) detail: &'static str,
    pub(super) set: Vec<(&'static str, &'static str)>,
    pub(super) delete: &'static [&'static str],
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Timer {
    None,
    After(u64),
    At(When),
    NowIfDetached,
    LeaseEnd,
}

#[derive(Debug, Clone)]
pub(super) enum Settled {
    Delivered,
    Later(u64),
    Undeliverable(&'static str),
}

#[derive(Debug, Clone)]
pub(super) enum Op {
    Accept {
        name: Name,
        body: u8,
        first: First,
        nonce: u8,
        redelivered: bool,
        too_old: bool,
        dispatch: u64,
        duplicate_age_ms: Option<u64>,
        unfinished_max: u64,
        asked: Asked,
    },
    Refuse {
        name: Name,
        keep_ms: u64,
    },
    Void {
        name: Name,
        keep_ms: u64,
        though_refused: bool,
    },
    Replay {
        name: Name,
    },
    Claim {
        name: Name,
        dispatch: Number,
        redelivered: bool,
        owner: u8,
        nonce: u8,
        lease_ms: u64,
        idle: bool,
        attempts_max: u32,
        alone_after: u32,
        not_here: bool,
    },
    Beat {
        name: Name,
        fence: Fence,
        lease_ms: u64,
        detach: bool,
    },
    Mint {
        name: Name,
        fence: Fence,
        token: u8,
    },
    Stage {
        name: Name,
        speaker: Speaker,
        stage: &'static str,
    },
    Progress {
        name: Name,
        speaker: Speaker,
        percent: u8,
        note: &'static str,
    },
    Change {
        name: Name,
        change: Changing,
    },
    Due {
        most: usize,
    },
    Untimed {
        name: Name,
        seen_at: When,
    },
    Redispatch {
        name: Name,
        seen: Number,
        again_after_ms: u64,
        gone: Option<&'static str>,
    },
    Dispatched {
        name: Name,
        number: Number,
    },
    Parked {
        body: u8,
        most: usize,
    },
    Subscribe {
        name: Name,
        notify: Option<&'static str>,
        notify_to: Option<&'static str>,
        redeliver: bool,
        otherwise_to: &'static str,
    },
    Wait {
        name: Name,
        limit_ms: u64,
        past_revision: Option<u64>,
        past_epoch: Option<u64>,
        correlation_id: Option<&'static str>,
        history: bool,
    },
    EndWaits {
        most: usize,
    },
    Receipt {
        name: Name,
        correlation_id: Option<&'static str>,
    },
    ReadOutbox {
        most: usize,
    },
    TakeOver,
    Settle {
        which: usize,
        outcome: Settled,
    },
    PutOffDue {
        hold_ms: u64,
    },
    Keep,
    Retire {
        name: Name,
        horizon_ms: u64,
        at_once: bool,
    },
    DueToRetire {
        most: usize,
    },
    List {
        client: usize,
        tag: Option<&'static str>,
        state: Option<State>,
        limit: usize,
    },
    Read {
        name: Name,
    },
    Announce {
        body: u8,
    },
    /// Several of one kind in one call.
    Together(Vec<Op>),
    /// The store has another run id, so a stretch of time may be lost.
    Reopen,
    /// So many stages, one after another: a timeline that is full.
    Chatter {
        name: Name,
        stages: usize,
    },
    /// So many requests that wait.
    Crowd {
        name: Name,
        requests: usize,
    },
}
