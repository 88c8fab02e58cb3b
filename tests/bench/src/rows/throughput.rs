//! A, B, C, D: jobs a second, ours against the floor and against other job queues.

use nodes::Fsync;

use crate::contest::{Contestant, Who, is_installed};
use crate::fleet::Cpu;
use crate::ground::Ground;
use crate::handlers::ALONE;
use crate::report::{Bound, Report};
use crate::stats::ratios;
use crate::traffic::Answers;
use crate::{Peers, Plan, directory, usage};

const WHOLE: &str = "whole: receipt and event";
pub(super) const BARE: &str = "without receipt and event";
const BATCHED: &str = "receipt and event in batches";
const BULK: &str = "submit_many from one client, batches";
const WHOLE_ALONE: &str = "whole, one job in a work message";
const BARE_ALONE: &str = "without receipt and event, one in a message";
const FLOOR: &str = "floor: receipt and event";
const FLOOR_BARE: &str = "floor: without receipt and event";
const LARGE: &str = "whole, bodies of 10 kB";
const ALWAYS: &str = "whole, appendfsync always";
const CELERY: &str = "Celery";
const BULLMQ: &str = "BullMQ";
const APALIS: &str = "apalis-redis";
const DRAMATIQ: &str = "Dramatiq";

/// Measures them.
///
/// # Errors
/// Something was lost, or a program fails.
pub async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let ground = Ground::start(&directory()?.join("throughput"), Fsync::Everysec)?;
    let niceness = usage::niceness(ground.redis.pid())?;
    report.machine.push(("Redis's niceness".to_owned(), niceness.to_string()));
    let new = Contestant::new;
    let alone =
        |name, answers, rate| Contestant { job_type: ALONE, ..new(name, Who::Ours(answers), rate) };
    let mut contestants = vec![
        new(WHOLE, Who::Ours(Answers::Each), 5000.0),
        alone(WHOLE_ALONE, Answers::Each, 4000.0),
        new(FLOOR, Who::Floor(Answers::Each), 8000.0),
        new(BARE, Who::Ours(Answers::None), 7000.0),
        alone(BARE_ALONE, Answers::None, 6000.0),
        new(FLOOR_BARE, Who::Floor(Answers::None), 10000.0),
        new(BATCHED, Who::Ours(Answers::Batched), 7000.0),
        new(BULK, Who::Bulk, 7000.0),
    ];
    if plan.peers >= Peers::Celery {
        contestants.insert(1, new(CELERY, Who::Peer("celery_peer.py"), 700.0));
    }
    if plan.peers == Peers::All {
        contestants.push(new(BULLMQ, Who::Peer("bullmq_peer.mjs"), 8000.0));
        contestants.push(new(APALIS, Who::Peer("apalis/release/apalis-peer"), 15000.0));
        contestants.push(new(DRAMATIQ, Who::Peer("dramatiq_peer.py"), 1000.0));
    }
    leave_out_what_is_missing(&mut contestants, report).await?;
    for round in 0..plan.rounds {
        println!("round {} of {}", round + 1, plan.rounds);
        let order = order();
        let mut places: Vec<usize> = (0..contestants.len()).collect();
        places.sort_by_key(|place| order.iter().position(|name| *name == contestants[*place].name));
        for place in places {
            contestants[place].run(&ground, plan.seconds).await?;
        }
    }
    if plan.peers == Peers::All {
        let mut large =
            Contestant { bytes: 10_000, ..new(LARGE, Who::Ours(Answers::Each), 3000.0) };
        large.run(&ground, plan.seconds).await?;
        let other = Ground::start(&directory()?.join("always"), Fsync::Always)?;
        let mut always = new(ALWAYS, Who::Ours(Answers::Each), 5000.0);
        always.run(&other, plan.seconds).await?;
        contestants.extend([large, always]);
    }
    say(&contestants, report);
    Ok(())
}

/// Who runs after whom: those that are compared are near each other, and nobody always follows the
/// same one.
fn order() -> Vec<&'static str> {
    let mut groups = [
        vec![CELERY, WHOLE, WHOLE_ALONE, FLOOR, BATCHED],
        vec![BARE, BARE_ALONE, FLOOR_BARE, BULLMQ],
        vec![BULK, APALIS],
        vec![DRAMATIQ],
    ];
    groups.iter_mut().for_each(|group| fastrand::shuffle(group));
    fastrand::shuffle(&mut groups);
    groups.concat()
}

/// Some need not be installed, says `peers/install.sh`.
async fn leave_out_what_is_missing(
    contestants: &mut Vec<Contestant>,
    report: &mut Report,
) -> anyhow::Result<()> {
    for name in [APALIS, DRAMATIQ] {
        let Some(place) = contestants.iter().position(|contestant| contestant.name == name) else {
            continue;
        };
        let Who::Peer(program) = contestants[place].who else { continue };
        if !is_installed(program).await? {
            println!("{name}: not installed, or broken");
            report.machine.push((name.to_owned(), "not installed, or broken".to_owned()));
            contestants.remove(place);
        }
    }
    Ok(())
}

fn say(contestants: &[Contestant], report: &mut Report) {
    for contestant in contestants {
        let row = match contestant.who {
            Who::Ours(_) => 'A',
            Who::Floor(_) => 'B',
            Who::Peer(_) => 'C',
            Who::Bulk => 'D',
        };
        let (name, runs) = (contestant.name, &contestant.runs);
        report.figure_with_cpu(row, name, "jobs/s", runs, Cpu::median(&contestant.cpu));
        if !contestant.submitting.is_empty() {
            report.figure(row, &format!("{name}: submitting"), "jobs/s", &contestant.submitting);
        }
        for (what, version) in &contestant.versions {
            report.machine.push((format!("{name}: {what}"), version.clone()));
        }
    }
    let runs = |name: &str| {
        let of = contestants.iter().find(|contestant| contestant.name == name);
        of.map(|contestant| contestant.runs.clone()).unwrap_or_default()
    };
    let wanted = [
        ('A', WHOLE, CELERY, Bound::at_least(Some(8.0), None)),
        ('A', BATCHED, CELERY, Bound::at_least(None, Some(14.0))),
        ('A', BARE, CELERY, Bound::at_least(Some(12.0), None)),
        ('A', BARE, BULLMQ, Bound::at_least(None, Some(1.0))),
        // The floor sends a work message for each job, and so do these.
        ('A', WHOLE_ALONE, FLOOR, Bound::at_least(Some(0.5), Some(0.7))),
        ('A', BARE_ALONE, FLOOR_BARE, Bound::at_least(Some(0.5), Some(0.7))),
        ('A', WHOLE, WHOLE_ALONE, Bound::at_least(None, None)),
        ('A', BARE, BARE_ALONE, Bound::at_least(None, None)),
        ('D', BULK, APALIS, Bound::at_least(None, Some(1.0))),
    ];
    for (row, of, to, bound) in wanted {
        let (of_runs, to_runs) = (runs(of), runs(to));
        // The other one is not there where its row was not asked for, or it is not installed.
        if !to_runs.is_empty() {
            let what = format!("{of}, against {to}");
            report.ratio(row, &what, &ratios(&of_runs, &to_runs), bound);
        }
    }
}
