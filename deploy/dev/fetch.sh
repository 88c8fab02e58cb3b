#!/bin/sh
# fetch.sh DIR PACKAGE…: fetches Debian's packages into DIR and installs none of them.
set -eu

cd "$1"
shift
as_root=""
[ "$(id -u)" = 0 ] || as_root=sudo
log=$(mktemp)
# The lists of packages may be missing or old.
apt-get download -q "$@" >"$log" 2>&1 ||
    { $as_root apt-get update -q && apt-get download -q "$@"; } >"$log" 2>&1 </dev/null || {
    tail -n 5 "$log" >&2
    echo "cannot fetch: $*" >&2
    exit 1
}
rm -f "$log"
