#!/bin/sh
# Shows that check.sh can fail: breaks one file at a time in a copy of deploy/ and of what it reads
# of docs/, and fails unless the check fails and names that file. Every file of deploy/ is left out
# once, and changed at least once.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
"$root/deploy/checks/tools.sh"
work=$(mktemp -d "$root/target/deploy-check/broken.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' HUP INT TERM

# FILE | what is wrong | what sed does
cat >"$work/changes" <<'EOF'
check.sh | a misspelt variable | s/failed=0/faild=0/
check-broken.sh | a quote that does not end | s/^set -eu/echo "/
secrets.sh | an unquoted variable | s/cat "$new\/salt"/cat $new\/salt/
check-image.sh | an unquoted variable | s/rm -rf "$work"/rm -rf $work/; s/cd "$root"/cd $root/
check-job.sh | a misspelt variable | s/^dir=/dri=/
checks/job.sh | a misspelt variable | s/^here=/hree=/
package.sh | a misspelt variable | s/^version=/verison=/
dev/fetch.sh | an unquoted variable | s/cd "$1"/cd $1/
dev/install.sh | an `if` without an end | 0,/^fi$/s/^fi$//
dev/lanes.sh | a misspelt variable | s/^table=/tabel=/
dev/trixie.sh | a misspelt variable | s/^mirror=/miror=/
checks/tools.sh | a shell that has it, but not every one | s/^set -eu/set -euo pipefail/
checks/redis.sh | a misspelt variable | s/^dir=/dri=/
checks/rabbitmq.sh | a misspelt variable | s/^here=/hree=/
checks/rules.py | a missing bracket | s/^def main():/def main(:/
checks/ports.py | a missing bracket | s/^held = \[/held = /
checks/requirements.txt | no version | s/^yamllint==.*/yamllint/
checks/package.json | whatever version is the latest | s/: "[0-9.]*"/: "latest"/
checks/asyncapi.js | a missing bracket | s/^  process.exit(/  process.exit/
../docs/schemas/v1/common.json | a pattern that is none | s/{0,127}/{0,127 }/
../docs/schemas/v1/status.json | bad JSON | 0,/,$/s/,$//
../docs/schemas/v1/event.json | a wrong keyword | s/"required": \[/"required": ["v", "v", /
../docs/schemas/v1/message.json | not what is sent | s/application\/json/application\/jsom/
../docs/asyncapi.yaml | bad YAML | s/^channels:/channels/
../docs/asyncapi.yaml | a misspelt field | s/^operations:/operation:/
../docs/asyncapi.yaml | a word that there is not | s/action: receive/action: recieve/
../docs/asyncapi.yaml | an unknown kind of exchange | s/type: topic,/type: topical,/
../docs/asyncapi.yaml | a schema that is not there | s/v1\/receipt.json/v1\/reciept.json/
../docs/asyncapi.yaml | a message that is not there | s/messages\/event'/messages\/evnet'/
docker/Dockerfile | a misspelt instruction | s/^ENTRYPOINT/ENTRYPONT/
docker/Dockerfile | the entry point needs a shell | s/^ENTRYPOINT .*/ENTRYPOINT counterfoil/
docker/Dockerfile | root | s/^USER .*/USER root/
docker/Dockerfile | not what Cargo.lock says | s/--release --locked/--release/
docker/Dockerfile | whatever compiler is the latest | s/rust:1[^ ]*/rust:latest/
compose/compose.yaml | bad YAML | s/^services:/services/
compose/compose.yaml | a misspelt field | s/stop_grace_period: 60s/stop_grace_periode: 60s/
compose/compose.yaml | a field that is not there | s/condition: service/state: service/
compose/compose.yaml | capabilities are kept | s/  cap_drop: .*/  cap_drop: []/
compose/compose.yaml | open to other machines | s/127.0.0.1:5672:5672/5672:5672/
compose/compose.yaml | less time than a drain | s/stop_grace_period: 60s/stop_grace_period: 20s/
compose/compose.yaml | a secret that nobody makes | s/secrets\/redis-secret/secrets\/redis-secrte/
compose/compose.yaml | a cluster's definitions | s/one-node.json/definitions.json/
compose/compose.yaml | a file that is not there | s/rabbitmq.conf:\/etc/rabbit.conf:\/etc/
kubernetes/base/kustomization.yaml | an unknown key | s/^resources:/resouces:/
kubernetes/base/kustomization.yaml | a file that is not there | s/- worker.yaml/- wroker.yaml/
kubernetes/base/kustomization.yaml | a file left out | s/- disruption.yaml/# &/
kubernetes/base/kustomization.yaml | another version | s/newTag: .*/newTag: latest/
kubernetes/base/namespace.yaml | a misspelt field | s/^metadata:/metdata:/
kubernetes/base/namespace.yaml | no profile | s/enforce: restricted/enforce: privileged/
kubernetes/base/serviceaccount.yaml | a misspelt field | s/^automount/autmount/
kubernetes/base/serviceaccount.yaml | a token | s/Token: false/Token: true/
kubernetes/base/server.yaml | a misspelt field | s/runAsNonRoot/runAsNonroot/
kubernetes/base/server.yaml | a wrong type | s/replicas: 2/replicas: two/
kubernetes/base/server.yaml | bad YAML | s/^spec:/spec/
kubernetes/base/server.yaml | files can be written | s/RootFilesystem: true/RootFilesystem: false/
kubernetes/base/worker.yaml | a misspelt field | s/securityContext:/securtyContext:/
kubernetes/base/worker.yaml | less time than a drain | s/PeriodSeconds: 60/PeriodSeconds: 30/
kubernetes/base/worker.yaml | a secret in the open | s/_FILE$//
kubernetes/base/disruption.yaml | a misspelt field | s/maxUnavailable/maxUnavialable/
kubernetes/base/disruption.yaml | it blocks a drain | s/maxUnavailable: 1/maxUnavailable: 0/
kubernetes/base/networkpolicy.yaml | a misspelt field | s/podSelector/podSelctor/
kubernetes/base/networkpolicy.yaml | everything may come in | s/ingress: \[\]/ingress: [{}]/
kubernetes/base/counterfoil.toml | not what the repository's says | s/json/xml/
systemd/counterfoil-server.service | an unknown key | s/^NoNewPrivileges/NoNewPriviliges/
systemd/counterfoil-server.service | an unknown value | s/^ProtectSystem=.*/ProtectSystem=strcit/
systemd/counterfoil-server.service | no sandbox | /^Protect\|^Private\|^Restrict/d
systemd/counterfoil-server.service | what it does not speak | s/^Type=exec/Type=notify/
systemd/counterfoil-worker.service | an unknown key | s/^LoadCredential/LoadCredentials/
systemd/counterfoil-worker.service | less time than a drain | s/^\(TimeoutStopSec\)=.*/\1=20/
systemd/counterfoil-worker.service | a credential is not loaded | s/%d\/amqp-url/%d\/amqp/
redis/redis.conf | an unknown key | s/^appendonly/apendonly/
redis/redis.conf | a wrong policy | s/noeviction/allkeys-lru/
redis/redis.conf | a restart forgets everything | s/^appendonly yes/appendonly no/
redis/redis.conf | snapshots | s/^save .*/save 60 1/
redis/replicated.conf | an unknown key | s/^min-replicas-to-write/min-replica-to-write/
redis/replicated.conf | a write that no replica has | s/-to-write 1/-to-write 0/
redis/precedence.conf | an unknown key | s/^Nice/Nicer/
redis/precedence.conf | an unknown value | s/^CPUWeight=.*/CPUWeight=first/
redis/precedence.conf | behind others | s/^Nice=-/Nice=/
redis/users.acl | an unknown category | s/+@read/+@raed/
redis/users.acl | somebody without a name | $s/$/\nuser default on nopass ~* +@all/
redis/users.acl | what scripts wrote is not loaded | s/^user default .*/user default off/
redis/users.acl | a reader who writes | s/^user counterfoil-reader.*/& ~* +@write/
rabbitmq/definitions.json | bad JSON | 0,/,$/s/,$//
rabbitmq/definitions.json | a password | 0,/"password_hash": ""/s//"password_hash": "x"/
rabbitmq/definitions.json | an unknown kind of queue | 0,/"quorum"/s//"quorun"/
rabbitmq/definitions.json | a text for a number | 0,/limit": [0-9]*/s//limit": "many"/
rabbitmq/definitions.json | a client writes everywhere | s/"write": "^[^"]*submit.*"/"write": ".*"/
rabbitmq/one-node.json | requests as in a cluster | s/"classic"/"quorum"/
rabbitmq/one-node.json | jobs in a classic queue | s/"quorum"/"classic"/
rabbitmq/rabbitmq.conf | an unknown key | s/^consumer_timeout/consumer_timout/
rabbitmq/rabbitmq.conf | a wrong value | s/= pause_minority/= pause_minorty/
rabbitmq/rabbitmq.conf | a message comes back too soon | s/^\(consumer_timeout =\) .*/\1 60000/
rabbitmq/enabled_plugins | bad form | s/\]\.//
rabbitmq/enabled_plugins | an unknown plugin | s/prometheus/promethues/
EOF

copy() {
    mkdir "$1"
    (cd "$root" && tar -c --exclude=deploy/secrets deploy docs/asyncapi.yaml docs/schemas) |
        tar -x -C "$1"
}

# try COPY FILE WHAT: the check of a broken file must fail, and name it.
try() {
    # Without input: a check that reads it would eat the list of changes.
    if "$root/deploy/check.sh" "$1/deploy" "$2" >"$1.said" 2>&1 </dev/null; then
        echo "NOT OK  $2 passes although it is broken: $3"
        return 1
    fi
    grep -q "^NOT OK  $2" "$1.said" || {
        echo "NOT OK  $2 is broken ($3) and the check does not name it:"
        sed 's/^/        /' "$1.said"
        return 1
    }
    echo "ok      $2 fails: $3"
}

# All changes to files that match: in a copy of their own, so that two can run at a time.
changes() {
    copy "$work/$1"
    failed=0
    while IFS='|' read -r file what change; do
        file=${file% }
        what=${what# }
        cp -p "$root/deploy/$file" "$work/$1.whole"
        sed -i "${change# }" "$work/$1/deploy/$file"
        if cmp -s "$work/$1.whole" "$work/$1/deploy/$file"; then
            echo "NOT OK  $file: the change does nothing: ${what% }"
            failed=1
        else
            try "$work/$1" "$file" "${what% }" || failed=1
        fi
        cp -p "$work/$1.whole" "$work/$1/deploy/$file"
    done <"$work/$1.list"
    return "$failed"
}

missing() {
    copy "$work/missing"
    failed=0
    files=$(cd "$work/missing/deploy" && find . -type f ! -name '*.pyc' | cut -c 3-)
    for file in $files ../docs/asyncapi.yaml; do
        grep -q "^$file |" "$work/changes" || {
            echo "NOT OK  $file is never broken: add a line to deploy/check-broken.sh"
            failed=1
        }
        rm "$work/missing/deploy/$file"
        try "$work/missing" "$file" "it is missing" || failed=1
        cp -p "$root/deploy/$file" "$work/missing/deploy/$file"
    done
    : >"$work/missing/deploy/unknown.txt"
    try "$work/missing" unknown.txt "nothing checks it" || failed=1
    return "$failed"
}

grep '^rabbitmq/' "$work/changes" >"$work/slow.list"
grep -v '^rabbitmq/' "$work/changes" >"$work/quick.list"
changes slow >"$work/slow.result" 2>&1 &
slow=$!
failed=0
changes quick || failed=1
missing || failed=1
wait "$slow" || failed=1
cat "$work/slow.result"
[ "$failed" = 0 ] && echo "every check fails where it must"
exit "$failed"
