#!/bin/sh
# Builds the image's last stage and runs it, without a registry: its base is made here of the same
# Debian packages that distroless/cc-debian12 consists of, and the program is the one that cargo
# built on this machine. So this tries the Dockerfile from `FROM ${RUNTIME_IMAGE}` on; the stages
# that compile need a registry and are not run. Needs root and apt.
#
#   deploy/check-image.sh [DOCKERFILE]
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
dockerfile=${1:-$root/deploy/docker/Dockerfile}
if [ "$(id -u)" != 0 ]; then
    echo "NOT CHECKED  the image: building it here takes root"
    exit 0
fi
"$root/deploy/dev/install.sh" image
cd "$root"
cargo build --quiet --locked --package counterfoil
mkdir -p target/deploy-check
work=$(mktemp -d "$root/target/deploy-check/image.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' HUP INT TERM

build() {
    buildah --storage-driver vfs --root "$work/store" --runroot "$work/run" "$@"
}

fail() {
    echo "NOT OK  $dockerfile: $*"
    exit 1
}

# The look-alike of the base.
packages=$root/target/deploy-check/base
if [ ! -d "$packages" ]; then
    mkdir -p "$packages.new"
    "$root/deploy/dev/fetch.sh" "$packages.new" \
        libc6 libgcc-s1 ca-certificates base-files netbase tzdata
    mv "$packages.new" "$packages"
fi
mkdir "$work/base"
for package in "$packages"/*.deb; do
    dpkg -x "$package" "$work/base/root"
done
printf 'root:x:0:0::/root:/sbin/nologin\nnonroot:x:65532:65532::/home/nonroot:/sbin/nologin\n' \
    >"$work/base/root/etc/passwd"
printf 'FROM scratch\nCOPY root/ /\nUSER 65532\n' >"$work/base/Containerfile"
build bud --quiet --isolation chroot -t localhost/base -f "$work/base/Containerfile" \
    "$work/base" >/dev/null

# The last stage as it stands, with the program where the stage `build` would have put it.
mkdir -p "$work/context/src/target/release"
cp target/debug/counterfoil "$work/context/src/target/release/"
cp -r config LICENSE-MIT LICENSE-APACHE "$work/context/"
{
    echo 'FROM scratch AS build'
    echo 'COPY src /src'
    # shellcheck disable=SC2016 # as it is written there
    sed -n '/^FROM ${RUNTIME_IMAGE}/,$p' "$dockerfile" | sed '1s#${RUNTIME_IMAGE}#localhost/base#'
} >"$work/Containerfile"
build bud --pull-never --isolation chroot -t localhost/counterfoil \
    --build-arg REVISION=checked -f "$work/Containerfile" "$work/context" >"$work/log" 2>&1 || {
    tail -n 5 "$work/log"
    fail "its last stage does not build"
}

build inspect --type image localhost/counterfoil >"$work/image.json"
/usr/bin/python3 - "$work/image.json" <<'EOF' || fail "the image is not as it must be"
import json
import sys

config = json.load(open(sys.argv[1]))["OCIv1"]["config"]
labels = config["Labels"]
wanted = [
    (config.get("User"), "65532:65532"),
    (config.get("Entrypoint"), ["/usr/bin/counterfoil"]),
    (labels.get("org.opencontainers.image.revision"), "checked"),
    (labels.get("org.opencontainers.image.title"), "counterfoil"),
]
for found, expected in wanted:
    if found != expected:
        sys.exit(f"{found!r} is not {expected!r}")
EOF

# A container of it: the entry point, as the image's user, with the settings that are in it.
container=$(build from --pull-never localhost/counterfoil)
said=$(build run --isolation chroot "$container" /usr/bin/counterfoil \
    --config /etc/counterfoil/production.toml key shop A-1 2>&1) || fail "it does not run: $said"
[ "$said" = "counterfoil:{0}:job:shop:A-1" ] || fail "it says: $said"
for file in usr/bin/counterfoil etc/counterfoil/production.toml; do
    owner=$(stat -c %u "$(build mount "$container")/$file")
    [ "$owner" = 0 ] || fail "$file belongs to $owner"
done
build images --format '{{.Name}} {{.Size}}' | grep counterfoil | sed "s#^#ok      the image: #"
