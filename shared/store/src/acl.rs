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
const OWN: &str = "-@all +@read +@write -@scripting +eval +evalsha +script|load +@connection \
                   -@dangerous +info +config|get +time";
/// The outbox is read by the server alone.
const NO_OUTBOX: &str = "-xread -xreadgroup -xrange -xrevrange -xautoclaim -xclaim -xgroup -xinfo";
/// Whoever may read some keys need not know the names of all.
const NO_NAMES: &str = "-scan -randomkey -dbsize";

/// Nobody gets in without a name: `off`. The rights behind it are Redis's own, when it starts: it
/// loads the append-only file as this user, checks the rights for each transaction, and drops what
/// they do not allow, with no more than a line in its log. A script's writes are a transaction.
/// <https://github.com/redis/redis/issues/14541>
const DEFAULT_USER: &str = "user default off ~* &* +@all";

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
    "short",
    "deployment",
];

/// The ACL file of a deployment whose keys begin with a prefix. A user without a password cannot
/// log in until the file holds one: `>` and the password, or `#` and its SHA-256, behind `on`.
pub fn render(prefix: &str, password: Option<&str>) -> String {
    let password = password.map_or(String::new(), |password| format!(" >{password}"));
    let readable: Vec<String> = READABLE.iter().map(|key| format!("%R~{prefix}:{key}")).collect();
    format!(
        "{DEFAULT_USER}\n\
         user {SERVER_USER} on{password} ~{prefix}:* resetchannels {OWN}\n\
         user {WORKER_USER} on{password} ~{prefix}:* resetchannels {OWN} {NO_OUTBOX}\n\
         user {READER_USER} on{password} {} resetchannels -@all +@read +@connection -@dangerous \
         {NO_NAMES}\n",
        readable.join(" ")
    )
}
