"""Pictures for `fastift demo`, drawn here: a landscape, three painterly styles, and sheets to compare results."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .errors import InvalidInputError

__all__ = ["draw_content", "draw_styles", "contact_strip", "grid"]

Array = NDArray[np.float32]
Picture = np.ndarray | Image.Image


def draw_content(width: int = 768, height: int = 512) -> np.ndarray:
    """A misty mountain lake in the evening: uint8 [height, width, 3], the same on every call.

    Lengths are in units of the height and x starts at the middle, so another size shows the same scene and a wider one
    shows more of it to the sides.
    """
    _check_size("draw_content", width, height)
    y = ((np.arange(height, dtype=np.float32) + 0.5) / height)[:, None]
    x = ((np.arange(width, dtype=np.float32) + 0.5 - width / 2) / height)[None]
    scene = _sky(x, y)
    for layer in range(len(_RIDGES)):
        _mountains(scene, x, y, layer)
    _lake(scene, x, y)
    _shore(scene, x, y)
    vignette = 1 - 0.16 * _smoothstep(0.45, 1.0, np.hypot(x * 0.85, y - 0.5))
    grain = np.random.default_rng(5).standard_normal((height, width, 1), dtype=np.float32)
    return _to_uint8(scene * vignette[..., None] + 1.7 * grain)


def draw_styles(size: int = 512) -> dict[str, np.ndarray]:
    """Three painterly pictures, uint8 [size, size, 3] each: "strokes", "mosaic" and "ink"; the same on every call."""
    _check_size("draw_styles", size, size)
    return {"strokes": _strokes(size), "mosaic": _mosaic(size), "ink": _ink(size)}


def contact_strip(images: Sequence[Picture], labels: Sequence[str], *, height: int = 256, gap: int = 8) -> Image.Image:
    """Pictures (uint8 [H, W, 3] or PIL) side by side, each `height` pixels high, on white with a caption under each."""
    if not images or len(images) != len(labels):
        raise InvalidInputError(
            f"fastift.art.contact_strip: expected one label for each of at least one image, "
            f"got {len(images)} images, {len(labels)} labels"
        )
    if height < 1 or gap < 0:
        raise InvalidInputError(f"fastift.art.contact_strip: need height >= 1 and gap >= 0, got {height} and {gap}")
    pictures = [_at_height(picture, height, "contact_strip") for picture in images]
    font, line = _font(height)
    sheet = Image.new("RGB", (sum(p.width + gap for p in pictures) + gap, height + 2 * gap + line), "white")
    draw = ImageDraw.Draw(sheet)
    left = gap
    for picture, label in zip(pictures, labels, strict=True):
        sheet.paste(picture, (left, gap))
        _caption(draw, label, (left + picture.width / 2, gap + height + line / 2), picture.width + gap, font)
        left += picture.width + gap
    return sheet


def grid(
    rows: Sequence[Sequence[Picture]], row_labels: Sequence[str], column_labels: Sequence[str], *, cell: int = 256
) -> Image.Image:
    """A table of pictures (uint8 [H, W, 3] or PIL), each centred in a square of side cell, labelled above and left."""
    if not rows or not column_labels or len(rows) != len(row_labels):
        raise InvalidInputError(
            f"fastift.art.grid: expected one label for each of at least one row, got {len(rows)} rows, "
            f"{len(row_labels)} row labels, {len(column_labels)} column labels"
        )
    if any(len(row) != len(column_labels) for row in rows):
        raise InvalidInputError(
            f"fastift.art.grid: every row must have one image a column label, "
            f"got rows of {[len(row) for row in rows]} images, {len(column_labels)} column labels"
        )
    if cell < 1:
        raise InvalidInputError(f"fastift.art.grid: need cell >= 1, got {cell}")
    gap = 8
    font, line = _font(cell)
    # row labels stand upright in a column as wide as a line, so that a long one costs no width
    size = (line + gap + len(column_labels) * (cell + gap), line + gap + len(rows) * (cell + gap))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for j, label in enumerate(column_labels):
        _caption(draw, label, (line + gap + j * (cell + gap) + cell / 2, gap / 2 + line / 2), cell + gap, font)
    for i, (row, label) in enumerate(zip(rows, row_labels, strict=True)):
        top = line + gap + i * (cell + gap)
        upright = Image.new("RGB", (cell, line), "white")
        _caption(ImageDraw.Draw(upright), label, (cell / 2, line / 2), cell, font)
        sheet.paste(upright.transpose(Image.Transpose.ROTATE_90), (gap // 2, top))
        for j, picture in enumerate(row):
            full = _as_image(picture, "grid")
            ratio = cell / max(full.size)
            small = full.resize([max(1, round(side * ratio)) for side in full.size], Image.Resampling.LANCZOS)
            left = line + gap + j * (cell + gap)
            sheet.paste(small, (left + (cell - small.width) // 2, top + (cell - small.height) // 2))
    return sheet


def _as_image(picture: Picture, caller: str) -> Image.Image:
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        got = f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
        raise InvalidInputError(f"fastift.art.{caller}: an image must be PIL or uint8 [H, W, 3], got {got}")
    return Image.fromarray(picture)


def _at_height(picture: Picture, height: int, caller: str) -> Image.Image:
    image = _as_image(picture, caller)
    return image.resize((max(1, round(image.width * height / image.height)), height), Image.Resampling.LANCZOS)


def _font(height: int) -> tuple[ImageFont.ImageFont | ImageFont.FreeTypeFont, int]:
    """The font of the captions of pictures this high, and the height of a line."""
    size = max(10, round(height / 16))
    return ImageFont.load_default(size=size), round(1.5 * size)


def _caption(draw: ImageDraw.ImageDraw, text: str, centre: tuple[float, float], room: float, font: object) -> None:
    while len(text) > 1 and draw.textlength(text, font=font) > room:
        text = text.rstrip("…")[:-1] + "…" if len(text.rstrip("…")) > 1 else "…"
    draw.text(centre, text, fill=(40, 40, 40), font=font, anchor="mm")


def _check_size(caller: str, width: int, height: int) -> None:
    if width < 8 or height < 8:
        raise InvalidInputError(f"fastift.art.{caller}: a picture needs at least 8 x 8 pixels, got {width} x {height}")


def _to_uint8(values: Array) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _smoothstep(low: float | Array, high: float | Array, v: Array) -> Array:
    t = np.clip((v - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _mix(a: Array, b: Array | tuple[float, ...], share: Array | float) -> Array:
    """Colours a [..., 3] toward b by share [...]."""
    b = np.asarray(b, np.float32)
    return a + (b - a) * np.asarray(share, np.float32)[..., None]


def _ramp(stops: Sequence[float], colours: Sequence[tuple[int, int, int]], v: Array) -> Array:
    """Colours [..., 3] interpolated between stops at v [...]."""
    table = np.asarray(colours, np.float32)
    return np.stack([np.interp(v, stops, table[:, c]) for c in range(3)], axis=-1).astype(np.float32)


def _noise(x: Array, y: Array, seed: int) -> Array:
    """Smooth gradient noise in about [-1, 1] with features of size 1, at the points (x, y), which broadcast."""
    rng = np.random.default_rng(seed)
    table = rng.permutation(256).astype(np.int32)
    angle = rng.uniform(0, 2 * np.pi, 256)
    gx, gy = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    x, y = np.asarray(x, np.float32), np.asarray(y, np.float32)
    x0, y0 = np.floor(x), np.floor(y)
    fx, fy = x - x0, y - y0
    i, j = x0.astype(np.int32), y0.astype(np.int32)
    columns = table[i & 255], table[(i + 1) & 255]

    def corner(di: int, dj: int) -> Array:
        k = table[(columns[di] + j + dj) & 255]
        return gx[k] * (fx - di) + gy[k] * (fy - dj)

    u = fx * fx * fx * (fx * (fx * 6 - 15) + 10)
    v = fy * fy * fy * (fy * (fy * 6 - 15) + 10)
    near = corner(0, 0)
    near += u * (corner(1, 0) - near)
    far = corner(0, 1)
    far += u * (corner(1, 1) - far)
    return 1.5 * (near + v * (far - near))


def _fractal(x: Array, y: Array, seed: int, octaves: int, gain: float = 0.5, ridged: bool = False) -> Array:
    """Octaves of noise summed to about [-1, 1]; ridged folds each at zero for sharp crests, to about [0, 1]."""
    total: Array | float = 0.0
    weight, norm = 1.0, 0.0
    for octave in range(octaves):
        # 2.03 and the shift keep the lattices of two octaves from lining up
        scale = 2.03**octave
        n = _noise(x * scale + 7.3 * octave, y * scale + 3.1 * octave, seed + octave)
        total = total + weight * ((1 - np.abs(n)) ** 2 if ridged else n)
        norm += weight
        weight *= gain
    return total / norm


_SHORELINE = 0.655
_SUN = (0.2, 0.395)
# base and height of the crest, features per height, colour, mist, relief of the slopes, height of the trees
_RIDGES: tuple[tuple[float, float, float, tuple[int, int, int], float, float, float], ...] = (
    (0.560, 0.300, 1.5, (166, 163, 172), 0.75, 0.6, 0.0),
    (0.570, 0.200, 2.1, (138, 143, 156), 0.75, 0.7, 0.0),
    (0.590, 0.160, 2.4, (108, 119, 133), 0.70, 0.7, 0.0),
    (0.615, 0.130, 2.6, (79, 94, 106), 0.60, 0.6, 0.010),
    (0.640, 0.100, 2.8, (53, 68, 76), 0.50, 0.5, 0.018),
    (0.657, 0.055, 3.0, (33, 46, 50), 0.30, 0.4, 0.030),
)


def _haze(x: Array, y: Array) -> Array:
    """Colour of the mist: warm toward the sun, cool away from it."""
    warm = np.exp(-((x - _SUN[0]) ** 2 + 0.6 * (y - _SUN[1]) ** 2) / 0.22)
    return _mix(np.broadcast_to(np.float32((196, 194, 198)), (*warm.shape, 3)), (243, 213, 179), warm)


def _sky(x: Array, y: Array) -> Array:
    stops = (0.0, 0.18, 0.34, 0.47, 0.6)
    colours = ((86, 108, 138), (128, 143, 165), (184, 178, 181), (226, 202, 180), (240, 214, 184))
    sky = _ramp(stops, colours, y + 0.05 * x * x)
    distance = np.hypot(x - _SUN[0], y - _SUN[1])
    sky = _mix(sky, (255, 226, 182), 0.75 * np.exp(-((distance / 0.2) ** 1.1)))
    # perspective of a flat cloud deck: rows crowd together toward the horizon
    depth = 1 / (0.80 - y)
    cx, cy = x * depth * 0.85, 1.9 * depth + 0.25 * x
    side = np.tanh((_SUN[0] - x) / 0.15)
    warp = 0.5 * _fractal(cx * 0.8, cy * 0.8, 40, 2)
    density = _fractal(cx + warp, cy * 1.25 - warp, 50, 6, 0.52)
    toward_sun = _fractal(cx + warp + 0.1 * side, (cy + 0.16) * 1.25 - warp, 50, 4, 0.52)
    cover = _smoothstep(-0.04, 0.42, density + 0.06) * (0.35 + 0.65 * _smoothstep(0.56, 0.3, y))
    lit = np.clip(0.5 + 1.9 * (density - toward_sun) - 0.5 * np.clip(density - 0.2, 0, 1), 0, 1)
    glow = np.exp(-distance / 0.45)
    shadow = _mix(np.broadcast_to(np.float32((126, 130, 148)), sky.shape), (188, 164, 158), glow)
    bright = _mix(np.broadcast_to(np.float32((226, 212, 206)), sky.shape), (255, 224, 184), np.clip(1.3 * glow, 0, 1))
    sky = _mix(sky, shadow + (bright - shadow) * lit[..., None], 0.85 * cover)
    # the sun's lower edge drowns in the haze
    disc = _smoothstep(0.030, 0.021, distance) * (1 - 0.4 * cover) * (0.95 - 0.5 * _smoothstep(0, 0.03, y - _SUN[1]))
    sky = _mix(sky, (255, 240, 208), 0.75 * np.exp(-((distance / 0.05) ** 1.5)))
    return _mix(sky, (255, 250, 234), np.clip(disc, 0, 1))


def _crest(x: Array, layer: int) -> tuple[Array, Array]:
    """The y of a layer's crest for each x [1, W], without its trees and with them."""
    base, height, frequency, *_, trees = _RIDGES[layer]
    line = _fractal(x * frequency, np.float32(11.7 * layer), 100 + 10 * layer, 8, 0.47, ridged=layer < 3)
    line = line if layer < 3 else 0.5 + 0.5 * line
    # the valley opens under the sun, and the slopes rise toward the sides
    opening = 0.42 + 0.58 * _smoothstep(0.0, 0.62, np.abs(x - _SUN[0] + 0.03 * layer))
    crest = ground = base - height * opening * line
    if trees:
        rng = np.random.default_rng(200 + layer)
        at = np.arange(-3.0, 3.0, trees * 0.3) + rng.uniform(-0.2, 0.2, len(np.arange(-3.0, 3.0, trees * 0.3))) * trees
        tall = trees * rng.uniform(0.35, 1.0, len(at))
        keep = np.abs(at) < np.abs(x).max() + 0.1
        rise = tall[keep, None] * (1 - np.abs(x - at[keep, None]) / (0.24 * tall[keep, None]))
        crest = crest - np.maximum(rise.max(0, keepdims=True), 0)
    return ground.astype(np.float32), crest.astype(np.float32)


def _mountains(scene: Array, x: Array, y: Array, layer: int) -> None:
    """Draw one layer over the scene, in place."""
    _, _, frequency, colour, mist, relief, trees = _RIDGES[layer]
    bare, crest = _crest(x, layer)
    pixel = 1 / len(y)
    first = max(0, int(crest.min() / pixel) - 1)
    y, part = y[first:], scene[first:]
    f = frequency * (2.2 if layer < 3 else 3.5)
    # gullies run downhill from the crest: the slope's texture hangs on it, stretched downward
    below = y - crest if layer < 3 else y - crest.mean()
    lean = 0.8 if layer < 3 else 0.1
    form = _fractal(x * f + lean * below * f, below * f * 0.8, 300 + 10 * layer, 6, 0.5, ridged=True)
    light = np.gradient(form, pixel, axis=1) / f
    light = np.clip(light * 0.5, -1, 1) * np.tanh((_SUN[0] - x) / 0.12)
    ground = np.broadcast_to(np.float32(colour), (*form.shape, 3))
    if trees:
        # a forest from afar: speckle that stands upright
        speckle = _fractal(x * 0.9 / trees, y * 0.45 / trees, 400 + 10 * layer, 3, 0.6)
        ground = ground * (1 + 0.35 * speckle + 0.22 * light)[..., None]
    else:
        ground = _mix(ground, (236, 216, 198), 0.5 * relief * np.clip(-light, 0, 1))
        ground = _mix(ground, (92, 104, 126), 0.55 * relief * np.clip(light, 0, 1))
    haze = _haze(x, y)
    drift = 0.5 + 0.5 * _fractal(x * 2.2, y * 9, 500 + layer, 3)
    sink = _smoothstep(0.0, 1.0, (y - bare) / (_SHORELINE - bare.min()))
    ground = _mix(ground, haze, np.clip(mist * (0.12 + sink * (0.75 + 0.7 * drift)), 0, 0.95))
    part[:] = _mix(part, ground, np.clip((y - crest) / pixel + 0.5, 0, 1))


def _lake(scene: Array, x: Array, y: Array) -> None:
    """Draw the water below the shoreline, in place: the scene above it mirrored, rippled and darkened."""
    height = len(y)
    first = int(np.ceil(_SHORELINE * height - 0.5))
    if first >= height:
        return
    y = y[first:]
    near = (y - _SHORELINE) / (1 - _SHORELINE)
    # ripples lie on a plane, seen in perspective
    depth = 1 / (near + 0.13)
    ripple = _fractal(x * depth * 3.0, depth * 9.0, 600, 4, 0.62)
    calm = 0.5 + 0.5 * _noise(x * 1.3, near * 5 + 0.7 * x, 610)
    ripple = ripple * (0.3 + 0.9 * _smoothstep(0.3, 0.7, calm)) * (0.12 + near)
    source = _SHORELINE - 1.25 * (y - _SHORELINE) - 0.19 * ripple
    row = np.clip(source * height - 0.5, 0, first - 1)
    shift = np.arange(x.shape[1]) + 0.012 * ripple * height
    column = np.clip(shift, 0, x.shape[1] - 1)
    low, left = row.astype(np.int32), column.astype(np.int32)
    under, right = np.minimum(low + 1, first - 1), np.minimum(left + 1, x.shape[1] - 1)
    down, across = (row - low)[..., None], (column - left)[..., None]
    water = (scene[low, left] * (1 - across) + scene[low, right] * across) * (1 - down)
    water += (scene[under, left] * (1 - across) + scene[under, right] * across) * down
    water = _mix(water * 0.93, (52, 68, 80), np.clip(0.08 + 0.36 * near + 0.5 * ripple, 0, 0.75))
    glitter = np.exp(-(((x - _SUN[0]) / (0.03 + 0.10 * near)) ** 2)) * _smoothstep(0.0, 0.35, ripple + 0.06)
    water = _mix(water, (255, 228, 188), 0.6 * glitter)
    scene[first:] = water
    # a band of mist over the far water hides the mirror's seam
    rows = scene[max(0, first - height // 12) : first + height // 12]
    at = (np.arange(max(0, first - height // 12), max(0, first - height // 12) + len(rows)) + 0.5)[:, None] / height
    drift = 0.55 + 0.7 * _fractal(x * 1.8, at.astype(np.float32) * 30, 620, 3)
    band = np.exp(-(((at - _SHORELINE) / 0.016) ** 2)) * np.clip(drift, 0, 1)
    rows[:] = _mix(rows, _haze(x, at.astype(np.float32)), 0.6 * band.astype(np.float32))


def _shore(scene: Array, x: Array, y: Array) -> None:
    """Draw the dark bank with its grass and conifers over the scene, in place."""
    height, width = scene.shape[:2]
    over = 3
    cover = Image.new("L", (width * over, height * over), 0)
    shade = Image.new("L", cover.size, 60)
    pens = ImageDraw.Draw(cover), ImageDraw.Draw(shade)
    unit = height * over
    middle = width * over / 2

    def bank(at: Array | float) -> Array:
        at = np.asarray(at, np.float32)
        side = 0.125 * _smoothstep(0.0, 0.85, -at) + 0.09 * _smoothstep(0.25, 0.8, at)
        return 0.962 - side - 0.03 * _fractal(at * 2.6, np.float32(0.4), 700, 6)

    def line(points: Array, tone: int, thick: float) -> None:
        flat = [(middle + unit * px, unit * py) for px, py in points]
        pen_width = max(1, round(unit * thick))
        pens[0].line(flat, fill=255, width=pen_width)
        pens[1].line(flat, fill=tone, width=pen_width)

    edge = np.linspace(x.min() - 0.01, x.max() + 0.01, 400)
    outline = [(middle + unit * a, unit * b) for a, b in zip(edge, bank(edge), strict=True)]
    pens[0].polygon([*outline, (outline[-1][0], unit + 9), (outline[0][0], unit + 9)], fill=255)

    rng = np.random.default_rng(710)
    visible = float(x.max()) + 0.15
    trees = [(-0.69, 0.62), (-0.585, 0.40), (-0.79, 0.47), (-0.50, 0.25), (-0.425, 0.165), (0.66, 0.43), (0.735, 0.54)]
    trees += [(0.585, 0.25), (0.53, 0.15), (-0.36, 0.10), (0.83, 0.36), (-0.9, 0.55), (0.95, 0.5), (-1.05, 0.4)]
    trees += [(s * (1.1 + 0.12 * k), 0.3 + 0.3 * ((k * 7) % 5) / 5) for k in range(14) for s in (-1, 1)]
    for root, tall in trees:
        stream = np.random.default_rng(int(1000 + 100 * abs(root)) + (root < 0))
        if abs(root) < visible:
            _conifer(line, stream, root, float(bank(root)) + 0.01, tall)
    # grass, from the water's edge toward the viewer, so that nearer blades overlap
    count = 7000
    roots, sinks = rng.uniform(-1.6, 1.6, count), np.sort(rng.uniform(0, 1, count) ** 1.5) * 0.16
    tufts = 0.5 + 0.5 * _noise(roots * 22, sinks * 40, 715)
    blades = rng.gamma(4.0, 0.0042, count) * (0.5 + tufts) * (0.7 + 5 * sinks)
    leans, tones = rng.normal(0.1, 0.4, count), rng.uniform(30, 110, count) + 145 * tufts * rng.random(count)
    for root, foot, blade, lean, tone in zip(roots, bank(roots) + 0.006 + sinks, blades, leans, tones, strict=True):
        if abs(root) < visible and foot - blade < 1:
            bend = [(root, foot), (root + 0.3 * lean * blade, foot - 0.6 * blade), (root + lean * blade, foot - blade)]
            line(np.asarray(bend), int(tone), 0.0013)
    alpha = np.asarray(cover.reduce(over), np.float32) / 255
    tone = np.asarray(shade.reduce(over), np.float32) / 255
    texture = _fractal(x * 30, y * 42, 720, 3, 0.6)
    colour = _ramp((0.0, 0.5, 1.0), ((11, 17, 19), (43, 52, 44), (128, 116, 82)), tone + 0.05 * texture)
    scene[:] = _mix(scene, colour, alpha)


def _conifer(line, rng: np.random.Generator, root: float, foot: float, tall: float) -> None:
    """Draw a spruce of this height: whorls of drooping boughs with twigs, brighter on the sun's side."""
    lean = rng.normal(0, 0.012)
    top = foot - tall
    line(np.asarray([(root, foot), (root + 0.5 * lean * tall, foot - 0.5 * tall)]), 22, 0.016 * tall)
    line(np.asarray([(root + 0.5 * lean * tall, foot - 0.5 * tall), (root + lean * tall, top)]), 22, 0.006 * tall)
    sunny = np.sign(_SUN[0] - root)
    fullness = 1 + 0.25 * rng.standard_normal(12)
    for level in np.sort(rng.uniform(0.012, 0.95, int(45 + 110 * tall))):
        # some parts of a tree are bare and others bushy
        spread = tall * 0.19 * level**0.85 * (1 - 0.3 * level**4) * np.interp(level * 11, np.arange(12), fullness)
        for side in (-1, 1):
            reach = spread * rng.uniform(0.35, 1.1) + 0.006 * tall
            sag = reach * (0.10 + 0.45 * level) * rng.uniform(0.6, 1.4)
            lift = rng.uniform(0.3, 0.8)
            stem = root + lean * tall * (1 - level)
            bright = 30 + 34 * (side == sunny) + rng.uniform(-12, 30)
            t = np.linspace(0, 1, 5)
            # boughs sag and lift again at the tip
            bough = np.stack([stem + side * reach * t, top + tall * level + sag * (1.5 * t - lift * t * t)], -1)
            line(bough, int(bright), 0.007 * tall * (0.5 + 0.5 * level))
            for t0 in np.sqrt(rng.uniform(0.02, 1.0, 5 + int(20 * reach / 0.1))):
                px, py = stem + side * reach * t0, top + tall * level + sag * (1.5 * t0 - lift * t0 * t0)
                twig = (0.22 * reach * (1.2 - t0) + 0.010 * tall) * rng.uniform(0.4, 1.2)
                end = (px + side * twig * rng.uniform(0.0, 0.9), py + twig * rng.uniform(0.2, 1.0))
                line(np.asarray([(px, py), end]), int(bright + rng.uniform(-20, 24) + 26 * (t0 > 0.85)), 0.004 * tall)


def _strokes(size: int) -> np.ndarray:
    """Thick curved strokes along swirls, in blues and yellows, uint8 [size, size, 3]."""
    over = 2
    side = size * over
    eyes = np.float32(
        [(0.30, 0.30, 0.17, 1.0), (0.74, 0.22, 0.13, -1.0), (0.62, 0.58, 0.15, 1.0), (0.12, 0.68, 0.09, -1.0)]
    )
    lamps: list[tuple[float, float, float]] = []
    eyes = np.concatenate([eyes, np.float32([(0.93, 0.55, 0.07, 1.0), (0.40, 0.03, 0.07, -1.0)])])

    def hill(px: Array) -> Array:
        return 0.80 + 0.05 * np.sin(5.1 * px + 0.6) + 0.03 * np.sin(11 * px)

    def stream(px: Array, py: Array) -> Array:
        """Stream function, whose contours the strokes follow."""
        calm = 1.0 - _smoothstep(-0.12, 0.05, py - hill(px))
        swirl = np.zeros_like(px)
        for ex, ey, r, turn in eyes:
            pull = np.exp(-((px - ex) ** 2 + (py - ey) ** 2) / (1.5 * r) ** 2)
            swirl, calm = swirl + turn * 1.3 * r * pull, calm * (1 - 0.9 * pull)
        drift = 0.13 * _fractal(px * 2.1, py * 2.1, 900, 2) * calm + 0.03 * _noise(px * 4, py * 4, 905) * (1 - calm)
        sky = 1 - _smoothstep(-0.10, 0.02, py - hill(px))
        return drift + (0.3 - 0.12 * sky) * (py - hill(px) * (1 - 0.4 * sky)) + swirl * sky

    def flow(px: Array, py: Array) -> tuple[Array, Array]:
        e = np.float32(2e-3)
        dx = (stream(px + e, py) - stream(px - e, py)) / (2 * e)
        dy = (stream(px, py + e) - stream(px, py - e)) / (2 * e)
        # strokes shorten where the stream stands still, or they would overshoot the eye of a swirl
        norm = np.hypot(dx, dy) + 0.12
        return dy / norm, -dx / norm

    # the drift moves a swirl's still point, and the glow belongs there
    for eye in eyes:
        ex, ey = (np.linspace(v - eye[2], v + eye[2], 33, dtype=np.float32) for v in eye[:2])
        still = np.argmin(np.hypot(*flow(ex[None], ey[:, None])) + 2 * np.hypot(ex - eye[0], (ey - eye[1])[:, None]))
        lamps.append((ex[still % 33], ey[still // 33], eye[2]))
    rng = np.random.default_rng(910)
    canvas = Image.new("RGBA", (side, side), (28, 46, 104, 90))
    pen = ImageDraw.Draw(canvas)
    ridge = np.linspace(0, 1, 65)
    outline = np.stack([ridge, hill(ridge)], -1) * side
    pen.polygon([*outline.ravel().tolist(), side, side, 0, side], fill=(38, 56, 44, 90))
    for count, long, thick in ((1500, 0.15, 0.022), (3200, 0.10, 0.0125), (2600, 0.065, 0.0085)):
        px, py = rng.uniform(-0.05, 1.05, (2, count)).astype(np.float32)
        steps = 7
        paths = np.empty((count, steps, 2), np.float32)
        length = long * rng.uniform(0.5, 1.2, count).astype(np.float32) / steps
        ax, ay = px.copy(), py.copy()
        for k in range(steps):
            paths[:, k, 0], paths[:, k, 1] = ax, ay
            vx, vy = flow(ax, ay)
            vx, vy = flow(ax + 0.5 * length * vx, ay + 0.5 * length * vy)
            ax, ay = ax + length * vx, ay + length * vy
        near = np.stack([np.hypot(px - ex, py - ey) / r for ex, ey, r in lamps]).min(0)
        night = 0.5 + 0.42 * _fractal(px * 3, py * 3, 920, 3) + rng.normal(0, 0.15, count)
        sky = ((18, 30, 84), (32, 62, 140), (56, 104, 178), (112, 160, 200), (196, 208, 190))
        tint = _ramp((0.0, 0.3, 0.6, 0.85, 1.05), sky, night)
        halo = ((255, 244, 190), (250, 208, 74), (226, 166, 44), (150, 176, 130), (64, 108, 170))
        star = _ramp((0.0, 0.3, 0.55, 0.85, 1.15), halo, near + rng.normal(0, 0.1, count))
        rings = np.clip(1.3 - near + 0.25 * np.cos(near * 14), 0, 1)
        tint = _mix(tint, star, np.where(rng.random(count) < rings, 1.0, 0.12 * (near < 1.6)))
        field = py - hill(px) + rng.normal(0, 0.008, count)
        land = ((34, 52, 66), (52, 92, 82), (122, 132, 62), (204, 160, 52), (98, 92, 48), (30, 44, 70))
        earth = _ramp((0.0, 0.03, 0.07, 0.12, 0.17, 0.24), land, field + 0.025 * rng.standard_normal(count))
        tint = np.where((field > 0)[:, None], earth, tint) + rng.normal(0, 9, (count, 1)) + rng.normal(0, 5, (count, 3))
        across = np.stack([-(paths[:, -1, 1] - paths[:, 0, 1]), paths[:, -1, 0] - paths[:, 0, 0]], -1)
        across /= np.hypot(*across.T)[:, None] + 1e-6
        width = thick * rng.uniform(0.7, 1.2, count)
        bristles = 6
        for n in range(count):
            tones = rng.normal(0, 13, bristles)
            ends = rng.integers(0, 2, (bristles, 2))
            for b in range(bristles):
                offset = (b + 0.5) / bristles - 0.5
                # a brush lays more paint at its edges, where the furrow is pushed up
                raised = 110 + 150 * abs(offset) + 1.6 * tones[b]
                line = (paths[n] + across[n] * (offset * width[n])) * side
                fill = (*(int(min(255, max(0, c + tones[b]))) for c in tint[n]), int(min(255, max(0, raised))))
                flat = line[ends[b, 0] : steps - ends[b, 1]].ravel().tolist()
                pen.line(flat, fill=fill, width=max(1, round(1.5 * width[n] * side / bristles)))
    paint = np.asarray(canvas.reduce(over), np.float32)
    # light from the upper left over the thickness of the paint
    relief = paint[..., 3]
    slope = (np.roll(relief, -1, 0) - np.roll(relief, 1, 0)) + (np.roll(relief, -1, 1) - np.roll(relief, 1, 1))
    bump = np.clip(slope * (size / 512) ** 0.5 * 0.16, -26, 30)
    weave = 2.0 * np.random.default_rng(930).standard_normal((size, size), dtype=np.float32)
    return _to_uint8(paint[..., :3] + (bump + weave)[..., None])


def _mosaic(size: int) -> np.ndarray:
    """Stained glass: a sun over hills and waves in strong cells with dark leading, uint8 [size, size, 3]."""
    cells = 20
    rng = np.random.default_rng(1000)
    sx, sy, glass = _panes(cells, rng)
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size * cells
    px, py = axis[None] + np.zeros((size, 1), np.float32), axis[:, None] + np.zeros((1, size), np.float32)
    # hand-cut glass: the edges wander a little
    wx = px + 0.10 * _noise(px * 1.4, py * 1.4, 1010)
    wy = py + 0.10 * _noise(px * 1.4, py * 1.4, 1011)
    # only the panes near a pixel's square can touch it: 24 of them, for squares half a pane wide
    square = np.arange(-1, 2 * cells + 1)
    middle_x, middle_y = np.meshgrid(0.5 * square + 0.25, 0.5 * square + 0.25)
    far = (middle_x.reshape(-1, 1) - sx) ** 2 + (middle_y.reshape(-1, 1) - sy) ** 2
    near = np.argpartition(far, 24, axis=1)[:, :24].astype(np.int32)
    home = (np.floor(2 * wy).astype(np.int32) + 1) * len(square) + np.floor(2 * wx).astype(np.int32) + 1
    best = np.full(px.shape, np.inf, np.float32)
    own = np.zeros(px.shape, np.int32)
    for k in (column[home] for column in near.T):
        d = (sx[k] - wx) ** 2 + (sy[k] - wy) ** 2
        own = np.where(d < best, k, own)
        best = np.minimum(d, best)
    ox, oy = sx[own], sy[own]
    edge = np.full(px.shape, np.inf, np.float32)
    for k in (column[home] for column in near.T):
        kx, ky = sx[k], sy[k]
        d = ((kx - wx) ** 2 + (ky - wy) ** 2 - best) / (2 * np.hypot(kx - ox, ky - oy) + 1e-6)
        edge = np.minimum(edge, np.where(k == own, np.inf, d))

    colour = glass[own]
    angle = rng.uniform(0, 2 * np.pi, len(sx)).astype(np.float32)[own]
    tilt = (px - ox) * np.cos(angle) + (py - oy) * np.sin(angle)
    streak = _fractal(px * 2.5 + 3 * np.cos(angle), py * 7, 1020, 3)
    lead = 0.062 + 0.03 * _noise(px * 0.9, py * 0.9, 1030)
    light = 1 + 0.22 * tilt + 0.10 * streak + 0.16 * (1 - _smoothstep(0.0, 0.45, best)) - 0.10
    light *= 0.72 + 0.28 * _smoothstep(0.0, 0.22, edge - lead)
    colour = colour * light[..., None] + 26 * np.clip(tilt * 1.4, 0, 1)[..., None] ** 2
    pixel = cells / size
    metal = _smoothstep(0.0, 1.0, 1 - edge / lead)
    metal_colour = 14 + 34 * metal[..., None] * np.float32((0.95, 1.0, 1.1)) + 6 * streak[..., None]
    return _to_uint8(_mix(colour, metal_colour, np.clip((lead - edge) / pixel + 0.5, 0, 1)))


def _panes(cells: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Centres x, y [n] in units of a pane and colours [n, 3] of the glass: a sun in rings, hills and waves in rows."""
    column, row = (v.ravel() for v in np.meshgrid(np.arange(-3, cells + 3), np.arange(-5, cells + 5)))
    x = (column + 0.5 + rng.uniform(-0.36, 0.36, len(column)) + 0.5 * (row % 2)) / cells
    v = (row + 0.5 + rng.uniform(-0.27, 0.27, len(row))) / cells
    # rows of panes bend with the land
    y = v + (0.045 * np.sin(6.5 * x + 0.6) + 0.018 * np.sin(13 * x)) * _smoothstep(0.3, 0.65, v)
    sun_x, sun_y = 0.64, 0.31
    angle = np.arctan2(y - sun_y, x - sun_x)
    distance = np.hypot(x - sun_x, y - sun_y)
    # rays widen outward and curve, as if the sun turned
    ray = np.sin(8 * angle + 5 * distance) > 0
    foam = (row >= round(0.74 * cells)) & ((row - round(0.74 * cells)) % 3 == 0)
    kinds = [foam, row >= round(0.74 * cells), row >= round(0.58 * cells), (distance < 0.56) & ray, distance < 0.62]
    kind = np.select(kinds, [6, 5, 4, 1, 2], 3)
    keep = distance > 0.245
    rings = [(0.0, 1, (0, 0)), (0.058, 6, (0, 0)), (0.112, 12, (7, 7)), (0.165, 16, (2, 1)), (0.218, 16, (2, 1))]
    turns = [np.arange(count) * 2 * np.pi / count + 0.08 * k for k, (_, count, _) in enumerate(rings)]
    x = np.concatenate([x[keep], *(sun_x + r * np.cos(t) for (r, *_), t in zip(rings, turns, strict=True))])
    y = np.concatenate([y[keep], *(sun_y + r * np.sin(t) for (r, *_), t in zip(rings, turns, strict=True))])
    kind = np.concatenate([kind[keep], *(np.resize(pair, count) for _, count, pair in rings)])
    x, y = x + rng.normal(0, 0.003, len(x)), y + rng.normal(0, 0.003, len(y))
    glass = (
        ((255, 240, 168), (254, 226, 120), (255, 246, 196)),  # 0 sun
        ((240, 128, 30), (226, 92, 34), (250, 162, 48)),  # 1 ray
        ((176, 30, 46), (142, 24, 62), (200, 48, 46)),  # 2 sky
        ((86, 36, 108), (52, 40, 132), (122, 40, 100)),  # 3 dusk
        ((24, 124, 84), (60, 154, 76), (14, 92, 88)),  # 4 hill
        ((18, 84, 168), (28, 130, 196), (14, 54, 136)),  # 5 wave
        ((226, 236, 224), (150, 212, 216), (244, 240, 214)),  # 6 foam
        ((252, 208, 62), (248, 184, 36), (255, 196, 50)),  # 7 the sun's rim
    )
    colour = np.float32(glass)[kind, rng.integers(0, 3, len(x))]
    colour = colour * rng.uniform(0.82, 1.12, (len(x), 1)) + rng.normal(0, 7, (len(x), 3))
    return (x * cells).astype(np.float32), (y * cells).astype(np.float32), np.clip(colour, 0, 255).astype(np.float32)


def _ink(size: int) -> np.ndarray:
    """An etching of rolling hills under a moon, hatched along their contours on warm paper, uint8 [size, size, 3]."""
    over = 3
    side = size * over
    n = 256
    axis = (np.arange(n, dtype=np.float32) + 0.5) / n
    x, y = axis[None], axis[:, None]
    # tone (0 paper, 1 black) and the direction of the strokes, on a coarse map
    mx, my = 0.68, 0.21
    moon = np.hypot(x - mx, y - my)
    cloud = _fractal(x * 1.6 + y, y * 5.5, 1100, 4)
    tone = 0.34 - 0.25 * y + 0.55 * cloud + 0.30 * np.exp(-(((moon - 0.10) / 0.09) ** 2))
    tone = np.where(moon < 0.1, 0.0, np.clip(tone, 0.0, 0.62))
    # strokes of the sky bend around the moon
    round_it = np.exp(-(((moon - 0.10) / 0.10) ** 2))
    form = y + 0.05 * _fractal(x * 2, y * 3, 1110, 2) + 0.9 * round_it * (moon - 0.10) * np.sign(y - my)
    angle = np.arctan2(-np.gradient(form, axis=1), np.gradient(form, axis=0))
    region = np.where(moon < 0.1, -1, 0)
    poplars = {1: ((0.44, 0.05), (0.47, 0.065)), 2: ((0.86, 0.09), (0.90, 0.07)), 4: ((0.16, 0.17), (0.23, 0.13))}
    crests = []
    for layer in range(6):
        wave = _fractal(x * (1.3 + 0.2 * layer) + 0.37 * layer, np.float32(3.7 * layer), 1120 + 10 * layer, 3, 0.4)
        crest = 0.45 + 0.10 * layer - (0.20 - 0.012 * layer) * wave
        crests.append(crest[0])
        below = y - crest
        slope = np.gradient(crest, axis=1) * n
        body = _fractal(x * 2.6, below * 4.0, 1130 + 10 * layer, 3, 0.42)
        shade = 0.16 + 0.04 * layer + 3.0 * below * (1 - 0.9 * below) + 0.55 * np.clip(slope, -0.5, 0.8) + 0.55 * body
        shape = below + 0.07 * body
        fall = np.arctan2(-np.gradient(shape, axis=1) * 1.3, np.gradient(shape, axis=0))
        inside = below > 0
        tone = np.where(inside, np.clip(shade, 0.04, 0.97), tone)
        region = np.where(inside, layer + 1, region)
        # some hills are hatched along their crest and others down their flank
        angle = np.where(inside, fall + (0.0, 0.55, -0.45)[layer % 3], angle)
        # poplars stand on some of the crests
        for at, tall in poplars.get(layer, ()):
            lift = (crest[0, int(at * n)] - y) / tall
            broad = 0.16 * tall * np.sqrt(np.clip(lift + 0.1, 0, 1)) * np.clip(1.02 - lift, 0, 1) ** 0.7 * 1.5
            tree = (np.abs(x - at) < broad) & (lift > -0.1) & (lift < 1.02)
            tone = np.where(tree, np.clip(0.80 + 0.35 * (x - at) / (broad + 1e-6), 0.45, 1), tone)
            angle = np.where(tree, -np.pi / 2 + 0.5 * np.tanh((x - at) / (0.1 * tall)), angle)
            region = np.where(tree, 10 * layer + round(100 * at), region)
    tone = np.clip(tone, 0, 1)

    def pixel(px: Array, py: Array) -> tuple[np.ndarray, np.ndarray]:
        return np.clip((py * n).astype(int), 0, n - 1), np.clip((px * n).astype(int), 0, n - 1)

    rng = np.random.default_rng(1200)
    plate = Image.new("L", (side, side), 255)
    pen = ImageDraw.Draw(plate)
    # each pass adds a direction once the tone is dark enough, as an etcher does
    for turn, floor, count in ((0.0, 0.06, 24000), (0.8, 0.46, 15000), (-0.7, 0.72, 12000)):
        px, py = rng.random((2, count)).astype(np.float32)
        keep = rng.random(count) < np.clip((tone[pixel(px, py)] - floor) / (1 - floor) * 1.5, 0, 1)
        px, py = px[keep], py[keep]
        steps = 6
        length = 0.05 * rng.uniform(0.45, 1.15, len(px)).astype(np.float32) / steps
        paths = np.empty((len(px), steps, 2), np.float32)
        for k in range(steps):
            paths[:, k, 0], paths[:, k, 1] = px, py
            a = angle[pixel(px, py)] + turn
            nx, ny = px + length * np.cos(a), py + length * np.sin(a)
            # a stroke stops at the outline of its hill
            stay = region[pixel(nx, ny)] == region[pixel(px, py)]
            px, py = np.where(stay, nx, px), np.where(stay, ny, py)
        dark = tone[pixel(paths[:, 2, 0], paths[:, 2, 1])]
        thick = (0.0010 + 0.0015 * dark) * rng.uniform(0.7, 1.3, len(dark)) * side
        grey = rng.uniform(15, 85, len(dark))
        for path, w, g in zip(paths * side, thick, grey, strict=True):
            # a stroke swells in its middle
            pen.line(path.ravel().tolist(), fill=int(g), width=max(1, round(w * 0.6)))
            pen.line(path[1:-1].ravel().tolist(), fill=int(g), width=max(1, round(w)))
    wobble = rng.normal(0, 0.0006, (len(crests) * 3, n))
    for k, crest in enumerate(crests):
        seen = np.all([crest < nearer for nearer in crests[k + 1 :]], axis=0) if k + 1 < len(crests) else crest < 1
        for draft in range(3):
            # an outline goes over itself and lifts now and then
            down = seen & (_noise(axis * 9, np.float32(k + 10 * draft), 1205) > (-1, 0.0, 0.2)[draft])
            line = np.stack([axis, crest + wobble[3 * k + draft] + 0.0012 * draft], -1) * side
            for i in np.flatnonzero(down[:-1] & down[1:]):
                pen.line(line[i : i + 2].ravel().tolist(), fill=30, width=max(1, round(0.0022 * side)))
    for draft in range(3):
        turn = np.linspace(0, 5.6, 90) + 2.1 * draft
        ring = (0.1 + 0.0012 * draft + rng.normal(0, 0.0005, 90))[:, None] * np.stack([np.cos(turn), np.sin(turn)], -1)
        pen.line(((ring + np.array([mx, my])) * side).ravel().tolist(), fill=40, width=max(1, round(0.0016 * side)))
    ink = 1 - np.asarray(plate.reduce(over), np.float32) / 255
    wash_tone = np.asarray(
        Image.fromarray(tone.astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC), np.float32
    )
    fine = ((np.arange(size, dtype=np.float32) + 0.5) / size)[None]
    fx, fy = fine, fine.T
    pool = _fractal(fx * 5, fy * 5, 1210, 4)
    wash_tone = np.clip(wash_tone, 0, 1)
    wash = np.clip(0.62 * wash_tone**1.5 * (1 + 0.5 * pool), 0, 1)
    fibre = _fractal(fx * 60, fy * 140, 1220, 2) + 0.8 * _fractal(fx * 150, fy * 150, 1230, 2)
    paper = _mix(
        np.full((size, size, 3), np.float32((240, 228, 204))), (222, 202, 168), np.clip(0.4 + 0.6 * pool, 0, 1) * 0.5
    )
    paper = paper + 4.5 * fibre[..., None]
    paper = _mix(paper, (92, 78, 66), wash)
    return _to_uint8(_mix(paper, (30, 25, 24), np.clip(ink * (0.92 + 0.14 * fibre), 0, 1)))
