#!/usr/bin/env bash
# Makes the environment once, then runs Python in it.
#
#   bash launch/common.sh [cpu|gpu|tpu] PYTHON_ARGUMENTS...
#   bash launch/common.sh tpu -m segsiam_jax.main --config=... --workdir=...
#
# Safe to run again: an environment that is complete and up to date is used as
# it is. The exit code is Python's: 0 finished, 2 bad input, 75 preempted and
# saved (run again to go on).
#
# Variables: PYTHON (default python3), VENV (default .venv in the checkout).
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-python3}
VENV=${VENV:-$PWD/.venv}

usage() {
  echo "error: $1; usage: common.sh [cpu|gpu|tpu] PYTHON_ARGUMENTS..." >&2
  exit 2
}

[ $# -ge 1 ] || usage "no platform"
platform=$1
shift
case $platform in
  cpu) extras= ;;
  gpu) extras="[gpu,gcs]" ;;
  tpu) extras="[tpu,gcs]" ;;
  *) usage "'$platform' is not a platform" ;;
esac
[ $# -ge 1 ] || usage "nothing to run"

# The stamp names what was installed, and is written last: an installation that
# was cut short is done again.
stamp=$VENV/.segsiam_jax
wanted="$platform $("$PYTHON" -V 2>&1) $(cat setup.cfg pyproject.toml | cksum)"
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$wanted" ]; then
  "$PYTHON" -m venv "$VENV"
  "$VENV/bin/python" -m pip install --quiet --upgrade pip
  "$VENV/bin/python" -m pip install --quiet --editable ".$extras"
  echo "$wanted" >"$stamp"
fi

exec "$VENV/bin/python" "$@"
