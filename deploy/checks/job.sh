#!/bin/sh
# job.sh PROGRAM HERE: a server, a worker and a client, each with the user, the rights and the
# password that deploy/ gives it, on the nodes of CHECK_AMQP_PORT and CHECK_REDIS_PORT; one job goes
# the whole way.
set -eu

program=$1
here=$2
config=$(dirname "$0")/../../config/production.toml
mkdir -p "$here"

# The variables of a role, with the ports that the nodes have here.
url_file() {
    sed "s/:5672/:$CHECK_AMQP_PORT/; s/:6379/:$CHECK_REDIS_PORT/" "$CHECK_SECRETS/$1" >"$here/$1"
    echo "$here/$1"
}

# as ROLE COMMAND
as() {
    COUNTERFOIL_AMQP_URL_FILE=$(url_file "$1-amqp-url")
    COUNTERFOIL_REDIS_URL_FILE=$(url_file "$1-redis-url")
    COUNTERFOIL_REDIS_SECRET_FILE=$CHECK_SECRETS/redis-secret
    export COUNTERFOIL_AMQP_URL_FILE COUNTERFOIL_REDIS_URL_FILE COUNTERFOIL_REDIS_SECRET_FILE
    exec "$program" --config "$config" "$2"
}

(as server server) >"$here/server.log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
(as worker worker) >"$here/worker.log" 2>&1 &
worker=$!
trap 'kill "$server" "$worker" 2>/dev/null || true' EXIT

export COUNTERFOIL_CLIENT_JOURNAL="$here/journal.db"
COUNTERFOIL_AMQP_URL_FILE=$(url_file shop-amqp-url)
export COUNTERFOIL_AMQP_URL_FILE
said=$(timeout 30 "$program" submit demo.sleep '{"ms":200}' --notify '*' --until 'done' 2>&1 &&
    timeout 30 "$program" cancel A-1 2>&1) || {
    echo "a job does not go its way with the users of deploy/: $said"
    tail -n 5 "$here/server.log" "$here/worker.log"
    exit 1
}
(as server doctor) >"$here/doctor.log" 2>&1 || {
    cat "$here/doctor.log"
    echo "the doctor finds something wrong with what deploy/ sets up"
    exit 1
}
kill "$worker"
wait "$worker"
kill "$server"
wait "$server"
# What is refused is tried again for ever, so that a missing right is only seen here.
if grep -hE '"level":"(WARN|ERROR)"' "$here/server.log" "$here/worker.log"; then
    echo "a job went its way, with warnings"
    exit 1
fi
echo "ok      a job, with the users and rights of deploy/"
