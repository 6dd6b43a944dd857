#!/usr/bin/env bash
# Everything that wants a card, in one run of some minutes: first the bits, then the times. Arguments: see on_gpu.py.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" -m benchmarks.on_gpu "$@"
