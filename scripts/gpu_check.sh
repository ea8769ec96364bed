#!/usr/bin/env bash
# Everything that needs an NVIDIA GPU, within ten minutes: the tests; the benchmark; the book's recipe on the fast path and
# on the plain one, five seeds each; the recipe with the highest accuracy, two seeds. Prints the results.
#
#   scripts/gpu_check.sh [hydra overrides]
#   STAGES="bench fast" scripts/gpu_check.sh        some of: tests bench fast plain best
#
# Installs nothing: the Python on PATH must have pytest and the packages of pyproject.toml (at least torch 2.11). The
# environment variable FASHION_VGG_DATA names a folder with the data set, compressed or not.
set -euo pipefail
FASHION_VGG_ROOT=$(CDPATH='' cd -- "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export FASHION_VGG_ROOT
export PYTHONPATH=$FASHION_VGG_ROOT/src${PYTHONPATH:+:$PYTHONPATH}
cd "$FASHION_VGG_ROOT"
out=$FASHION_VGG_ROOT/outputs/gpu_check/$(date +%Y-%m-%d/%H-%M-%S)-$$
overrides=("$@")

stage() {
    echo
    echo "== $1 =="
    "$1"
}

tests() {
    CI=true python3 -m pytest tests/test_gpu.py -m gpu -p no:cacheprovider  # CI: without the data set they fail
}

bench() {
    python3 -m fashion_vgg bench bench=quick experiment=d2l_fast trainer=gpu \
        "hydra.run.dir=$out/bench" "${overrides[@]}"
}

fast() { sweep d2l_fast 0,1,2,3,4; }

plain() { sweep d2l 0,1,2,3,4; }

best() { sweep best 0,1; }

sweep() {
    python3 -m fashion_vgg train -m "experiment=$1" trainer=gpu "seed=$2" "hydra.sweep.dir=$out/$1" "${overrides[@]}"
    python3 - "$out/$1"/*/summary.json <<'PYTHON'
import json
import sys
from pathlib import Path
from statistics import mean, stdev

runs = [json.loads(Path(name).read_text()) for name in sys.argv[1:]]
accuracies, seconds, speeds = (
    [run["final"]["test/acc"] for run in runs],
    [run["wall_seconds"] for run in runs],
    [run["images_per_sec"] for run in runs],
)
print(f"test accuracy {mean(accuracies):.4f} +- {stdev(accuracies):.4f}, minimum {min(accuracies):.4f}, {len(runs)} seeds")
print(f"seconds {mean(seconds):.1f} +- {stdev(seconds):.1f}; the first run, which compiles, {seconds[0]:.1f}")
print(f"images/s {mean(speeds):,.0f} +- {stdev(speeds):,.0f} on {runs[0]['device_name']}, {runs[0]['versions']}")
PYTHON
}

python3 -m fashion_vgg fetch
for name in ${STAGES:-tests bench fast plain best}; do
    stage "$name"
done
