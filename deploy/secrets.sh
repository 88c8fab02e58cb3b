#!/bin/sh
# Makes the passwords of a deployment, and the files that carry them, in a directory (default:
# deploy/secrets). What is there already stays as it is; to change a password, remove
# the directory and run this again. Needs openssl.
#
#   amqp-url, redis-url (server-, worker-, shop-)  settings, read by COUNTERFOIL_…_FILE
#   redis-secret                                   what tickets are derived from: back it up
#   passwords.json                                 for RabbitMQ, beside its definitions
#   users.acl                                      for Redis: users.acl with passwords
#   redis-reader-password                          for the health check, and for people
#
# AMQP_HOST, REDIS_HOST: where they are reached (default: rabbitmq, redis, as compose calls them).
set -eu

here=$(cd "$(dirname "$0")" && pwd)
secrets=${1:-$here/secrets}
amqp_host=${AMQP_HOST:-rabbitmq}
redis_host=${REDIS_HOST:-redis}

if [ -e "$secrets" ]; then
    echo "$secrets is there: nothing is changed" >&2
    exit 0
fi
command -v openssl >/dev/null 2>&1 || {
    echo "openssl is needed" >&2
    exit 1
}

# Containers read these files under users of their own, so the files are readable and the directory
# is not. Only a whole directory gets its name.
umask 022
new=$secrets.new
rm -rf "$new"
mkdir -p "$new"
chmod 700 "$new"

password() {
    openssl rand -hex 24
}

# As RabbitMQ keeps it: base64 of a salt of 4 bytes and SHA-256 over salt and password.
rabbitmq_hash() {
    openssl rand 4 >"$new/salt"
    {
        cat "$new/salt"
        printf %s "$1" | cat "$new/salt" - | openssl dgst -sha256 -binary
    } | openssl base64 -A
    rm "$new/salt"
}

rabbitmq_user() {
    printf '{"name": "%s", "tags": "", "hashing_algorithm": "rabbit_password_hashing_sha256", ' "$1"
    printf '"password_hash": "%s"}' "$(rabbitmq_hash "$2")"
}

separator=""
{
    printf '{"users": ['
    for name in server worker shop; do
        word=$(password)
        user=counterfoil-$name
        [ "$name" = shop ] && user=shop
        printf '%s\n  %s' "$separator" "$(rabbitmq_user "$user" "$word")"
        separator=,
        echo "amqp://$user:$word@$amqp_host:5672/" >"$new/$name-amqp-url"
    done
    printf '\n]}\n'
} >"$new/passwords.json"

# Without this line somebody who gives no name may do everything.
{
    grep -q '^user default ' "$here/redis/users.acl" || echo "user default off ~* &* +@all"
    cat "$here/redis/users.acl"
} >"$new/users.acl"
for name in server worker reader; do
    word=$(password)
    hash=$(printf %s "$word" | openssl dgst -sha256 -r | cut -d ' ' -f 1)
    # At the end of the line, so that nothing in it takes the password away again.
    sed "s/^user counterfoil-$name .*/& #$hash/" "$new/users.acl" >"$new/users.acl.new"
    mv "$new/users.acl.new" "$new/users.acl"
    if [ "$name" = reader ]; then
        echo "$word" >"$new/redis-reader-password"
    else
        echo "redis://counterfoil-$name:$word@$redis_host:6379/0" >"$new/$name-redis-url"
    fi
done
openssl rand -hex 32 >"$new/redis-secret"

mv "$new" "$secrets"
echo "made $secrets" >&2
