"""Pictures in and out: a file, PIL picture, array or tensor <-> [B, 3, H, W] in [0, 1]."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as nnf
from PIL import Image, ImageCms, UnidentifiedImageError
from torch import Tensor

from .errors import ImageFileError, InvalidInputError, OutputError

__all__ = [
    "Picture",
    "read_picture",
    "as_batch",
    "to_pil",
    "write_picture",
    "check_target",
    "check_free",
    "resize_shorter",
    "MIN_SIDE",
]

MIN_SIDE = 16
READABLE = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF")  # Pillow opens MPO as JPEG
WRITABLE = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
HOLDS_ALPHA = ("PNG", "WEBP", "TIFF")
SLACK = 1e-3
# EXIF orientation -> swap the axes first, then flip these
ORIENTATIONS = {
    2: (False, [3]),
    3: (False, [2, 3]),
    4: (False, [2]),
    5: (True, []),
    6: (True, [3]),
    7: (True, [2, 3]),
    8: (True, [2]),
}


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture.

    ``pixels`` [1, 3, H, W] float32 in [0, 1]; ``alpha`` [1, 1, H, W] float32 in [0, 1], or None if all is opaque;
    ``icc_profile``, an RGB profile or, for a grey picture, a grey one; ``bits`` of precision that were read, 8 or 16;
    ``grey``, whether the three channels repeat one.
    """

    pixels: Tensor
    alpha: Tensor | None
    icc_profile: bytes | None
    bits: int
    grey: bool

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.shape[3], self.pixels.shape[2]


def read_picture(source: str | os.PathLike | Image.Image, *, max_pixels: int = 200_000_000) -> Picture:
    """Decode a PNG, JPEG (MPO), WebP, BMP, TIFF, GIF, PPM or AVIF file, or a PIL picture, upright and as RGB.

    The EXIF orientation is applied, alpha is split off without premultiplying, and of several frames the first is read
    (of a PIL picture its current one). 16-bit greyscale keeps its precision (bits=16); Pillow reduces 16-bit colour to
    8 bits (bits=8). A float picture must hold values in [0, 1]. CMYK goes to sRGB by its ICC profile, or by Pillow's
    plain formula without a usable one; an ICC profile of RGB or grey pictures is returned, not applied.

    Raises ImageFileError if the file is missing, no picture, truncated, broken, or has more pixels than max_pixels
    (read from its header) or than Pillow's own limit of 2 * PIL.Image.MAX_IMAGE_PIXELS. One kind of damage goes
    unnoticed, because libjpeg repairs it: a JPEG whose data is short or garbled but which ends in a proper end mark.
    """
    if not isinstance(max_pixels, int) or max_pixels < 1:
        raise InvalidInputError(
            f"fastift.read_picture: max_pixels must be a whole number of at least 1, got {max_pixels!r}"
        )
    if isinstance(source, Image.Image):
        what = str(getattr(source, "filename", "")) or f"the PIL picture {source.mode} {source.width} x {source.height}"
    elif isinstance(source, str | os.PathLike):
        what = os.fsdecode(source)
    else:
        raise InvalidInputError(
            f"fastift.read_picture: source must be a path or a PIL picture, got {type(source).__name__}"
        )
    # Pillow's limit is left as the program has it: between once and twice MAX_IMAGE_PIXELS (89 to 179 million) it only
    # warns, and a scan or panorama of that size is read; its error, or a warning that the program's filters turn into
    # one, is reported below. To lift the limit, or to silence the warning, would take state that all threads share.
    try:
        if isinstance(source, Image.Image):
            return _decode(source, what, max_pixels)
        with open(source, "rb") as file, Image.open(file, formats=READABLE) as im:
            return _decode(im, what, max_pixels)
    except ImageFileError:
        raise
    except Exception as err:
        # decoders raise nearly anything on broken data: SyntaxError, struct.error, zlib.error, ...
        raise _unreadable(what, _reason(err)) from err


def _unreadable(what: str, reason: str) -> ImageFileError:
    return ImageFileError(f"fastift.read_picture: cannot read {what}, {reason}")


def _reason(err: Exception) -> str:
    match err:
        case FileNotFoundError():
            return "there is no such file"
        case IsADirectoryError():
            return "it is a directory; expected a file"
        case UnidentifiedImageError():
            return f"it is not a picture; expected {', '.join(READABLE)}"
        case Image.DecompressionBombError() | Image.DecompressionBombWarning():
            return f"it has more pixels than PIL.Image.MAX_IMAGE_PIXELS = {Image.MAX_IMAGE_PIXELS} allows ({err})"
        case MemoryError():
            return "it does not fit into memory"
        case OSError(strerror=str(text)):
            return text
    return f"its data is truncated or broken ({type(err).__name__}: {err})"


def _decode(im: Image.Image, what: str, max_pixels: int) -> Picture:
    width, height = im.size
    if width * height > max_pixels:
        raise _unreadable(what, f"it has {width} x {height} pixels; expected at most max_pixels = {max_pixels}")
    if not width or not height:
        raise _unreadable(what, f"it is empty, {width} x {height} pixels")
    tiles = getattr(im, "tile", None)
    stored_as = str(tiles[0][3]) if tiles else ""  # forgotten by load()
    im.load()
    profile = im.info.get("icc_profile") or None
    space = _colour_space(profile)
    key = _transparent_colour(im, stored_as)
    bits, scale, alpha = 8, 255, None

    if im.mode == "F" or im.mode.startswith("I"):
        values = np.array(im)
        low, high = float(values.min()), float(values.max())
        bits, scale, slack = (16, 1, SLACK) if im.mode == "F" else (16, 65535, 0)
        if not (low >= -slack and high <= scale + slack):
            raise _unreadable(what, f"its {im.mode} values span {low:g} to {high:g}; expected 0 to {scale}")
    else:
        values = np.array(_plain(im, profile, space))
    values = values.reshape(height, width, -1)
    grey = values.shape[2] < 3
    if values.shape[2] in (2, 4):
        values, alpha = values[..., :-1], _planar(values[..., -1:], 255)
    elif key is not None and len(key) == values.shape[2]:
        alpha = _planar((values != np.array(key)).any(-1, keepdims=True), 1)
    if alpha is not None and bool((alpha == 1).all()):
        alpha = None

    pixels = _planar(values, scale)
    if im.mode == "F":
        pixels.clamp_(0, 1)
    if grey:
        pixels = pixels.repeat(1, 3, 1, 1)
    orientation = _orientation(im)
    keep = im.mode not in ("CMYK", "LAB") and (space == b"RGB " or (grey and space == b"GRAY"))
    return Picture(
        _turned(pixels, orientation),
        None if alpha is None else _turned(alpha, orientation),
        profile if keep else None,
        bits,
        grey,
    )


def _plain(im: Image.Image, profile: bytes | None, space: bytes) -> Image.Image:
    """An 8-bit picture of any mode as L, LA, RGB or RGBA."""
    if im.mode in ("L", "LA", "RGB", "RGBA"):
        return im
    if im.mode in ("1", "La"):
        return im.convert({"1": "L", "La": "LA"}[im.mode])
    if im.mode in ("PA", "RGBa") or (im.mode == "P" and im.has_transparency_data):
        return im.convert("RGBA")
    if im.mode == "CMYK" and space == b"CMYK":
        # a profile that littleCMS refuses says nothing about the ink, as if there were none
        with contextlib.suppress(ImageCms.PyCMSError, OSError):
            return ImageCms.profileToProfile(
                im,
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
                outputMode="RGB",
                flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
    return im.convert("RGB")


def _transparent_colour(im: Image.Image, stored_as: str) -> tuple[int, ...] | None:
    """The one colour that a PNG without alpha declares transparent, in the values that Pillow decodes to.

    Pillow leaves it in the file's own scale, where convert() misses it for 2, 4 and 16 bits.
    """
    key = im.info.get("transparency")
    if im.mode in ("1", "L", "I;16") and isinstance(key, int):
        return (key * {"L;2": 85, "L;4": 17}.get(stored_as, 1),)
    if im.mode == "RGB" and isinstance(key, tuple):
        return tuple(k >> 8 for k in key) if stored_as == "RGB;16B" else key
    return None


def _orientation(im: Image.Image) -> int:
    try:
        return im.getexif().get(0x0112, 1)
    except Exception:  # damaged metadata of a sound picture: shown as stored, like every viewer does
        return 1


def _turned(x: Tensor, orientation: int) -> Tensor:
    swap, flips = ORIENTATIONS.get(orientation, (False, []))
    return (x.mT if swap else x).flip(flips).contiguous() if swap or flips else x


def _colour_space(profile: bytes | None) -> bytes:
    return profile[16:20] if isinstance(profile, bytes) and len(profile) >= 128 else b""


def _planar(values: np.ndarray, scale: int) -> Tensor:
    """An array [..., H, W, C] over scale as a new contiguous float32 tensor [B, C, H, W]."""
    planes = np.ascontiguousarray(np.moveaxis(values, -1, -3))
    with np.errstate(over="ignore"):  # too large for float32 becomes infinity, which is refused by name later
        out = planes.astype(np.float32)
    if scale != 1:
        out /= np.float32(scale)
    return torch.from_numpy(out.reshape(-1, *out.shape[-3:]))


def as_batch(
    image: str | os.PathLike | Image.Image | Picture | np.ndarray | Tensor,
    *,
    name: str = "image",
    who: str = "fastift.stylize",
) -> Tensor:
    """A picture of any kind as a tensor [B, 3, H, W] in [0, 1], H and W at least 16; name and who go into the errors.

    Takes what `read_picture` takes, a `Picture`, an array [H, W], [H, W, 1 | 3 | 4] (alpha is dropped) or [B, H, W, 3]
    of uint8, uint16, bool or floats in [0, 1], or a tensor [1 | 3, H, W] or [B, 1 | 3, H, W] of uint8 or floats in
    [0, 1]. The result is float32, or of the tensor's own floating-point dtype; it stays on the tensor's device and may
    share its memory. Floats outside [0, 1] by no more than 1e-3 are clamped. Values of tensors on an accelerator are
    neither checked nor clamped, since looking at them would stall its queue.

    Raises InvalidInputError for other shapes, dtypes and values, ImageFileError for files that cannot be read.
    """
    if isinstance(image, str | os.PathLike | Image.Image):
        image = read_picture(image)
    if isinstance(image, Picture):
        x = image.pixels
    elif isinstance(image, np.ndarray):
        x = _from_array(image, f"{who}: {name}")
    elif isinstance(image, Tensor):
        x = _from_tensor(image, f"{who}: {name}")
    else:
        raise InvalidInputError(
            f"{who}: {name} must be a path, a PIL picture, a Picture, an array or a tensor, got {type(image).__name__}"
        )
    if min(x.shape[2:]) < MIN_SIDE:
        raise InvalidInputError(
            f"{who}: {name} must have at least {MIN_SIDE} x {MIN_SIDE} pixels, got {x.shape[3]} x {x.shape[2]}"
        )
    return x if x.shape[1] == 3 else x.repeat(1, 3, 1, 1)


def _from_array(array: np.ndarray, label: str) -> Tensor:
    shape = array.shape
    values = array[..., None] if array.ndim == 2 else array
    if not (values.ndim == 3 and values.shape[-1] in (1, 3, 4)) and not (values.ndim == 4 and values.shape[-1] == 3):
        first = shape[-3] if array.ndim in (3, 4) else 0
        hint = "; arrays are channels last, tensors channels first" if first in (1, 3, 4) else ""
        raise InvalidInputError(
            f"{label} must be an array [H, W], [H, W, 1], [H, W, 3], [H, W, 4] or [B, H, W, 3], got {shape}{hint}"
        )
    if 0 in shape:
        raise InvalidInputError(f"{label} must not be empty, got {shape}")
    values = values[..., :3]
    if array.dtype.kind == "f":
        return _checked(_planar(values, 1), label)
    if array.dtype == np.bool_:
        return _planar(values, 1)
    if array.dtype.kind == "u" and array.dtype.itemsize in (1, 2):
        return _planar(values, 2 ** (8 * array.dtype.itemsize) - 1)
    raise InvalidInputError(f"{label} must be uint8, uint16, bool or floats in [0, 1], got an array of {array.dtype}")


def _from_tensor(x: Tensor, label: str) -> Tensor:
    shape = tuple(x.shape)
    if x.dim() not in (3, 4) or shape[-3] not in (1, 3):
        last = shape[-1] if x.dim() in (3, 4) else 0
        hint = "; tensors are channels first, so permute the last dimension to the front" if last in (3, 4) else ""
        raise InvalidInputError(
            f"{label} must be a tensor [3, H, W] or [B, 3, H, W], or with 1 channel, got {shape}{hint}"
        )
    if 0 in shape:
        raise InvalidInputError(f"{label} must not be empty, got {shape}")
    x = x if x.dim() == 4 else x.unsqueeze(0)
    if x.dtype == torch.uint8:
        return x.to(torch.float32) / 255
    if x.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        raise InvalidInputError(f"{label} must be uint8 or floating point in [0, 1], got a tensor of {x.dtype}")
    return _checked(x, label) if x.device.type == "cpu" else x


def _checked(x: Tensor, label: str) -> Tensor:
    low, high = (float(v) for v in x.detach().aminmax())  # NaN if any value is
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InvalidInputError(f"{label} must be finite, got NaN or infinity")
    if low < -SLACK or high > 1 + SLACK:
        hint = "; divide by 255 (or 65535)" if high > 2 else ""
        raise InvalidInputError(f"{label} must lie in [0, 1], got values from {low:g} to {high:g}{hint}")
    return x.clamp(0, 1) if low < 0 or high > 1 else x


def to_pil(pixels: Tensor, alpha: Tensor | None = None, icc_profile: bytes | None = None) -> Image.Image:
    """An 8-bit RGB picture, RGBA with alpha, of floats [3, H, W] or [1, 3, H, W], clamped to [0, 1] and rounded.

    alpha has one channel and the size of pixels. An RGB icc_profile goes into ``.info``; one of another colour space
    (grey, CMYK) would be wrong for these pixels and is left out. Raises InvalidInputError for other shapes or dtypes,
    NaN or infinity.
    """
    planes = [_bytes(pixels, "pixels", 3)]
    if alpha is not None:
        planes.append(_bytes(alpha, "alpha", 1))
        if planes[0].shape[:2] != planes[1].shape[:2]:
            raise InvalidInputError(
                f"fastift.to_pil: alpha must be as large as pixels, got {tuple(alpha.shape)} and {tuple(pixels.shape)}"
            )
    image = Image.fromarray(np.concatenate(planes, -1) if alpha is not None else planes[0])
    if _colour_space(icc_profile) == b"RGB ":
        image.info["icc_profile"] = icc_profile
    return image


def _bytes(x: Tensor, name: str, channels: int) -> np.ndarray:
    """[C, H, W] or [1, C, H, W] -> uint8 [H, W, C]."""
    if (
        not isinstance(x, Tensor)
        or not x.is_floating_point()
        or x.dim() not in (3, 4)
        or x.shape[-3] != channels
        or (x.dim() == 4 and x.shape[0] != 1)
        or 0 in x.shape
    ):
        got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        want = f"[{channels}, H, W] or [1, {channels}, H, W]"
        raise InvalidInputError(f"fastift.to_pil: {name} must be a floating-point tensor {want}, got {got}")
    x = x.detach().reshape(x.shape[-3:]).cpu().float()
    if not torch.isfinite(x).all():
        raise InvalidInputError(f"fastift.to_pil: {name} must be finite, got NaN or infinity")
    return x.clamp(0, 1).mul_(255).round_().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def check_free(path: str | os.PathLike, force: bool = False) -> None:
    """Raise OutputError unless a file can be written at path: a name, not a directory, in a writable folder.

    An existing file is refused too, unless force is set.
    """
    target = _real(path)
    folder = os.path.dirname(target)
    if os.path.isdir(target):
        raise OutputError(f"fastift: cannot write {path}, it is a directory; expected the name of a file")
    if not os.path.isdir(folder):
        raise OutputError(f"fastift: cannot write {path}, the folder {folder} does not exist")
    if os.path.exists(target) and not force:
        raise _taken(path)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"fastift: cannot write {path}, the folder {folder} is not writable")


def check_target(path: str | os.PathLike, force: bool = False) -> None:
    """Raise OutputError unless `write_picture` can write at path: a known suffix, and all that `check_free` checks."""
    _real(path)
    if Path(path).suffix.lower() not in WRITABLE:
        raise OutputError(f"fastift: cannot write {path}, its suffix must be one of {' '.join(WRITABLE)}")
    check_free(path, force)


def _real(path: str | os.PathLike) -> str:
    """The path with links resolved, so that a link is written through and not replaced."""
    if not isinstance(path, str | os.PathLike):
        raise InvalidInputError(f"fastift: the path to write must be a str or a PathLike, got {type(path).__name__}")
    try:
        real = os.path.realpath(path)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            os.stat(real)
    except (OSError, ValueError) as err:  # a name too long, a null character
        raise OutputError(f"fastift: cannot write {path!r} ({err})") from err
    return real


def _taken(path: str | os.PathLike) -> OutputError:
    return OutputError(f"fastift: cannot write {path}, it exists already; pass --force (force=True) to overwrite it")


def write_picture(
    path: str | os.PathLike,
    pixels: Tensor,
    *,
    alpha: Tensor | None = None,
    icc_profile: bytes | None = None,
    force: bool = False,
    quality: int = 95,
) -> None:
    """Write pixels [3, H, W] or [1, 3, H, W] in [0, 1] as 8 bits, in the format that the suffix of path names.

    Formats are .png .jpg .jpeg .webp .tif .tiff .bmp; quality, 1 to 100, is that of JPEG (4:4:4) and WebP. JPEG and BMP
    drop alpha. No metadata but an RGB ICC profile is written (BMP holds none). The file appears complete or not at all:
    it is written beside its place and then moved there; without force, a file that came to be meanwhile is kept.

    Raises OutputError if the target exists or cannot be written, InvalidInputError as `to_pil` does.
    """
    if not isinstance(quality, int) or not 1 <= quality <= 100:
        raise InvalidInputError(f"fastift.write_picture: quality must be a whole number from 1 to 100, got {quality!r}")
    check_target(path, force)
    kind = WRITABLE[Path(path).suffix.lower()]
    image = to_pil(pixels, alpha if kind in HOLDS_ALPHA else None, icc_profile)
    options = {"JPEG": {"quality": quality, "subsampling": "4:4:4"}, "WEBP": {"quality": quality}}.get(kind, {})
    target = _real(path)
    temporary = os.path.join(os.path.dirname(target), f".fastift-{secrets.token_hex(8)}.tmp")
    try:
        # not mkstemp, whose files only their owner can read
        with open(temporary, "x+b") as file:
            image.save(file, format=kind, icc_profile=image.info.get("icc_profile"), **options)
        _move(temporary, target, force)
    except FileExistsError as err:
        raise _taken(path) from err
    except Exception as err:
        # an encoder's limits (WebP ends at 16383 pixels a side) come as all kinds
        raise OutputError(f"fastift: cannot write {path} ({type(err).__name__}: {err})") from err
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _move(temporary: str, target: str, force: bool) -> None:
    if not force:
        try:
            os.link(temporary, target)  # unlike replace and rename, fails if the target exists
            return
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            if os.path.lexists(target):
                raise FileExistsError(target) from None
    os.replace(temporary, target)


def resize_shorter(pixels: Tensor, size: int) -> Tensor:
    """Reduce pixels [B, C, H, W] in [0, 1] so that the shorter side is size, antialiased; never enlarges.

    The other side is rounded to keep the aspect. Keeps the dtype; pixels that are small enough come back as they are.
    Raises InvalidInputError for a size under 16 or another shape.
    """
    if not isinstance(size, int) or size < MIN_SIDE:
        raise InvalidInputError(
            f"fastift.resize_shorter: size must be a whole number of at least {MIN_SIDE}, got {size!r}"
        )
    if not isinstance(pixels, Tensor) or pixels.dim() != 4 or not pixels.is_floating_point() or 0 in pixels.shape:
        got = f"{pixels.dtype} {tuple(pixels.shape)}" if isinstance(pixels, Tensor) else type(pixels).__name__
        raise InvalidInputError(
            f"fastift.resize_shorter: pixels must be a floating-point tensor [B, C, H, W], got {got}"
        )
    height, width = pixels.shape[2:]
    shorter = min(height, width)
    if shorter <= size:
        return pixels
    sides = [max(size, round(side * size / shorter)) for side in (height, width)]
    # half precision has no antialiased kernel on every device
    work = pixels.float() if pixels.dtype in (torch.float16, torch.bfloat16) else pixels
    small = nnf.interpolate(work, size=sides, mode="bicubic", antialias=True, align_corners=False)
    return small.clamp(0, 1).to(pixels.dtype)
