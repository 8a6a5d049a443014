#!/bin/sh
# Serves one endpoint in a container: what it is given as files goes where dlhub-endpoint looks for it.
#
#   DLHUB_ENDPOINT_NAME         the endpoint's name (default: default)
#   DLHUB_ENDPOINT_PROFILE      its site profile (default: /etc/dlhub/profile.yaml)
#   DLHUB_ENDPOINT_POLICY       who may run what here, where there is such a file (default: /etc/dlhub/policy.yaml)
#   DLHUB_ENDPOINT_CREDENTIALS  what `dlhub clients create` printed (default: /run/secrets/endpoint.env)
set -eu

name=${DLHUB_ENDPOINT_NAME:-default}
profile=${DLHUB_ENDPOINT_PROFILE:-/etc/dlhub/profile.yaml}
policy=${DLHUB_ENDPOINT_POLICY:-/etc/dlhub/policy.yaml}
credentials=${DLHUB_ENDPOINT_CREDENTIALS:-/run/secrets/endpoint.env}

if [ "${1:-}" = --check ]; then
    exec dlhub-endpoint status "$name"
fi

umask 077
directory=${DLHUB_ENDPOINTS_DIR:-$HOME/.dlhub/endpoints}/$name
mkdir -p "$directory"
if [ ! -r "$profile" ]; then
    echo "endpoint-start: there is no profile $profile: mount one, or name it in DLHUB_ENDPOINT_PROFILE." >&2
    exit 78
fi
cp "$profile" "$directory/profile.yaml"
if [ -r "$policy" ]; then
    cp "$policy" "$directory/policy.yaml"
fi
if [ -s "$credentials" ]; then
    set -a
    # shellcheck disable=SC1090 # it is given at run time
    . "$credentials"
    set +a
fi
exec dlhub-endpoint start "$name" "$@"
