#!/usr/bin/env bash
# Every check: ruff, mypy, import-linter, then the tests on all cores. Creates the environment and fetches the data first.
#
#   bash scripts/test.sh                      everything, in under ten minutes on two cores
#   bash scripts/test.sh --quick              without the long tests, in under ninety seconds: before each commit
#   bash scripts/test.sh tests/data -k loader -n0    other arguments go to pytest, which then runs alone
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
cd "$FASHION_VGG_ROOT"
fashion-vgg fetch
selection=(-m "not gpu")
if [ "${1:-}" = --quick ]; then
    selection=(-m "not gpu and not long")
    shift
fi
if [ $# -eq 0 ]; then
    ruff check .
    ruff format --check .
    mypy
    lint-imports
fi
exec pytest -n logical --maxprocesses 8 --dist worksteal "${selection[@]}" "$@"
