"""Every Triton kernel and configuration, compiled by triton_aot.py for cards that are not here, and held to their limits."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("triton_aot.py")
# bytes of shared memory that one block may have
SHARED_MEMORY = {80: 166912, 90: 232448, 100: 232448}
TENSOR_CORES = {80: {"mma.sync"}, 90: {"mma.sync", "wgmma.mma_async"}, 100: {"mma.sync", "tcgen05.mma"}}
KERNELS = {
    "partial_moments_kernel",
    "reduce_moments_kernel",
    "ift_update_resident_kernel",
    "ift_update_tiled_kernel",
    "scaled_rows_kernel",
    "apply_affine_kernel",
    "ift_solve_kernel",
    "ift_solve_product_kernel",
}

pytestmark = [
    pytest.mark.aot,
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed"),
]


def compiled(capability: int, *args: str) -> list[dict]:
    # the interpreter would compile nothing
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [sys.executable, str(SCRIPT), str(capability), *args]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1200)
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def line(row: dict) -> str:
    name = f"{row['kernel']} {row['dtype']} {row['configuration']}"
    used = f"{row['registers']:3} registers {row['shared']:6} B shared {row['spills']:3} B spilled"
    return f"{used} {','.join(row['instructions']) or '-':16} {name}"


@pytest.mark.parametrize("capability", sorted(SHARED_MEMORY))
def test_kernels_fit(capability: int) -> None:
    rows = compiled(capability)
    print(f"sm_{capability}:", *map(line, rows), sep="\n")
    assert {row["kernel"] for row in rows} == KERNELS
    # stack without spills is an array that the compiler could not keep in registers
    assert not [line(row) for row in rows if row["spills"] or row["stack"]]
    assert not [line(row) for row in rows if row["shared"] > SHARED_MEMORY[capability]]
    products = [row for row in rows if row["precision"]]
    slow = [line(row) for row in products if row["precision"] != "ieee" and not row["instructions"]]
    assert not slow, "no tensor cores"
    inexact = [line(row) for row in products if row["precision"] == "ieee" and row["instructions"]]
    assert not inexact, "tensor cores in ieee products"
    assert not [line(row) for row in products if not set(row["instructions"]) <= TENSOR_CORES[capability]]
    # the card's own instruction, where a tile has the 64 rows that it works on
    newest = {90: "wgmma.mma_async", 100: "tcgen05.mma"}.get(capability, "mma.sync")
    large = [
        row
        for row in products
        if row["precision"] == "tf32"
        and row["dtype"] != "float32"
        and ("BLOCK_C=128" in row["configuration"] or "BLOCK_M=128" in row["configuration"])
    ]
    assert large
    assert not [line(row) for row in large if newest not in row["instructions"]]


def test_a_configuration_that_cannot_fit_is_seen(tmp_path: Path) -> None:
    """The check itself: 64 x 64 tf32x3 products of 64 deep on chip are known to spill."""
    script = tmp_path / "spilling.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(SCRIPT.parent)!r})\n"
        "import triton_aot\n"
        "from fastift.kernels import ift_solve\n"
        "launch = ift_solve.solve_on_chip\n"
        "ift_solve.solve_in_launches = lambda *args: launch(*args)\n"
        "triton_aot.PRODUCTS = ((triton_aot.torch.float32, 'tf32x3'),)\n"
        "sys.argv = ['triton_aot', '90', '--channels', '64', '--ops', 'ift_solve']\n"
        "triton_aot.main()\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    rows = [json.loads(text) for text in done.stdout.splitlines()]
    assert any(row["spills"] > 0 for row in rows), rows
