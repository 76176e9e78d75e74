"""What every benchmark shares: devices, synchronised calls, and what is written beside each figure."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import torch

import fastift
from fastift.autoencoder import SLIM
from fastift.encoder import VGG19


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--sizes", default="256,512,768,1024", help="pixels a side")
    parser.addoption("--device", default="cuda" if torch.cuda.is_available() else "cpu")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "size" in metafunc.fixturenames:
        metafunc.parametrize("size", [int(s) for s in metafunc.config.getoption("--sizes").split(",")])


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.config.getoption("--device"))


@pytest.fixture
def timed(benchmark, device: torch.device) -> Callable:
    """Times call(): the device is waited for inside, the first two calls are not counted, the result comes back to be checked."""

    def run(call: Callable, *, rounds: int = 5, **notes):
        def waited():
            with torch.inference_mode():
                out = call()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            return out

        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
        benchmark.extra_info.update(
            device=name, threads=torch.get_num_threads(), torch=torch.__version__, fastift=fastift.__version__,
            backends=[b.name for b in fastift.backends() if b.refusal is None],
            cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(), **notes,
        )  # fmt: skip
        return benchmark.pedantic(waited, rounds=rounds, iterations=1, warmup_rounds=2)

    return run


WIDTHS = {"VGG-19": VGG19.widths, "slim": SLIM.widths}


@pytest.fixture
def level_features(device: torch.device) -> Callable:
    """Features as behind a ReLU, of mean activation 1, in a network's widths: content and style [C, n] a level, coarse first."""

    def make(network: str, size: int) -> list[tuple[int, torch.Tensor, torch.Tensor]]:
        rng = torch.Generator().manual_seed(0)
        found = []
        for level, c in reversed(list(enumerate(WIDTHS[network], start=1))):
            n = (size >> (level - 1)) ** 2
            mix = torch.randn(c, c, generator=rng) / c**0.5
            pair = []
            for shift in (0.0, 0.5):
                f = (mix @ torch.randn(c, n, generator=rng) + shift).relu_()
                pair.append((f / f.mean()).to(device))
            found.append((level, *pair))
        return found

    return make
