#!/usr/bin/env bash
# Train: makes the environment if need be, then `fashion-vgg train` with the Hydra overrides given.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
exec fashion-vgg train "$@"
