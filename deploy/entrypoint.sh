#!/bin/sh
# What the image starts. `serve` (the default) is the API, `migrate` brings the database up to date and ends, anything
# else is a command of its own: `celery -A celery_app worker`, `daphne config.asgi:application`, `archon doctor`.
# Everything is started by exec, so signals reach it. With ARCHON_MIGRATE=1 the database is brought up to date before;
# that is safe in several containers at a time.
set -eu

if [ "${1:-serve}" = migrate ]; then
    exec python -m config.database_migrate
fi
case ${ARCHON_MIGRATE:-0} in
    1 | true | True | yes) python -m config.database_migrate ;;
esac
case ${1:-serve} in
    serve)
        exec python -m config.serve "${ARCHON_BIND:-0.0.0.0:8000}"
        ;;
    manage)
        shift
        exec python manage.py "$@"
        ;;
    *)
        exec "$@"
        ;;
esac
