"""Shared by the scripts that run Triton kernels without a GPU: the kernels beside these tests, whatever is installed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def load_kernels() -> None:
    """Make fastift and fastift.kernels those of this checkout. An editable install of another one would win otherwise."""
    sys.path.insert(0, str(ROOT))
    import fastift

    init = ROOT / "kernels" / "__init__.py"
    spec = importlib.util.spec_from_file_location(
        "fastift.kernels", init, submodule_search_locations=[str(init.parent)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["fastift.kernels"] = fastift.kernels = module
    spec.loader.exec_module(module)
