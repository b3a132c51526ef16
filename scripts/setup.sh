#!/usr/bin/env bash
# Sets up .venv with everything that the make targets need. Does nothing when it is up to date.
# PyTorch comes first and by itself: any other package that asks for torch would take the newest build, which on a
# machine without an NVIDIA driver means gigabytes of CUDA for nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

python="${PYTHON:-python3}"
stamp=".venv/.ready"
wanted="$(cat pyproject.toml constraints.txt scripts/setup.sh | cksum)"
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
    exit 0
fi

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "cristae needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.11" >&2
    exit 1
}
[ -x .venv/bin/python ] || "$python" -m venv .venv
pip=".venv/bin/python -m pip --disable-pip-version-check"

if ! .venv/bin/python -c 'import torch' 2>/dev/null; then
    if command -v nvidia-smi >/dev/null 2>&1; then
        $pip install --quiet 'torch>=2.8'
    else
        # The index of CPU builds is asked too, where it can be reached; elsewhere pip goes on without it.
        index="${TORCH_CPU_INDEX:-https://download.pytorch.org/whl/cpu}"
        $pip install --quiet --retries 0 --timeout 15 --extra-index-url "$index" 'torch==2.13.0' 2>/dev/null ||
            $pip install --quiet 'torch==2.13.0'
    fi
fi
$pip install --quiet --constraint constraints.txt --editable '.[dev,docs]'

if ! command -v nvidia-smi >/dev/null 2>&1 && $pip list 2>/dev/null | grep -qi '^nvidia'; then
    echo "setup: CUDA packages came in on a machine without an NVIDIA driver; remove .venv and run make setup again" >&2
    exit 1
fi
echo "$wanted" >"$stamp"
