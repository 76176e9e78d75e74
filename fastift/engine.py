"""The engine: image -> encoder -> moments -> transform -> affine -> decoder -> image."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as nnf
from PIL import Image
from torch import Tensor

from .affine import Affine
from .autoencoder import AutoencoderProtocol
from .colour import with_colours_of
from .decoder import detail
from .errors import DivergenceError, InvalidInputError
from .image import Picture, as_batch, read_picture, resize_shorter, to_pil
from .moments import Moments, moments
from .presets import PAPER_SETTINGS, PRESETS
from .style import Style
from .transform import ift, ift_scale_free
from .weights import load_autoencoder

__all__ = ["Stylizer", "stylize"]


ImageLike = str | os.PathLike | Image.Image | Picture | np.ndarray | Tensor


class Stylizer:
    """An autoencoder on a device, ready to restyle.

    model: "slim" (embedded), a file or folder that `fastift.weights` can load, or any object that follows `AutoencoderProtocol`.
    device: by default a GPU if torch sees one, else the CPU. dtype: torch.float32 (default), bfloat16 or float16 for the
    networks; moments and maps stay in float32. backend: None chooses; "reference" is plain PyTorch.
    """

    def __init__(
        self,
        model: str | os.PathLike | AutoencoderProtocol = "slim",
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        backend: str | None = None,
    ) -> None:
        if backend not in (None, "reference"):
            raise InvalidInputError(
                f"fastift.Stylizer: backend must be None or 'reference', got {backend!r}; see fastift.backends()"
            )
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

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the encoder's weights: moments of one encoder mean nothing to another."""
        digest = hashlib.sha256()
        for name, tensor in self.model.encoder.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def style(self, images: ImageLike | Sequence[ImageLike], weights: Sequence[float] | None = None) -> Style:
        """Moments of one picture, or of several blended with weights (equal by default), at every level.

        A batch [B, 3, H, W] gives B styles, one for each sample of a content batch (or one for all if B = 1).
        """
        several = isinstance(images, list | tuple)
        styles = [self._moments_of(image) for image in (images if several else [images])]
        if not several and weights is not None:
            raise InvalidInputError("fastift.Stylizer.style: weights need a list of images, got one image")
        return Style.blend(styles, weights) if several else styles[0]

    def _moments_of(self, image: ImageLike) -> Style:
        x = self._prepare(image, "style")
        with self._autocast():
            taps = self.model.encoder.walk(self._pad(x), self.model.levels)
            seen = {n: moments(tap) for n, (tap, _) in enumerate(taps, start=1)}
        return Style(seen, self.fingerprint)

    def __call__(
        self,
        content: ImageLike,
        style: Style | ImageLike | Sequence[ImageLike],
        *,
        weights: Sequence[float] | None = None,
        preset: str = "art",
        flow: str | None = None,
        skips: bool | None = None,
        transform: str = "ift",
        strength: float | None = None,
        mode: str = "scale_free",
        levels: Sequence[int] | None = None,
        keep_colours: bool = False,
        lam: float | dict[int, float] | None = None,
        lr: float = 0.01,
        n_upd: int | dict[int, int] | None = None,
        n_iter: int = 1,
    ) -> Tensor:
        """Restyle content [B, 3, H, W] in [0, 1], any H and W from 16; returns the same size, float32 in [0, 1].

        style: a `Style`, or images to make one of (several are blended with weights). preset "art" or "photo" gives the
        defaults of flow ("cascade" or "single_pass"), skips, strength and levels, see `fastift.presets`.

        mode "scale_free": strength in [0, 1] is the dial, 0 plain reconstruction. mode "paper": the paper's own step with
        lam, lr, n_upd (one number, or one a level) and n_iter; strength, if given, blends the map with the identity. A lam that
        diverges raises DivergenceError. keep_colours: only the luminance is restyled. Differentiable in content.
        """
        chosen = _preset(preset)
        flow = chosen.flow if flow is None else flow
        skips = chosen.skips and flow == "single_pass" if skips is None else skips
        levels = _check_levels(chosen.levels if levels is None else levels, self.model.levels)
        _check_choice("flow", flow, ("cascade", "single_pass"))
        _check_choice("mode", mode, ("scale_free", "paper"))
        _check_choice("transform", transform, ("ift",))
        if strength is None:
            strength = chosen.strength if mode == "scale_free" else 1.0
        if not 0 <= strength <= 1:
            raise InvalidInputError(f"fastift: strength must lie in [0, 1], got {strength}")
        if flow == "cascade" and skips:
            raise InvalidInputError("fastift: skips need flow='single_pass', got flow='cascade'")
        x = self._prepare(content, "content")
        if not isinstance(style, Style):
            style = self.style(style, weights)
        elif weights is not None:
            raise InvalidInputError("fastift: weights need a list of style images, got a Style; blend with Style.blend")
        style = self._check_style(style, len(x), levels)

        def solve(n: int, features: Tensor) -> Affine | None:
            if n not in levels or strength == 0:
                return None
            seen, target = moments(features), style.levels[n]
            if mode == "scale_free":
                return ift_scale_free(seen, target, strength=strength)
            return self._paper_map(n, seen, target, lam, lr, n_upd, n_iter).toward_identity(strength)

        with self._autocast():
            padded = self._pad(x)
            cascade = flow == "cascade"
            out = self._cascade(padded, levels, solve) if cascade else self._single_pass(padded, levels, skips, solve)
        out = out[:, :, : x.shape[2], : x.shape[3]].float().clamp(0, 1)
        return with_colours_of(out, x) if keep_colours else out

    def _cascade(self, x: Tensor, levels: tuple[int, ...], solve) -> Tensor:
        for n in levels:
            if str(n) not in self.model.decoders:
                raise InvalidInputError(
                    f"fastift: this model has no decoder for relu{n}_1; it has {sorted(self.model.decoders)}"
                )
            features = self._tap(x, n)
            x = self.model.decoders[str(n)](features, solve(n, features)).clamp(0, 1)
        return x

    def _tap(self, x: Tensor, n: int) -> Tensor:
        for tap, _ in self.model.encoder.walk(x, n):
            features = tap  # the shallower ones are freed on the way
        return features

    def _single_pass(self, x: Tensor, levels: tuple[int, ...], skips: bool, solve) -> Tensor:
        if self.model.single_pass is None:
            raise InvalidInputError("fastift: this model has no single-pass decoder, expected flow='cascade'")
        deepest = levels[0]
        details = []
        for n, (tap, before_pool) in enumerate(self.model.encoder.walk(x, deepest), start=1):
            features = tap
            if skips and n > 1:
                details.append(detail(before_pool))
        return self.model.single_pass(features, solve(deepest, features), details or None, solve, deepest)

    @staticmethod
    def _paper_map(n: int, seen: Moments, target: Moments, lam, lr: float, n_upd, n_iter: int) -> Affine:
        default_lam, default_upd = PAPER_SETTINGS.get(n, PAPER_SETTINGS[4])
        lam = lam.get(n, default_lam) if isinstance(lam, dict) else default_lam if lam is None else lam
        n_upd = n_upd.get(n, default_upd) if isinstance(n_upd, dict) else default_upd if n_upd is None else n_upd
        try:
            return ift(seen, target, lam=lam, lr=lr, n_upd=n_upd, n_iter=n_iter)
        except DivergenceError as err:
            raise DivergenceError(f"relu{n}_1: {err}") from err

    def _prepare(self, image: ImageLike, name: str) -> Tensor:
        # inside a compiled graph only tensors can come, and their values cannot be looked at
        x = image if torch.compiler.is_compiling() else as_batch(image, name=name, who="fastift.Stylizer")
        return x.to(self.device, torch.float32)

    def _pad(self, x: Tensor) -> Tensor:
        """Reflect to the right and below, up to what the decoders need; the result is cropped again."""
        m = self.model.multiple
        h, w = x.shape[2:]
        if h % m or w % m:
            x = nnf.pad(x, (0, -w % m, 0, -h % m), mode="reflect")
        return x.contiguous(memory_format=torch.channels_last)

    def _autocast(self) -> torch.autocast:
        # inside a caller's own autocast nothing changes
        if self.dtype == torch.float32:
            return torch.autocast(self.device.type, enabled=torch.is_autocast_enabled(self.device.type))
        return torch.autocast(self.device.type, self.dtype)

    def _check_style(self, style: Style, batch: int, levels: tuple[int, ...]) -> Style:
        if style.encoder != self.fingerprint:
            raise InvalidInputError(
                f"fastift: the style comes from another encoder ({style.encoder}), expected this model's ({self.fingerprint})"
            )
        for n in levels:
            if n not in style.levels:
                raise InvalidInputError(
                    f"fastift: the style has no moments for relu{n}_1, it has levels {sorted(style.levels)}"
                )
            if len(style.levels[n].mean) not in (1, batch):
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
    pixels = resize_shorter(pixels, size) if size else pixels
    alpha = picture.alpha if isinstance(picture, Picture) else None
    if alpha is not None and alpha.shape[2:] != pixels.shape[2:]:
        alpha = nnf.interpolate(alpha, size=pixels.shape[2:], mode="bilinear", antialias=True)
    with torch.inference_mode():
        if not isinstance(style, Style):
            shorter = style_size or min(pixels.shape[2:])
            images = style if isinstance(style, list | tuple) else [style]
            blended = stylizer.style(
                [resize_shorter(as_batch(i, name="style"), shorter) for i in images], settings.pop("weights", None)
            )
        else:
            blended = style
        out = stylizer(pixels, blended, **settings)
    return to_pil(out.cpu(), alpha, picture.icc_profile if isinstance(picture, Picture) else None)


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
