#!/bin/sh
# Packs the installed tree of a built program: deploy/package.sh PROGRAM [DIR]
#
# Writes DIR/counterfoil-<version>-<machine>.tar.gz (DIR: target/package by default) and prints its
# name. It is unpacked at the root of a system: tar -C / -xzf FILE. It holds files only, no
# directories, so that none of the system's changes its owner or mode.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
program=$1
out=${2:-$root/target/package}
version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")
name=counterfoil-$version-$(uname -m)

mkdir -p "$out"
tree=$(mktemp -d "$out/tree.XXXXXX")
trap 'rm -rf "$tree"' EXIT
trap 'exit 130' HUP INT TERM

# place MODE DIRECTORY FILE…
place() {
    mode=$1
    directory=$tree/$2
    shift 2
    mkdir -p "$directory"
    install -m "$mode" "$@" "$directory"
}

cd "$root"
place 755 usr/bin "$program"
place 644 etc/counterfoil config/production.toml
place 644 usr/lib/systemd/system deploy/systemd/*.service
# What RabbitMQ and Redis are given, and what makes their passwords.
place 755 usr/share/counterfoil deploy/secrets.sh
place 644 usr/share/counterfoil/rabbitmq deploy/rabbitmq/*
place 644 usr/share/counterfoil/redis deploy/redis/*
# As in the repository, so that links between documents lead somewhere.
place 644 usr/share/doc/counterfoil README.md CHANGELOG.md CONTRIBUTING.md LICENSE-*
place 644 usr/share/doc/counterfoil/docs docs/*.md docs/asyncapi.yaml
place 644 usr/share/doc/counterfoil/docs/decisions docs/decisions/*.md
place 644 usr/share/doc/counterfoil/docs/schemas/v1 docs/schemas/v1/*.json
place 644 usr/share/doc/counterfoil/tests/foreign/python tests/foreign/python/counterfoil.py
place 644 usr/share/doc/counterfoil/config config/default.toml

# The same input gives the same archive.
cd "$tree"
find . -type f | LC_ALL=C sort | cut -c 3- >"$tree.files"
tar --create --no-recursion --files-from="$tree.files" --owner=0 --group=0 --numeric-owner \
    --mtime="@${SOURCE_DATE_EPOCH:-0}" --format=gnu | gzip -n >"$tree.tar.gz"
rm "$tree.files"
mv "$tree.tar.gz" "$out/$name.tar.gz"
echo "$out/$name.tar.gz"
