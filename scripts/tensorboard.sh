#!/usr/bin/env bash
# TensorBoard on all runs and sweeps under outputs/, served to this machine only. Arguments go to tensorboard:
#
#   bash scripts/tensorboard.sh --port 6007
#   bash scripts/tensorboard.sh --logdir outputs/sweeps/<date>/<name>,<time>
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
exec tensorboard --host 127.0.0.1 --logdir "$FASHION_VGG_ROOT/outputs" "$@"
