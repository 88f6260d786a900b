#!/usr/bin/env bash
# Make .venv from the locked, hashed requirements: install.sh PYTHON runtime|dev
# uv is taken by pip (seconds); where it is not to be had, or fails, pip installs the same lock (half a minute).
set -euo pipefail
python=$1 kind=$2 lock=requirements/$2.lock

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  { echo "VideoMoments needs Python 3.11 or newer; '$python' is $("$python" -V 2>&1). Set PYTHON=/path/to/python3." >&2; exit 1; }
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
  { echo "'$python' can't make a virtual environment: install its venv module (Debian: apt-get install python3-venv)." >&2; exit 1; }

[ -x .venv/bin/python ] || "$python" -m venv .venv
pip=(.venv/bin/python -m pip --disable-pip-version-check -q)
uv=(env VIRTUAL_ENV="$PWD/.venv" .venv/bin/uv pip install -q)

by_uv() {
  "${pip[@]}" install --require-hashes --only-binary :all: -r requirements/uv.lock 2>/dev/null &&
    "${uv[@]}" --compile-bytecode --no-build --require-hashes -r "$lock" &&
    "${uv[@]}" --no-deps --no-build-isolation -e .
}
by_pip() {
  "${pip[@]}" install --no-deps --only-binary :all: --require-hashes -r "$lock" &&
    "${pip[@]}" install --no-deps --no-build-isolation -e .
}
by_uv || { echo "uv did not install the requirements; pip does." >&2; by_pip; }
touch .venv/runtime
[ "$kind" = runtime ] || { scripts/sshd.sh; touch .venv/dev; }
