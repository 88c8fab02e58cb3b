#!/bin/sh
# rabbitmq.sh DIR HERE [COMMAND…]: boots RabbitMQ with the files of DIR, under a name, on ports and
# with data of its own in HERE, and looks at what it is then: its settings, queues and passwords.
# COMMAND runs while it is up, with its port in CHECK_AMQP_PORT. CHECK_DEFINITIONS is the file for a
# broker of one node (one-node.json), if it is not that for a cluster (definitions.json).
set -eu

dir=$1
here=$2
shift 2
rm -rf "$here"
mkdir -p "$here/mnesia" "$here/log" "$here/gen" "$here/conf.d" "$here/definitions.d"
secrets=${CHECK_SECRETS:-$here/secrets}
"$dir/secrets.sh" "$secrets" 2>/dev/null
{
    read -r amqp
    read -r distribution
    read -r mapper
    read -r metrics
} <<EOF
$("$(dirname "$0")/ports.py" 4)
EOF

# As docs/OPERATIONS.md says to place them.
definitions=${CHECK_DEFINITIONS:-definitions.json}
inquiry=quorum
[ "$definitions" != one-node.json ] || inquiry=classic
cp "$dir/rabbitmq/$definitions" "$here/definitions.d/10-counterfoil.json"
cp "$secrets/passwords.json" "$here/definitions.d/20-passwords.json"
cat >"$here/conf.d/90-private.conf" <<EOF
listeners.tcp.default = 127.0.0.1:$amqp
definitions.local.path = $here/definitions.d
prometheus.tcp.ip = 127.0.0.1
prometheus.tcp.port = $metrics
EOF
: >"$here/rabbitmq-env.conf"

bin=/usr/lib/rabbitmq/bin
node=check$$@localhost
export HOME="$here" ERL_EPMD_PORT="$mapper" ERL_EPMD_ADDRESS=127.0.0.1 \
    ERL_CRASH_DUMP="$here/erl_crash.dump" \
    RABBITMQ_NODENAME="$node" RABBITMQ_NODE_PORT="$amqp" RABBITMQ_DIST_PORT="$distribution" \
    RABBITMQ_MNESIA_BASE="$here/mnesia" RABBITMQ_LOG_BASE="$here/log" \
    RABBITMQ_GENERATED_CONFIG_DIR="$here/gen" RABBITMQ_PID_FILE="$here/rabbit.pid" \
    RABBITMQ_CONF_ENV_FILE="$here/rabbitmq-env.conf" \
    RABBITMQ_CONFIG_FILE="$dir/rabbitmq/rabbitmq.conf" RABBITMQ_CONFIG_FILES="$here/conf.d" \
    RABBITMQ_ENABLED_PLUGINS_FILE="$dir/rabbitmq/enabled_plugins" \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+sbwt none"

# In a process group of its own, so that all of it can be ended at once: nothing in it is to be
# kept, and an orderly end takes six seconds.
(cd "$here" && exec setsid "$bin/rabbitmq-server") >"$here/output" 2>&1 &
server=$!
# shellcheck disable=SC2329 # called by the trap
stop() {
    kill -KILL "-$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    # Its port mapper stays behind otherwise, and refuses to go before it has seen the node end.
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        epmd -port "$mapper" -names >/dev/null 2>&1 || break
        epmd -port "$mapper" -kill >/dev/null 2>&1 || true
        sleep 0.1
    done
}
trap stop EXIT

tries=0
until grep -q 'Server startup complete' "$here/output"; do
    tries=$((tries + 1))
    if [ "$tries" -gt 300 ] || ! kill -0 "$server" 2>/dev/null; then
        grep -E 'error|Error|BOOT|Conf|invalid' "$here/output" | head -n 12
        echo "RabbitMQ does not start with these files"
        exit 1
    fi
    sleep 0.1
done

control() {
    "$bin/rabbitmqctl" -q -n "$node" "$@"
}

# All questions in one: each call of rabbitmqctl takes most of a second.
user_passwords=$(for name in server worker shop; do
    url=$(cat "$secrets/$name-amqp-url")
    user=${url#amqp://}
    user=${user%%:*}
    password=${url#"amqp://$user:"}
    echo "{<<\"$user\">>, <<\"${password%%@*}\">>},"
done)
control eval "
    Settings = [{K, application:get_env(rabbit, K, undefined)} || K <- [consumer_timeout,
        max_message_size, disk_free_limit, vm_memory_high_watermark, loopback_users,
        cluster_partition_handling, definitions]],
    Logins = [{U, element(1, rabbit_auth_backend_internal:user_login_authentication(
        U, [{password, P}]))} || {U, P} <- [$user_passwords {<<\"guest\">>, <<\"guest\">>}]],
    Queues = [{element(4, amqqueue:get_name(Q)), amqqueue:get_type(Q), amqqueue:is_durable(Q)}
        || Q <- rabbit_amqqueue:list()],
    [io:format(\"~w~n\", [One]) || One <- Settings],
    [io:format(\"login ~s ~w~n\", [U, R]) || {U, R} <- Logins],
    [io:format(\"queue ~s ~w ~w~n\", [N, T, D]) || {N, T, D} <- lists:sort(Queues)],
    ok." >"$here/is"

cat >"$here/wanted" <<EOF
{consumer_timeout,1800000}
{max_message_size,2097152}
{disk_free_limit,[50,71,66]}
{vm_memory_high_watermark,0.6}
{loopback_users,[<<103,117,101,115,116>>]}
{cluster_partition_handling,pause_minority}
login counterfoil-server ok
login counterfoil-worker ok
login shop ok
login guest refused
queue counterfoil.dead rabbit_quorum_queue true
queue counterfoil.dropped rabbit_quorum_queue true
queue counterfoil.inquiry rabbit_${inquiry}_queue true
queue counterfoil.intake rabbit_quorum_queue true
EOF
failed=0
while read -r line; do
    grep -qxF "$line" "$here/is" || {
        echo "not so: $line"
        failed=1
    }
done <"$here/wanted"
grep -q '{skip_if_unchanged,true}' "$here/is" || {
    echo "not so: definitions.skip_if_unchanged"
    failed=1
}
grep -q "Prometheus metrics: HTTP (non-TLS) listener started" "$here/output" || {
    echo "not so: metrics on a port"
    failed=1
}
[ "$failed" = 0 ] || {
    cat "$here/is"
    exit 1
}
[ $# = 0 ] || CHECK_AMQP_PORT=$amqp "$@"
