"""The drawn pictures of the demo: shapes, determinism, that the styles differ, and the sheets that compare results."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fastift.art import contact_strip, draw_content, draw_styles, grid
from fastift.errors import InvalidInputError


@pytest.fixture(scope="module")
def styles() -> dict[str, np.ndarray]:
    return draw_styles(128)


@pytest.mark.parametrize(("width", "height"), [(131, 97), (64, 150), (150, 41), (8, 8)])
def test_content_has_the_size_asked_for(width, height):
    picture = draw_content(width, height)
    assert picture.shape == (height, width, 3) and picture.dtype == np.uint8


@pytest.mark.parametrize("size", [8, 57])
def test_styles_have_the_size_asked_for(size):
    pictures = draw_styles(size)
    assert list(pictures) == ["strokes", "mosaic", "ink"]
    assert all(p.shape == (size, size, 3) and p.dtype == np.uint8 for p in pictures.values())


def test_drawings_are_deterministic(styles):
    assert np.array_equal(draw_content(96, 64), draw_content(96, 64))
    assert all(np.array_equal(styles[name], picture) for name, picture in draw_styles(128).items())


def test_content_is_the_same_scene_at_another_size():
    small, large = (
        np.asarray(Image.fromarray(draw_content(w, h)).resize((48, 32), Image.Resampling.BOX), np.float32)
        for w, h in ((192, 128), (384, 256))
    )
    assert np.abs(small - large).mean() < 5
    assert np.corrcoef(small.ravel(), large.ravel())[0, 1] > 0.98


def test_content_has_a_wide_tonal_range_and_low_saturation():
    picture = draw_content(240, 160).astype(np.float32)
    grey = picture.mean(2)
    assert np.percentile(grey, 1) < 45 and np.percentile(grey, 99) > 205
    assert (picture.max(2) - picture.min(2)).mean() < 60
    # smooth sky above, fine edges below
    step = np.abs(np.diff(grey, axis=1))
    assert step[:40, 80:160].mean() < step[-80:, :60].mean() / 2


def test_styles_use_the_range_and_differ_in_colour(styles):
    for picture in styles.values():
        low, high = np.percentile(picture.mean(2), (1, 99))
        assert high - low > 100
    flat = {name: picture.reshape(-1, 3).astype(np.float64) for name, picture in styles.items()}
    mean = {name: f.mean(0) for name, f in flat.items()}
    chroma = {name: (f.max(1) - f.min(1)).mean() for name, f in flat.items()}
    assert mean["strokes"][2] > mean["strokes"][0] and mean["ink"][0] > mean["ink"][2]
    assert chroma["ink"] < 45 < 70 < min(chroma["strokes"], chroma["mosaic"])
    for a, b in (("strokes", "mosaic"), ("strokes", "ink"), ("mosaic", "ink")):
        apart = np.abs(np.cov(flat[a].T) - np.cov(flat[b].T)).max() / np.cov(flat[a].T).max()
        assert np.abs(mean[a] - mean[b]).max() > 15 and apart > 0.15


@pytest.mark.parametrize("size", [(0, 64), (64, 7), (-3, 64)])
def test_a_picture_too_small_is_refused(size):
    with pytest.raises(InvalidInputError, match="draw_content"):
        draw_content(*size)


def test_a_style_too_small_is_refused():
    with pytest.raises(InvalidInputError, match="draw_styles"):
        draw_styles(4)


def test_strip_puts_pictures_side_by_side_at_equal_height():
    wide, tall = np.full((20, 40, 3), 10, np.uint8), Image.new("L", (30, 60), 200)
    strip = contact_strip([wide, tall], ["a", "a caption much too long for its picture"], height=50, gap=4)
    assert strip.mode == "RGB" and strip.width == 4 + 100 + 4 + 25 + 4
    assert 50 + 2 * 4 < strip.height < 50 + 2 * 4 + 30
    pixels = np.asarray(strip)
    assert (pixels[4:54, 4:104] == 10).all() and (pixels[4:54, 108:133] == 200).all()
    assert (pixels[:4] == 255).all() and (pixels[:54, 104:108] == 255).all()
    assert pixels[58:].min() < 120, "no caption was drawn"


def test_grid_centres_pictures_in_cells():
    square, wide = np.full((30, 30, 3), 10, np.uint8), np.full((20, 40, 3), 90, np.uint8)
    table = grid([[square, wide], [wide, square], [square, square]], ["r1", "r2", "r3"], ["c1", "c2"], cell=64)
    line = table.width - 8 - 2 * 72
    assert table.size == (line + 8 + 2 * 72, line + 8 + 3 * 72) and line > 8
    pixels = np.asarray(table)
    left, top = line + 8, line + 8
    assert (pixels[top : top + 64, left : left + 64] == 10).all()
    cell = pixels[top : top + 64, left + 72 : left + 136]
    assert (cell[16:48] == 90).all() and (cell[:16] == 255).all() and (cell[48:] == 255).all()
    assert pixels[:line].min() < 120 and pixels[top:, :line].min() < 120, "no label was drawn"


def test_mismatched_labels_are_refused():
    picture = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(InvalidInputError, match="2 images, 1 labels"):
        contact_strip([picture, picture], ["one"])
    with pytest.raises(InvalidInputError, match="at least one"):
        contact_strip([], [])
    with pytest.raises(InvalidInputError, match="one label"):
        grid([[picture]], ["a", "b"], ["c"])
    with pytest.raises(InvalidInputError, match="column"):
        grid([[picture], [picture, picture]], ["a", "b"], ["c"])


@pytest.mark.parametrize("picture", [np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), np.uint8), "a.png"])
def test_what_is_no_picture_is_refused(picture):
    with pytest.raises(InvalidInputError, match="uint8"):
        contact_strip([picture], ["x"])
    with pytest.raises(InvalidInputError, match="uint8"):
        grid([[picture]], ["x"], ["y"])
