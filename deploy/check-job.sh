#!/bin/sh
# One job on a RabbitMQ and a Redis that run with the files of deploy/ (or of DIR), with their
# users, rights and passwords: deploy/check-job.sh [DIR]
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
dir=$(cd "${1:-$root/deploy}" && pwd)
checks=$root/deploy/checks
"$checks/tools.sh"
cd "$root"
cargo build --quiet --locked --package counterfoil
work=$(mktemp -d "$root/target/deploy-check/job.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' HUP INT TERM

export CHECK_SECRETS="$work/secrets"
AMQP_HOST=127.0.0.1 REDIS_HOST=127.0.0.1 "$dir/secrets.sh" "$CHECK_SECRETS" 2>/dev/null
"$checks/redis.sh" "$dir" "$work/redis" "$checks/rabbitmq.sh" "$dir" "$work/rabbitmq" \
    "$checks/job.sh" "$root/target/debug/counterfoil" "$work/job"
