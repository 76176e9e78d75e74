"""The profile: rows for every stage, floors counted by hand, the picture left as it was; `fastift bench`."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as nnf
from click.testing import CliRunner

import fastift.profile
from fastift import Stylizer
from fastift.art import draw_content, draw_styles
from fastift.cli import main
from fastift.image import as_batch
from fastift.ops import apply_affine, ift_solve, moments
from fastift.profile import Machine, _Meter, _watched, measure, profile, table

CPU = torch.device("cpu")
FLOWS = ({"preset": "art"}, {"preset": "photo"}, {"flow": "single_pass", "skips": True, "levels": (4, 3, 2, 1)})


@pytest.fixture(scope="module")
def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    return as_batch(draw_content(64, 64)), as_batch(next(iter(draw_styles(64).values())))


def metered(call) -> dict[str, float]:
    """Seconds at the floor of a machine that multiplies once a second and copies in no time, by kind."""
    meter = _Meter(Machine(1.0, float("inf")), CPU)
    with torch.no_grad(), meter:
        call()
    return {kind: row.floor for (_, kind), row in meter.rows.items()}


def test_products_are_counted_once() -> None:
    x, kernel = torch.rand(1, 6, 32, 32), torch.rand(4, 6, 3, 3)
    assert metered(lambda: nnf.conv2d(x, kernel, padding=1)) == {"convolutions": 2 * 4 * 6 * 9 * 32 * 32}
    flat = x.flatten(2)
    assert metered(lambda: moments(flat)) == {"Gram": 6 * 7 * 1024}  # a symmetric product: lower triangle only
    weight, bias = torch.rand(1, 6, 6), torch.rand(1, 6)
    assert metered(lambda: apply_affine(flat, weight, bias)) == {"passes over pixels": 2 * 6 * 6 * 1024}
    gram = torch.eye(6)[None]
    assert metered(lambda: ift_solve(gram, gram, 1e-3, torch.ones(1), 10, 2)) == {"map": 3 * 6**3 * 20}


def test_copies_are_floored_by_bandwidth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastift.profile, "CACHED", 1)
    meter = _Meter(Machine(float("inf"), 1.0), CPU)
    x = torch.rand(1, 6, 32, 32)
    with torch.no_grad(), meter:
        x.flatten(2)  # a view moves nothing
        x + 1
    ((_, row),) = meter.rows.items()
    assert (row.calls, row.floor) == (1, 2 * x.nbytes)


@pytest.mark.parametrize("settings", FLOWS, ids=lambda s: s.get("preset", "single pass"))
def test_watching_changes_nothing_and_sees_every_stage(stylizer: Stylizer, pictures, settings: dict) -> None:
    content, image = pictures
    with torch.inference_mode():
        style = stylizer.style(image)
    meter = _Meter(Machine(1e12, 1e11), CPU)
    with torch.no_grad():
        want = stylizer(content, style, **settings)
        with meter:
            got = _watched(stylizer, meter)(content, style, **settings)
    assert torch.equal(got, want)
    stages = {row.stage for row in meter.rows.values()}
    assert {"encode", "decode", "transform"} <= stages
    assert {"Gram", "map"} <= {row.kind for row in meter.rows.values() if row.stage == "transform"}
    assert all(row.calls > 0 and row.seconds > 0 for row in meter.rows.values())


def test_rows_and_table_add_up(stylizer: Stylizer, pictures) -> None:
    content, image = pictures
    with torch.inference_mode():
        style = stylizer.style(image)
    rows, whole = profile(stylizer, content, style, runs=1)
    assert rows == sorted(rows, key=lambda r: -r.seconds)
    assert whole > 0
    lines = table(rows, whole)
    assert len(lines) == len(rows) + 3
    assert f"{1e3 * sum(r.seconds for r in rows):.2f}" in lines[-2]


def test_measure_times_all_three(stylizer: Stylizer, pictures) -> None:
    found = measure(stylizer, *pictures, runs=1)
    assert found.keys() == {"style", "restyle", "reconstruct"}
    assert all(v > 0 for v in found.values())


def test_bench_on_the_command_line() -> None:
    def call(*arguments: str):
        return CliRunner().invoke(main, ["bench", "--size", "64", "--runs", "1", *arguments])

    done = call()
    assert done.exit_code == 0, done.output
    assert len(done.output.splitlines()) == 3
    found = json.loads(call("--json", "--preset", "photo").output)
    assert found.keys() == {"style", "restyle", "reconstruct"}
    found = json.loads(call("--profile", "--json").output)
    assert {r["stage"] for r in found["rows"]} >= {"encode", "decode", "transform"}
    assert "over floor" in call("--profile").output
    for wrong in (("--size", "8"), ("--dtype", "int8"), ("--model", "nowhere.safetensors")):
        assert call(*wrong).exit_code == 2, wrong
