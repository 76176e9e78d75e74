#!/usr/bin/env bash
# For a machine with a GPU and no network: builds, tests and times what runs there. Eight minutes at most.
#   benchmarks/gpu_check.sh [FOLDER]    results go to FOLDER (default: benchmarks/results)
# It needs Python 3.11 or later with torch, triton, numpy, pillow, safetensors, click, tqdm, setuptools and pytest.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-benchmarks/results}
python=${PYTHON:-python3}
mkdir -p "$out"
export FASTIFT_TRITON=1 FASTIFT_CACHE="$PWD/build/native" PYTHONDONTWRITEBYTECODE=1
status=0
step() {
  local limit=$1 name=$2
  shift 2
  echo "== $name"
  timeout "$limit" "$@" || { status=1; echo "== $name FAILED ($?)"; }
}
step 30 "GPU" nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
step 90 "environment" "$python" -m venv --system-site-packages build/gpu
python=build/gpu/bin/python
step 90 "installation" "$python" -m pip install -q --no-deps --no-build-isolation -e .
step 30 "doctor" "$python" -m fastift doctor
step 150 "tests on the GPU" "$python" -m pytest -q -p no:cacheprovider tests/test_gpu.py
step 250 "times" "$python" benchmarks/gpu_operations.py "$out/gpu.json" --seconds 200
exit $status
