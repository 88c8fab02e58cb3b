//! What is to be known of Redis.

use broker::chain;
use store::examine::Seen;

use super::Finding;

/// The oldest that has what the scripts and the rights of the users need.
const OLDEST: (u32, u32) = (7, 0);
/// Clocks further apart than this make due times and deadlines surprising.
const CLOCK_APART_MS: i64 = 2000;

pub(super) async fn examine(settings: &store::Settings) -> (Vec<Finding>, Option<Seen>) {
    let seen = match store::examine::examine(settings).await {
        Ok(seen) => seen,
        Err(error) => {
            let finding = Finding::error(
                "redis",
                chain(&error),
                "nothing is accepted, and nothing can be answered",
                "start Redis, or mend redis.url",
            );
            return (vec![finding], None);
        }
    };
    let findings = [
        version(&seen),
        access(&seen),
        eviction(&seen),
        persistence(&seen),
        replicas(&seen),
        memory(&seen),
        layout(&seen, settings),
        lost(&seen),
        clock(&seen),
    ];
    let mut findings: Vec<Finding> = findings.into_iter().flatten().collect();
    findings.extend(parked(&seen));
    (findings, Some(seen))
}

fn version(seen: &Seen) -> Option<Finding> {
    let mut numbers = seen.version.split('.').map(|number| number.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    Some(if version < OLDEST {
        Finding::error(
            "redis version",
            &seen.version,
            "commands and rules of access that are used are missing",
            "run Redis 7.0 or newer",
        )
    } else {
        Finding::ok("redis version", &seen.version)
    })
}

fn access(seen: &Seen) -> Option<Finding> {
    Some(if seen.is_open {
        Finding::warning(
            "redis access",
            "the user default is on, without a password",
            "whoever reaches Redis reads and writes every job, and the secret of the tickets",
            "use deploy/redis/users.acl, where it is off; or set its password",
        )
    } else {
        Finding::ok("redis access", "nobody without a name")
    })
}

fn eviction(seen: &Seen) -> Option<Finding> {
    Some(if seen.eviction == "noeviction" {
        Finding::ok("redis eviction", &seen.eviction)
    } else {
        Finding::error(
            "redis eviction",
            &seen.eviction,
            "Redis deletes records of jobs when memory runs out; the server does not start",
            "set maxmemory-policy noeviction",
        )
    })
}

fn persistence(seen: &Seen) -> Option<Finding> {
    let found = format!(
        "appendonly {}, appendfsync {}",
        if seen.appendonly { "yes" } else { "no" },
        seen.appendfsync
    );
    Some(match (seen.appendonly, seen.appendfsync.as_str()) {
        (true, "always") => Finding::ok("redis persistence", found),
        (true, "everysec") => Finding::ok(
            "redis persistence",
            format!("{found}: a crash can lose about the last second, which receipts say"),
        ),
        (true, _) => Finding::warning(
            "redis persistence",
            found,
            "a crash can lose as much as the system has not written yet, often half a minute",
            "set appendfsync everysec, or always",
        ),
        (false, _) => Finding::error(
            "redis persistence",
            found,
            "a restart of Redis forgets every job; receipts say durability none",
            "set appendonly yes and appendfsync everysec, or always",
        ),
    })
}

fn replicas(seen: &Seen) -> Option<Finding> {
    (seen.replicas > 0 && seen.replicas_min == 0).then(|| {
        Finding::warning(
            "redis replicas",
            format!("{} follow, min-replicas-to-write 0", seen.replicas),
            "a master that is cut off takes writes that are lost when another is elected",
            "set min-replicas-to-write 1",
        )
    })
}

fn memory(seen: &Seen) -> Option<Finding> {
    let mebibytes = |bytes: u64| bytes / (1024 * 1024);
    let (used, max) = (mebibytes(seen.memory_used), mebibytes(seen.memory_max));
    if seen.memory_max == 0 {
        return Some(Finding::ok("redis memory", format!("{used} MiB used, no limit")));
    }
    let found = format!("{used} of {max} MiB used");
    Some(if seen.memory_used * 5 > seen.memory_max * 4 {
        Finding::warning(
            "redis memory",
            found,
            "when it is full, nothing more is accepted until records are retired",
            "raise maxmemory, or keep records for less long (server.keep_…_ms)",
        )
    } else {
        Finding::ok("redis memory", found)
    })
}

fn layout(seen: &Seen, settings: &store::Settings) -> Option<Finding> {
    let Some(layout) = seen.layout else {
        return Some(Finding::ok("redis layout", "a fresh store"));
    };
    if layout != seen.layout_known {
        return Some(Finding::error(
            "redis layout",
            format!("{layout}; this program writes {}", seen.layout_known),
            "the server does not start",
            "run the version that fits, or use another redis.prefix",
        ));
    }
    if seen.slots != Some(settings.slots) {
        let slots = seen.slots.unwrap_or_default();
        return Some(Finding::error(
            "redis layout",
            format!("made with {slots} slots; redis.slots is {}", settings.slots),
            "the server does not start: jobs would be looked for where they are not",
            format!("set redis.slots = {slots}"),
        ));
    }
    Some(Finding::ok("redis layout", layout.to_string()))
}

fn lost(seen: &Seen) -> Option<Finding> {
    seen.lost.map(|[from, to]| {
        Finding::warning(
            "redis history",
            format!("lost what was written between {from} and {to}"),
            "answers about ids of that time say so, and clients submit again what they hold",
            "nothing more; set appendfsync always if it must not happen again",
        )
    })
}

fn clock(seen: &Seen) -> Option<Finding> {
    let apart = seen.clock_ahead_ms;
    Some(if apart.abs() > CLOCK_APART_MS {
        Finding::warning(
            "clocks",
            format!("Redis's is {apart} ms ahead of this machine's"),
            "jobs start and expire at other times than clients think",
            "synchronise the clocks (NTP)",
        )
    } else {
        Finding::ok("clocks", format!("{apart} ms apart"))
    })
}

fn parked(seen: &Seen) -> Vec<Finding> {
    let waiting = seen.parked.iter().filter(|(_, count)| **count > 0);
    let findings: Vec<Finding> = waiting
        .map(|(job_type, count)| {
            let remedy = match seen.types.get(job_type) {
                Some(queue) => format!("see whether counterfoil.work.{queue} exists and has room"),
                None => "start a worker that serves the type, or cancel the jobs".to_owned(),
            };
            Finding::warning(
                "parked jobs",
                format!("{count} of type {job_type}"),
                "they are kept, and expire after server.parked_ms",
                remedy,
            )
        })
        .collect();
    if findings.is_empty() { vec![Finding::ok("parked jobs", "none")] } else { findings }
}
