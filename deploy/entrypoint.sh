#!/bin/sh
# Runs the node that KAFKA_PROCESS_ROLES names, in this very process, so that signals reach it.
# A command instead (`docker run klamm klamm --help`) is run as it stands.
set -eu

case "${1:-}" in
  "" | -*) ;;
  *) exec "$@" ;;
esac

case "${KAFKA_PROCESS_ROLES:-}" in
  broker | controller) ;;
  *)
    echo "klamm: KAFKA_PROCESS_ROLES must be broker or controller, is '${KAFKA_PROCESS_ROLES:-}'." >&2
    exit 1
    ;;
esac

config=/mnt/shared/config/server.properties
if [ -f "$config" ]; then
  set -- "$config" "$@"
fi
exec python -m "$KAFKA_PROCESS_ROLES" "$@"
