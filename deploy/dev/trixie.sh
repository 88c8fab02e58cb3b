#!/bin/sh
# Makes a Debian 13 ("trixie") tree with RabbitMQ 4, Redis 8 and Valkey 8, which private nodes can
# run from (`NODES_TREE`; shared/nodes says how), and prints where it is. One that is there already
# is used as it is. Packages come from where this machine's own apt takes them; nothing is started
# and nothing stays mounted.
set -eu

packages=rabbitmq-server,redis-server,valkey-server
# As the nodes mount the tree's parts over the system's: see shared/nodes/src/distribution.rs.
tree=$(cd "$(dirname "$0")/../.." && pwd)/target/lanes/trixie
if [ -e "$tree/complete" ]; then
    echo "$tree"
    exit
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "a Debian or a system that is made of it is needed to make a Debian tree" >&2
    exit 1
fi

as_root=""
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "root is needed to make $tree" >&2
        exit 1
    fi
    as_root=sudo
fi

mkdir -p "$tree"
log=$tree.log
missing=""
for package in debootstrap debian-archive-keyring; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
        missing="$missing $package"
done
if [ -n "$missing" ]; then
    echo "installing from Debian's packages:$missing" >&2
    # shellcheck disable=SC2086 # a list of packages
    {
        $as_root apt-get update -q &&
            $as_root env DEBIAN_FRONTEND=noninteractive \
                apt-get install -q -y --no-install-recommends $missing
    } >"$log" 2>&1 </dev/null || {
        tail -n 20 "$log" >&2
        exit 1
    }
fi

# Where apt takes Debian itself from, security updates and the like aside, and through what.
# shellcheck disable=SC2016 # apt fills these in
mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' \
    'Created-By: Packages' 'Origin: Debian' 2>/dev/null |
    awk '$2 !~ /-/ { print $1; exit }')
proxy=$(apt-config shell PROXY Acquire::http::Proxy)
PROXY=""
eval "$proxy"
[ -n "${http_proxy:-}" ] || [ -z "$PROXY" ] || http_proxy=$PROXY
export http_proxy="${http_proxy:-}"

echo "making $tree, which takes a minute or two (log: $log)" >&2
$as_root rm -rf "$tree"
# In mounts of its own, so that none is left behind however this ends.
$as_root env http_proxy="$http_proxy" https_proxy="${https_proxy:-}" \
    unshare --mount debootstrap --variant=minbase --include="$packages" \
    trixie "$tree" "${mirror:-http://deb.debian.org/debian}" >"$log" 2>&1 </dev/null || {
    tail -n 20 "$log" >&2
    echo "making $tree failed (the whole log: $log)" >&2
    exit 1
}
$as_root rm -rf "$tree"/var/cache/apt/archives/*.deb "$tree"/var/lib/apt/lists/*
$as_root touch "$tree/complete"
echo "$tree"
