#!/usr/bin/env bash
# Copies this checkout to every worker of a TPU VM and runs one command on all.
#
#   NAME=my-tpu ZONE=us-central2-b launch/tpu_vm.sh [--dry-run] \
#     -m segsiam_jax.main --config=configs/unet_pets.py --workdir=gs://BUCKET/RUN
#
# The TPU VM exists already (launch/README.md says how to make one). The same
# command resumes a run that stopped. --dry-run prints every command instead.
# The exit code is that of the run: 0, 2 (do not retry) or 75 (run again).
set -euo pipefail

PROJECT_FLAG=${PROJECT:+--project=$PROJECT}
FOLDER=${FOLDER:-segsiam_jax}

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
[ -n "${ZONE:-}" ] || fail "set ZONE to its zone, such as us-central2-b"
[ $# -ge 1 ] || fail "nothing to run; give Python's arguments, such as -m segsiam_jax.main --config=..."

run() {
  if $dry_run; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

remote() {
  run gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" ${PROJECT_FLAG} \
    --worker=all --command="$1"
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
archive=$(mktemp -t segsiam_jax.XXXXXX.tar.gz)
trap 'rm -f "$archive"' EXIT

# What git knows, with uncommitted changes; no data, runs or environments.
if ! $dry_run; then
  git ls-files -z --cached --others --exclude-standard |
    tar --null --files-from=- --create --gzip --file="$archive"
fi
run gcloud compute tpus tpu-vm scp "$archive" "$NAME:$FOLDER.tar.gz" \
  --zone="$ZONE" ${PROJECT_FLAG} --worker=all
remote "mkdir -p $FOLDER && tar --extract --gzip --file=$FOLDER.tar.gz --directory=$FOLDER"
command=$(printf '%q ' "$@")
remote "cd $FOLDER && bash launch/common.sh tpu $command"
