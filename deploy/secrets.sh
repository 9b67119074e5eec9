#!/bin/sh
# Makes the secrets that compose.yaml hands to the services, where they aren't there yet. The folder is closed to other
# users; the files in it are not, since the services' own users read them through it.
set -eu
cd "$(dirname -- "$0")/.."
mkdir -p secrets
chmod 700 secrets
for name in db_password django_secret_key jwt_secret_key; do
    if [ ! -s "secrets/$name" ]; then
        head -c 48 /dev/urandom | base64 | tr -d '\n=' >"secrets/$name"
        chmod 444 "secrets/$name"
        echo "made secrets/$name"
    fi
done
