#!/usr/bin/env bash
# Runs one command in several processes of this machine, which share the work.
#
#   PROCESSES=2 bash launch/local.sh [--dry-run] [cpu|gpu|tpu] \
#     -m segsiam_jax.main --config=... --workdir=...
#
# A signal goes to all processes. The exit code is 0 if all have finished, 2 for
# a user error of any, 75 if they were preempted and saved, else that of the
# first that failed.
#
# Variables: PROCESSES (default 2), PORT (default 8476), LOGS (default logs), a
# folder that takes the output of each process.
set -euo pipefail

PROCESSES=${PROCESSES:-2}
PORT=${PORT:-8476}
LOGS=${LOGS:-logs}

dry_run=false
if [ "${1:-}" = --dry-run ]; then
  dry_run=true
  shift
fi
case $PROCESSES in
  '' | *[!0-9]* | 0)
    echo "error: PROCESSES=$PROCESSES: expected a number" >&2
    exit 2
    ;;
esac
common=$(dirname "${BASH_SOURCE[0]}")/common.sh
variables() {
  echo "JAX_COORDINATOR_ADDRESS=localhost:$PORT JAX_NUM_PROCESSES=$PROCESSES" \
    "JAX_PROCESS_ID=$1"
}

if $dry_run; then
  for ((index = 0; index < PROCESSES; index++)); do
    echo "$(variables "$index") bash launch/common.sh $(printf '%q ' "$@")"
  done
  exit 0
fi

# The environment is made once, before all of them look for it.
bash "$common" "$1" -c pass || exit $?
mkdir -p "$LOGS"
pids=()
for ((index = 0; index < PROCESSES; index++)); do
  # shellcheck disable=SC2046 # Three words.
  env $(variables "$index") bash "$common" "$@" >"$LOGS/$index.log" 2>&1 &
  pids+=($!)
done
trap 'kill -TERM "${pids[@]}" 2>/dev/null || true' TERM
trap 'kill -INT "${pids[@]}" 2>/dev/null || true' INT

worst=0
for pid in "${pids[@]}"; do
  code=0
  # A signal ends `wait` before the process.
  while kill -0 "$pid" 2>/dev/null; do
    code=0
    wait "$pid" || code=$?
  done
  wait "$pid" 2>/dev/null || code=$?
  case $code in
    0) ;;
    2) worst=2 ;;
    75) [ "$worst" -ne 0 ] || worst=75 ;;
    *) [ "$worst" -eq 2 ] || [ "$worst" -eq 1 ] || worst=$code ;;
  esac
done
tail -n 3 "$LOGS/0.log" >&2
exit "$worst"
