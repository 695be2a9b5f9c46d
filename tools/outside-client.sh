#!/usr/bin/env bash
# Runs a roadside unit in one process and the Python client in another, and checks what the client heard, how the unit
# ends on SIGINT, and what it says. Needs the release or dev binary as $1 and a Python with tools/requirements.txt as $2.
set -euo pipefail
binary=$1
python=$2
top=$(cd "$(dirname "$0")/.." && pwd)
logs=$(mktemp -d)
unit=
trap 'kill -INT $unit 2>/dev/null || true; rm -rf "$logs"' EXIT

if (exec 3<>/dev/tcp/127.0.0.1/7447) 2>/dev/null; then
  echo "something listens on port 7447 already" >&2
  exit 1
fi
"$binary" --format json run "$top/pipelines/roadside.toml" >"$logs/unit.out" 2>"$logs/unit.err" &
unit=$!
for _ in $(seq 100); do # until it listens
  (exec 3<>/dev/tcp/127.0.0.1/7447) 2>/dev/null && break
  sleep 0.1
done
timeout 60 "$python" "$top/tools/client.py" tcp/127.0.0.1:7447 unit1 3 >"$logs/client.out" 2>"$logs/client.err" || {
  cat "$logs/client.err" "$logs/unit.err"
  echo "the client heard nothing" >&2
  exit 1
}
kill -INT "$unit"
status=0
wait "$unit" || status=$?
cat "$logs/client.err"
tail -n 1 "$logs/client.out"
[ "$status" -eq 0 ] || { cat "$logs/unit.err"; echo "the unit ended with $status" >&2; exit 1; }
grep -q '"source": "model"' "$logs/client.out" || { echo "no beam was ever decided" >&2; exit 1; }
grep -q '"type":"summary"' "$logs/unit.out" || { echo "the unit printed no summary" >&2; exit 1; }
echo "outside client: ok"
