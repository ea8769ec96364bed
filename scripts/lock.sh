#!/usr/bin/env bash
# Rewrites requirements.lock from pyproject.toml, for Python 3.11 to 3.13, with hashes and without the address of a
# package index. Locked versions stay; with --upgrade all become the newest. Arguments go to `uv pip compile`. The next
# start of train.sh or test.sh rebuilds the environment.
set -euo pipefail
CDPATH='' cd -- "$(dirname "${BASH_SOURCE[0]}")/.."
uv=$(command -v uv || echo .venv/bin/uv)
"$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --all-extras \
    --custom-compile-command scripts/lock.sh --output-file requirements.lock "$@" pyproject.toml
