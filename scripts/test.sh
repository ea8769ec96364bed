#!/usr/bin/env bash
# Every check: makes the environment and fetches the data if need be, then ruff, mypy, and pytest with the arguments
# given. With arguments, pytest alone.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
cd "$FASHION_VGG_ROOT"
fashion-vgg fetch
if [ $# -eq 0 ]; then
    ruff check .
    ruff format --check .
    mypy
fi
exec pytest "$@"
