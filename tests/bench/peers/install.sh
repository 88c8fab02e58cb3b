#!/bin/sh
# Installs what the benchmark compares Counterfoil with: `install.sh <target directory>`.
#
#   <target>/python/bin/python   for celery_peer.py and dramatiq_peer.py
#   <target>/node/node_modules   for bullmq_peer.mjs, as NODE_PATH
#   <target>/apalis/release/apalis-peer
#
# Versions are those of requirements.txt, package-lock.json and apalis/Cargo.lock. What is there
# already is left as it is. What cannot be installed is said in one line, and keeps nothing else
# from being installed; without Celery or BullMQ the exit status is 1.
set -eu

if [ $# != 1 ]; then
    echo "usage: install.sh <target directory>" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
target=$(cd "$1" && pwd)

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Debian's Python comes without what a virtual environment needs.
make_environment() {
    python3 -m venv --clear "$target/python" && return
    command -v apt-get >/dev/null 2>&1 || return
    as_root apt-get update -q &&
        as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -q -y --no-install-recommends python3-venv &&
        python3 -m venv --clear "$target/python"
}

# The stamp is a copy of what was asked for, made when it was there.
install_python() {
    cmp -s "$here/requirements.txt" "$target/python/stamp" && return
    make_environment &&
        "$target/python/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
            -r "$here/requirements.txt" &&
        cp "$here/requirements.txt" "$target/python/stamp"
}

install_node() {
    cmp -s "$here/package-lock.json" "$target/node/stamp" && return
    # No package needs its install script: what is compiled comes in a package of its own.
    mkdir -p "$target/node" &&
        cp "$here/package.json" "$here/package-lock.json" "$target/node/" &&
        npm ci --prefix "$target/node" --ignore-scripts --no-audit --no-fund --loglevel=error &&
        cp "$here/package-lock.json" "$target/node/stamp"
}

# Cargo knows by itself what is done.
install_apalis() {
    CARGO_TARGET_DIR=$target/apalis cargo build --release --locked --quiet \
        --manifest-path "$here/apalis/Cargo.toml"
}

# attempt <name> <function>: its output goes to a log, of which the last line says why it failed.
attempt() {
    log=$target/$1.log
    if "$2" >"$log" 2>&1 </dev/null; then
        rm -f "$log"
    else
        echo "$1: not installed: $(grep -v '^ *$' "$log" | tail -n 1) (the log: $log)" >&2
        return 1
    fi
}

try_celery() { "$target/python/bin/python" -c 'import celery, redis'; }
try_dramatiq() { "$target/python/bin/python" -c 'import dramatiq, pika, redis'; }
try_bullmq() {
    NODE_PATH=$target/node/node_modules node -e 'require("bullmq"); require("ioredis")'
}

status=0
if attempt python install_python; then
    attempt celery try_celery || status=1
    attempt dramatiq try_dramatiq || true
else
    status=1
fi
if attempt node install_node; then
    attempt bullmq try_bullmq || status=1
else
    status=1
fi
attempt apalis install_apalis || true
exit $status
