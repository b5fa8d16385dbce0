#!/usr/bin/env bash
# The flights of 2013 through a real Kafka: data, topics, the live pipeline and its frozen first model, the report.
#
#   run.sh [--first N] [--out DIR]
#
# --first N takes only the first N departures (27,000 are January). DIR, by default target/flights, receives report.txt,
# report.json, report.png and the logs. Kafka comes from scripts/kafka, or is the one that DRIFTMILL_KAFKA=host:port
# names. The daemon is target/release/driftmill, built first, or the one that DRIFTMILL_BIN names; Python's packages go
# into DIR/venv, or DRIFTMILL_VENV.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
first="" out=$root/target/flights
while [ $# -gt 0 ]; do
  case $1 in
  --first) first=$2 ;;
  --out) out=$2 ;;
  *) sed -n '2,9p' "${BASH_SOURCE[0]}" >&2 && exit 2 ;;
  esac
  shift 2
done

rm -rf "$out/state" "$out/data"
mkdir -p "$out/state"
if [ -z "${DRIFTMILL_BIN:-}" ]; then
  cargo build --release --manifest-path "$root/Cargo.toml" -p driftmill
  DRIFTMILL_BIN=${CARGO_TARGET_DIR:-$root/target}/release/driftmill
fi

venv=${DRIFTMILL_VENV:-$out/venv}
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install -q -r "$here/requirements.txt"
python=$venv/bin/python

daemons=()
finish() {
  for pid in "${daemons[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
}
trap finish EXIT

if [ -z "${DRIFTMILL_KAFKA:-}" ]; then
  # The cluster goes with this script, however the script ends.
  DRIFTMILL_KAFKA=$("$root/scripts/kafka/kafka" start --owner $$ --dir "$out/kafka")
fi
export BROKERS=$DRIFTMILL_KAFKA STATE=$out/state

free_port() {
  "$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
LISTEN=127.0.0.1:$(free_port)
LISTEN_FROZEN=127.0.0.1:$(free_port)
export LISTEN LISTEN_FROZEN

"$python" "$here/data.py" "$out/data" ${first:+--first "$first"}
"$python" "$here/produce.py" --brokers "$BROKERS" "$out/data"

# metric URL REGEX: the sum of the values whose line matches; nothing when the daemon does not answer.
metric() {
  "$python" - "$1" "$2" <<'END'
import re, sys, urllib.request
try:
    page = urllib.request.urlopen(f"http://{sys.argv[1]}/metrics", timeout=10).read().decode()
except OSError:
    sys.exit()
found = [line for line in page.splitlines() if re.match(sys.argv[2], line)]
if found:
    print(int(sum(float(line.rsplit(" ", 1)[1]) for line in found)))
END
}

# work FILE ADDRESS DEPARTURES: runs a pipeline until every departure has its outcome and nothing is left to read, then
# drains it with SIGTERM.
work() {
  local name log pid started now
  name=$(basename "$1" .toml)
  log=$out/$name.log
  "$DRIFTMILL_BIN" run "$1" >"$log" 2>&1 &
  pid=$!
  daemons+=("$pid")
  started=$SECONDS
  while :; do
    if ! kill -0 "$pid" 2>/dev/null; then
      tail -n 20 "$log" >&2
      echo "flights: the $name pipeline ended by itself; see $log" >&2
      exit 1
    fi
    now=$(metric "$2" 'driftmill_records_total\{')
    if [ "${now:-0}" -ge "$3" ] && [ "$(metric "$2" 'driftmill_source_lag_records\{')" = 0 ]; then break; fi
    sleep 1
  done
  kill "$pid"
  wait "$pid"
  echo "flights: the $name pipeline worked off $now departures in $((SECONDS - started)) s"
}

departures=$(wc -l <"$out/data/departures.jsonl")
work "$here/frozen.toml" "$LISTEN_FROZEN" "$departures"
work "$here/flights.toml" "$LISTEN" "$departures"

"$python" "$here/report.py" --brokers "$BROKERS" --check --png "$out/report.png" --json "$out/report.json" |
  tee "$out/report.txt"
