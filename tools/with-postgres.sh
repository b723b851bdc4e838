#!/usr/bin/env bash
# Runs a command with DATABASE_URL pointing at a throw-away PostgreSQL made from the given binaries.
#   usage: tools/with-postgres.sh <bin dir> <command> [argument ...]
# The server lives in a temporary folder, listens on 127.0.0.1 only and is gone when the command ends, however it ends.
set -euo pipefail

if (($# < 2)); then
  echo "usage: $0 <bin dir> <command> [argument ...]" >&2
  exit 2
fi
bin=$1
shift
if [[ ! -x $bin/initdb || ! -x $bin/pg_ctl ]]; then
  echo "No PostgreSQL server in $bin (initdb and pg_ctl are needed)." >&2
  exit 1
fi

# PostgreSQL refuses to run as root, and initdb wants a user that the system knows by name.
as_server=()
if ((EUID == 0)); then
  user=postgres
  id -u "$user" >/dev/null 2>&1 || user=nobody
  as_server=(setpriv "--reuid=$(id -u "$user")" "--regid=$(id -g "$user")" --clear-groups)
fi
server() { # The working folder may be closed to that user; / is not.
  (cd / && LC_ALL=C TZ=UTC "${as_server[@]}" "$@")
}

folder=$(mktemp -d "${TMPDIR:-/tmp}/with-postgres.XXXXXX")
data=$folder/data
log=$folder/server.log
stop() {
  local status=$?
  trap - EXIT
  server "$bin/pg_ctl" -D "$data" -m immediate -w stop >/dev/null 2>&1 || true
  rm -rf "$folder"
  exit "$status"
}
trap stop EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
if ((EUID == 0)); then chown "$user" "$folder"; fi

server "$bin/initdb" -D "$data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$folder/initdb.log" 2>&1 || {
  cat "$folder/initdb.log" >&2
  exit 1
}

# A port below the range that the system hands out by itself; taken ones are passed over.
port=
for _ in {1..20}; do
  candidate=$((20000 + RANDOM % 10000))
  # Nothing of this server needs to outlive a crash, so it need not wait for the disk.
  if server "$bin/pg_ctl" -D "$data" -l "$log" -w -t 30 start >/dev/null 2>&1 \
    -o "-p $candidate -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=300 -c fsync=off"; then
    port=$candidate
    break
  fi
done
if [[ -z $port ]]; then
  cat "$log" >&2
  echo "PostgreSQL did not start." >&2
  exit 1
fi

echo "$("$bin/postgres" --version) on 127.0.0.1:$port"
# In the background and waited for, so that a signal stops the server at once and not only after the command.
DATABASE_URL="postgres://postgres@127.0.0.1:$port/postgres" "$@" &
command=$!
trap 'kill -TERM "$command" 2>/dev/null; wait "$command" 2>/dev/null; exit 143' TERM
trap 'kill -INT "$command" 2>/dev/null; wait "$command" 2>/dev/null; exit 130' INT
wait "$command"
