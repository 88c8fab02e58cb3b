//! How sequences are made: which operations, how often, with which few values.

use job::{Event, State};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::{BoxedStrategy, Union};
use store::change::Unless;

use super::cast::{ENDS, EVERYTHING, LONG_MS, NAMES, REPORTS};
use super::operation::{
    Asked, Changing, Fence, First, Name, Number, Op, Settled, Speaker, Timer, When,
};

/// Sequences of up to so many operations; most begin with a job, with one that runs, or with some
/// that end.
pub(super) fn sequences(most: usize) -> impl Strategy<Value = Vec<Op>> {
    let first = || Just(0usize).boxed();
    let nothing = Just(Vec::new()).boxed();
    let job = accept_of(first()).prop_map(|accept| vec![accept]);
    let run = (accept_of(first()), claim_of(first())).prop_map(|(one, two)| vec![one, two]);
    let ended = (accept_of(first()), claim_of(first()), super::changing::outcome(0));
    let ended = ended.prop_map(|(one, two, three)| vec![one, two, three]);
    let beginning = prop_oneof![2 => nothing, 4 => job, 9 => run, 5 => ended, 2 => several()];
    (beginning, vec(operation(), 1..=most)).prop_map(|(first, rest)| [first, rest].concat())
}

fn operation() -> BoxedStrategy<Op> {
    let weighted = vec![
        (16, accept()),
        (2, (name(), select(vec![0, LONG_MS])).prop_map(refuse).boxed()),
        (2, (name(), select(vec![0, LONG_MS]), any::<bool>()).prop_map(void).boxed()),
        (5, name().prop_map(|name| Op::Replay { name }).boxed()),
        (18, claim()),
        (6, beat()),
        (4, (name(), fence(), 0..3u8).prop_map(mint).boxed()),
        (6, (name(), speaker(), stage()).prop_map(staged).boxed()),
        (5, (name(), speaker(), select(vec![0, 50, 100]), note()).prop_map(progressed).boxed()),
        (24, super::changing::usual()),
        (6, super::changing::any_change()),
        (3, (1..4usize).prop_map(|most| Op::Due { most }).boxed()),
        (2, (name(), when()).prop_map(|(name, seen_at)| Op::Untimed { name, seen_at }).boxed()),
        (3, redispatch()),
        (3, (name(), number()).prop_map(|(name, number)| Op::Dispatched { name, number }).boxed()),
        (1, (body(), 1..3usize).prop_map(|(body, most)| Op::Parked { body, most }).boxed()),
        (5, subscribe()),
        (7, wait()),
        (8, (1..3usize).prop_map(|most| Op::EndWaits { most }).boxed()),
        (2, (name(), id()).prop_map(|(name, id)| Op::Receipt { name, correlation_id: id }).boxed()),
        (10, (1..4usize).prop_map(|most| Op::ReadOutbox { most }).boxed()),
        (1, Just(Op::TakeOver).boxed()),
        (14, settle()),
        (3, select(vec![0, LONG_MS]).prop_map(|hold_ms| Op::PutOffDue { hold_ms }).boxed()),
        (2, Just(Op::Keep).boxed()),
        (5, retire()),
        (1, (1..3usize).prop_map(|most| Op::DueToRetire { most }).boxed()),
        (2, list()),
        (1, name().prop_map(|name| Op::Read { name }).boxed()),
        (1, body().prop_map(|body| Op::Announce { body }).boxed()),
        (8, together()),
    ];
    let rarely = vec![
        (1200, Union::new_weighted(weighted).boxed()),
        (3, Just(Op::Reopen).boxed()),
        (3, rare()),
    ];
    Union::new_weighted(rarely).boxed()
}

/// What takes many calls.
fn rare() -> BoxedStrategy<Op> {
    let chatter = (name(), 30..80usize).prop_map(|(name, stages)| Op::Chatter { name, stages });
    let crowd = name().prop_map(|name| Op::Crowd { name, requests: 101 });
    prop_oneof![3 => chatter, 1 => crowd].boxed()
}

/// Mostly the first one.
pub(super) fn name() -> BoxedStrategy<Name> {
    prop_oneof![8 => Just(0usize), 1 => Just(1usize), 2 => 0..NAMES].boxed()
}

fn body() -> impl Strategy<Value = u8> {
    prop_oneof![5 => Just(0u8), 1 => Just(1u8)]
}

pub(super) fn when() -> impl Strategy<Value = When> {
    select(vec![When::Past, When::Far])
}

pub(super) fn number() -> impl Strategy<Value = Number> {
    prop_oneof![6 => Just(Number::Current), 1 => (-1..2i8).prop_map(Number::Other)]
}

pub(super) fn fence() -> impl Strategy<Value = Fence> {
    prop_oneof![5 => Just(Fence::Current), 2 => (0..3u8, 0..4u8).prop_map(|(n, o)| Fence::Of(n, o))]
}

pub(super) fn speaker() -> impl Strategy<Value = Speaker> {
    prop_oneof![
        1 => Just(Speaker::Server),
        8 => fence().prop_map(Speaker::Run),
        3 => (0..3u8).prop_map(Speaker::Outside),
    ]
}

fn stage() -> impl Strategy<Value = &'static str> {
    select(vec!["", "packed", "sent", "two\nlines"])
}

fn note() -> impl Strategy<Value = &'static str> {
    select(vec!["", "3 of 5", "almost "])
}

fn id() -> impl Strategy<Value = Option<&'static str>> {
    select(vec![None, Some("c-1"), Some("c-2")])
}

fn queue() -> impl Strategy<Value = Option<&'static str>> {
    let direct = "amq.rabbitmq.reply-to.g1h2";
    prop_oneof![3 => Just(None), 3 => Just(Some("reply.shop.a")), 1 => Just(Some(direct))]
}

fn words() -> impl Strategy<Value = &'static str> {
    select(vec!["", EVERYTHING, ENDS, REPORTS])
}

fn accept() -> BoxedStrategy<Op> {
    accept_of(name())
}

fn accept_of(name: BoxedStrategy<Name>) -> BoxedStrategy<Op> {
    let first = prop_oneof![
        6 => Just(First::Queued),
        1 => when().prop_map(First::Scheduled),
        1 => when().prop_map(First::Parked),
    ];
    let rarely = || prop::bool::weighted(0.1);
    let asked = (
        (words(), select(vec![None, Some("reply.shop.b")]), queue(), id(), any::<bool>()),
        prop_oneof![6 => Just(None), 1 => when().prop_map(Some)],
        select(vec![None, None, Some(0), Some(LONG_MS)]),
        select(vec![None, Some(2)]),
        select(vec![&[][..], &["x"], &["x", "y"]]),
    );
    let asked = asked.prop_map(|(of_the_answers, deadline, keep_ms, max_attempts, tags)| {
        let (notify, notify_to, reply_to, correlation_id, batch) = of_the_answers;
        Asked {
            notify,
            notify_to,
            reply_to,
            correlation_id,
            batch,
            deadline,
            keep_ms,
            max_attempts,
            tags,
        }
    });
    let limits =
        (select(vec![None, Some(0), Some(LONG_MS)]), prop_oneof![3 => Just(0u64), 1 => Just(1u64)]);
    let of = (name, body(), first, 0..3u8, rarely(), rarely(), 1..3u64, limits, asked);
    of.prop_map(|(name, body, first, nonce, redelivered, too_old, dispatch, limits, asked)| {
        let (duplicate_age_ms, unfinished_max) = limits;
        Op::Accept {
            name,
            body,
            first,
            nonce,
            redelivered,
            too_old,
            dispatch,
            duplicate_age_ms,
            unfinished_max,
            asked,
        }
    })
    .boxed()
}

fn refuse((name, keep_ms): (Name, u64)) -> Op {
    Op::Refuse { name, keep_ms }
}

fn void((name, keep_ms, though_refused): (Name, u64, bool)) -> Op {
    Op::Void { name, keep_ms, though_refused }
}

/// A lease that has ended when it begins, or one that outlasts the sequence.
fn lease() -> impl Strategy<Value = u64> {
    select(vec![0, LONG_MS])
}

fn claim() -> BoxedStrategy<Op> {
    claim_of(name())
}

fn claim_of(name: BoxedStrategy<Name>) -> BoxedStrategy<Op> {
    let often = || prop::bool::weighted(0.7);
    let bounds = (1..6u32, 1..4u32);
    (name, number(), any::<bool>(), 0..2u8, 0..6u8, lease(), often(), bounds, any::<bool>())
        .prop_map(
            |(name, dispatch, redelivered, owner, nonce, lease_ms, idle, bounds, not_here)| {
                let (attempts_max, alone_after) = bounds;
                Op::Claim {
                    name,
                    dispatch,
                    redelivered,
                    owner,
                    nonce,
                    lease_ms,
                    idle,
                    attempts_max,
                    alone_after,
                    not_here,
                }
            },
        )
        .boxed()
}

fn beat() -> BoxedStrategy<Op> {
    (name(), fence(), lease(), prop::bool::weighted(0.4))
        .prop_map(|(name, fence, lease_ms, detach)| Op::Beat { name, fence, lease_ms, detach })
        .boxed()
}

/// Some jobs that come, run and end together.
fn several() -> BoxedStrategy<Vec<Op>> {
    let of = |step: fn(Name) -> BoxedStrategy<Op>| {
        let each: Vec<_> = (0..NAMES).map(step).collect();
        each.prop_map(Op::Together)
    };
    let accepts = of(|name| accept_of(Just(name).boxed()));
    let claims = of(|name| claim_of(Just(name).boxed()));
    (accepts, claims, of(super::changing::outcome))
        .prop_map(|(accepts, claims, ends)| vec![Op::Keep, accepts, claims, ends])
        .boxed()
}

/// Jobs in one call, the same one more than once too.
fn together() -> BoxedStrategy<Op> {
    let of = |kind: BoxedStrategy<Op>| vec(kind, 2..4);
    let kinds = prop_oneof![of(accept()), of(claim()), of(beat()), of(super::changing::usual())];
    kinds.prop_map(Op::Together).boxed()
}

fn mint((name, fence, token): (Name, Fence, u8)) -> Op {
    Op::Mint { name, fence, token }
}

fn staged((name, speaker, stage): (Name, Speaker, &'static str)) -> Op {
    Op::Stage { name, speaker, stage }
}

fn progressed((name, speaker, percent, note): (Name, Speaker, u8, &'static str)) -> Op {
    Op::Progress { name, speaker, percent, note }
}

fn redispatch() -> BoxedStrategy<Op> {
    let gone = select(vec![None, Some(""), Some("body")]);
    (name(), number(), select(vec![0, LONG_MS, 3 * LONG_MS]), gone)
        .prop_map(|(name, seen, again_after_ms, gone)| Op::Redispatch {
            name,
            seen,
            again_after_ms,
            gone,
        })
        .boxed()
}

fn subscribe() -> BoxedStrategy<Op> {
    let to = select(vec![None, None, Some("reply.shop.a"), Some("reply.shop.c")]);
    (name(), prop::option::of(words()), to, any::<bool>(), select(vec!["", "reply.shop.d"]))
        .prop_map(|(name, notify, notify_to, redeliver, otherwise_to)| Op::Subscribe {
            name,
            notify,
            notify_to,
            redeliver,
            otherwise_to,
        })
        .boxed()
}

fn wait() -> BoxedStrategy<Op> {
    let past = (prop::option::of(0..5u64), select(vec![None, Some(0), Some(1), Some(1 << 20)]));
    (name(), lease(), past, id(), any::<bool>())
        .prop_map(|(name, limit_ms, (past_revision, past_epoch), correlation_id, history)| {
            Op::Wait { name, limit_ms, past_revision, past_epoch, correlation_id, history }
        })
        .boxed()
}

fn settle() -> BoxedStrategy<Op> {
    let outcome = prop_oneof![
        3 => Just(Settled::Delivered),
        2 => lease().prop_map(Settled::Later),
        2 => select(vec!["no such queue", "full"]).prop_map(Settled::Undeliverable),
    ];
    (0..4usize, outcome).prop_map(|(which, outcome)| Op::Settle { which, outcome }).boxed()
}

fn retire() -> BoxedStrategy<Op> {
    (name(), prop_oneof![1 => Just(0), 4 => Just(LONG_MS)], any::<bool>())
        .prop_map(|(name, horizon_ms, at_once)| Op::Retire { name, horizon_ms, at_once })
        .boxed()
}

fn list() -> BoxedStrategy<Op> {
    let state = select(vec![None, None, Some(State::Queued), Some(State::Running)]);
    (0..2usize, select(vec![None, Some("x"), Some("y")]), state, 1..4usize)
        .prop_map(|(client, tag, state, limit)| Op::List { client, tag, state, limit })
        .boxed()
}

/// The events of the table, and what they give way to. Only a claim starts a run.
pub(super) fn event() -> impl Strategy<Value = Event> {
    let is_of_a_change = |event: &Event| *event != Event::Started;
    select(Event::ALL.iter().copied().filter(is_of_a_change).collect::<Vec<_>>())
}

pub(super) fn unless() -> impl Strategy<Value = Unless> {
    select(vec![Unless::Nothing, Unless::CancelAsked, Unless::Leased, Unless::Unwatched])
}

pub(super) fn timer() -> impl Strategy<Value = Timer> {
    prop_oneof![
        Just(Timer::None),
        select(vec![0, LONG_MS, u64::MAX]).prop_map(Timer::After),
        when().prop_map(Timer::At),
        Just(Timer::NowIfDetached),
        Just(Timer::LeaseEnd),
    ]
}

/// A change of a job.
pub(super) fn on(change: impl Strategy<Value = Changing> + 'static) -> BoxedStrategy<Op> {
    (name(), change).prop_map(|(name, change)| Op::Change { name, change }).boxed()
}
