"""Shared set-up: a fixed seed, uninitialised memory full of NaN, and where the optional pictures are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(autouse=True)
def repeatable() -> Iterator[None]:
    """Every test starts from one seed, and memory that nobody wrote reads as NaN instead of a lucky zero."""
    torch.manual_seed(0)
    before = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.utils.deterministic.fill_uninitialized_memory = before
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of pictures and teacher weights that lies beside a development checkout."""
    folder = Path(os.environ.get("FASTIFT_SHARED", SHARED))
    if not (folder / "data").is_dir():
        pytest.skip(f"the optional pictures are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def library(tmp_path_factory) -> Path:
    """The C++ library that calls take, if there is one: a second copy in this process would register its operations twice."""
    from fastift import _build, native

    return native.find() or _build.build(tmp_path_factory.mktemp("native") / "_C.so")


@pytest.fixture(scope="session")
def cpp(library: Path):
    torch.ops.load_library(str(library))
    return torch.ops.fastift_cpp


@pytest.fixture(scope="session")
def stylizer():
    from fastift import Stylizer

    return Stylizer(device="cpu")
