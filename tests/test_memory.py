"""Peak memory: the bound that the README gives, in bytes a pixel."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="peak memory is read with the resource module, which this system lacks")
sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from memory import added_by

README = (Path(__file__).parents[1] / "README.md").read_text()
BOUNDS = dict(
    zip(
        ("art", "photo"),
        map(int, re.search(r"at most (\d+) \(`art`\) and (\d+) \(`photo`\) bytes", README).groups()),
        strict=True,
    )
)


@pytest.mark.parametrize("preset", ["art", "photo"])
def test_peak_memory_stays_within_the_bound(preset: str) -> None:
    size = 768
    _, added = added_by(size, preset=preset)
    assert added <= BOUNDS[preset] * size**2
