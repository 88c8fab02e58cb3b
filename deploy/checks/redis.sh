#!/bin/sh
# redis.sh DIR HERE [COMMAND…]: starts Redis with the files of DIR, on a port of its own and with
# its data in HERE, and looks at what it is then: its settings, who may do what, and that a primary
# without replicas takes no writes. COMMAND runs while it is up, with its port in CHECK_REDIS_PORT.
set -eu

dir=$1
here=$2
shift 2
rm -rf "$here"
mkdir -p "$here/data"
secrets=${CHECK_SECRETS:-$here/secrets}
"$dir/secrets.sh" "$secrets" 2>/dev/null
cp "$secrets/users.acl" "$here/users.acl"
port=$("$(dirname "$0")/ports.py" 1)

start() {
    (cd "$here/data" && exec redis-server "$1" --port "$port" --bind 127.0.0.1 \
        --dir "$here/data" --aclfile "$here/users.acl") >"$here/log" 2>&1 &
    server=$!
    # Not asked to: a Redis that is to save a snapshot, and cannot, stays.
    trap 'kill -KILL "$server" 2>/dev/null || true' EXIT
    tries=0
    until redis-cli -p "$port" ping 2>/dev/null | grep -qE 'PONG|NOAUTH'; do
        tries=$((tries + 1))
        if [ "$tries" -gt 100 ] || ! kill -0 "$server" 2>/dev/null; then
            tail -n 8 "$here/log"
            echo "Redis does not start with these files"
            exit 1
        fi
        sleep 0.1
    done
}

stop() {
    kill "$server"
    wait "$server" || true
}

# as USER COMMAND…
as() {
    user=$1
    shift
    if [ "$user" = counterfoil-reader ]; then
        password=$(cat "$secrets/redis-reader-password")
    else
        password=$(cut -d : -f 3 "$secrets/${user#counterfoil-}-redis-url" | cut -d @ -f 1)
    fi
    REDISCLI_AUTH=$password redis-cli -p "$port" --user "$user" "$@" 2>&1
}

# expect WANTED COMMAND…: the answer is WANTED, or an error of that name.
expect() {
    wanted=$1
    shift
    said=$("$@" | tr '\n' ' ' | sed 's, *$,,')
    case "$said" in
    "$wanted") ;;
    NO[A-Z]*" "*) [ "${said%% *}" = "$wanted" ] ;;
    *) false ;;
    esac || {
        echo "wanted: $wanted; Redis says: $said; asked: $*"
        exit 1
    }
}

start "$dir/redis/redis.conf"
expect NOAUTH redis-cli -p "$port" get counterfoil:deployment
for user in counterfoil-server counterfoil-worker; do
    while read -r setting value; do
        expect "$setting $value" as "$user" config get "$setting"
    done <<EOF
maxmemory-policy noeviction
appendonly yes
appendfsync everysec
EOF
    expect OK as "$user" set 'counterfoil:{0}:job:check' 1
    # As every change is made: a script that writes more than once.
    expect OK as "$user" eval "redis.call('SET', KEYS[1], 1)
        return redis.call('SET', KEYS[2], 1)" 2 "counterfoil:{0}:job:$user" counterfoil:other
    expect NOPERM as "$user" set other:check 1
    for command in flushall flushdb "config set maxmemory 0" "acl list" shutdown "keys x" \
        "script flush" "function flush"; do
        # shellcheck disable=SC2086 # a command and its arguments
        expect NOPERM as "$user" $command
    done
done
expect PONG as counterfoil-reader ping
expect 1 as counterfoil-reader get 'counterfoil:{0}:job:check'
expect NOPERM as counterfoil-reader set 'counterfoil:{0}:job:check' 2
expect NOPERM as counterfoil-reader get other:check
expect NOPERM as counterfoil-reader get counterfoil:secret
expect NOPERM as counterfoil-reader scan 0
expect NOPERM as counterfoil-worker xrange 'counterfoil:{0}:outbox' - +
[ $# = 0 ] || CHECK_REDIS_PORT=$port "$@"
stop

# What none of them may ask for is seen by a user of the check's own.
echo "user check on nopass ~* &* +@all" >>"$here/users.acl"
start "$dir/redis/redis.conf"
everything() {
    redis-cli -p "$port" --user check --pass none --no-auth-warning "$@"
}
# Redis loads its file as the user default: without the rights to, it drops what scripts wrote.
for user in counterfoil-server counterfoil-worker; do
    expect 1 everything get "counterfoil:{0}:job:$user"
done
while read -r setting value; do
    expect "$setting${value:+ $value}" everything config get "$setting"
done <<EOF
save
protected-mode yes
timeout 0
no-appendfsync-on-rewrite no
aof-load-truncated yes
databases 1
EOF
stop

sed "s#^include /etc/redis/redis.conf\$#include $dir/redis/redis.conf#" \
    "$dir/redis/replicated.conf" >"$here/replicated.conf"
start "$here/replicated.conf"
expect NOREPLICAS as counterfoil-server set 'counterfoil:{0}:job:check' 1
expect "maxmemory-policy noeviction" everything config get maxmemory-policy
while read -r setting value; do
    expect "$setting $value" everything config get "$setting"
done <<EOF
min-replicas-max-lag 10
replica-read-only yes
replica-serve-stale-data no
EOF
stop
