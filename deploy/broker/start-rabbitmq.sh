#!/bin/sh
# Runs RabbitMQ for a hub in the foreground, on a machine without containers; ends it with SIGTERM or Ctrl-C.
# RabbitMQ comes from Debian (rabbitmq-server), conda-forge or its own archive. Started by root it runs as the
# user rabbitmq, started by anyone else as that user.
set -eu

usage() {
    cat <<'END'
Usage: start-rabbitmq.sh [option value]...

  --data DIR              everything it keeps (default: ~/.local/share/dlhub/rabbitmq)
  --host ADDRESS          address for AMQP (default: 127.0.0.1)
  --port N                port for AMQP (default: 5672, with TLS 5671)
  --management-host ADDRESS  address of the management interface (default: 127.0.0.1)
  --management-port N     its port (default: 15672)
  --node NAME             name of the Erlang node (default: dlhub@localhost)
  --distribution-port N   port of the Erlang node, on loopback (default: 25672)
  --epmd-port N           port of its port mapper, on loopback (default: 4369)
  --user NAME             administrator that the first start makes (default: dlhub)
  --password-file FILE    that user's password; made with mode 0600 where there is none (default: DIR/password)
  --tls-certificate FILE  PEM with the certificate chain: AMQP then takes TLS connections only
  --tls-key FILE          PEM with its key
  --server FILE           rabbitmq-server (default: Debian's, else the one on PATH)
  --log-level LEVEL       debug, info, warning or error (default: info)
END
}

fail() {
    echo "start-rabbitmq.sh: $1" >&2
    exit 64
}

data=${XDG_DATA_HOME:-$HOME/.local/share}/dlhub/rabbitmq
host=127.0.0.1 port= management_host=127.0.0.1 management_port=15672
node=dlhub@localhost distribution_port=25672 epmd_port=4369
user=dlhub password_file= certificate= key= server= log_level=info
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
    esac
    [ $# -gt 1 ] || fail "$1 needs a value; --help lists the options."
    case $1 in
        --data) data=$2 ;;
        --host) host=$2 ;;
        --port) port=$2 ;;
        --management-host) management_host=$2 ;;
        --management-port) management_port=$2 ;;
        --node) node=$2 ;;
        --distribution-port) distribution_port=$2 ;;
        --epmd-port) epmd_port=$2 ;;
        --user) user=$2 ;;
        --password-file) password_file=$2 ;;
        --tls-certificate) certificate=$2 ;;
        --tls-key) key=$2 ;;
        --server) server=$2 ;;
        --log-level) log_level=$2 ;;
        *) fail "$1 is no option; --help lists them." ;;
    esac
    shift 2
done
if [ -n "$certificate$key" ] && { [ ! -r "$certificate" ] || [ ! -r "$key" ]; }; then
    fail "--tls-certificate and --tls-key must both name files that can be read."
fi
if [ -z "$server" ]; then
    # Debian's command on PATH refuses ordinary users; what it wraps does not.
    server=/usr/lib/rabbitmq/bin/rabbitmq-server
    [ -x "$server" ] || server=$(command -v rabbitmq-server) ||
        fail "there is no rabbitmq-server: install it (apt install rabbitmq-server, or conda install -c conda-forge rabbitmq-server), or name it with --server."
fi
command -v epmd >/dev/null || fail "there is no epmd on PATH; it comes with Erlang."

here=$(cd "$(dirname "$0")" && pwd)
umask 077
mkdir -p "$data"
data=$(cd "$data" && pwd)
password_file=${password_file:-$data/password}
if [ ! -s "$password_file" ]; then
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$password_file"
fi

# What the server listens to and trusts, anew at each start; user and password count at the first one only.
{
    cat "$here/rabbitmq.conf"
    echo "default_user = $user"
    echo "default_pass = $(cat "$password_file")"
    echo "management.tcp.ip = $management_host"
    echo "management.tcp.port = $management_port"
    echo "log.console = true"
    echo "log.console.level = $log_level"
    echo "log.file = false"
    if [ -n "$certificate" ]; then
        cp "$certificate" "$data/certificate.pem"
        cp "$key" "$data/key.pem"
        echo "listeners.tcp = none"
        echo "listeners.ssl.1 = $host:${port:-5671}"
        echo "ssl_options.certfile = $data/certificate.pem"
        echo "ssl_options.keyfile = $data/key.pem"
        echo "ssl_options.cacertfile = $data/certificate.pem"
        echo "ssl_options.verify = verify_none"
        echo "ssl_options.versions.1 = tlsv1.3"
        echo "ssl_options.versions.2 = tlsv1.2"
    else
        echo "listeners.tcp.1 = $host:${port:-5672}"
    fi
} >"$data/rabbitmq.conf"
echo '[rabbitmq_management].' >"$data/enabled_plugins"

as_user=
if [ "$(id -u)" = 0 ]; then
    id rabbitmq >/dev/null 2>&1 || fail "root needs a user named rabbitmq to run the server as."
    command -v setpriv >/dev/null || fail "root needs setpriv (of util-linux) to run the server as rabbitmq."
    chown -R rabbitmq: "$data"
    as_user="--reuid=rabbitmq --regid=$(id -g rabbitmq) --init-groups"
fi
# Takes a signal and a command; where it can, has the command get the signal when this script has been killed.
child() {
    signal=$1
    shift
    if command -v setpriv >/dev/null; then
        # shellcheck disable=SC2086 # several words are meant
        exec setpriv $as_user --pdeathsig "$signal" "$@"
    fi
    exec "$@"
}

export HOME="$data" # the Erlang cookie's place
export RABBITMQ_CONF_ENV_FILE=/dev/null # Debian's settings are for Debian's own service
export RABBITMQ_CONFIG_FILE="$data/rabbitmq.conf"
export RABBITMQ_ADVANCED_CONFIG_FILE="$data/advanced.config"
export RABBITMQ_ENABLED_PLUGINS_FILE="$data/enabled_plugins"
export RABBITMQ_MNESIA_BASE="$data/mnesia"
export RABBITMQ_LOG_BASE="$data/log"
export RABBITMQ_PID_FILE="$data/rabbitmq.pid"
export RABBITMQ_NODENAME="$node"
export ERL_EPMD_PORT="$epmd_port" ERL_EPMD_ADDRESS=127.0.0.1
# The node neither starts a port mapper of its own, which would outlive it, nor listens beyond this machine.
case $node in
    *@*.*) name_flag=-name ;;
    *) name_flag=-sname ;;
esac
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="$name_flag $node -start_epmd false -kernel inet_dist_use_interface {127,0,0,1} \
-kernel inet_dist_listen_min $distribution_port -kernel inet_dist_listen_max $distribution_port"
export RUNNING_UNDER_SYSTEMD=true # makes the server replace its script, so that signals reach it

cd "$data"
# Where another port mapper listens there already, this one ends at once and the node uses the other.
child KILL epmd -port "$epmd_port" -address 127.0.0.1 &
epmd=$!
child TERM "$server" &
rabbitmq=$!
trap 'kill -TERM $rabbitmq 2>/dev/null' TERM INT
trap '' HUP
status=0
wait $rabbitmq || status=$?
while kill -0 $rabbitmq 2>/dev/null; do # a signal has ended the wait, not the server
    status=0
    wait $rabbitmq || status=$?
done
kill $epmd 2>/dev/null || true
wait $epmd 2>/dev/null || true
exit $status
