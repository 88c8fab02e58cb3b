#!/bin/sh
# Checks every file of deploy/ with a program that knows its form; nothing is deployed. So are
# docs/asyncapi.yaml and the JSON Schemas beside it, which programs read as they are.
#
#   deploy/check.sh [DIR [FILE]]    all of DIR (default: deploy), or one file, named as it is in DIR
#
# A file without a check, and a file of deploy/ that DIR has not, are failures. That every check can
# fail is shown by check-broken.sh.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
dir=$(cd "${1:-$root/deploy}" && pwd)
checks=$root/deploy/checks
tools=$root/target/deploy-check/tools
python=$tools/python/bin/python
PATH=$tools/python/bin:$PATH
export PATH

"$checks/tools.sh"
work=$(mktemp -d "$root/target/deploy-check/run.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' HUP INT TERM

yaml_rules='{extends: default, rules: {line-length: {max: 100}, document-start: disable,
    octal-values: disable}}'

yaml() {
    yamllint --strict -d "$yaml_rules" "$1"
}

# What `kubernetes-validate` says of a good file is of no interest, and a kind that it does not know
# is only a warning to it.
kubernetes() {
    said=$(kubernetes-validate --strict --kubernetes-version 1.30 "$1" 2>&1) || {
        echo "$said"
        return 1
    }
    ! echo "$said" | grep -v '^INFO .* passed for '
}

kustomization() {
    yaml "$dir/$1"
    # Debian's renderer and, where there is another, that one too: they are years apart.
    for kubectl in "$tools/kubectl" "$(command -v kubectl || true)"; do
        [ -n "$kubectl" ] || continue
        "$kubectl" kustomize "$dir/$(dirname "$1")" >"$work/rendered.yaml"
        kubernetes "$work/rendered.yaml"
        "$python" "$checks/rules.py" rendered "$work/rendered.yaml" "$root"
    done
}

unit() {
    mkdir -p "$work/units"
    # The program need not be installed where this runs.
    copy=$work/units/$(basename "$1")
    sed 's#^ExecStart=/usr/bin/counterfoil #ExecStart=/bin/true #' "$dir/$1" >"$copy"
    # An unknown key is only a warning to it.
    systemd-analyze verify --man=no "$copy" 2>"$work/said" || true
    cat "$work/said"
    [ ! -s "$work/said" ]
    systemd-analyze security --no-pager --offline=true --threshold=20 "$copy" >"$work/said" || {
        tail -n 1 "$work/said"
        return 1
    }
    "$python" "$checks/rules.py" unit "$dir/$1" "$root"
}

# drop_in UNIT FILE: what is laid over a unit that is not ours.
drop_in() {
    over=$work/units/$1.service
    mkdir -p "$over.d"
    printf '[Service]\nExecStart=/bin/true\n' >"$over"
    cp "$dir/$2" "$over.d/counterfoil.conf"
    systemd-analyze verify --man=no "$over" 2>"$work/said" || true
    cat "$work/said"
    [ ! -s "$work/said" ]
    grep -q '^Nice=-' "$dir/$2"
}

# golden SCHEMA KIND…: the golden messages of these kinds keep to it, also for this validator.
golden() {
    schema=$dir/$1
    shift
    for kind in "$@"; do
        check-jsonschema --schemafile "$schema" "$root/shared/protocol/testdata/v1/$kind"-*.json
    done
}

# Both nodes are started once for all of their files, RabbitMQ once more for one-node.json.
once() {
    if [ ! -e "$work/$1.passed" ]; then
        "$checks/$1.sh" "$dir" "$work/$1"
        touch "$work/$1.passed"
    fi
}

check() {
    case $1 in
    ../docs/asyncapi.yaml)
        yaml "$dir/$1"
        NODE_PATH=$tools/node/node_modules node "$checks/asyncapi.js" "$dir/$1"
        ;;
    ../docs/schemas/v1/*.json)
        check-jsonschema --check-metaschema "$dir/$1"
        case $(basename "$1" .json) in
        message) golden "$1" status receipt event refusal batch ;;
        request | submission) golden "$1" "$(basename "$1" .json)" ;;
        esac
        ;;
    checks/package.json)
        # Installed by now, and every dependency a version.
        node -e 'JSON.parse(require("fs").readFileSync(process.argv[1]))' "$dir/$1"
        ! grep '"@' "$dir/$1" | grep -vE '"@[a-z/]+": "[0-9]+[.][0-9]+[.][0-9]+"'
        ;;
    checks/requirements.txt)
        # Installed by now, and every line a version.
        ! grep -vE '^(#.*|[a-z-]+==[0-9.]+)$' "$dir/$1"
        ;;
    *.sh)
        sh -n "$dir/$1"
        shellcheck --shell=sh "$dir/$1"
        [ -x "$dir/$1" ] || {
            echo "it is not executable"
            return 1
        }
        ;;
    *.js) node --check "$dir/$1" ;;
    *.py) "$python" -c 'import ast, sys; ast.parse(open(sys.argv[1]).read())' "$dir/$1" ;;
    docker/Dockerfile)
        hadolint "$dir/$1"
        "$python" "$checks/rules.py" dockerfile "$dir/$1" "$root"
        ;;
    compose/compose.yaml)
        yaml "$dir/$1"
        check-jsonschema --builtin-schema vendor.compose-spec "$dir/$1"
        AMQP_HOST=a "$dir/secrets.sh" "$work/secrets" 2>/dev/null
        "$python" "$checks/rules.py" compose "$dir/$1" "$root" "$work/secrets"
        ;;
    kubernetes/*/kustomization.yaml) kustomization "$1" ;;
    kubernetes/*.yaml)
        yaml "$dir/$1"
        kubernetes "$dir/$1"
        "$python" "$checks/rules.py" manifest "$dir/$1" "$root"
        ;;
    kubernetes/base/counterfoil.toml)
        # A kustomization cannot read a file outside its own directory.
        diff "$root/config/production.toml" "$dir/$1"
        ;;
    systemd/*.service) unit "$1" ;;
    redis/precedence.conf) drop_in redis-server "$1" ;;
    redis/*) once redis ;;
    rabbitmq/definitions.json)
        "$python" "$checks/rules.py" definitions "$dir/$1" "$root"
        once rabbitmq
        ;;
    rabbitmq/one-node.json)
        "$python" "$checks/rules.py" definitions "$dir/$1" "$root"
        CHECK_DEFINITIONS=one-node.json "$checks/rabbitmq.sh" "$dir" "$work/one-node"
        ;;
    rabbitmq/*) once rabbitmq ;;
    *)
        echo "nothing checks this file: add it to deploy/check.sh"
        return 1
        ;;
    esac
}

files() {
    {
        for folder in "$root/deploy" "$dir"; do
            (cd "$folder" && find . -type f ! -path './secrets/*' ! -name '*.pyc' | cut -c 3-)
        done
        echo ../docs/asyncapi.yaml
        (cd "$root/deploy" && ls ../docs/schemas/v1/*.json)
    } | sort -u
}

failed=0
for file in ${2:-$(files)}; do
    # The shell ignores `set -e` inside a condition, so each check is a process of its own.
    if [ ! -f "$dir/$file" ]; then
        echo "NOT OK  $file: it is missing"
        failed=1
        continue
    fi
    set +e
    (
        set -e
        check "$file"
    ) >"$work/output" 2>&1
    status=$?
    set -e
    if [ "$status" = 0 ]; then
        echo "ok      $file"
    else
        echo "NOT OK  $file"
        sed 's/^/        /' "$work/output"
        failed=1
    fi
done
exit "$failed"
