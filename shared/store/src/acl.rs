//! What each user of Redis may do, as an ACL file
//! ([ACL](https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/)).

/// The user that the server's roles connect as.
pub const SERVER_USER: &str = "counterfoil-server";
/// The user that workers connect as.
pub const WORKER_USER: &str = "counterfoil-worker";
/// The user of programs that read a job's status straight from Redis.
pub const READER_USER: &str = "counterfoil-reader";

/// Commands that every process of ours needs: its scripts and what they call, and what is checked
/// when a connection is opened. Nothing that is dangerous: no FLUSHALL, no KEYS, no CONFIG SET.
const OWN: &str =
    "-@all +@read +@write +@scripting +@connection -@dangerous +info +config|get +time";
/// The outbox is read by the server alone.
const NO_OUTBOX: &str = "-xreadgroup -xautoclaim -xgroup";

/// The keys that a reader may read: records, tickets, timelines and lists; not the secret, and not
/// what waits to be delivered.
const READABLE: &[&str] = &[
    "{*}:job:*",
    "{*}:ticket:*",
    "{*}:history:*",
    "{*}:client:*",
    "{*}:tag:*",
    "{*}:recent:*",
    "{*}:due",
    "{*}:scheduled",
    "{*}:parked:*",
    "{*}:queued",
    "{*}:running",
    "{*}:handed_over",
    "{*}:retrying",
    "{*}:failed",
    "types",
    "deployment",
];

/// The ACL file of a deployment whose keys begin with a prefix. A user without a password cannot
/// log in until it is given one: `ACL SETUSER counterfoil-server '>password'`.
pub fn render(prefix: &str, password: Option<&str>) -> String {
    let password = password.map_or(String::new(), |password| format!(" >{password}"));
    let readable: Vec<String> = READABLE.iter().map(|key| format!("%R~{prefix}:{key}")).collect();
    format!(
        "user {SERVER_USER} on{password} ~{prefix}:* resetchannels {OWN}\n\
         user {WORKER_USER} on{password} ~{prefix}:* resetchannels {OWN} {NO_OUTBOX}\n\
         user {READER_USER} on{password} {} resetchannels -@all +@read +@connection -@dangerous\n",
        readable.join(" ")
    )
}
