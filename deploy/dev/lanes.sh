#!/bin/sh
# Runs every test, and a short campaign of crashes, on the other versions of RabbitMQ and Redis that
# are supported, and ends with a table. Logs are in target/lanes. Fails if anything did.
set -eu

seconds=${SOAK_SECONDS:-90}
jobs=${SOAK_JOBS:-3000}
export RUST_TEST_THREADS=6 # as make test

cd "$(dirname "$0")/../.."
deploy/dev/install.sh python node go strace
tree=$(deploy/dev/trixie.sh)
cargo test --locked --workspace --no-run
cargo build --locked --workspace --bins
cargo build --locked --profile campaign -p counterfoil -p counterfoil-soak

lanes=target/lanes
table=$lanes/table
status=0
printf '%s\t%s\t%s\t%s\t%s\n' lane nodes passed failed campaign >"$table"
for store in redis-server valkey-server; do
    export NODES_TREE="$tree" NODES_STORE="$store"
    tests=$lanes/$store.tests
    echo "every test with $store (log: $tests)"
    cargo test --locked --workspace --no-fail-fast -- --show-output >"$tests" 2>&1 || status=1
    nodes=$(sed -n 's/^nodes: //p' "$tests" | head -n 1)
    counts=$(awk '/^test result:/ { passed += $4; failed += $6 }
        END { print passed + 0 "\t" failed + 0 }' "$tests")
    campaign=$lanes/$store.campaign
    echo "a campaign of $seconds s and $jobs jobs with $store (log: $campaign.log)"
    if SOAK_SECONDS=$seconds SOAK_JOBS=$jobs target/campaign/counterfoil-soak run \
        --directory "$campaign" >"$campaign.log" 2>&1; then
        end=passed
    else
        end=failed
        status=1
    fi
    count='import json, sys; print(sum(json.load(open(sys.argv[1]))["violations"].values()))'
    violations=$(python3 -c "$count" "$campaign/report.json" 2>/dev/null) || violations="no report"
    end="$end, violations: $violations"
    printf '%s\t%s\t%s\t%s\n' "$store" "${nodes:-did not start}" "$counts" "$end" >>"$table"
    grep -E '^test .* FAILED$' "$tests" || true
done
expand -t 15,50,60,70 "$table"
exit "$status"
