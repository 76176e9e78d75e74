"""The engine: any size in and the same out, strength, modes, styles, presets, precision, refusals."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as nnf
from features import relative
from PIL import Image

import fastift
from fastift import (
    Autoencoder,
    AutoencoderConfig,
    DivergenceError,
    InvalidInputError,
    Style,
    Stylizer,
    WeightsError,
    moments,
)
from fastift.art import draw_content, draw_styles
from fastift.colour import luminance, with_colours_of
from fastift.image import as_batch
from fastift.presets import PRESETS
from fastift.transform.named import TRANSFORMS

TINY = AutoencoderConfig(widths=(4, 6, 8, 10), encoder_depths=(2, 2, 2, 1), decoder_depths=(2, 2, 2, 1))


@pytest.fixture(scope="module")
def content() -> torch.Tensor:
    return as_batch(draw_content(120, 88))


@pytest.fixture(scope="module")
def styles() -> list[torch.Tensor]:
    return [as_batch(s) for s in draw_styles(96).values()]


def distances(stylizer: Stylizer, out: torch.Tensor, style: Style) -> list[float]:
    """Gram distance of a picture to a style at each level, over the style's own norm."""
    seen = stylizer.style(out)
    return [relative(seen.levels[n].gram, style.levels[n].gram) for n in (1, 2, 3, 4)]


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (33, 16), (50, 91), (96, 96)])
@pytest.mark.parametrize("preset", ["art", "photo"])
def test_any_size_comes_back_as_it_went_in(stylizer: Stylizer, styles: list[torch.Tensor], size, preset: str) -> None:
    x = torch.rand(2, 3, *size)
    out = stylizer(x, styles[0], preset=preset)
    assert out.shape == x.shape
    assert out.dtype == torch.float32
    assert torch.isfinite(out).all()
    assert 0 <= out.min() <= out.max() <= 1


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_strength_zero_is_the_plain_reconstruction(stylizer: Stylizer, content, styles, level: int) -> None:
    out = stylizer(content, styles[0], flow="cascade", levels=(level,), strength=0)
    features = stylizer.model.encoder(content, level)[-1]
    assert (out - stylizer.model.decoders[str(level)](features).clamp(0, 1)).abs().max() <= 1e-6
    single = stylizer(content, styles[0], flow="single_pass", skips=False, levels=(level,), strength=0)
    assert (single - stylizer.model.single_pass(features, level=level).clamp(0, 1)).abs().max() <= 1e-6


@pytest.mark.parametrize("preset", list(PRESETS))
def test_picture_approaches_the_style_with_strength(stylizer: Stylizer, content, styles, preset: str) -> None:
    for image in styles:
        style = stylizer.style(image)
        seen = [
            sum(distances(stylizer, stylizer(content, style, preset=preset, strength=s), style))
            for s in (0, 0.35, 0.7, 1)
        ]
        assert seen == sorted(seen, reverse=True)
        assert seen[-1] < 0.8 * seen[0]


def test_features_approach_the_style_at_every_level_monotonically(stylizer: Stylizer, content, styles) -> None:
    style = stylizer.style(styles[0])
    for n, tap in enumerate(stylizer.model.encoder(content), start=1):
        seen = [
            float(
                fastift.gram_distance(
                    fastift.ift_scale_free(moments(tap), style.levels[n], strength=s / 10),
                    moments(tap),
                    style.levels[n],
                )
            )
            for s in range(11)
        ]
        assert all(a > b for a, b in itertools.pairwise(seen)), (n, seen)


def test_cascade_is_encode_map_decode_level_by_level(stylizer: Stylizer, content, styles) -> None:
    style, x = stylizer.style(styles[0]), content
    for n in (4, 3, 2, 1):
        f = stylizer.model.encoder(x, n)[-1]
        mapped = fastift.apply(f, fastift.ift_scale_free(moments(f), style.levels[n], strength=0.6))
        x = stylizer.model.decoders[str(n)](mapped).clamp(0, 1)
    out = stylizer(content, style, flow="cascade", levels=(4, 3, 2, 1), strength=0.6)
    assert (out - x).abs().max() < 1e-4  # folded against applied


def test_batch_equals_singles(stylizer: Stylizer, content, styles) -> None:
    batch = torch.cat([content, content.flip(3), content.flip(2)])
    style = stylizer.style(styles[1])
    for preset in PRESETS:
        together = stylizer(batch, style, preset=preset)
        for i in range(3):
            assert (together[i : i + 1] - stylizer(batch[i : i + 1], style, preset=preset)).abs().max() < 1e-4


def test_batch_of_styles_goes_with_a_batch_of_contents(stylizer: Stylizer, content, styles) -> None:
    both = stylizer.style(torch.cat(styles[:2]))
    out = stylizer(content.repeat(2, 1, 1, 1), both)
    for i in range(2):
        assert (out[i : i + 1] - stylizer(content, styles[i])).abs().max() < 1e-4
    with pytest.raises(InvalidInputError, match="style must hold 1 or 3 samples, got 2"):
        stylizer(content.repeat(3, 1, 1, 1), both)


def test_same_call_gives_the_same_bits(stylizer: Stylizer, content, styles) -> None:
    assert torch.equal(stylizer(content, styles[0]), stylizer(content, styles[0]))


def test_paper_mode(stylizer: Stylizer, content, styles) -> None:
    out = stylizer(content, styles[0], mode="paper", lam=1.0, n_upd=3)
    assert torch.isfinite(out).all()
    assert not torch.allclose(out, stylizer(content, styles[0], strength=0))
    with pytest.raises(DivergenceError, match=r"relu3_1: .*lam = 1e\+06 .* expected lam <= "):
        stylizer(content, styles[0], mode="paper", lam=1e6)
    per_level = stylizer(
        content, styles[0], mode="paper", lam={4: 1.0, 3: 1.0, 2: 1.0, 1: 1.0}, n_upd={4: 3, 3: 3, 2: 3, 1: 3}
    )
    assert torch.equal(per_level, out)
    none = stylizer(content, styles[0], mode="paper", lam=1.0, n_upd=3, strength=0)
    assert torch.equal(none, stylizer(content, styles[0], strength=0))


def test_styles_blend(stylizer: Stylizer, content, styles) -> None:
    a, b = (stylizer.style(s) for s in styles[1:])
    both = stylizer.style(styles[1:], [3, 1])
    for n in (1, 2, 3, 4):
        assert relative(both.levels[n].gram, 0.75 * a.levels[n].gram + 0.25 * b.levels[n].gram) < 1e-6
    assert torch.equal(stylizer(content, styles[1:], weights=[1, 0]), stylizer(content, a))
    mixed = [stylizer(content, Style.blend([a, b], [w, 1 - w])) for w in (0.0, 0.5, 1.0)]
    near = [sum(distances(stylizer, out, a)[:3]) for out in mixed]
    assert near == sorted(near, reverse=True)


def test_style_survives_saving(stylizer: Stylizer, content, styles, tmp_path: Path) -> None:
    style = stylizer.style(styles[0])
    style.save(tmp_path / "s.safetensors")
    again = Style.load(tmp_path / "s.safetensors")
    assert torch.equal(stylizer(content, again), stylizer(content, style))
    fastift.weights.write_tensors(tmp_path / "x.safetensors", {"x": torch.ones(1)})
    with pytest.raises(WeightsError, match="is not a style"):
        Style.load(tmp_path / "x.safetensors")
    fastift.weights.write_tensors(
        tmp_path / "x.safetensors", {"relu1_1.n": torch.ones(1)}, {"format": "fastift-style-1", "encoder": "e"}
    )
    with pytest.raises(WeightsError, match="lacks the moments"):
        Style.load(tmp_path / "x.safetensors")


def test_style_of_another_encoder_is_refused(stylizer: Stylizer, content, styles) -> None:
    other = Stylizer(Autoencoder(TINY), device="cpu")
    with pytest.raises(InvalidInputError, match="comes from another encoder"):
        stylizer(content, other.style(styles[0]))


def test_keep_colours(stylizer: Stylizer, content, styles) -> None:
    plain, kept = stylizer(content, styles[0]), stylizer(content, styles[0], keep_colours=True)
    assert (luminance(kept) - luminance(plain)).abs().max() < 1e-5
    chroma_of_content = (content - luminance(content)).abs().mean()
    assert (kept - luminance(kept) - content + luminance(content)).abs().mean() < 0.35 * chroma_of_content
    gamut = with_colours_of(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8))
    assert 0 <= gamut.min() <= gamut.max() <= 1


@pytest.mark.parametrize("dtype", [torch.bfloat16])
def test_half_precision_is_close(content, styles, dtype: torch.dtype) -> None:
    full, half = Stylizer(device="cpu"), Stylizer(device="cpu", dtype=dtype)
    a, b = full(content, styles[0]), half(content, styles[0])
    assert b.dtype == torch.float32
    assert float((a - b).square().mean().sqrt()) < 0.04


def test_gradient_reaches_the_content(stylizer: Stylizer, content, styles) -> None:
    x = content.clone().requires_grad_()
    stylizer(x, styles[0]).mean().backward()
    assert torch.isfinite(x.grad).all()
    assert x.grad.abs().sum() > 0


def test_inference_mode(stylizer: Stylizer, content, styles) -> None:
    with torch.inference_mode():
        inside = stylizer(content, styles[0])
    assert torch.allclose(inside, stylizer(content, styles[0]), atol=1e-5)


@pytest.mark.slow
def test_compiles_as_one_graph(content, styles) -> None:
    stylizer = Stylizer(Autoencoder(TINY), device="cpu")
    with torch.no_grad():
        style = stylizer.style(styles[0])

    def restyle(x: torch.Tensor) -> torch.Tensor:
        return stylizer(x, style, preset="photo", strength=0.2)

    with torch.no_grad():
        assert (torch.compile(restyle, fullgraph=True)(content) - restyle(content)).abs().max() < 1e-3


@pytest.mark.slow
def test_compiled_by_one_argument(content, styles) -> None:
    eager, compiled = (Stylizer(Autoencoder(TINY), device="cpu", compile=c) for c in (False, True))
    compiled.model.load_state_dict(eager.model.state_dict())
    small = content[:, :, :64, :64]
    with torch.inference_mode():
        for image in styles[:2]:  # another style needs no other graph
            style = eager.style(image)
            made = [s(small, style, strength=0.2, levels=(1,)) for s in (compiled, eager)]
            assert (made[0] - made[1]).abs().max() < 1e-3
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1


@pytest.mark.parametrize("settings", [{}, {"preset": "photo"}, {"flow": "single_pass"}, {"passes": 2}])
def test_kept_content_gives_the_same_picture(stylizer: Stylizer, content, styles, settings: dict) -> None:
    kept = stylizer.content(content)
    with torch.no_grad():
        for image in styles:
            style = stylizer.style(image)
            assert torch.equal(stylizer(kept, style, **settings), stylizer(content, style, **settings))


def test_kept_content_is_encoded_once_a_level(monkeypatch: pytest.MonkeyPatch, content, styles) -> None:
    stylizer = Stylizer(Autoencoder(TINY), device="cpu")
    with torch.no_grad():
        made = [stylizer.style(s) for s in styles]
        calls = []
        walk, tap = stylizer.model.encoder.walk, stylizer.model.encoder.tap
        monkeypatch.setattr(stylizer.model.encoder, "walk", lambda *args: calls.append(args[1]) or walk(*args))
        monkeypatch.setattr(stylizer.model.encoder, "tap", lambda *args: calls.append(args[0]) or tap(*args))
        kept = stylizer.content(content)
        for style in made:
            stylizer(kept, style, levels=(3,), strength=0.1)
        stylizer(kept, made[0], levels=(2,), strength=0.1)
        stylizer(kept, made[0], levels=(3,), strength=0.1, flow="single_pass")
        stylizer(kept, made[1], levels=(3,), strength=0.1, flow="single_pass", skips=False)
    assert calls == [3, 2, 3]


def test_content_of_another_stylizer_is_refused(stylizer: Stylizer, content, styles) -> None:
    other = Stylizer(Autoencoder(TINY), device="cpu")
    with pytest.raises(InvalidInputError, match="content comes from another Stylizer"):
        stylizer(other.content(content), styles[0])


def test_constant_and_extreme_pictures_stay_finite(stylizer: Stylizer, styles) -> None:
    for x in (torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32), torch.full((1, 3, 16, 16), 0.5)):
        for preset in PRESETS:
            for strength in (0.5, 1):
                assert torch.isfinite(stylizer(x, styles[0], preset=preset, strength=strength)).all()
                assert torch.isfinite(
                    stylizer(as_batch(draw_content(64, 48)), x, preset=preset, strength=strength)
                ).all()


def test_stylize_takes_and_gives_pictures(stylizer: Stylizer, tmp_path: Path) -> None:
    array = draw_content(70, 50)
    Image.fromarray(array).save(tmp_path / "c.png")
    style = Image.fromarray(draw_styles(64)["mosaic"])
    want = fastift.stylize(tmp_path / "c.png", style, model=stylizer)
    assert isinstance(want, Image.Image)
    assert want.size == (70, 50)
    for content in (str(tmp_path / "c.png"), Image.fromarray(array), array, as_batch(array)):
        assert np.array_equal(np.asarray(fastift.stylize(content, style, model=stylizer)), np.asarray(want))
    assert fastift.stylize(array, [style, style], weights=[1, 2], model=stylizer, size=32).size == (45, 32)
    rgba = Image.fromarray(np.dstack([array, np.full(array.shape[:2], 77, np.uint8)]))
    assert np.asarray(fastift.stylize(rgba, style, model=stylizer))[:, :, 3].tolist() == [[77] * 70] * 50


def test_a_network_of_the_callers_own(content, styles) -> None:
    stylizer = Stylizer(Autoencoder(TINY), device="cpu")
    assert stylizer(content, styles[0]).shape == content.shape
    with pytest.raises(InvalidInputError, match="must be a name, a path or follow"):
        Stylizer(torch.nn.Linear(2, 2))


def test_reflection_pads_do_not_shift(stylizer: Stylizer) -> None:
    x = nnf.interpolate(torch.rand(1, 3, 6, 7), size=(45, 51), mode="bicubic").clamp(0, 1)
    out = stylizer(x, x, levels=(1,), strength=0)
    assert float((out - x).square().mean().sqrt()) < 0.03


X = torch.rand(1, 3, 32, 32)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"strength": 1.01}, r"strength must lie in \[0, 1\], got 1.01"),
        ({"strength": float("nan")}, "strength must lie"),
        ({"preset": "oil"}, "preset must be one of 'art', 'photo', got 'oil'"),
        ({"flow": "twice"}, "flow must be one of 'cascade', 'single_pass', 'encoder_side', got 'twice'"),
        ({"mode": "fast"}, "mode must be one of"),
        ({"transform": "magic"}, "transform must be one of"),
        ({"levels": (5,)}, r"levels must be different numbers from 1 to 4, got \(5,\)"),
        ({"levels": ()}, "levels must be different numbers"),
        ({"levels": (1, 1)}, "levels must be different numbers"),
        ({"flow": "cascade", "skips": True}, "skips need flow='single_pass'"),
        ({"weights": [1]}, "weights need a list"),
        ({"mode": "paper", "lam": -1}, "lam must be finite and not negative"),
    ],
)
def test_refused_settings(stylizer: Stylizer, settings: dict, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        stylizer(X, X, **settings)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (torch.rand(1, 3, 15, 40), "at least 16 x 16"),
        (torch.full((1, 3, 20, 20), float("nan")), "NaN"),
        (255 * torch.rand(1, 3, 20, 20), "255"),
        (torch.rand(1, 2, 20, 20), "content"),
        (torch.rand(20), "content"),
        (None, "content"),
    ],
)
def test_refused_content(stylizer: Stylizer, content, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        stylizer(content, X)


def test_refused_construction() -> None:
    with pytest.raises(InvalidInputError, match="dtype must be"):
        Stylizer(dtype=torch.float64)
    with pytest.raises(InvalidInputError, match="backend must be"):
        Stylizer(backend="fortran")
    with pytest.raises(InvalidInputError, match="compile must be"):
        Stylizer(compile="fast")
    with pytest.raises(InvalidInputError, match="cuda_graphs' needs a GPU"):
        Stylizer(device="cpu", compile="cuda_graphs")
    with pytest.raises(InvalidInputError, match="device must be a name torch knows"):
        Stylizer(device="abacus")
    with pytest.raises(WeightsError, match="is not a file"):
        Stylizer("nowhere.safetensors")
    if not torch.cuda.is_available():
        with pytest.raises(InvalidInputError, match="sees no GPU"):
            Stylizer(device="cuda")


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("flow", ["cascade", "single_pass", "encoder_side"])
def test_every_transform_runs_in_every_flow(
    stylizer: Stylizer, content: torch.Tensor, styles: list[torch.Tensor], transform: str, flow: str
) -> None:
    style = stylizer.style(styles[1])
    levels = (3, 2, 1) if flow == "single_pass" else (2, 1)
    out = stylizer(content, style, transform=transform, flow=flow, levels=levels, strength=1.0)
    assert torch.isfinite(out).all()
    plain = stylizer(content, style, transform=transform, flow=flow, levels=levels, strength=0.0)
    after, before = (sum(distances(stylizer, x, style)[n - 1] for n in levels) for x in (out, plain))
    assert after < 0.97 * before


def test_encoder_side_without_transform_is_plain_reconstruction(
    stylizer: Stylizer, content: torch.Tensor, styles
) -> None:
    one = stylizer(content, styles[0], flow="encoder_side", levels=(3, 2, 1), strength=0.0)
    other = stylizer(content, styles[0], levels=(3,), strength=0.0)
    assert float((one - other).abs().max()) < 1e-6


def test_levels_take_their_own_transform_and_strength(stylizer: Stylizer, content: torch.Tensor, styles) -> None:
    mixed = stylizer(content, styles[0], levels=(2, 1), transform={2: "wct"}, strength={2: 0.5, 1: 0.0})
    first = stylizer(content, styles[0], levels=(2,), transform="wct", strength=0.5)
    again = stylizer(first, styles[0], levels=(1,), strength=0.0)
    assert float((mixed - again).abs().max()) < 1e-5


def test_passes_repeat_the_flow(stylizer: Stylizer, content: torch.Tensor, styles) -> None:
    style = stylizer.style(styles[0])
    x = content[:, :, :64, :64]  # no padding in between
    once = stylizer(x, style)
    assert float((stylizer(x, style, passes=2) - stylizer(once, style)).abs().max()) < 1e-5


def test_colours_only_keeps_the_luminance(stylizer: Stylizer, content: torch.Tensor, styles) -> None:
    out = stylizer(content, styles[0], colours_only=True)
    assert float((luminance(out) - luminance(content)).abs().max()) < 2e-3
    assert float((out - content).abs().mean()) > 5e-3


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ({"transform": "style"}, "transform must be one of"),
        ({"transform": {4: "wct"}, "levels": (2, 1)}, "transform by level must name levels"),
        ({"strength": {2: 1.5}, "levels": (2, 1)}, "strength must lie in"),
        ({"passes": 0}, "passes must be"),
        ({"flow": "encoder_side", "skips": True}, "skips need"),
        ({"keep_colours": True, "colours_only": True}, "exclude each other"),
    ],
)
def test_settings_that_cannot_be_are_refused(stylizer: Stylizer, content, styles, setting: dict, why: str) -> None:
    with pytest.raises(InvalidInputError, match=why):
        stylizer(content, styles[0], **setting)


def test_feature_side_blending_is_the_mean_of_the_maps(stylizer: Stylizer, content: torch.Tensor, styles) -> None:
    one = stylizer(content, styles[:1], blend="features", transform="wct", levels=(2,))
    assert float((one - stylizer(content, styles[0], transform="wct", levels=(2,))).abs().max()) < 1e-5
    mixed = stylizer(content, styles[:2], weights=[1, 3], blend="features", transform="adain", levels=(1,))
    skewed = stylizer(content, styles[:2], weights=[0, 3], blend="features", transform="adain", levels=(1,))
    assert float((skewed - stylizer(content, styles[1], transform="adain", levels=(1,))).abs().max()) < 1e-5
    assert float((mixed - skewed).abs().mean()) > 1e-3
    with pytest.raises(InvalidInputError, match="needs a list"):
        stylizer(content, styles[0], blend="features")
    with pytest.raises(InvalidInputError, match="sum to more than 0"):
        stylizer(content, styles[:2], weights=[0, 0], blend="features")
