"""The engine: image -> encoder -> moments -> transform -> affine -> decoder -> image."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as nnf
from PIL import Image
from torch import Tensor

from .affine import Affine, Regional
from .autoencoder import AutoencoderProtocol
from .backend import check_backend, using
from .colour import with_colours_of
from .content import Content
from .errors import InvalidInputError
from .flows import FLOWS, restyle, visit
from .image import Picture, as_batch, read_picture, resize_shorter, to_pil
from .layers import Features, moments_of, read
from .moments import Moments, check_weights
from .presets import PRESETS
from .regions import FEATHER, LabelsLike, Regions, read_labels
from .style import Style
from .transform.named import TRANSFORMS, Solver
from .weights import load_autoencoder

__all__ = ["Stylizer", "stylize"]


ImageLike = str | os.PathLike | Image.Image | Picture | np.ndarray | Tensor
Toward = Callable[[int, Features, Callable[[Moments, Moments], Affine], Content, slice], Affine | Regional]
"""(level, features, solver of a pair of moments, content they come from, its place in the batch) -> the map of the features."""

LARGE = 256**2
"""Pixels from which a CPU restyles the pictures of a batch one after the other: together they leave its cache."""


class Stylizer:
    """An autoencoder on a device, ready to restyle.

    model: "slim" (embedded), a file or folder that `fastift.weights` can load, or any object that follows `AutoencoderProtocol`.
    device: by default a GPU if torch sees one, else the CPU. dtype: torch.float32 (default), bfloat16 or float16 for the
    networks; moments and maps stay in float32. backend: None chooses; a name of `fastift.backends()` must then be taken.
    compile: True runs the flow through torch.compile, "cuda_graphs" also replays it as one CUDA graph. The first call of each
    picture size and setting (not of each style) then takes a minute; torch goes back to eager after 8 of them. Calls with regions
    are not compiled, and of a kept content nothing is reused. On CPUs it gains nothing.
    """

    def __init__(
        self,
        model: str | os.PathLike | AutoencoderProtocol = "slim",
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        backend: str | None = None,
        compile: bool | str = False,
    ) -> None:
        if backend is not None:
            check_backend(backend, "fastift.Stylizer: backend")
        self.backend = backend
        self.device = find_device(device)
        self.dtype = torch.float32 if dtype is None else dtype
        if self.dtype not in (torch.float32, torch.bfloat16, torch.float16):
            raise InvalidInputError(f"fastift.Stylizer: dtype must be float32, bfloat16 or float16, got {dtype}")
        loaded = load_autoencoder(model) if isinstance(model, str | os.PathLike) else model
        if not isinstance(loaded, AutoencoderProtocol):
            raise InvalidInputError(
                f"fastift.Stylizer: model must be a name, a path or follow AutoencoderProtocol, got {type(model).__name__}"
            )
        # thin convolutions run several times faster this way on CPUs, and tensor cores want it too
        self.model = loaded.to(self.device, memory_format=torch.channels_last)
        if compile not in (False, True, "cuda_graphs"):
            raise InvalidInputError(f"fastift.Stylizer: compile must be False, True or 'cuda_graphs', got {compile!r}")
        if compile == "cuda_graphs" and self.device.type != "cuda":
            raise InvalidInputError(f"fastift.Stylizer: compile='cuda_graphs' needs a GPU, the device is {self.device}")
        self.compile = compile

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the encoder's weights: moments of one encoder mean nothing to another."""
        digest = hashlib.sha256()
        for name, tensor in self.model.encoder.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def style(
        self,
        images: ImageLike | Sequence[ImageLike],
        weights: Sequence[float] | None = None,
        *,
        mask: LabelsLike | None = None,
    ) -> Style:
        """Moments of one picture, or of several blended with weights (equal by default), at every level.

        A batch [B, 3, H, W] gives B styles, one for each sample of a content batch (or one for all if B = 1). With a mask, a
        label map of the one picture (see `fastift.regions.read_labels`), the moments are those of each region.
        """
        several = isinstance(images, list | tuple)
        if mask is not None:
            if several or weights is not None:
                raise InvalidInputError("fastift.Stylizer.style: a mask needs one image without weights, got several")
            (labels,) = read_labels(mask, names=["style_mask"])
            return self._moments_of(images, labels)
        styles = [self._moments_of(image) for image in (images if several else [images])]
        if not several and weights is not None:
            raise InvalidInputError("fastift.Stylizer.style: weights need a list of images, got one image")
        return Style.blend(styles, weights) if several else styles[0]

    def content(self, image: ImageLike) -> Content:
        """A picture [B, 3, H, W] that will be restyled several times: its encoding is kept, whatever the styles."""
        return Content(self.prepare(image, "content"), self.fingerprint)

    def _moments_of(self, image: ImageLike, labels: Tensor | None = None) -> Style:
        x = self.prepare(image, "style")
        regions = self._regions(labels, x, "style_mask", 0.0) if labels is not None else None
        seen: dict[int, Moments] = {}

        def see(n: int, features: Features) -> None:
            if regions is None:
                seen[n] = moments_of(features)
            else:
                seen[n] = Moments(*(t.squeeze(0) for t in regions.moments(read(features))))

        with self._settings():
            visit(self.model, self.pad(x), see)
        return Style(seen, self.fingerprint, regions.labels if regions is not None else None)

    def _regions(self, labels: Tensor, x: Tensor, name: str, feather: float) -> Regions:
        """Regions of a picture as `pad` leaves it."""
        if labels.shape != x.shape[2:]:
            raise InvalidInputError(
                f"fastift: {name} must have the size of its picture, {x.shape[3]} x {x.shape[2]}, "
                f"got {labels.shape[1]} x {labels.shape[0]}"
            )
        found = Regions.of(labels, feather=feather * min(labels.shape))
        return found._replace(masks=self.pad(found.masks.to(self.device)))

    def __call__(
        self,
        content: ImageLike | Content,
        style: Style | ImageLike | Sequence[ImageLike] | dict[int, Style | ImageLike],
        *,
        weights: Sequence[float] | None = None,
        preset: str = "art",
        flow: str | None = None,
        skips: bool | None = None,
        transform: str | dict[int, str] = "ift",
        strength: float | dict[int, float] | None = None,
        mode: str = "scale_free",
        levels: Sequence[int] | None = None,
        passes: int = 1,
        blend: str = "gram",
        mask: LabelsLike | None = None,
        style_mask: LabelsLike | None = None,
        feather: float = FEATHER,
        keep_colours: bool = False,
        colours_only: bool = False,
        lam: float | dict[int, float] | None = None,
        lr: float = 0.01,
        n_upd: int | dict[int, int] | None = None,
        n_iter: int = 1,
    ) -> Tensor:
        """Restyle content [B, 3, H, W] in [0, 1], any H and W from 16; returns the same size, float32 in [0, 1].

        content may also be what `Stylizer.content` made: several styles then cost less than each alone.
        style: a `Style`, or images to make one of (several are blended with weights). preset "art" or "photo" gives the
        defaults of flow, strength and levels, see `fastift.presets`.

        flow: "cascade" encodes and decodes once a level, coarse to fine (the paper); "single_pass" encodes once and transforms
        inside the decoder, coarse to fine; "encoder_side" transforms inside the encoder, fine to coarse, and decodes once from
        the deepest level. skips, single pass only and on unless False: the decoder gets the content's finest detail, which keeps
        the picture sharp. transform: "ift", "ift_line_search", "wct", "ot" or "adain", one for all levels or one a level
        ({3: "wct", 2: "ift"}; "ift" for the others). strength in [0, 1], one or one a level (the preset's for the others), is
        the dial: 0 is plain reconstruction. passes: the whole flow again on its own result.

        blend: how several style images become one. "gram" averages their Grams, the joint objective of the paper (eq. 28-31);
        "features" averages what each alone would give (eq. 34), which weakens all of them.

        mode "paper": IFT with the paper's own step, lam, lr, n_upd (one number, or one a level) and n_iter; strength, if given,
        blends the map with the identity. A lam that diverges raises DivergenceError. lam, n_upd and n_iter are also those of
        "ift_line_search", n_upd also that of scale-free mode.

        mask: labels of the content's regions, of its own size, see `fastift.regions.read_labels`. Each region takes the style of
        its label: of the region with that label in style_mask (or of a `Style` made with a mask), or style is a dict
        {label: Style or image}, or a list of as many images as labels, in ascending order. Regions without a style, or without
        a pixel at a level, keep their features. feather: width of the soft edges over the shorter side.

        keep_colours: only the luminance is restyled; colours_only: only the colours. Differentiable in content.
        """
        chosen = _preset(preset)
        flow = chosen.flow if flow is None else flow
        skips = flow == "single_pass" if skips is None else skips
        _check_choice("flow", flow, tuple(FLOWS))
        levels = _check_levels(chosen.levels if levels is None else levels, self.model.levels)
        _check_choice("mode", mode, ("scale_free", "paper"))
        _check_choice("blend", blend, ("gram", "features"))
        transforms = _each_level("transform", transform, levels, "ift")
        for name in transforms.values():
            _check_choice("transform", name, TRANSFORMS)
        strengths = _each_level("strength", strength, levels, chosen.strength if mode == "scale_free" else 1.0)
        for value in strengths.values():
            if not isinstance(value, int | float) or not 0 <= value <= 1:
                raise InvalidInputError(f"fastift: strength must lie in [0, 1], got {value}")
        if flow != "single_pass" and skips:
            raise InvalidInputError(f"fastift: skips need flow='single_pass', got flow={flow!r}")
        if keep_colours and colours_only:
            raise InvalidInputError("fastift: keep_colours and colours_only exclude each other, got both")
        if not isinstance(passes, int) or not 1 <= passes <= 100:
            raise InvalidInputError(f"fastift: passes must be a whole number from 1 to 100, got {passes}")
        if not 0 <= feather <= 1:
            raise InvalidInputError(f"fastift: feather must lie in [0, 1], got {feather}")
        kept = self._check_content(content) if isinstance(content, Content) else self.content(content)
        x = kept.pixels
        if mask is None:
            if style_mask is not None or isinstance(style, dict) or (isinstance(style, Style) and style.labels):
                raise InvalidInputError("fastift: a style by regions needs a mask of the content, got none")
            toward = self._toward_whole(style, weights, blend, len(x), levels)
        else:
            if weights is not None or blend != "gram":
                raise InvalidInputError("fastift: with a mask each region has one style, got weights to blend several")
            toward = self._toward_regions(style, mask, style_mask, feather, x, levels)
        solver = Solver(transforms, strengths, mode, lam, lr, n_upd, n_iter)

        way = functools.partial(FLOWS[flow], skips=True) if skips else FLOWS[flow]

        def restyled(part: Content, at: slice) -> Tensor:
            def solve(n: int, features: Features) -> Affine | Regional | None:
                return toward(n, features, functools.partial(solver, n), part, at) if solver.acts_on(n) else None

            padded = self.pad(part.pixels)
            if self.compile and mask is None:
                out = self._compiled(way, self.model, padded, levels, solve, passes)
                out = out.clone() if self.compile == "cuda_graphs" else out  # the next replay writes over it
            else:
                out = restyle(way, self.model, padded, levels, solve, passes, part if kept is content else None)
            return out[:, :, : x.shape[2], : x.shape[3]].float()

        apart = len(x) > 1 and self.device.type == "cpu" and x[0, 0].numel() >= LARGE
        with self._settings():
            if apart and not self.compile:
                out = torch.cat([restyled(part, slice(i, i + 1)) for i, part in enumerate(kept.apart())])
            else:
                out = restyled(kept, slice(None))
        if colours_only:
            return with_colours_of(x, out)
        return with_colours_of(out, x) if keep_colours else out

    @functools.cached_property
    def _compiled(self) -> Callable[..., Tensor]:
        mode = "reduce-overhead" if self.compile == "cuda_graphs" else "default"
        return torch.compile(restyle, dynamic=False, mode=mode)

    def _toward_whole(self, style, weights, blend: str, batch: int, levels: tuple[int, ...]) -> Toward:
        """Maps toward one style, or toward several at once."""
        if blend == "gram":
            if isinstance(style, Style) and weights is not None:
                raise InvalidInputError(
                    "fastift: weights need a list of style images, got a Style; blend with Style.blend"
                )
            target = style if isinstance(style, Style) else self.style(style, weights)
            target = self._check_style(target, batch, levels)
            return lambda n, features, solve, content, at: solve(
                content.moments(n, features), target.levels[n].sample(at)
            )
        if not isinstance(style, list | tuple) or not style:
            raise InvalidInputError("fastift: blend='features' needs a list of style images")
        shares = [1.0] * len(style) if weights is None else list(weights)
        check_weights(shares, len(style))
        apart = [self._check_style(self._moments_of(s), batch, levels) for s in style]

        def toward(n: int, features: Features, solve: Callable, content: Content, at: slice) -> Affine:
            seen = content.moments(n, features)
            return Affine.mean([solve(seen, s.levels[n].sample(at)) for s in apart], shares)

        return toward

    def _toward_regions(self, style, mask, style_mask, feather: float, x: Tensor, levels: tuple[int, ...]) -> Toward:
        """Maps of each region toward its own style."""
        labels, by_label = self._styles_by_label(style, mask, style_mask)
        regions = self._regions(labels, x, "mask", feather)
        target = self._check_style(_in_order_of(by_label, regions.labels), None, levels)

        def toward(n: int, features: Features, solve: Callable, content: Content, at: slice) -> Regional:
            return regions.solve(read(features), target.levels[n], solve)

        return toward

    def _styles_by_label(
        self, style: Style | ImageLike | Sequence[ImageLike] | dict, mask: LabelsLike, style_mask: LabelsLike | None
    ) -> tuple[Tensor, Style]:
        """The content's label map, and a style with labels."""
        if style_mask is not None:
            if isinstance(style, Style | dict | list | tuple):
                raise InvalidInputError(
                    f"fastift: a style_mask needs one style image, got {type(style).__name__}; use Stylizer.style(mask=...)"
                )
            labels, style_labels = read_labels(mask, style_mask)
            return labels, self._moments_of(style, style_labels)
        (labels,) = read_labels(mask)
        if isinstance(style, Style) and style.labels:
            return labels, style
        if isinstance(style, list | tuple):
            found = torch.unique(labels).tolist()
            if len(style) != len(found):
                raise InvalidInputError(
                    f"fastift: mask has {len(found)} labels, expected as many styles in the list, got {len(style)}"
                )
            style = dict(zip(found, style, strict=True))
        if not isinstance(style, dict):
            raise InvalidInputError(
                "fastift: with a mask, style must be by region: a dict {label: style}, a list of one style a label, "
                "or one image with style_mask"
            )
        return labels, Style.of_regions(
            {label: s if isinstance(s, Style) else self._moments_of(s) for label, s in style.items()}
        )

    def prepare(self, image: ImageLike, name: str) -> Tensor:
        """A picture of any kind as float32 [B, 3, H, W] on the model's device; name goes into the errors."""
        # inside a compiled graph only tensors can come, and their values cannot be looked at
        x = image if torch.compiler.is_compiling() else as_batch(image, name=name, who="fastift.Stylizer")
        return x.to(self.device, torch.float32)

    def pad(self, x: Tensor) -> Tensor:
        """Reflect to the right and below, up to what the decoders need; the result is cropped again."""
        m = self.model.multiple
        h, w = x.shape[2:]
        if h % m or w % m:
            x = nnf.pad(x, (0, -w % m, 0, -h % m), mode="reflect")
        return x.contiguous(memory_format=torch.channels_last)

    @contextlib.contextmanager
    def _settings(self) -> Iterator[None]:
        """The dtype and the backend that were asked for; inside a caller's own autocast nothing changes."""
        if self.dtype == torch.float32:
            cast = torch.autocast(self.device.type, enabled=torch.is_autocast_enabled(self.device.type))
        else:
            cast = torch.autocast(self.device.type, self.dtype)
        with cast, using(self.backend) if self.backend else contextlib.nullcontext():
            yield

    def _check_content(self, content: Content) -> Content:
        if content.encoder != self.fingerprint or content.pixels.device.type != self.device.type:
            raise InvalidInputError(
                f"fastift: the content comes from another Stylizer ({content.encoder} on {content.pixels.device}), "
                f"expected this one's ({self.fingerprint} on {self.device})"
            )
        return content

    def _check_style(self, style: Style, batch: int | None, levels: tuple[int, ...]) -> Style:
        """batch: how many samples the style may have besides one; None for regions."""
        if style.encoder != self.fingerprint:
            raise InvalidInputError(
                f"fastift: the style comes from another encoder ({style.encoder}), expected this model's ({self.fingerprint})"
            )
        for n in levels:
            if n not in style.levels:
                raise InvalidInputError(
                    f"fastift: the style has no moments for relu{n}_1, it has levels {sorted(style.levels)}"
                )
            if batch is not None and len(style.levels[n].mean) not in (1, batch):
                raise InvalidInputError(
                    f"fastift: the style must hold 1 or {batch} samples, got {len(style.levels[n].mean)}"
                )
        return style.to(self.device)


def stylize(
    content: ImageLike,
    style: Style | ImageLike | Sequence[ImageLike],
    *,
    size: int | None = None,
    style_size: int | None = None,
    model: str | os.PathLike | Stylizer | AutoencoderProtocol = "slim",
    device: str | torch.device | None = None,
    **settings,
) -> Image.Image:
    """Restyle one picture in one call: paths, PIL pictures, arrays or tensors in, a PIL picture out.

    size: shorter side the content is reduced to (never enlarged); None keeps it. style_size: the same for styles, by default the
    content's own shorter side, so that textures come out at the scale they have in the style. Alpha and the ICC profile of a
    file or PIL picture are kept. model may be a `Stylizer`, which saves loading; settings are those of `Stylizer.__call__`.
    """
    stylizer = model if isinstance(model, Stylizer) else Stylizer(model, device=device)
    picture = read_picture(content) if isinstance(content, str | os.PathLike | Image.Image) else content
    pixels = as_batch(picture, name="content")
    if len(pixels) != 1:
        raise InvalidInputError(
            f"fastift.stylize: content must be one picture, got a batch of {len(pixels)}; use fastift.Stylizer"
        )
    full = pixels
    pixels = resize_shorter(pixels, size) if size else pixels
    alpha = picture.alpha if isinstance(picture, Picture) else None
    if alpha is not None and alpha.shape[2:] != pixels.shape[2:]:
        alpha = nnf.interpolate(alpha, size=pixels.shape[2:], mode="bilinear", antialias=True)
    shorter = style_size or min(pixels.shape[2:])
    with torch.inference_mode():
        if settings.get("mask") is not None:
            style, masks = _reduced_regions(style, settings["mask"], settings.get("style_mask"), full, pixels, shorter)
            settings |= masks
        elif not isinstance(style, Style):
            images = style if isinstance(style, list | tuple) else [style]
            small = [resize_shorter(as_batch(i, name="style"), shorter) for i in images]
            style = stylizer.style(small, settings.pop("weights", None))
        out = stylizer(pixels, style, **settings)
    return to_pil(out.cpu(), alpha, picture.icc_profile if isinstance(picture, Picture) else None)


def _reduced_regions(
    style, mask: LabelsLike, style_mask: LabelsLike | None, full: Tensor, pixels: Tensor, shorter: int
) -> tuple[Style | Tensor | list[Tensor] | dict, dict[str, Tensor]]:
    """Styles by region reduced to a shorter side, and the label maps at the sizes of the reduced pictures."""

    def reduced(image: ImageLike) -> Tensor:
        return resize_shorter(as_batch(image, name="style"), shorter)

    if isinstance(style, dict):
        style = {label: s if isinstance(s, Style) else reduced(s) for label, s in style.items()}
    elif isinstance(style, list | tuple):
        style = [reduced(s) for s in style]
    if style_mask is None or isinstance(style, Style | dict | list):
        masks = {"mask": _reduced_labels(read_labels(mask)[0], full, pixels, "mask")}
        return style, masks if style_mask is None else {**masks, "style_mask": style_mask}
    labels, style_labels = read_labels(mask, style_mask)
    whole = as_batch(style, name="style")
    style = resize_shorter(whole, shorter)
    return style, {
        "mask": _reduced_labels(labels, full, pixels, "mask"),
        "style_mask": _reduced_labels(style_labels, whole, style, "style_mask"),
    }


def _reduced_labels(labels: Tensor, full: Tensor, reduced: Tensor, name: str) -> Tensor:
    """A label map of the full picture at the size of the reduced one."""
    if labels.shape not in (full.shape[2:], reduced.shape[2:]):
        raise InvalidInputError(
            f"fastift.stylize: {name} must have the size of its picture, {full.shape[3]} x {full.shape[2]}, "
            f"got {labels.shape[1]} x {labels.shape[0]}"
        )
    # float64 holds every label of a colour exactly
    return nnf.interpolate(labels[None, None].double(), size=reduced.shape[2:], mode="nearest-exact")[0, 0].long()


def find_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, if it can be had; without a wish a GPU if there is one."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(device)
    except RuntimeError as err:
        raise InvalidInputError(
            f"fastift: device must be a name torch knows, like 'cpu' or 'cuda:0', got {device!r}"
        ) from err
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InvalidInputError(f"fastift: device {device} was asked for, but torch {torch.__version__} sees no GPU")
    return device


def _preset(name: str):
    _check_choice("preset", name, tuple(PRESETS))
    return PRESETS[name]


def _check_choice(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InvalidInputError(f"fastift: {what} must be one of {', '.join(map(repr, known))}, got {value!r}")


def _each_level(what: str, setting, levels: tuple[int, ...], default) -> dict:
    """A setting for every level: one for all, or a dict that leaves the others at the default."""
    if not isinstance(setting, dict):
        return dict.fromkeys(levels, default if setting is None else setting)
    if not set(setting) <= set(levels):
        raise InvalidInputError(f"fastift: {what} by level must name levels among {levels}, got {sorted(setting)}")
    return {n: setting.get(n, default) for n in levels}


def _in_order_of(style: Style, labels: tuple[int, ...]) -> Style:
    """The style's regions in the order of the content's labels; empty moments for labels it has not."""
    if not set(labels) & set(style.labels):
        raise InvalidInputError(
            f"fastift: mask and style have no label in common, got {list(labels)} and {list(style.labels)}"
        )
    at = torch.tensor([style.labels.index(label) if label in style.labels else -1 for label in labels])
    levels = {}
    for n, m in style.levels.items():
        picked = [t[at.clamp_min(0).to(t.device)] for t in m]
        for t in picked:
            t[(at < 0).to(t.device)] = 0
        levels[n] = Moments(*picked)
    return Style(levels, style.encoder, labels)


def _check_levels(levels: Sequence[int], deepest: int) -> tuple[int, ...]:
    """Levels once each, coarse to fine."""
    chosen = tuple(sorted(set(levels), reverse=True))
    if (
        not chosen
        or len(chosen) != len(tuple(levels))
        or not all(isinstance(n, int) and 1 <= n <= deepest for n in chosen)
    ):
        raise InvalidInputError(f"fastift: levels must be different numbers from 1 to {deepest}, got {tuple(levels)}")
    return chosen
