"""Regions: label maps from pictures and arrays, soft masks, one map a region, and what a user gets with masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from features import relative
from PIL import Image

import fastift
from fastift import InvalidInputError, Moments, Style, Stylizer, apply, ift_scale_free, moments
from fastift.art import draw_content, draw_styles
from fastift.image import as_batch
from fastift.regions import Regions, read_labels

RED, BLUE = 0xFF0000, 0x0000FF


@pytest.fixture(scope="module")
def content() -> torch.Tensor:
    return as_batch(draw_content(96, 72))


@pytest.fixture(scope="module")
def styles() -> list[torch.Tensor]:
    return [as_batch(s) for s in draw_styles(80).values()]


def halves(height: int, width: int) -> torch.Tensor:
    labels = torch.zeros(height, width, dtype=torch.long)
    labels[:, width // 2 :] = 7
    return labels


def test_colours_are_labels_and_borders_snap_to_the_nearest() -> None:
    mask = Image.new("RGB", (40, 20), (255, 0, 0))
    mask.paste((0, 0, 255), (20, 0, 40, 20))
    soft = mask.resize((80, 40), Image.Resampling.BICUBIC)
    assert len(soft.getcolors()) > 2
    (labels,) = read_labels(soft)
    assert set(labels.unique().tolist()) == {RED, BLUE}
    assert (labels[:, :39] == RED).all()
    assert (labels[:, 41:] == BLUE).all()


def test_two_masks_share_their_labels_even_when_compression_moved_the_colours() -> None:
    one, other = Image.new("RGB", (30, 30), (250, 0, 3)), Image.new("RGB", (30, 30), (255, 2, 0))
    other.paste((0, 0, 255), (0, 0, 10, 30))
    first, second = read_labels(one, other)
    assert set(first.unique().tolist()) < set(second.unique().tolist())


def test_arrays_are_labels_as_they_are() -> None:
    want = halves(5, 8)
    for source in (want, want.numpy(), want.to(torch.uint8), want.numpy().astype(np.int16)):
        assert torch.equal(read_labels(source)[0], want)
    assert read_labels(want > 0)[0].unique().tolist() == [0, 1]


@pytest.mark.parametrize(
    "source", [torch.rand(4, 4), torch.zeros(2, 4, 4, dtype=torch.long), [[1]], np.zeros((0, 3), int)]
)
def test_other_masks_are_refused(source) -> None:
    with pytest.raises(InvalidInputError, match="mask must be a picture or an array of whole numbers"):
        read_labels(source)


def test_a_photograph_is_no_mask() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    with pytest.raises(InvalidInputError, match="at most 64"):
        read_labels(Image.fromarray(noise))
    with pytest.raises(InvalidInputError, match="at most 64"):
        read_labels(torch.arange(100).reshape(10, 10))


@pytest.mark.parametrize("feather", [0.0, 3.0, 1000.0])
def test_masks_sum_to_one(feather: float) -> None:
    regions = Regions.of(halves(24, 32), feather=feather)
    assert torch.allclose(regions.masks.sum(1), torch.ones(1, 24, 32), atol=1e-6)
    assert float(regions.masks.min()) >= 0
    at = regions.at(torch.zeros(2, 5, 6, 8))
    assert at.shape == (2, 2, 6, 8)
    assert torch.allclose(at.sum(1), torch.ones(2, 6, 8), atol=1e-6)


def test_each_region_gets_the_map_of_its_own_moments() -> None:
    f = torch.rand(1, 6, 12, 16, dtype=torch.float64)
    target = moments(torch.rand(2, 6, 90, dtype=torch.float64))
    regions = Regions.of(halves(12, 16))
    found = regions.solve(f, target, lambda c, s: ift_scale_free(c, s, strength=0.8))
    out = apply(f, found.affine, found.mask)
    for i, part in enumerate((slice(0, 8), slice(8, 16))):
        style = Moments(*(t[i : i + 1] for t in target))
        alone = apply(f[..., part], ift_scale_free(moments(f[..., part]), style, strength=0.8))
        assert relative(out[..., part], alone) < 1e-9


def test_empty_regions_and_styles_keep_their_features() -> None:
    f = torch.rand(1, 4, 10, 10)
    labels = halves(10, 10)
    labels[:, 5:] = 3
    labels[0, 0] = 9  # one pixel
    regions = Regions.of(labels)
    target = moments(torch.rand(3, 4, 50))
    target = Moments(*(t * torch.tensor([1.0, 0.0, 1.0]).reshape(-1, *[1] * (t.dim() - 1)) for t in target))
    found = regions.solve(f, target, lambda c, s: ift_scale_free(c, s))
    out = apply(f, found.affine, found.mask)
    assert torch.isfinite(out).all()
    assert torch.allclose(out[..., 5:], f[..., 5:])
    assert not torch.allclose(out[..., 1:, :5], f[..., 1:, :5])


def test_a_mask_of_one_label_is_no_mask(stylizer: Stylizer, content: torch.Tensor, styles: list[torch.Tensor]) -> None:
    plain = stylizer(content, styles[0])
    masked = stylizer(content, styles[:1], mask=torch.zeros(content.shape[2:], dtype=torch.long))
    assert float((plain - masked).abs().max()) < 1e-3


@pytest.mark.parametrize("flow", ["cascade", "single_pass", "encoder_side"])
def test_every_flow_takes_masks(
    stylizer: Stylizer, content: torch.Tensor, styles: list[torch.Tensor], flow: str
) -> None:
    mask = halves(*content.shape[2:])
    out = stylizer(content, styles[:2], mask=mask, flow=flow)
    swapped = stylizer(content, {7: styles[0], 0: styles[1]}, mask=mask, flow=flow)
    assert out.shape == content.shape
    assert torch.isfinite(out).all()
    assert float((out - swapped).abs().mean()) > 0.01


def test_styles_by_mask_by_dict_and_kept(
    stylizer: Stylizer, content: torch.Tensor, styles: list[torch.Tensor], tmp_path
) -> None:
    mask, style_mask = halves(*content.shape[2:]), halves(*styles[0].shape[2:])
    out = stylizer(content, styles[0], mask=mask, style_mask=style_mask)
    kept = stylizer.style(styles[0], mask=style_mask)
    kept.save(tmp_path / "s.safetensors")
    loaded = Style.load(tmp_path / "s.safetensors")
    assert loaded.labels == (0, 7)
    assert torch.equal(stylizer(content, loaded, mask=mask), out)
    by_label = {label: kept.region(label) for label in kept.labels}
    assert torch.equal(stylizer(content, by_label, mask=mask), out)


def test_a_label_without_style_stays_as_it_is(
    stylizer: Stylizer, content: torch.Tensor, styles: list[torch.Tensor]
) -> None:
    mask = halves(*content.shape[2:])
    out = stylizer(content, {7: styles[0]}, mask=mask, feather=0.0)
    plain = stylizer(content, styles[0], strength=0.0)
    far_left = content.shape[3] // 4  # the decoders look over the border
    assert float((out - plain)[..., :far_left].abs().max()) < 1e-4
    assert float((out - plain)[..., -far_left:].abs().mean()) > 0.01


def test_batches_with_one_mask(stylizer: Stylizer, content: torch.Tensor, styles: list[torch.Tensor]) -> None:
    two = torch.cat([content, content.flip(1)])
    mask = halves(*content.shape[2:])
    together = stylizer(two, styles[:2], mask=mask)
    for i in range(2):
        assert float((together[i : i + 1] - stylizer(two[i : i + 1], styles[:2], mask=mask)).abs().max()) < 1e-3


def test_soft_edges_hide_the_seam(stylizer: Stylizer, styles: list[torch.Tensor]) -> None:
    """A flat picture whose halves take different styles: the widest jump between neighbours is smaller with soft edges."""
    flat = torch.full((1, 3, 64, 64), 0.5) + 0.05 * torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    mask = halves(64, 64)
    jump = {}
    for feather in (0.0, 0.3):
        out = stylizer(flat, styles[:2], mask=mask, feather=feather, preset="photo")
        rows = out.mean((0, 1, 2))
        jump[feather] = float((rows[30:34].diff()).abs().max())
    assert jump[0.3] < jump[0.0]


def test_stylize_reduces_masks_with_their_pictures(
    stylizer: Stylizer, content: torch.Tensor, styles: list[torch.Tensor]
) -> None:
    mask, style_mask = halves(*content.shape[2:]), halves(*styles[0].shape[2:])
    out = fastift.stylize(content, styles[0], mask=mask, style_mask=style_mask, size=48, model=stylizer)
    assert out.size == (64, 48)
    listed = fastift.stylize(content, styles[:2], mask=mask, size=48, model=stylizer)
    assert listed.size == (64, 48)


def test_refusals(stylizer: Stylizer, content: torch.Tensor, styles: list[torch.Tensor]) -> None:
    mask = halves(*content.shape[2:])
    style = styles[0]
    cases = [
        ({"style": style, "mask": mask[1:], "style_mask": halves(80, 80)}, "size of its picture"),
        ({"style": style, "mask": mask, "style_mask": halves(10, 10)}, "size of its picture"),
        ({"style": styles[:1], "mask": mask}, "2 labels, expected as many styles"),
        ({"style": style, "mask": mask}, "by region"),
        ({"style": styles, "mask": mask, "style_mask": halves(80, 80)}, "needs one style image"),
        ({"style": {5: style}, "mask": mask}, "no label in common"),
        ({"style": {0: style}}, "needs a mask"),
        ({"style": style, "style_mask": halves(80, 80)}, "needs a mask"),
        ({"style": styles[:2], "mask": mask, "weights": [1, 2]}, "one style"),
        ({"style": styles[:2], "mask": mask, "feather": 2}, "feather"),
    ]
    for arguments, why in cases:
        with pytest.raises(InvalidInputError, match=why):
            stylizer(content, **arguments)
