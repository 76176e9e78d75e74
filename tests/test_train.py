"""Training: that it learns, that a resumed run equals an uninterrupted one, that several processes agree, and refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from features import relative
from PIL import Image

from fastift import Autoencoder, AutoencoderConfig, ImageFileError, InvalidInputError, OutputError
from fastift.encoder import Encoder, Plan
from fastift.train import PAPER, SLIM, Recipe, train
from fastift.train.data import Crops, Pictures, find_pictures
from fastift.train.objective import DistilEncoder, Teacher, TrainDecoders, TrainSinglePass, feature_error
from fastift.train.run import FIRST_CROP, initialise
from fastift.weights import load_autoencoder, read_tensors, save_autoencoder, write_tensors

TINY = AutoencoderConfig(widths=(6, 8, 10, 12), encoder_depths=(2, 2, 2, 1), decoder_depths=(2, 2, 2, 1))
QUICK = Recipe(
    resize=64, crop=32, batch=4, encoder_steps=12, encoder_lr=2e-3, decoder_steps=12, decoder_lr=2e-3, restyle=0.5, balanced=True,
    single_pass_steps=12, single_pass_lr=2e-3, hold_out=5,
)  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(10):
        coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
        coarse.resize((96, 72), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    encoder = Encoder(Plan((4, 5, 6, 7), (2, 2, 2, 1)))
    for name, weight in encoder.named_parameters():
        if name.endswith(
            ".weight"
        ):  # features that vary as a trained teacher's do: errors are measured by their spread
            torch.nn.init.kaiming_normal_(weight)
    encoder.conv2_1.weight.data[1] = 0  # a dead channel, as pruned teachers have them
    encoder.conv2_1.bias.data[1] = -1
    file = tmp_path_factory.mktemp("teacher") / "encoder.safetensors"
    write_tensors(file, encoder.state_dict())
    return file


def run(images: Path, folder: Path, recipe: Recipe = QUICK, **settings) -> tuple[dict[str, torch.Tensor], list[dict]]:
    log: list[dict] = []
    folder.mkdir(exist_ok=True)
    train(
        images,
        folder / "m.safetensors",
        recipe=recipe,
        config=TINY,
        runs=folder / "runs",
        report=log.append,
        **settings,
    )
    return read_tensors(folder / "m.safetensors")[0], log


def test_both_phases_learn_and_pack(images: Path, teacher: Path, tmp_path: Path) -> None:
    recipe = replace(QUICK, encoder_steps=61, decoder_steps=61, single_pass_steps=61)
    _, log = run(images, tmp_path, recipe, teacher=teacher)
    for phase in ("encoder", "decoders", "single pass"):
        losses = [e["loss"] for e in log if e["phase"] == phase and "loss" in e]
        assert losses[-1] < losses[0], phase
    psnr = [e["psnr"] for e in log if "psnr" in e]
    assert psnr[-1].keys() == {"relu1_1", "relu2_1", "relu3_1", "relu4_1", "single", "single with skips"}
    assert psnr[-1]["relu1_1"] > psnr[-1]["relu4_1"] > 8
    model = load_autoencoder(tmp_path / "m.safetensors")
    means = [float(t.mean()) for t in model.encoder(torch.rand(1, 3, 32, 32))]
    assert all(0.1 < m < 10 for m in means), means
    header = read_tensors(tmp_path / "m.safetensors")[1]
    assert json.loads(header["recipe"])["encoder_steps"] == 61
    lines = (tmp_path / "runs" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == json.loads(json.dumps(log))
    assert (tmp_path / "runs" / "loss.png").stat().st_size > 1000


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("at", [("encoder", 5), ("decoders", 7), ("single pass", 9)])
def test_resumed_run_equals_uninterrupted(images: Path, teacher: Path, tmp_path: Path, at: tuple[str, int]) -> None:
    want, _ = run(images, tmp_path / "a", teacher=teacher)

    phase, step = at
    offset = FIRST_CROP[phase]
    original = Crops.__call__

    def interrupted(self: Crops, s: int) -> torch.Tensor:
        if s == offset + step:
            raise Interrupted
        return original(self, s)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Crops, "__call__", interrupted)
        with pytest.raises(Interrupted):
            run(images, tmp_path / "b", teacher=teacher, checkpoint_minutes=0.0)
    got, log = run(images, tmp_path / "b", teacher=teacher)
    assert min(e["step"] for e in log if e["phase"] == phase) >= step
    for name, tensor in want.items():
        assert torch.equal(got[name], tensor), name


def test_other_settings_do_not_resume(images: Path, teacher: Path, tmp_path: Path) -> None:
    run(images, tmp_path, teacher=teacher)
    with pytest.raises(InvalidInputError, match="comes from other settings"):
        run(images, tmp_path, replace(QUICK, decoder_lr=1e-5), teacher=teacher)
    run(images, tmp_path, replace(QUICK, decoder_lr=1e-5), teacher=teacher, resume=False)


def test_kept_encoder_is_not_changed_and_epochs_count(images: Path, tmp_path: Path) -> None:
    model = Autoencoder(TINY)
    write_tensors(tmp_path / "e.safetensors", model.encoder.state_dict())
    recipe = replace(QUICK, decoder_steps=0, single_pass_steps=0, epochs=(1, 1, 2, 3), restyle=0.0)
    tensors, log = run(images, tmp_path, recipe, encoder=tmp_path / "e.safetensors")
    for name, tensor in model.encoder.state_dict().items():
        assert torch.equal(tensors[f"encoder.{name}"], tensor.half())
    steps = {e["phase"]: e["steps"] for e in log}
    assert steps == {"decoders": 3 * (8 // 4), "single pass": 3 * (8 // 4)}  # 8 pictures left of 10, batches of 4


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bfloat16"])
def test_mixed_precision_learns(images: Path, teacher: Path, tmp_path: Path, precision: str) -> None:
    _, log = run(
        images, tmp_path, replace(QUICK, encoder_steps=41, decoder_steps=21), teacher=teacher, precision=precision
    )
    losses = [e["loss"] for e in log if e["phase"] == "encoder" and "loss" in e]
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_two_processes_train_one_model(images: Path, teacher: Path, tmp_path: Path) -> None:
    script = tmp_path / "go.py"
    script.write_text(
        "import sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from test_train import QUICK, TINY\n"
        "from fastift.train import train\n"
        "train(sys.argv[2], sys.argv[4], recipe=QUICK, config=TINY, teacher=sys.argv[3], runs=sys.argv[5], device='cpu')\n"
    )
    arguments = [
        str(Path(__file__).parent),
        str(images),
        str(teacher),
        str(tmp_path / "m.safetensors"),
        str(tmp_path / "runs"),
    ]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(script),
        *arguments,
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[:4000]
    assert load_autoencoder(tmp_path / "m.safetensors").config == TINY


def test_dead_channels_of_the_teacher_are_left_out(teacher: Path) -> None:
    from fastift.weights import load_encoder

    taught = Teacher(load_encoder(teacher))
    taught.calibrate([torch.rand(4, 3, 32, 32) for _ in range(3)])
    assert 1 not in taught.alive[1].tolist()
    for target in taught(torch.rand(8, 3, 32, 32)):
        assert 0.8 < float(target.mean()) < 1.25


def test_objective_is_equation_32() -> None:
    model, x = Autoencoder(TINY), torch.rand(2, 3, 32, 32)
    objective = TrainDecoders(model, (2,), feature_weight=1.0, restyle=0.0, balanced=False)
    total, terms = objective(x, torch.Generator().manual_seed(0))
    f = model.encoder(x, 2)[-1]
    out = model.decoders["2"](f)
    again = model.encoder(out, 2)[-1]
    want = (out - x).square().sum() + (again - f).square().sum()
    assert terms.keys() == {"image 2", "feature 2"}
    assert relative(total * x.numel(), want) < 1e-5
    assert float(feature_error(again, f, x).detach()) > 0
    total.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.decoders["2"].parameters())


def test_single_pass_learns_its_taps_alone_and_in_the_chain() -> None:
    model, x = Autoencoder(TINY), torch.rand(4, 3, 32, 32)
    model.encoder.requires_grad_(False)
    total, terms = TrainSinglePass(model, feature_weight=1.0, restyle=0.25, balanced=True)(
        x, torch.Generator().manual_seed(0)
    )
    inner, blocks = (
        {f"inner {n}" for n in (1, 2, 3)},
        {f"block {n}" for n in (0, 1, 2)},
    )  # the first has nothing before it
    assert terms.keys() == {"image", "skips", "range", *inner, *blocks, *(f"told {n}" for n in (1, 2, 3))}
    assert float(terms["block 1"]) != float(terms["inner 1"])
    total.backward()
    assert all(p.grad is not None for p in model.single_pass.parameters())
    assert all(p.grad is None for p in model.encoder.parameters())
    _, apart = TrainSinglePass(model, feature_weight=1.0, restyle=0.25, balanced=True)(x, torch.Generator(), apart=True)
    assert apart.keys() == {f"block {n}" for n in (0, 1, 2, 3)}


def test_crops_depend_on_seed_rank_and_step_alone(images: Path) -> None:
    pictures = Pictures(find_pictures(images), resize=64, crop=32)
    first = Crops(pictures, 4, seed=3)
    a, b = first(0), first(1)
    again = Crops(Pictures(find_pictures(images), resize=64, crop=32), 4, seed=3)
    assert torch.equal(again(1), b)
    assert torch.equal(again.make(0).float() / 255, a)
    assert not torch.equal(Crops(pictures, 4, seed=3, rank=1)(0), a)
    assert a.shape == (4, 3, 32, 32)
    assert 0 <= a.min() <= a.max() <= 1


def test_pictures_are_reduced_never_squeezed(images: Path, tmp_path: Path) -> None:
    assert Pictures(find_pictures(images), resize=36, crop=32)[0].shape == (3, 36, 48)
    assert Pictures(find_pictures(images), resize=0, crop=32)[0].shape == (3, 72, 96)
    assert Pictures(find_pictures(images), resize=500, crop=32)[0].shape == (3, 72, 96)
    Image.new("RGB", (10, 40)).save(tmp_path / "small.png")
    assert Pictures(find_pictures(tmp_path), resize=36, crop=32)[0].shape == (3, 128, 32)


def test_recipes_are_what_they_say() -> None:
    assert (PAPER.resize, PAPER.crop, PAPER.batch, PAPER.decoder_lr, PAPER.epochs) == (512, 256, 8, 1e-4, (3, 3, 5, 5))
    assert PAPER.feature_weight == 1
    assert PAPER.restyle == 0
    assert SLIM.encoder_steps > 0


def test_refusals(images: Path, teacher: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    settings = {"recipe": QUICK, "config": TINY, "runs": tmp_path / "runs"}
    with pytest.raises(InvalidInputError, match=r"either a teacher .* or an encoder"):
        train(images, out, **settings)
    with pytest.raises(InvalidInputError, match="not a folder"):
        train(tmp_path / "nowhere", out, teacher=teacher, **settings)
    (tmp_path / "bare").mkdir()
    with pytest.raises(InvalidInputError, match="holds no picture"):
        train(tmp_path / "bare", out, teacher=teacher, **settings)
    with pytest.raises(InvalidInputError, match="precision must be"):
        train(images, out, teacher=teacher, precision="int8", **settings)
    with pytest.raises(OutputError, match="folder does not exist"):
        train(images, tmp_path / "no" / "m.safetensors", teacher=teacher, **settings)
    narrow = replace(TINY, widths=(2, 8, 10, 12))
    with pytest.raises(InvalidInputError, match="live channels; expected at most the 2"):
        train(images, out, teacher=teacher, **{**settings, "config": narrow})
    save_autoencoder(Autoencoder(TINY), out)
    (tmp_path / "broken").mkdir()
    for i in range(3):
        (tmp_path / "broken" / f"{i}.jpg").write_bytes(b"no jpeg")
    with pytest.raises(ImageFileError, match=r"\d.jpg cannot be read as a picture"):
        train(tmp_path / "broken", out, teacher=teacher, **settings)


def test_colours_pass_through_relu1_1_from_the_start() -> None:
    """At initialisation relu1_1 is invertible: its decoder gives the picture back."""
    model = Autoencoder(TINY)
    initialise(model)
    picture = torch.rand(2, 3, 32, 24)
    with torch.no_grad():
        back = model.decoders["1"](model.encoder(picture, 1)[0])
    assert float((back - picture).abs().max()) < 1e-5
    initialise(model, own_encoder=False)
    assert (model.decoders["1"].conv1_1.bias == 0.5).all()


def test_the_deepest_phase_keeps_what_lies_above(images: Path, teacher: Path, tmp_path: Path) -> None:
    recipe = replace(QUICK, encoder_steps=3, deepest_steps=4, decoder_steps=1, single_pass_steps=1)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    short, _ = run(images, tmp_path / "a", replace(recipe, deepest_steps=0), teacher=teacher)
    longer, log = run(images, tmp_path / "b", recipe, teacher=teacher)
    assert [e["phase"] for e in log if "psnr" in e] == ["encoder", "deepest", "decoders", "single pass"]
    deepest = len(TINY.widths)
    changed = {
        name.split(".")[1]
        for name in longer
        if name.startswith("encoder.") and not torch.equal(longer[name], short[name])
    }
    assert f"conv{deepest}_1" in changed
    assert changed <= set(Autoencoder(TINY).encoder.modules_after(deepest - 1))


def test_a_distilled_level_alone_has_its_own_terms() -> None:
    model = Autoencoder(TINY)
    images = torch.rand(2, 3, 32, 32)
    targets = [t[:, :2].detach() for t in model.encoder(images)]
    objective = DistilEncoder(model, [torch.ones(2)] * len(targets), first=len(targets))
    total, terms = objective(images, targets, False)
    assert set(terms) == {f"distil {len(targets)}", f"image {len(targets)}"}
    total.backward()
    assert model.encoder.conv1_1.weight.grad is None
    assert float(terms[f"distil {len(targets)}"]) < 1e-10
