# Sourced by the other scripts: creates .venv from requirements.lock, or rebuilds it if the lock has changed. Puts
# .venv/bin first on PATH and sets FASHION_VGG_ROOT to the checkout.

FASHION_VGG_ROOT=$(CDPATH='' cd -- "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export FASHION_VGG_ROOT

supported_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11 python; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    echo "No Python 3.11, 3.12 or 3.13 on PATH: install one (on Debian: apt install python3 python3-venv)." >&2
    return 1
}

create_environment() {
    local venv=$1 lock=$2 python uv
    echo "Creating $venv from requirements.lock (once; about 6.9 GB with CUDA's libraries) ..." >&2
    python=$(supported_python) || return
    rm -rf "$venv"
    if uv=$(command -v uv); then
        "$uv" venv --quiet --python "$python" "$venv" || return
    else
        "$python" -m venv "$venv" || return
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check uv || return
        uv=$venv/bin/uv
    fi
    # --require-hashes refuses a wheel that differs from the lock.
    "$uv" pip install --quiet --python "$venv/bin/python" --require-hashes --compile-bytecode -r "$lock" 9<&- || return
    "$uv" pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation -e "$FASHION_VGG_ROOT" || return
    # Last, so that an interrupted install is repeated.
    origin "$lock" >"$venv/made-from"
}

# What an environment depends on: the lock, and the checkout's folder, since it holds absolute paths.
origin() {
    echo "$FASHION_VGG_ROOT"
    cat "$1"
}

ensure_environment() {
    local venv=$FASHION_VGG_ROOT/.venv lock=$FASHION_VGG_ROOT/requirements.lock
    # Of two scripts that start together, the second waits for the first one's environment, if there is flock.
    exec 9<"$lock"
    if command -v flock >/dev/null && ! flock -n 9; then
        echo "Waiting for another script to create the environment ..." >&2
        flock 9
    fi
    if [ "$(origin "$lock")" != "$(cat "$venv/made-from" 2>/dev/null)" ] || ! "$venv/bin/python" -c '' 2>/dev/null; then
        create_environment "$venv" "$lock" || { echo "The environment could not be created." >&2; return 1; }
    fi
    exec 9<&-
    export PATH=$venv/bin:$PATH
}

ensure_environment || exit 1
