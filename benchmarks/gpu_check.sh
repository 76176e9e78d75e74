#!/usr/bin/env bash
# For a machine with a GPU and no network: builds, tests and times what runs there. Eight minutes at most.
#   benchmarks/gpu_check.sh [FOLDER]    results go to FOLDER (default: benchmarks/results)
# It needs Python 3.11 or later with torch, triton, numpy, pillow, safetensors, click, tqdm, setuptools and pytest, and nvcc for the
# CUDA operations.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-benchmarks/results}
python=${PYTHON:-python3}
mkdir -p "$out"
export FASTIFT_TRITON=1 FASTIFT_CUDA=1 FASTIFT_BUILD_CUDA=1 FASTIFT_CACHE="$PWD/build/native" PYTHONDONTWRITEBYTECODE=1
status=0
step() {
  local limit=$1 name=$2 left=$((470 - SECONDS))
  shift 2
  echo "== $name"
  ((left > 5)) || { status=1; echo "== $name LEFT OUT: out of time"; return; }
  timeout $((limit < left ? limit : left)) "$@" || { status=1; echo "== $name FAILED ($?)"; }
}
step 30 "GPU" nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
step 60 "environment" "$python" -m venv --system-site-packages build/gpu
python=build/gpu/bin/python
step 120 "installation" "$python" -m pip install -q --no-deps --no-build-isolation -e .
step 30 "doctor" "$python" -m fastift doctor
step 75 "CUDA operations on the GPU" "$python" -m pytest -q -p no:cacheprovider tests/test_cuda.py -k "gpu or TestOnAGpu"
sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
if [ -x "$sanitizer" ]; then
  for tool in memcheck racecheck; do
    # a fresh allocation for every tensor, so that a write past one is seen
    step 45 "$tool" env PYTORCH_NO_CUDA_MEMORY_CACHING=1 "$sanitizer" --tool "$tool" --error-exitcode 9 \
      "$python" -m pytest -q -p no:cacheprovider tests/test_cuda.py -k "gpu and (33 or 65) and float32"
  done
else
  echo "== compute-sanitizer is not here"
fi
step 130 "Triton kernels on the GPU" "$python" -m pytest -q -p no:cacheprovider tests/test_gpu.py
step 200 "times" "$python" benchmarks/gpu_operations.py "$out/gpu.json" --seconds 150
exit $status
