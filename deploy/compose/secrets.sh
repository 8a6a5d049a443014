#!/bin/sh
# Makes the secrets of compose.yaml, each where there is none: run it again whenever you like.
#
# Users inside the containers are others than you, so the files can be read by all, in a directory that nobody
# else can enter.
set -eu
directory=${1:-$(dirname "$0")/secrets}
mkdir -p "$directory"
chmod 0700 "$directory"
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
        chmod 0444 ".$1.new"
        mv ".$1.new" "$1"
    fi
}

random | secret postgres_password
random | secret rabbitmq_password
random | secret metrics_token
printf 'postgresql+psycopg://dlhub:%s@postgres:5432/dlhub\n' "$(cat postgres_password)" | secret dlhub_hub_database_url
printf 'amqp://dlhub:%s@rabbitmq:5672/%%2F\n' "$(cat rabbitmq_password)" | secret dlhub_hub_broker_url
printf 'default_user = dlhub\ndefault_pass = %s\n' "$(cat rabbitmq_password)" | secret rabbitmq.conf
# What `dlhub clients create` prints goes in here.
if [ ! -e endpoint.env ]; then
    : >endpoint.env
    chmod 0644 endpoint.env
fi
