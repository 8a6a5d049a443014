#!/bin/sh
# Makes the secrets that kustomization.yaml takes, each where there is none: run it again whenever you like. Keep
# secrets/ where backups are kept, and out of every repository. tls/ is yours to fill: tls.crt, with its chain, and
# tls.key, for the name in hub.toml.
set -eu
umask 077
directory=${1:-$(dirname "$0")/secrets}
mkdir -p "$directory"
cd "$directory"

random() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

# Takes a name; its content comes from standard input.
secret() {
    if [ -e "$1" ]; then
        cat >/dev/null
    else
        cat >".$1.new"
        mv ".$1.new" "$1"
    fi
}

random | secret postgres_password
random | secret rabbitmq_password
random | secret metrics_token
# What broker passwords and signed links are derived from: every hub has the same.
head -c 32 /dev/urandom | secret secret.key
printf 'postgresql+psycopg://dlhub:%s@postgres:5432/dlhub' "$(cat postgres_password)" | secret dlhub_hub_database_url
printf 'amqp://dlhub:%s@rabbitmq:5672/%%2F' "$(cat rabbitmq_password)" | secret dlhub_hub_broker_url
printf 'default_user = dlhub\ndefault_pass = %s\n' "$(cat rabbitmq_password)" | secret rabbitmq.conf
