#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: the tests that need one, then the seed's whole recipe; prints the figures as JSON.
#
#   scripts/gpu_check.sh [hydra overrides of the recipe]
#
# It installs nothing: the Python on PATH must have the packages of pyproject.toml (at least torch 2.11) and pytest. The
# data set is looked for as always; FASHION_VGG_DATA names a folder that holds it, compressed or not.
set -euo pipefail
FASHION_VGG_ROOT=$(CDPATH='' cd -- "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export FASHION_VGG_ROOT
export PYTHONPATH=$FASHION_VGG_ROOT/src${PYTHONPATH:+:$PYTHONPATH}
cd "$FASHION_VGG_ROOT"

run=$FASHION_VGG_ROOT/outputs/gpu_check/$(date +%Y-%m-%d/%H-%M-%S)-$$
python3 -m fashion_vgg fetch
CI=true python3 -m pytest -m gpu -p no:cacheprovider  # CI: a missing data set fails the tests, and skips none
python3 -m fashion_vgg train experiment=d2l trainer=gpu "hydra.run.dir=$run" "$@"
cat "$run/summary.json"
