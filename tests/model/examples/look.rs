use counterfoil_protocol_model::{Bounds, Budget, Protocol, properties};
use stateright::{Checker, HasDiscoveries, Model};
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let mut budget = Budget::default();
    let mut bounds = Bounds::of(budget);
    for kv in &a[1..] {
        let Some((k, v)) = kv.split_once('=') else { continue };
        let v: u8 = v.parse().unwrap();
        match k {
            "clients" => bounds.clients = v, "workers" => bounds.workers = v,
            "prefetch" => bounds.prefetch = v.into(), "attempts" => bounds.attempts = v,
            "copies" => budget.copies = v, "drops" => budget.drops = v, "asks" => budget.asks = v,
            "voids" => budget.voids = v, "cancels" => budget.cancels = v, "repeats" => budget.repeats = v,
            "crashes" => budget.crashes = v, "disconnects" => budget.disconnects = v, "hiccups" => budget.hiccups = v,
            "lapses" => budget.lapses = v, "errors" => budget.errors = v, "detaches" => budget.detaches = v,
            "give_backs" => budget.give_backs = v, "losses" => budget.losses = v, "syncs" => budget.syncs = v,
            _ => panic!("{k}"),
        }
    }
    bounds.budget = budget;
    let sights: Vec<_> = [properties::OF_THE_LINE, properties::OF_THE_WORK, properties::OF_A_LOSS].concat();
    let start = std::time::Instant::now();
    let c = Protocol::new(bounds).shows(&sights).checker().threads(2)
        .finish_when(HasDiscoveries::AnyFailures)
        .timeout(std::time::Duration::from_secs(100)).spawn_bfs().join();
    println!("unique {} depth {} in {:?} done {}", c.unique_state_count(), c.max_depth(), start.elapsed(), c.is_done());
    let found = c.discoveries();
    for p in c.model().properties() {
        if p.expectation == stateright::Expectation::Sometimes {
            if !found.contains_key(p.name) { println!("NOT SEEN: {}", p.name) }
        } else if let Some(path) = found.get(p.name) {
            println!("BROKEN {}", p.name);
            for (s, act) in path.clone().into_vec() { 
                if a.iter().any(|x| x == "-v") { println!("   {:?}", s.store); }
                println!("  {act:?}"); }
        }
    }
}
