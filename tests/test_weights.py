"""Weight files: our own format, the published VGG-19 layouts, and every way in which a file can be bad."""

from __future__ import annotations

import json
import pickle
import stat
from pathlib import Path

import pytest
import torch
import torch.nn.functional as nnf
from features import relative
from safetensors.torch import save_file
from torch import nn

from fastift import Autoencoder, AutoencoderConfig, OutputError, WeightsError
from fastift.encoder import VGG19, Encoder
from fastift.weights import (
    convert_pickle,
    load_autoencoder,
    load_decoder,
    load_encoder,
    load_folder,
    read_tensors,
    save_autoencoder,
    write_tensors,
)

SMALL = AutoencoderConfig(widths=(4, 6, 8, 10), encoder_depths=(2, 2, 3, 1), decoder_depths=(2, 2, 2, 1))


class Reflect(nn.Sequential):
    """A published layout as its authors wrote it: a flat list of layers."""


def vgg_normalised(width: int = 1) -> Reflect:
    """The normalised VGG-19 of AdaIN to relu4_1, thinned by `width` for speed: 1x1, then pad, conv, ReLU .."""
    layers: list[nn.Module] = [nn.Conv2d(3, 3, 1)]
    channels = 3
    for n, (full, depth) in enumerate(zip((64, 128, 256, 512), (2, 2, 4, 1), strict=True)):
        if n:
            layers.append(nn.MaxPool2d(2, 2, ceil_mode=True))
        for _ in range(depth):
            layers += [nn.ReflectionPad2d(1), nn.Conv2d(channels, full // width, 3), nn.ReLU()]
            channels = full // width
    return Reflect(*layers)


def vgg_torchvision() -> nn.Module:
    """torchvision's vgg19: features.N, zero padding 1 inside the convolutions, ImageNet normalisation outside."""
    features, channels = nn.Sequential(), 3
    for n, (full, depth) in enumerate(zip((64, 128, 256, 512, 512), (2, 2, 4, 4, 4), strict=True)):
        if n:
            features.append(nn.MaxPool2d(2, 2))
        for _ in range(depth):
            features.append(nn.Conv2d(channels, full // 16, 3, padding=1))
            features.append(nn.ReLU(inplace=True))
            channels = full // 16
    model = nn.Module()
    model.features = features
    model.classifier = nn.Sequential(nn.Linear(32, 10))
    return model


def adain_decoder(width: int = 1) -> Reflect:
    layers: list[nn.Module] = []
    plan = [(512, 256, 1), (256, 256, 3), (256, 128, 1), (128, 128, 1), (128, 64, 1), (64, 64, 1), (64, 3, 1)]
    for i, (before, after, count) in enumerate(plan):
        for _ in range(count):
            layers += [
                nn.ReflectionPad2d(1),
                nn.Conv2d(before // width, after // width if after > 3 else 3, 3),
                nn.ReLU(),
            ]
        if i in (0, 2, 4):
            layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
    return Reflect(*layers[:-1])


def test_own_format_round_trip(tmp_path: Path) -> None:
    model, file = Autoencoder(SMALL), tmp_path / "model.safetensors"
    save_autoencoder(model, file, notes={"licence": "ours"})
    again = load_autoencoder(file)
    assert again.config == SMALL
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor.half().float())
    assert not again.training
    assert not any(p.requires_grad for p in again.parameters())
    assert read_tensors(file)[1]["licence"] == "ours"
    assert stat.S_IMODE(file.stat().st_mode) & 0o444 == 0o444
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_embedded_weights_load_and_fit_in_four_megabytes() -> None:
    from importlib import resources

    assert len(load_autoencoder("slim").decoders) == 4
    assert (resources.files("fastift") / "models" / "slim.safetensors").stat().st_size <= 4_000_000


def test_normalised_vgg19_layout(tmp_path: Path) -> None:
    published = vgg_normalised(16)
    save_file(published.state_dict(), tmp_path / "vgg.safetensors")
    encoder = load_encoder(tmp_path / "vgg.safetensors")
    assert encoder.plan.depths == VGG19.depths
    x = torch.rand(1, 3, 32, 48)
    assert relative(encoder(x)[-1], published(x)) < 1e-6
    relu3_1 = published[:18](x)
    assert relative(encoder(x, 3)[-1], relu3_1) < 1e-6


def test_full_width_vgg19_loads(tmp_path: Path) -> None:
    save_file(vgg_normalised().state_dict(), tmp_path / "vgg.safetensors")
    assert load_encoder(tmp_path / "vgg.safetensors").plan == VGG19


def test_torchvision_layout(tmp_path: Path) -> None:
    published = vgg_torchvision()
    save_file(published.state_dict(), tmp_path / "vgg.safetensors")
    encoder = load_encoder(tmp_path / "vgg.safetensors")
    x = torch.rand(1, 3, 64, 64)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    f = (x - mean[:, None, None]) / std[:, None, None]
    for layer in published.features[:21]:
        f = (
            nnf.conv2d(nnf.pad(f, (1,) * 4, mode="reflect"), layer.weight, layer.bias)
            if isinstance(layer, nn.Conv2d)
            else layer(f)
        )
    assert relative(encoder(x)[-1], f.relu()) < 1e-5


def test_adain_decoder_layout(tmp_path: Path) -> None:
    published = adain_decoder(16)
    save_file(published.state_dict(), tmp_path / "decoder.safetensors")
    decoder = load_decoder(tmp_path / "decoder.safetensors")
    f = torch.rand(1, 32, 6, 8)
    assert relative(decoder(f), published(f)) < 1e-6


def test_named_layout_with_extra_tensors(tmp_path: Path) -> None:
    encoder = Encoder(VGG19.__class__((4, 6, 8, 10), (2, 2, 4, 1)))
    extra = {"conv1_1.aux.weight": torch.rand(64, 4, 1, 1), "conv5_1.weight": torch.rand(2, 2, 3, 3)}
    save_file({**encoder.state_dict(), **extra}, tmp_path / "e.safetensors")
    again = load_encoder(tmp_path / "e.safetensors")
    x = torch.rand(1, 3, 16, 16)
    assert torch.equal(again(x)[-1], encoder(x)[-1])


def test_folder_of_encoder_and_decoders(tmp_path: Path) -> None:
    save_file(vgg_normalised(16).state_dict(), tmp_path / "encoder_relu4_1.safetensors")
    save_file(adain_decoder(16).state_dict(), tmp_path / "decoder_relu4_1.safetensors")
    model = load_folder(tmp_path)
    assert list(model.decoders) == ["4"]
    assert model.single_pass is None
    assert load_autoencoder(tmp_path).config == model.config
    x = torch.rand(1, 3, 16, 24)
    assert model.decoders["4"](model.encoder(x)[-1]).shape == x.shape


def test_teacher_loads(shared: Path) -> None:
    model = load_folder(shared / "data" / "teacher")
    assert model.config.widths == (16, 32, 64, 128)
    assert "4" in model.decoders
    x = torch.rand(1, 3, 32, 32)
    assert (model.decoders["4"](model.encoder(x)[-1]) >= 0).all()


def test_pth_is_converted_tensors_only(tmp_path: Path) -> None:
    torch.save({"state_dict": {"module.a.weight": torch.ones(2, 3)}}, tmp_path / "m.pth")
    assert convert_pickle(tmp_path / "m.pth", tmp_path / "m.safetensors") == ["module.a.weight"]
    assert torch.equal(read_tensors(tmp_path / "m.safetensors")[0]["a.weight"], torch.ones(2, 3))


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def test_pickles_are_never_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil()))
    torch.save(Evil(), tmp_path / "evil2.pth")
    for name in ("evil.pth", "evil2.pth"):
        with pytest.raises(WeightsError, match="holds only tensors"):
            convert_pickle(name, "out.safetensors")
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "out.safetensors").exists()


def damaged_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Name -> (file, what the error says)."""
    good = folder / "good.safetensors"
    save_autoencoder(Autoencoder(SMALL), good)
    data = good.read_bytes()
    state = {k: v.half() for k, v in Autoencoder(SMALL).state_dict().items()}
    header = {"format": "fastift-autoencoder-1", "config": json.dumps(SMALL.to_dict())}
    nan = {**state, "encoder.conv1_1.weight": torch.full_like(state["encoder.conv1_1.weight"], float("nan"))}
    short = {k: v for k, v in state.items() if k != "encoder.conv1_1.weight"}
    shape = {**state, "encoder.conv1_1.bias": torch.zeros(5)}
    cases: dict[str, tuple[bytes | dict, dict, str]] = {
        "empty": (b"", {}, "not a readable safetensors file"),
        "text": (b"hello, I am no weight file", {}, "not a readable safetensors file"),
        "truncated": (data[: len(data) // 2], {}, "not a readable safetensors file"),
        "huge header": (b"\xff" * 8 + data[8:], {}, "not a readable safetensors file"),
        "foreign": ({"x": torch.ones(1)}, {}, "is not a fastift autoencoder"),
        "no config": (state, {"format": header["format"]}, "does not describe an autoencoder"),
        "bad config": (state, {**header, "config": '{"widths": "wide"}'}, "does not describe an autoencoder"),
        "nan": (nan, header, "encoder.conv1_1.weight .* holds NaN or infinity"),
        "missing": (short, header, r"missing \['encoder.conv1_1.weight'\]"),
        "extra": ({**state, "x": torch.ones(1)}, header, r"not expected \['x'\]"),
        "shape": (shape, header, r"must have shape \(4,\), got \(5,\)"),
    }
    files = {}
    for name, (content, notes, says) in cases.items():
        file = folder / f"{name}.safetensors"
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            save_file(content, file, metadata=notes)
        files[name] = (file, says)
    files["absent"] = (folder / "nowhere.safetensors", "is not a file")
    return files


def test_damaged_and_foreign_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    for name, (file, says) in damaged_files(tmp_path).items():
        with pytest.raises(WeightsError, match=says) as caught:
            load_autoencoder(file)
        assert file.name in str(caught.value), name
        assert "\n" not in str(caught.value), name


def test_pth_given_as_weights_points_to_convert(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "m.pth")
    with pytest.raises(WeightsError, match="must be converted with `fastift convert`"):
        load_autoencoder(tmp_path / "m.pth")


def test_encoder_files_that_are_none(tmp_path: Path) -> None:
    for tensors, says in (
        ({"x": torch.ones(1)}, "none of the known layouts"),
        ({"conv1_1.weight": torch.rand(4, 3, 3, 3), "conv1_1.bias": torch.rand(4)}, "no conv0"),
        ({"conv0.weight": torch.rand(3, 3, 1, 1)}, "no VGG convolutions"),
    ):
        save_file(tensors, tmp_path / "x.safetensors")
        with pytest.raises(WeightsError, match=says):
            load_encoder(tmp_path / "x.safetensors")
    save_file({"x": torch.ones(1)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="none of the known layouts"):
        load_decoder(tmp_path / "x.safetensors")


def test_unwritable_target_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="folder does not exist"):
        write_tensors(tmp_path / "no" / "x.safetensors", {"x": torch.ones(1)})
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        write_tensors(tmp_path / "taken", {"x": torch.ones(1)})
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]
