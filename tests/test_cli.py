"""The command line as a person uses it: results, and one sentence with exit code 2 for everything that can be wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from fastift.art import draw_content, draw_styles
from fastift.cli import main
from fastift.weights import read_tensors


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.fromarray(draw_content(72, 48)).save(tmp_path / "photo.jpg")
    for name, image in draw_styles(64).items():
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    return tmp_path


def test_stylize(folder: Path) -> None:
    out = folder / "out.png"
    done = call("stylize", folder / "photo.jpg", folder / "mosaic.png", "-o", out)
    assert done.exit_code == 0, done.output
    assert "72 x 48" in done.output
    with Image.open(out) as im:
        assert im.size == (72, 48)
        assert im.mode == "RGB"
    again = folder / "again.png"
    call("stylize", folder / "photo.jpg", folder / "mosaic.png", "-o", again)
    assert out.read_bytes() == again.read_bytes()


def test_options_change_the_picture(folder: Path) -> None:
    def pixels(*options: str) -> np.ndarray:
        out = folder / "out.png"
        done = call("stylize", folder / "photo.jpg", folder / "mosaic.png", "-o", out, "--force", "-q", *options)
        assert done.exit_code == 0, done.output
        assert done.output == ""
        return np.asarray(Image.open(out)).copy()

    plain = pixels()
    for options in (("-s", "0.2"), ("-p", "photo"), ("--levels", "2,1"), ("--keep-colours",), ("--style-size", "32")):
        assert not np.array_equal(pixels(*options), plain), options
    assert pixels("--size", "32").shape == (32, 48, 3)


def test_several_styles_with_weights(folder: Path) -> None:
    styles = [folder / "mosaic.png", folder / "ink.png"]
    call("stylize", folder / "photo.jpg", *styles, "-w", "1,0", "-o", folder / "a.png")
    call("stylize", folder / "photo.jpg", styles[0], "-o", folder / "b.png")
    assert (folder / "a.png").read_bytes() == (folder / "b.png").read_bytes()


def test_demo_writes_its_pictures(tmp_path: Path) -> None:
    done = call("demo", "-o", tmp_path / "demo", "--width", 96)
    assert done.exit_code == 0, done.output
    names = {p.name for p in (tmp_path / "demo").iterdir()}
    assert {"content.png", "strengths.png", "presets.png"} <= names
    assert set(done.stdout.split()) == {str(tmp_path / "demo" / n) for n in names}
    second = call("demo", "-o", tmp_path / "demo", "--width", 96)
    assert second.exit_code == 2
    assert "--force" in second.output


def test_doctor() -> None:
    done = call("doctor")
    assert done.exit_code == 0
    for word in ("fastift", "torch", "cpu", "cuda", "reference", "slim", "cannot"):
        assert word in done.output
    assert "cannot be loaded" not in done.output


def test_convert(folder: Path) -> None:
    torch.save({"a": torch.ones(2)}, folder / "m.pth")
    assert call("convert", folder / "m.pth", folder / "m.safetensors").exit_code == 0
    assert torch.equal(read_tensors(folder / "m.safetensors")[0]["a"], torch.ones(2))
    assert call("convert", folder / "m.pth", folder / "m.safetensors").exit_code == 2


def bad(folder: Path) -> dict[str, tuple[list[object], str]]:
    photo, style, out = folder / "photo.jpg", folder / "mosaic.png", folder / "out.png"
    (folder / "text.jpg").write_text("no picture at all")
    (folder / "short.jpg").write_bytes(photo.read_bytes()[:700])
    (folder / "weights.safetensors").write_bytes(b"no weights")
    Image.new("RGB", (1, 1)).save(folder / "one.png")
    (folder / "there.png").write_bytes(b"precious")
    return {
        "missing": (["stylize", folder / "no.jpg", style, "-o", out], "no.jpg"),
        "missing style": (["stylize", photo, folder / "no.jpg", "-o", out], "no.jpg"),
        "directory": (["stylize", folder, style, "-o", out], str(folder)),
        "text": (["stylize", folder / "text.jpg", style, "-o", out], "text.jpg"),
        "truncated": (["stylize", folder / "short.jpg", style, "-o", out], "short.jpg"),
        "one pixel": (["stylize", folder / "one.png", style, "-o", out], "at least 16 x 16"),
        "one pixel style": (["stylize", photo, folder / "one.png", "-o", out], "at least 16 x 16"),
        "exists": (["stylize", photo, style, "-o", folder / "there.png"], "--force"),
        "suffix": (["stylize", photo, style, "-o", folder / "out.xyz"], ".xyz"),
        "folder": (["stylize", photo, style, "-o", folder / "no" / "out.png"], "no"),
        "strength": (["stylize", photo, style, "-o", out, "-s", "1.5"], "strength must lie in [0, 1]"),
        "nan": (["stylize", photo, style, "-o", out, "-s", "nan"], "strength must lie in [0, 1]"),
        "levels": (["stylize", photo, style, "-o", out, "--levels", "7"], "levels must be"),
        "levels text": (["stylize", photo, style, "-o", out, "--levels", "a"], "expected numbers"),
        "weights count": (["stylize", photo, style, "-o", out, "-w", "1,2"], "1 styles, 2 weights"),
        "negative weight": (["stylize", photo, style, style, "-o", out, "-w", "1,-2"], "not negative"),
        "zero weights": (["stylize", photo, style, "-o", out, "-w", "0"], "sum to more than 0"),
        "device": (["stylize", photo, style, "-o", out, "--device", "abacus"], "abacus"),
        "model": (
            ["stylize", photo, style, "-o", out, "--model", folder / "weights.safetensors"],
            "weights.safetensors",
        ),
        "no model": (["stylize", photo, style, "-o", out, "--model", "huge"], "huge"),
        "no style": (["stylize", photo, "-o", out], "STYLE"),
        "train": (
            ["train", folder / "no", "-o", folder / "w.safetensors", "--teacher", style, "--recipe", "slim"],
            "not a folder",
        ),
        "train nothing": (["train", folder, "-o", folder / "w.safetensors"], "either a teacher"),
        "convert": (["convert", folder / "text.jpg", folder / "w.safetensors"], "only tensors"),
    }


def test_bad_input_is_a_sentence_and_exit_code_2(folder: Path) -> None:
    for name, (arguments, says) in bad(folder).items():
        before = sorted(folder.iterdir())
        done = call(*arguments)
        assert done.exit_code == 2, (name, done.output)
        assert says in done.output.replace("\n", " "), (name, done.output)
        assert "Traceback" not in done.output, name
        assert done.exception is None or isinstance(done.exception, SystemExit), name
        assert sorted(folder.iterdir()) == before, name
    assert (folder / "there.png").read_bytes() == b"precious"


def test_module_and_command_are_the_same() -> None:
    done = subprocess.run([sys.executable, "-m", "fastift", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "stylize" in done.stdout
