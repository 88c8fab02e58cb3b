#!/bin/sh
# Installs what the checks need: Debian's packages if they are missing, Python's and Node's into
# directories below target. Prints nothing when all is there.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
tools=$root/target/deploy-check/tools
wanted=$root/deploy/checks/requirements.txt

"$root/deploy/dev/install.sh" deploy
mkdir -p "$tools"

if ! cmp -s "$wanted" "$tools/requirements.txt"; then
    rm -rf "$tools/python"
    /usr/bin/python3 -m venv "$tools/python"
    "$tools/python/bin/pip" install --quiet --disable-pip-version-check -r "$wanted"
    cp "$wanted" "$tools/requirements.txt"
fi

# AsyncAPI's own parser.
wanted=$root/deploy/checks/package.json
if ! cmp -s "$wanted" "$tools/node/package.json"; then
    rm -rf "$tools/node" "$tools/node.new"
    mkdir "$tools/node.new"
    cp "$wanted" "$tools/node.new"
    npm install --prefix "$tools/node.new" --no-package-lock --no-audit --no-fund --silent >&2
    mv "$tools/node.new" "$tools/node"
fi

# Debian's kubectl renders kustomizations. It is unpacked, not installed: another one may be there.
if [ ! -x "$tools/kubectl" ]; then
    rm -rf "$tools/unpacked"
    mkdir "$tools/unpacked"
    "$root/deploy/dev/fetch.sh" "$tools/unpacked" kubernetes-client
    dpkg -x "$tools"/unpacked/*.deb "$tools/unpacked"
    mv "$tools/unpacked/usr/bin/kubectl" "$tools/kubectl"
    rm -rf "$tools/unpacked"
fi
