#!/usr/bin/env bash
# Starts a run on Google Kubernetes Engine, with JobSet and Kueue installed.
#
#   export NAME=exp1 IMAGE=REGISTRY/segsiam_jax QUEUE=queue
#   ACCELERATOR=tpu-v6e-slice TOPOLOGY=4x4 HOSTS=4 CHIPS=4 \
#     launch/gke/launch.sh [--dry-run] tpu --config=... --workdir=gs://B/RUN
#
# The arguments are those of segsiam_jax.main. Pods that are preempted start
# again and go on; a user error (exit code 2) ends the JobSet.
#
# Variables: NAME, IMAGE, QUEUE; ACCELERATOR, TOPOLOGY, HOSTS (pods of a slice,
# default 1), CHIPS (of a pod, default 4), SLICES (default 1). TPU7x:
# ACCELERATOR=tpu7x TOPOLOGY=2x2x2 HOSTS=2.
set -euo pipefail

fail() {
  echo "error: $1" >&2
  exit 2
}

dry_run=false
if [ "${1:-}" = --dry-run ]; then
  dry_run=true
  shift
fi
kind=${1:-}
case $kind in
  tpu)
    ACCELERATOR=${ACCELERATOR:-tpu-v6e-slice}
    TOPOLOGY=${TOPOLOGY:-2x2}
    ;;
  gpu)
    ACCELERATOR=${ACCELERATOR:-nvidia-h100-80gb}
    TOPOLOGY=none
    ;;
  *) fail "'$kind' is neither tpu nor gpu" ;;
esac
shift
[ -n "${NAME:-}" ] || fail "set NAME to a name for the run"
[ -n "${IMAGE:-}" ] || fail "set IMAGE to the image that launch/Dockerfile made"
[ $# -ge 1 ] || fail "nothing to run; give flags, such as --config=... --workdir=gs://..."
QUEUE=${QUEUE:-queue}
HOSTS=${HOSTS:-1}
CHIPS=${CHIPS:-4}
SLICES=${SLICES:-1}

# A JSON list is YAML, too.
ARGUMENTS=
for argument in "$@"; do
  argument=${argument//\\/\\\\}
  ARGUMENTS+=", \"${argument//\"/\\\"}\""
done
ARGUMENTS="[${ARGUMENTS#, }]"

filled=$(<"$(dirname "${BASH_SOURCE[0]}")/$kind.yaml")
for name in NAME QUEUE IMAGE ACCELERATOR TOPOLOGY HOSTS CHIPS SLICES ARGUMENTS; do
  filled=${filled//"\${$name}"/"${!name}"}
done
if $dry_run; then
  echo "kubectl apply --filename=-"
  echo "$filled"
else
  echo "$filled" | kubectl apply --filename=-
  echo "logs: kubectl logs --follow --selector=jobset.sigs.k8s.io/jobset-name=$NAME"
  echo "delete: kubectl delete jobset $NAME"
fi
