#!/bin/sh
# Installs what a private RabbitMQ and Redis need, from Debian's packages, when something is
# missing. No broker or store of the system's is left started or enabled: policy-rc.d refuses the
# start that a package's installation would make. `install.sh python node go` adds what the clients
# in these languages need, any of them; `deploy` what checks the deployment, `image` what builds an
# image, `peers` what the other job queues of the bench need, `strace` what lets a disk fail.
set -eu

wanted="rabbitmq-server redis-server"
node_modules=""
for part in "$@"; do
    case "$part" in
    python) wanted="$wanted python3 python3-pika sqlite3" ;;
    node)
        # Another Node than Debian's brings its npm along, and cannot stand beside Debian's.
        command -v npm >/dev/null 2>&1 || wanted="$wanted nodejs npm"
        node_modules=$(dirname "$0")/../../tests/foreign/node
        ;;
    go) wanted="$wanted golang-go golang-github-rabbitmq-amqp091-go-dev" ;;
    deploy)
        command -v npm >/dev/null 2>&1 || wanted="$wanted nodejs npm"
        wanted="$wanted python3 python3-venv openssl systemd"
        ;;
    peers)
        command -v npm >/dev/null 2>&1 || wanted="$wanted nodejs npm"
        wanted="$wanted python3 python3-venv"
        ;;
    strace) wanted="$wanted strace" ;;
    image) wanted="$wanted ca-certificates buildah" ;;
    *)
        echo "usage: install.sh [python] [node] [go] [deploy] [image] [peers] [strace]" >&2
        exit 2
        ;;
    esac
done

# The modules of the Node producer, as its package-lock.json has them.
install_modules() {
    [ -n "$node_modules" ] || return 0
    [ "$node_modules/node_modules/.package-lock.json" -nt "$node_modules/package-lock.json" ] ||
        npm ci --prefix "$node_modules" --no-audit --no-fund --loglevel=error >&2
}

missing=""
for package in $wanted; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
        missing="$missing $package"
done
if [ -z "$missing" ]; then
    install_modules
    exit
fi

if ! command -v apt-get >/dev/null 2>&1; then
    if command -v rabbitmq-server >/dev/null 2>&1 && command -v redis-server >/dev/null 2>&1; then
        install_modules
        exit
    fi
    cat >&2 <<'EOF'
RabbitMQ (3.10 or later) and Redis (7.0 or later) are needed and this is not Debian.
  macOS:   brew install rabbitmq redis
  Fedora:  dnf install rabbitmq-server redis
EOF
    exit 1
fi

as_root=""
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "missing:$missing. As root: apt-get install --no-install-recommends$missing" >&2
        exit 1
    fi
    as_root=sudo
fi

echo "installing from Debian's packages:$missing" >&2
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
    trap '$as_root rm -f "$policy"' EXIT
    trap 'exit 130' HUP INT TERM
fi
log=$(mktemp)
# shellcheck disable=SC2086 # a list of packages
{
    $as_root apt-get update -q &&
        $as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -q -y --no-install-recommends $missing
} >"$log" 2>&1 </dev/null || {
    tail -n 20 "$log" >&2
    echo "installing$missing failed (the whole log: $log)" >&2
    exit 1
}
rm -f "$log"

# A freshly installed package enables its unit for the next boot; this is nobody's system broker.
if command -v systemctl >/dev/null 2>&1; then
    case "$missing" in
    *redis-server*) $as_root systemctl disable --quiet redis-server 2>/dev/null || true ;;
    esac
    case "$missing" in
    *rabbitmq-server*)
        # Erlang's port mapper comes with it.
        for unit in rabbitmq-server epmd.socket epmd.service; do
            $as_root systemctl disable --quiet "$unit" 2>/dev/null || true
        done
        ;;
    esac
fi

install_modules
