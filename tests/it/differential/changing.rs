//! Changes: in the forms in which the server and the workers make them, and in any other.

use job::{Event, State};
use proptest::prelude::*;
use proptest::strategy::{BoxedStrategy, Union};
use store::change::Unless;
use store::lost::{LEASE, OF_THE_RUN, OF_THE_RUN_AND_PAYLOAD};

use super::cast::LONG_MS;
use super::generate::{event, fence, number, on, speaker, timer, unless};
use super::operation::{Changing, Fence, Name, Number, Op, Speaker, Timer};

const HANDED_OVER: &[&str] = &["owner", "lease_until", "detached", "alone", "lost"];

fn of(event: Event, speaker: Speaker, delete: &'static [&'static str]) -> Changing {
    Changing {
        event,
        speaker,
        dispatch: None,
        except_from: None,
        unless: Unless::Nothing,
        redispatch: false,
        timer: Timer::None,
        detail: "",
        set: Vec::new(),
        delete,
    }
}

fn with_body(mut change: Changing) -> Changing {
    change.set.push(("payload", "body"));
    change
}

/// What a worker records of a run, with its fence.
fn of_a_run(which: u8, fence: Fence) -> Changing {
    let run = Speaker::Run(fence);
    let failed = |event, mut change: Changing| {
        change.set.push(("error", "no stock"));
        with_body(Changing { event, detail: "no stock", ..change })
    };
    match which {
        0 => Changing {
            set: vec![("result", "{\"n\":1}")],
            ..of(Event::Succeeded, run, OF_THE_RUN_AND_PAYLOAD)
        },
        1 => failed(Event::Failed, of(Event::Failed, run, OF_THE_RUN)),
        2 => of(Event::Cancelled, run, OF_THE_RUN_AND_PAYLOAD),
        3 | 4 => Changing {
            timer: Timer::After(LONG_MS * u64::from(which - 3)),
            unless: Unless::CancelAsked,
            ..failed(Event::Errored, of(Event::Errored, run, OF_THE_RUN))
        },
        5 => Changing {
            detail: "its deadline passed",
            ..of(Event::Expired, run, OF_THE_RUN_AND_PAYLOAD)
        },
        6 | 7 => Changing {
            timer: if which == 6 { Timer::None } else { Timer::After(LONG_MS) },
            ..with_body(of(Event::HandedOver, run, HANDED_OVER))
        },
        _ => Changing {
            timer: Timer::NowIfDetached,
            set: vec![("attempt", "0")],
            ..of(Event::GivenBack, run, LEASE)
        },
    }
}

/// What the server does by itself, for a client, or for somebody outside.
fn of_the_server(which: u8, number: Number) -> Changing {
    let server = |event, delete| of(event, Speaker::Server, delete);
    let taken = |change: Changing| Changing {
        redispatch: true,
        timer: Timer::After(LONG_MS),
        set: [change.set.clone(), vec![("queue", "default")]].concat(),
        ..change
    };
    let waiting: &[&str] = &["payload", "due_at"];
    match which {
        0 => Changing {
            timer: Timer::LeaseEnd,
            set: vec![("cancel_requested", "1")],
            ..server(Event::CancelAsked, &[])
        },
        1 => Changing { except_from: Some(State::Running), ..server(Event::Cancelled, waiting) },
        2 => taken(Changing { dispatch: Some(number), ..server(Event::Due, &[]) }),
        3 => taken(server(Event::Released, &["parked_reason"])),
        4 => Changing {
            timer: Timer::After(LONG_MS),
            dispatch: Some(number),
            set: vec![("parked_reason", "full"), ("payload", "body")],
            detail: "full",
            ..server(Event::Unserved, &[])
        },
        5 => Changing { dispatch: Some(number), ..server(Event::Expired, OF_THE_RUN_AND_PAYLOAD) },
        6 | 7 => taken(Changing {
            unless: Unless::Unwatched,
            set: vec![("lost", if which == 6 { "1" } else { "3" })],
            ..of(Event::Lost, Speaker::Run(Fence::Current), LEASE)
        }),
        8 => Changing {
            except_from: Some(State::Running),
            set: vec![("result", "2")],
            ..of(Event::Succeeded, Speaker::Outside(0), waiting)
        },
        _ => Changing {
            except_from: Some(State::Running),
            set: vec![("error", "returned")],
            ..of(Event::Failed, Speaker::Outside(1), &["due_at"])
        },
    }
}

/// As the program makes them.
pub(super) fn usual() -> BoxedStrategy<Op> {
    let run = (0..9u8, fence()).prop_map(|(which, fence)| of_a_run(which, fence));
    let server = (0..10u8, number()).prop_map(|(which, number)| of_the_server(which, number));
    Union::new([on(run), on(server)]).boxed()
}

/// The outcome of the present run of a job.
pub(super) fn outcome(name: Name) -> BoxedStrategy<Op> {
    let outcome = (0..9u8).prop_map(|which| of_a_run(which, Fence::Current));
    outcome.prop_map(move |change| Op::Change { name, change }).boxed()
}

/// As the store would take them: only that what dispatches a job gives it a new number, and what
/// may end a run leaves it no owner.
pub(super) fn any_change() -> BoxedStrategy<Op> {
    let except_from = prop_oneof![4 => Just(None), 1 => Just(Some(State::Running))];
    let of = (
        event(),
        speaker(),
        prop::option::of(number()),
        except_from,
        unless(),
        any::<bool>(),
        timer(),
    );
    on(of.prop_map(|(event, speaker, dispatch, except_from, unless, redispatch, timer)| Changing {
        dispatch,
        except_from,
        unless,
        delete: if goes_on(event) { &[] } else { LEASE },
        redispatch: redispatch || matches!(event, Event::Due | Event::Released | Event::Lost),
        timer,
        ..self::of(event, speaker, &[])
    }))
}

fn goes_on(event: Event) -> bool {
    job::state::steps(event).any(|(from, to)| from == State::Running && to == State::Running)
}
