#!/usr/bin/env bash
# Creates the environment if necessary, then runs `fashion-vgg train` with the given Hydra overrides.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
exec fashion-vgg train "$@"
