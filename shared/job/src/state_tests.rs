use std::collections::HashSet;

use super::*;

#[test]
fn no_step_is_listed_twice() {
    let mut seen = HashSet::new();
    for t in TRANSITIONS {
        assert!(seen.insert((t.from, t.event)), "{t:?}");
    }
}

#[test]
fn every_state_can_be_reached() {
    let mut reached: HashSet<State> = HashSet::new();
    loop {
        let before = reached.len();
        for t in TRANSITIONS {
            if t.from.is_none_or(|from| reached.contains(&from)) {
                reached.insert(t.to);
            }
        }
        if reached.len() == before {
            break;
        }
    }
    assert_eq!(reached.len(), State::ALL.len());
}

#[test]
fn every_state_leads_to_an_end_and_the_four_ends_absorb() {
    for state in State::ALL {
        let mut reached = HashSet::from([*state]);
        for _ in State::ALL {
            for t in TRANSITIONS {
                if t.from.is_some_and(|from| reached.contains(&from)) {
                    reached.insert(t.to);
                }
            }
        }
        assert!(reached.iter().any(|s| s.is_terminal()), "{state} never ends");
    }
    let ends: Vec<_> = State::terminal().map(State::as_str).collect();
    assert_eq!(ends, ["succeeded", "failed", "cancelled", "expired"]);
    for end in State::terminal() {
        for event in Event::ALL {
            assert!(next(Some(end), *event).is_err());
        }
    }
}

#[test]
fn every_state_that_is_not_final_can_be_cancelled_and_can_expire() {
    for state in State::ALL.iter().copied().filter(|s| !s.is_terminal()) {
        assert_eq!(next(Some(state), Event::Cancelled), Ok(State::Cancelled));
        assert_eq!(next(Some(state), Event::Expired), Ok(State::Expired));
    }
}

#[test]
fn the_whole_matrix_of_states_and_events_agrees_with_the_table() {
    let sources = std::iter::once(None).chain(State::ALL.iter().copied().map(Some));
    let mut legal = 0;
    for from in sources {
        for event in Event::ALL {
            match next(from, *event) {
                Ok(to) => {
                    legal += 1;
                    assert!(TRANSITIONS.contains(&Transition { from, event: *event, to }));
                }
                Err(refused) => assert_eq!(refused, IllegalTransition { from, event: *event }),
            }
        }
    }
    assert_eq!(legal, TRANSITIONS.len());
}

#[test]
fn words_are_read_back_and_no_two_are_alike() {
    for state in State::ALL {
        assert_eq!(state.as_str().parse::<State>().as_ref(), Ok(state));
    }
    for event in Event::ALL {
        assert_eq!(event.as_str().parse::<Event>().as_ref(), Ok(event));
    }
    assert!("Queued".parse::<State>().is_err());
    let words: HashSet<_> = State::ALL.iter().map(|s| s.as_str()).collect();
    assert_eq!(words.len(), State::ALL.len());
}

#[test]
fn a_refused_step_says_so_in_words() {
    let refused = next(Some(State::Succeeded), Event::Started).unwrap_err();
    assert_eq!(refused.to_string(), "a job that is succeeded cannot be started");
}
