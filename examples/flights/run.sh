#!/usr/bin/env bash
# The flights of 2013 through a real Kafka: data, topics, the live pipeline and its frozen first model, the report.
#
#   run.sh [--first N] [--seconds S] [--out DIR] [--better]
#
# --first N takes only the first N departures (27,000 are January). The replay is spread over S seconds, by default 240
# for the year and in proportion for a part of it: a training job takes about a second, which is then a day and a half
# of flights. With --better it fails unless the live pipeline beats its first version and the class. DIR, by default
# target/flights, receives report.txt, report.json, report.png and the logs. Kafka comes from scripts/kafka, or is the
# one that DRIFTMILL_KAFKA=host:port names. The daemon is target/release/driftmill, built first, or the one that
# DRIFTMILL_BIN names; Python's packages go into DIR/venv, or DRIFTMILL_VENV.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
first="" seconds="" better="" out=$root/target/flights
while [ $# -gt 0 ]; do
  case $1 in
  --better) better=--better && shift && continue ;;
  --first) first=$2 ;;
  --seconds) seconds=$2 ;;
  --out) out=$2 ;;
  *) sed -n '2,12p' "${BASH_SOURCE[0]}" >&2 && exit 2 ;;
  esac
  shift 2
done

mkdir -p "$out"
# Absolute: a registry's file URL must be.
out=$(cd "$out" && pwd)
rm -rf "$out/state" "$out/data"
mkdir -p "$out/state"
if [ -z "${DRIFTMILL_BIN:-}" ]; then
  cargo build --release --manifest-path "$root/Cargo.toml" -p driftmill
  DRIFTMILL_BIN=${CARGO_TARGET_DIR:-$root/target}/release/driftmill
fi

seconds=${seconds:-$((${first:-336776} * 240 / 336776 + 1))}

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
departures=$(wc -l <"$out/data/departures.jsonl")
"$python" "$here/produce.py" --brokers "$BROKERS" --only topics "$out/data"

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

# start NAME: runs NAME.toml in the background.
start() {
  "$DRIFTMILL_BIN" run "$here/$1.toml" >"$out/$1.log" 2>&1 &
  daemons+=("$!")
}

# finish_work NAME ADDRESS PID: waits until every departure has its outcome and nothing is left to read, then drains the
# pipeline with SIGTERM.
finish_work() {
  local now
  while :; do
    if ! kill -0 "$3" 2>/dev/null; then
      tail -n 20 "$out/$1.log" >&2
      echo "flights: the $1 pipeline ended by itself; see $out/$1.log" >&2
      exit 1
    fi
    now=$(metric "$2" 'driftmill_records_total\{outcome="(scored|filtered|dead_letter)"')
    if [ "${now:-0}" -ge "$departures" ] && [ "$(metric "$2" 'driftmill_source_lag_records\{')" = 0 ]; then break; fi
    sleep 1
  done
  kill "$3"
  wait "$3"
  echo "flights: the $1 pipeline gave $now departures their outcome"
}

started=$SECONDS
start flights
"$python" "$here/produce.py" --brokers "$BROKERS" --only records --seconds "$seconds" "$out/data"
finish_work flights "$LISTEN" "${daemons[0]}"
# The first version as it was when it went live, from the same records again.
history=$STATE/flights-registry/deployments.jsonl
[ -s "$history" ] || { echo "flights: no version went live; see $out/flights.log" >&2; exit 1; }
artifact=$(head -n 1 "$history" | "$python" -c 'import json, sys; print(json.load(sys.stdin)["artifact"])')
export FIRST=$STATE/flights-registry/objects/${artifact:0:2}/$artifact
start frozen
finish_work frozen "$LISTEN_FROZEN" "${daemons[1]}"
echo "flights: $((SECONDS - started)) s from the first record to the last answer"

"$python" "$here/report.py" --brokers "$BROKERS" --check ${better:+"$better"} --png "$out/report.png" --json "$out/report.json" |
  tee "$out/report.txt"
