"""What is installed and what importing does."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_import_is_silent_and_builds_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, fastift, fastift.kernels\n"
        "heavy = {'matplotlib', 'skimage', 'triton', 'click', 'scipy'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
        "assert all(hasattr(fastift, name) for name in fastift.__all__)\n"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_wheel_holds_the_kernels_the_weights_and_the_types(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(tmp_path),
        str(ROOT),
    ]
    environment = {**os.environ, "FASTIFT_BUILD_CUDA": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = [
        "__init__.py",
        "py.typed",
        "kernels/__init__.py",
        "csrc/kernels.inc",
        "csrc/moments.cpp",
        "csrc/cuda/kernels.cu",
        "csrc/cuda/sqrtm_psd.h",
        "transform/ift.py",
        "train/run.py",
        "models/slim.safetensors",
        "models/slim.md",
    ]
    assert {f"fastift/{n}" for n in wanted} <= names
    assert not [n for n in names if n.startswith(("kernels/", "tests/", "benchmarks/"))]
    assert wheel.stat().st_size < 5_000_000


def test_versions_agree() -> None:
    import importlib.metadata

    import fastift

    assert importlib.metadata.version("fastift") == fastift.__version__


def test_every_package_folder_is_listed() -> None:
    listed = (ROOT / "setup.py").read_text()
    for init in [*ROOT.glob("fastift/**/__init__.py")]:
        package = ".".join(init.parent.relative_to(ROOT).parts)
        assert f'"{package}"' in listed, f"{package} is missing in setup.py"
