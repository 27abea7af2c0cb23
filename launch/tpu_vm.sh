#!/usr/bin/env bash
# Makes a TPU VM, runs one command on all of its workers, and deletes it.
#
#   export NAME=my-tpu ZONE=us-east5-b TYPE=v6e-16
#   launch/tpu_vm.sh launch -m segsiam_jax.main --config=... --workdir=gs://B/RUN
#
# Actions: create (a queued resource), wait (until it is there), run (copies
# this checkout to all workers and runs Python's arguments on them), launch (all
# three, again after each preemption), logs, delete. --dry-run before the action
# prints every command instead.
#
# The exit code is that of the run: 0 finished, 2 user error (not run again), 75
# preempted and saved. `launch` runs again on 75, and when the VM is gone.
#
# Variables: NAME, ZONE; TYPE (default v6e-8), RUNTIME (default by TYPE), PROJECT,
# SPOT=1 for spot capacity, RETRIES (default 100), POLL (seconds, default 30).
#
# This API serves TPUs up to v6e; TPU7x needs GKE (launch/gke).
set -euo pipefail

TYPE=${TYPE:-v6e-8}
FOLDER=${FOLDER:-segsiam_jax}
RETRIES=${RETRIES:-100}
POLL=${POLL:-30}
case $TYPE in
  v6e-*) default=v2-alpha-tpuv6e ;;
  v5p-*) default=v2-alpha-tpuv5 ;;
  v5litepod-*) default=v2-alpha-tpuv5-lite ;;
  *) default=tpu-ubuntu2204-base ;;
esac
RUNTIME=${RUNTIME:-$default}

fail() {
  echo "error: $1" >&2
  exit 2
}

dry_run=false
if [ "${1:-}" = --dry-run ]; then
  dry_run=true
  shift
fi
[ -n "${NAME:-}" ] || fail "set NAME to the TPU VM's name"
[ -n "${ZONE:-}" ] || fail "set ZONE to its zone, such as us-east5-b"
place=("--zone=$ZONE")
[ -z "${PROJECT:-}" ] || place+=("--project=$PROJECT")

run() {
  if $dry_run; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

queued() {
  local verb=$1
  shift
  run gcloud compute tpus queued-resources "$verb" "$NAME" "${place[@]}" "$@"
}

remote() {
  run gcloud compute tpus tpu-vm ssh "$NAME" "${place[@]}" --worker=all \
    --command="$1"
}

create() {
  local capacity=()
  [ "${SPOT:-}" != 1 ] || capacity=(--spot)
  queued create --node-id="$NAME" --accelerator-type="$TYPE" \
    --runtime-version="$RUNTIME" ${capacity[@]+"${capacity[@]}"}
}

# ACTIVE, WAITING_FOR_RESOURCES, SUSPENDED, ...; nothing if there is none.
state() {
  queued describe --format='value(state.state)' 2>/dev/null || true
}

wait_for() {
  if $dry_run; then
    state
    return 0
  fi
  local now
  while true; do
    now=$(state)
    case $now in
      ACTIVE) return 0 ;;
      FAILED | SUSPENDED | SUSPENDING | '')
        echo "$NAME is ${now:-not there}" >&2
        return 1
        ;;
    esac
    echo "$NAME is $now" >&2
    sleep "$POLL"
  done
}

start() {
  [ $# -ge 1 ] || fail "nothing to run; give Python's arguments, such as -m segsiam_jax.main --config=..."
  local archive command code=0
  archive=$(mktemp -t segsiam_jax.XXXXXX.tar.gz)
  # What git knows, with uncommitted changes; no data, runs or environments.
  if ! $dry_run; then
    (cd "$(dirname "${BASH_SOURCE[0]}")/.." &&
      git ls-files -z --cached --others --exclude-standard |
      tar --null --files-from=- --create --gzip --file="$archive")
  fi
  $dry_run && shown=ARCHIVE || shown=$archive
  run gcloud compute tpus tpu-vm scp "$shown" "$NAME:$FOLDER.tar.gz" \
    "${place[@]}" --worker=all || code=$?
  rm -f "$archive"
  [ "$code" -eq 0 ] || return "$code"
  remote "mkdir -p $FOLDER && tar --extract --gzip --file=$FOLDER.tar.gz --directory=$FOLDER" || return $?
  command=$(printf '%q ' "$@")
  # Variables of an earlier slice would keep JAX waiting for its coordinator.
  remote "cd $FOLDER && unset \${!MEGASCALE_@} && set -o pipefail && bash launch/common.sh tpu $command 2>&1 | tee -a ../$FOLDER.log"
}

launch() {
  local code tries
  for ((tries = 0; tries <= RETRIES; tries++)); do
    if [ -z "$($dry_run || state)" ]; then
      create
    fi
    if wait_for; then
      code=0
      start "$@" || code=$?
      if $dry_run || [ "$code" -eq 0 ] || [ "$code" -eq 2 ]; then
        return "$code"
      fi
      echo "run ended with $code; again" >&2
      [ "$(state)" != ACTIVE ] || continue
    fi
    # Preempted: only a new one comes back.
    queued delete --force --quiet || true
  done
  echo "error: gave up after $RETRIES retries; running this again goes on" >&2
  return 75
}

action=${1:-}
case $action in
  create) create ;;
  wait) wait_for ;;
  run | launch)
    shift
    [ "$action" = launch ] || action=start
    "$action" "$@"
    ;;
  logs) remote "tail -n 100 -f $FOLDER.log" ;;
  delete) queued delete --force --quiet ;;
  *) fail "'$action' is no action; give create, wait, run, launch, logs or delete" ;;
esac
