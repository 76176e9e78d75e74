"""Runs triton_interpreted.py with TRITON_INTERPRET=1 in a process of its own, and reports what failed there, kernel by kernel."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("triton_interpreted.py")
GROUPS = sorted(set(re.findall(r"^def (test_\w+)", SCRIPT.read_text(), re.M)))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed"),
]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[ElementTree.Element]:
    """Every case of the script, as pytest reported it."""
    report = tmp_path_factory.mktemp("triton") / "report.xml"
    # the other format has no place for the errors that the cases record
    options = ["-q", "-p", "no:cacheprovider", "-o", "junit_family=xunit1", f"--junitxml={report}"]
    command = [sys.executable, "-m", "pytest", *options, str(SCRIPT)]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=SCRIPT.parents[1], timeout=900)
    assert report.exists(), done.stdout[-4000:] + done.stderr[-4000:]
    found = list(ElementTree.parse(report).iter("testcase"))
    assert found, done.stdout[-4000:]
    print_worst(found)
    return found


def print_worst(cases: list[ElementTree.Element]) -> None:
    worst: dict[tuple[str, str], tuple[float, float]] = {}
    for case in cases:
        for item in case.iter("property"):
            op, dtype, rms, top = item.get("value").rsplit(" ", 3)
            before = worst.get((op, dtype), (0.0, 0.0))
            worst[op, dtype] = max(before[0], float(rms)), max(before[1], float(top))
    for (op, dtype), (rms, top) in sorted(worst.items()):
        print(f"{op:48} {dtype:9} rms {rms:.1e}  max {top:.1e}")


@pytest.mark.parametrize("group", GROUPS)
def test_interpreted(group: str, cases: list[ElementTree.Element]) -> None:
    mine = [case for case in cases if case.get("name").split("[")[0] == group]
    assert mine, f"{group} did not run"
    ran = [case for case in mine if case.find("skipped") is None]
    assert ran, f"{group} was skipped"
    failed = [case for case in ran if case.find("failure") is not None or case.find("error") is not None]
    messages = [f"{case.get('name')}: {next(iter(case)).get('message') or ''}"[:400] for case in failed]
    for case in failed:
        for kind in ("failure", "error"):
            if (node := case.find(kind)) is not None:
                messages.append((node.text or "")[-1500:])
    assert not failed, f"{len(failed)} of {len(ran)} cases failed\n" + "\n".join(messages)
