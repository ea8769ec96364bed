#!/usr/bin/env bash
# Every check: ruff, mypy, import-linter, then the tests on all cores. Creates the environment and fetches the data first.
#
#   bash scripts/test.sh                      about 10 minutes on two cores of an AMD EPYC (Zen 3)
#   bash scripts/test.sh --quick              without the long tests, in two to four minutes: before each commit
#   bash scripts/test.sh --all                with the thorough ones: before a release
#   bash scripts/test.sh --engines            SLURM, Ray and torchrun, started here; installs SLURM if it may
#   bash scripts/test.sh tests/data -k loader -n0    other arguments go to pytest, which then runs alone
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
cd "$FASHION_VGG_ROOT"
fashion-vgg fetch
selection="not gpu and not engine and not thorough"
case "${1:-}" in
    --quick)
        selection+=" and not long"
        shift
        ;;
    --all)
        selection="not gpu and not engine"
        shift
        ;;
    --engines)
        shift
        if ! { command -v sbatch && command -v ip; } > /dev/null && [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
            apt-get update
            apt-get install -y --no-install-recommends slurm-wlm munge iproute2
        fi
        exec pytest -m engine "$@"
        ;;
esac
if [ $# -eq 0 ]; then
    ruff check .
    ruff format --check .
    mypy
    lint-imports
fi
exec pytest -n logical --maxprocesses 8 --dist worksteal -m "$selection" "$@"
