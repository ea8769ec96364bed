#!/usr/bin/env bash
# Write requirements.lock anew from pyproject.toml: the newest versions for Python 3.11 to 3.13, with hashes, and without
# the address of any index. The next start of train.sh or test.sh remakes the environment from it.
set -euo pipefail
CDPATH='' cd -- "$(dirname "${BASH_SOURCE[0]}")/.."
uv=$(command -v uv || echo .venv/bin/uv)
"$uv" pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
    --all-extras --custom-compile-command scripts/lock.sh --output-file requirements.lock pyproject.toml
