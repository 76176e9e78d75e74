"""Pictures in and out: every mode and form that is read, every refusal, and what a written file holds."""

from __future__ import annotations

import errno
import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageFile, ImageOps

from fastift.errors import ImageFileError, InvalidInputError, OutputError
from fastift.image import (
    Picture,
    as_batch,
    check_free,
    check_target,
    read_picture,
    resize_shorter,
    to_pil,
    write_picture,
)

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY_PROFILE = SRGB[:16] + b"GRAY" + SRGB[20:]
SUFFIXES = [".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"]


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def levels(picture: Picture) -> np.ndarray:
    """The pixels as [H, W, 3] in units of 8 bits, exact if they came from 8 bits."""
    return (picture.pixels[0].permute(1, 2, 0).double() * 255).numpy()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + data


def ink_profile() -> bytes:
    """A CMYK profile of the smallest kind: a table of 2^4 inks to Lab; here K is black and C is orange."""
    table = bytearray()
    for ink in range(16):
        c, k = ink & 8, ink & 1
        lightness = 0 if k else 170 if c else 255
        table += bytes([lightness, 170 if c and not k else 128, 190 if c and not k else 128])
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0])
    lut += struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    lut += bytes(range(256)) * 4 + bytes(table) + bytes(range(256)) * 3
    lut += bytes(-len(lut) % 4)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    tags, body = [(b"A2B0", lut), (b"A2B1", lut), (b"wtpt", white)], b""
    offset, index = 128 + 4 + 12 * len(tags), b""
    for name, data in tags:
        index += name + struct.pack(">II", offset + len(body), len(data))
        body += data
    header = struct.pack(">I4sI4s4s4s", offset + len(body), b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + index + body


# reading


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".gif", ".ppm", ".avif"])
def test_every_format_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.new("RGB", (20, 18), (200, 100, 50)).save(path)
    for source in (path, str(path)):
        picture = read_picture(source)
        assert picture.pixels.shape == (1, 3, 18, 20)
        assert picture.size == (20, 18)
        assert picture.pixels.dtype == torch.float32
        assert picture.pixels.is_contiguous()
        assert (picture.bits, picture.grey, picture.alpha) == (8, False, None)
        assert abs(levels(picture) - (200, 100, 50)).max() < 4


def test_lossless_values_are_exact(tmp_path: Path) -> None:
    image = noise(17, 23, 3)
    Image.fromarray(image).save(tmp_path / "a.png")
    want = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    assert torch.equal(read_picture(tmp_path / "a.png").pixels, want)


def test_mpo_is_read_as_its_first_picture(tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (20, 20), c) for c in ("red", "blue"))
    first.save(tmp_path / "a.mpo", save_all=True, append_images=[second])
    with Image.open(tmp_path / "a.mpo") as im:
        assert im.format == "MPO"
    assert levels(read_picture(tmp_path / "a.mpo"))[0, 0, 0] > 250


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    image = np.zeros((32, 48, 3), np.uint8)
    image[:16, :16], image[16:, :16] = (255, 0, 0), (0, 0, 255)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(image).save(tmp_path / f"a{suffix}", exif=exif)
    with Image.open(tmp_path / f"a{suffix}") as im:
        im.load()
        want = np.asarray(ImageOps.exif_transpose(im).convert("RGB"))
    assert want.shape[:2] == ((32, 48) if orientation < 5 else (48, 32))
    assert abs(levels(read_picture(tmp_path / f"a{suffix}")) - want).max() < 1e-3


@pytest.mark.parametrize(
    ("orientation", "corner"),
    [(1, (0, 0)), (2, (0, 1)), (3, (1, 1)), (4, (1, 0)), (5, (0, 0)), (6, (0, 1)), (7, (1, 1)), (8, (1, 0))],
)
def test_exif_orientation_moves_the_first_pixel_and_alpha(tmp_path: Path, orientation: int, corner: tuple) -> None:
    image = np.full((20, 30, 4), 128, np.uint8)
    image[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(image).save(tmp_path / "a.png", exif=exif)
    picture = read_picture(tmp_path / "a.png")
    assert picture.size == ((30, 20) if orientation < 5 else (20, 30))
    y, x = (-c for c in corner)
    assert picture.pixels[0, :, y, x].tolist() == [1, 1, 1]
    assert picture.alpha[0, 0, y, x] == 1
    assert int((picture.alpha == 1).sum()) == 1


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_does_not_cost_the_picture(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20), "red").save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert read_picture(tmp_path / "a.jpg").size == (20, 20)


def test_alpha_of_rgba_is_split_and_not_premultiplied(tmp_path: Path) -> None:
    image = noise(20, 20, 4)
    Image.fromarray(image).save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    assert np.array_equal(levels(picture).round(), image[..., :3])
    assert picture.alpha.shape == (1, 1, 20, 20)
    assert np.array_equal((picture.alpha[0, 0] * 255).round().numpy(), image[..., 3])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "La", "RGBa"])
def test_opaque_alpha_is_none(mode: str) -> None:
    image = Image.new("RGBA" if mode != "La" else "LA", (20, 20), "red" if mode != "La" else (90, 255)).convert(
        {"PA": "P", "LA": "LA"}.get(mode, mode)
    )
    image = image.convert("PA") if mode == "PA" else image
    assert image.mode == mode
    assert read_picture(image).alpha is None


def test_grey_with_alpha(tmp_path: Path) -> None:
    image = noise(20, 20, 2)
    Image.fromarray(image, "LA").save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    assert picture.grey
    assert np.array_equal(levels(picture).round(), image[..., :1].repeat(3, -1))
    assert np.array_equal((picture.alpha[0, 0] * 255).round().numpy(), image[..., 1])


@pytest.mark.parametrize("transparency", [1, bytes([255, 0])], ids=["index", "table"])
@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_palette_with_transparency(tmp_path: Path, transparency: int | bytes, suffix: str) -> None:
    if suffix == ".gif" and isinstance(transparency, bytes):
        transparency = 1
    image = Image.new("P", (20, 20))
    image.putpalette([200, 10, 20, 30, 220, 40])
    image.putpixel((3, 2), 1)
    image.save(tmp_path / f"a{suffix}", transparency=transparency)
    picture = read_picture(tmp_path / f"a{suffix}")
    assert not picture.grey
    assert levels(picture).round()[0, 0].tolist() == [200, 10, 20]
    assert picture.alpha[0, 0, 2, 3] == 0
    assert picture.alpha.sum() == 399


def test_palette_without_transparency() -> None:
    image = Image.new("P", (20, 20), 1)
    image.putpalette([0, 0, 0, 30, 220, 40])
    picture = read_picture(image)
    assert levels(picture).round()[0, 0].tolist() == [30, 220, 40]
    assert picture.alpha is None


@pytest.mark.parametrize(
    ("depth", "colour", "row", "key"),
    [
        (1, 0, b"\x40", (1,)),
        (2, 0, b"\x1b", (1,)),
        (4, 0, b"\x01", (1,)),
        (8, 0, b"\0\1", (1,)),
        (16, 0, b"\1\0\1\1", (257,)),
        (8, 2, b"\0\1\2\3\4\5", (3, 4, 5)),
        (16, 2, bytes(6) + b"\3\1\4\1\5\1", (0x301, 0x401, 0x501)),
    ],
    ids=lambda v: str(v) if isinstance(v, int) else "",
)
def test_one_transparent_colour_of_a_png(tmp_path: Path, depth: int, colour: int, row: bytes, key: tuple) -> None:
    colour_key = chunk(b"tRNS", struct.pack(f">{len(key)}H", *key))
    (tmp_path / "a.png").write_bytes(png(2, 1, depth, colour, b"\0" + row, colour_key))
    assert read_picture(tmp_path / "a.png").alpha.flatten().tolist() == [1, 0]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_grey_keeps_its_precision(tmp_path: Path, suffix: str) -> None:
    image = np.arange(400, dtype=np.uint16).reshape(20, 20) * 160
    image[0, 1] = 1
    Image.fromarray(image).save(tmp_path / f"a{suffix}")
    picture = read_picture(tmp_path / f"a{suffix}")
    assert (picture.bits, picture.grey) == (16, True)
    assert np.array_equal((picture.pixels[0].double() * 65535).round().numpy(), np.stack([image] * 3).astype(float))


@pytest.mark.parametrize("mode", ["I", "I;16", "I;16B", "I;16L"])
def test_integer_modes(mode: str) -> None:
    picture = read_picture(Image.new(mode, (20, 20), 13107))
    assert (picture.bits, picture.grey) == (16, True)
    assert torch.allclose(picture.pixels, torch.tensor(0.2))


def test_sixteen_bit_colour_is_reduced_to_eight(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1, 1, 16, 2, b"\0" + struct.pack(">3H", 0x1234, 0xFFFF, 0)))
    picture = read_picture(tmp_path / "a.png")
    assert (picture.bits, picture.grey) == (8, False)
    assert levels(picture).round()[0, 0].tolist() == [0x12, 0xFF, 0]


@pytest.mark.parametrize(
    ("mode", "colour", "message"),
    [
        ("I", 65536, "span 65536 to 65536; expected 0 to 65535"),
        ("I", -1, "expected 0 to 65535"),
        ("F", 255.0, "expected 0 to 1"),
        ("F", float("nan"), "expected 0 to 1"),
    ],
)
def test_values_beyond_the_scale_are_refused(mode: str, colour: float, message: str) -> None:
    with pytest.raises(ImageFileError, match=message):
        read_picture(Image.new(mode, (20, 20), colour))


@pytest.mark.parametrize(
    ("mode", "colour", "want"), [("1", 1, 1.0), ("L", 51, 0.2), ("F", 0.3, 0.3), ("F", 1.0005, 1.0)]
)
def test_grey_modes(tmp_path: Path, mode: str, colour: float, want: float) -> None:
    Image.new(mode, (20, 20), colour).save(tmp_path / "a.tif")
    picture = read_picture(tmp_path / "a.tif")
    assert picture.grey
    assert picture.bits == (16 if mode == "F" else 8)
    assert picture.pixels.shape == (1, 3, 20, 20)
    assert torch.allclose(picture.pixels, torch.tensor(want))
    assert float(picture.pixels.max()) <= 1


@pytest.mark.parametrize("mode", ["YCbCr", "LAB", "HSV", "CMYK", "RGBX", "RGB"])
def test_colour_modes_become_rgb(mode: str) -> None:
    orange = (255, 128, 0)
    if mode == "LAB":
        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        image = ImageCms.profileToProfile(Image.new("RGB", (20, 20), orange), rgb, lab, outputMode="LAB")
    else:
        image = Image.new("RGB", (20, 20), orange).convert(mode)
    assert image.mode == mode
    image.info["icc_profile"] = SRGB
    picture = read_picture(image)
    assert abs(levels(picture) - orange).max() < (10 if mode == "LAB" else 4)  # 8-bit Lab is coarse
    assert not picture.grey
    assert picture.icc_profile == (None if mode in ("LAB", "CMYK") else SRGB)


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
@pytest.mark.parametrize("profile", ["none", "cmyk", "rgb", "broken"])
def test_cmyk(tmp_path: Path, profile: str, suffix: str) -> None:
    icc = {"none": None, "cmyk": ink_profile(), "rgb": SRGB, "broken": ink_profile()[:140]}[profile]
    image = np.zeros((32, 32, 4), np.uint8)
    image[:, 16:, 0] = 255
    Image.fromarray(image, "CMYK").save(tmp_path / f"a{suffix}", **({"icc_profile": icc} if icc else {}))
    picture = read_picture(tmp_path / f"a{suffix}")
    assert picture.icc_profile is None
    paper, cyan = levels(picture)[16, 2], levels(picture)[16, 29]
    assert paper.min() > 250
    if profile == "cmyk":  # whose cyan ink is orange
        assert cyan[0] > cyan[1] > cyan[2]
        assert cyan[0] > 200
    else:
        assert abs(cyan - (0, 255, 255)).max() < 6


@pytest.mark.parametrize(
    ("mode", "profile", "kept"),
    [
        ("RGB", SRGB, True),
        ("L", SRGB, True),
        ("L", GREY_PROFILE, True),
        ("LA", GREY_PROFILE, True),
        ("P", SRGB, True),
        ("RGB", GREY_PROFILE, False),
        ("RGB", ink_profile(), False),
        ("L", ink_profile(), False),
        ("RGB", b"?", False),
        ("RGB", b"", False),
    ],
)
def test_a_profile_is_kept_if_it_fits_the_mode(mode: str, profile: bytes, kept: bool) -> None:
    image = Image.new(mode, (20, 20))
    image.info["icc_profile"] = profile
    assert read_picture(image).icc_profile == (profile if kept else None)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tif"])
def test_first_frame_of_several(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (20, 20), c) for c in ("red", "lime", "blue")]
    frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / f"a{suffix}") as im:
        assert im.n_frames == 3
        assert abs(levels(read_picture(tmp_path / f"a{suffix}")) - (255, 0, 0)).max() < 8
        im.seek(2)
        assert abs(levels(read_picture(im)) - (0, 0, 255)).max() < 8


def test_a_pil_picture_is_read_and_left_alone(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGBA", (20, 30), (1, 2, 3, 4)).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as im:
        assert read_picture(im).size == (30, 20)
        assert (im.size, im.mode, im.getpixel((0, 0))) == ((20, 30), "RGBA", (1, 2, 3, 4))


def test_file_is_closed(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (20, 20), c) for c in ("red", "lime")]
    frames[0].save(tmp_path / "good.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "bad.png").write_bytes(png(20, 20, 8, 2, b"\0"))
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("needs /proc to list open files")

    def opened() -> list[str]:
        return [os.readlink(f) for f in folder.iterdir() if f.is_symlink()]

    read_picture(tmp_path / "good.gif")
    with pytest.raises(ImageFileError):
        read_picture(tmp_path / "bad.png")
    assert not [name for name in opened() if name.startswith(str(tmp_path))]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp", ".gif", ".ppm", ".avif"])
@pytest.mark.parametrize("part", [0.5, 0.9])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str, part: float) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(noise(64, 64, 3)).save(path)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TIFF warns as well
        with pytest.raises(ImageFileError, match=r"cannot read .*a\.\w+, it"):
            read_picture(path)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def broken(path: Path, kind: str) -> None:
    good = io.BytesIO()
    Image.fromarray(noise(64, 64, 3)).save(good, "PNG")
    data = bytearray(good.getvalue())
    match kind:
        case "directory":
            path.mkdir()
        case "text":
            path.write_text("not a picture")
        case "zero bytes":
            path.write_bytes(b"")
        case "bad checksum":
            data[data.index(b"IEND") - 10] ^= 255
            path.write_bytes(data)
        case "bad stream":
            path.write_bytes(png(64, 64, 8, 2, b"").replace(zlib.compress(b""), b"\xff" * 8))
        case "short rows":
            path.write_bytes(png(64, 64, 8, 2, bytes(100)))
        case "header only":
            path.write_bytes(data[:20])
        case "other format":
            Image.new("RGB", (20, 20)).save(path, "TGA")
        case "vector":
            path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "there is no such file"),
        ("directory", "it is a directory"),
        ("text", "it is not a picture; expected PNG, JPEG"),
        ("zero bytes", "it is not a picture"),
        ("bad checksum", "truncated or broken"),
        ("bad stream", "truncated or broken"),
        ("short rows", "truncated or broken"),
        ("header only", "truncated or broken"),
        ("other format", "it is not a picture"),
        ("vector", "it is not a picture"),
    ],
)
def test_unreadable_files(tmp_path: Path, kind: str, message: str) -> None:
    path = tmp_path / "a.png"
    broken(path, kind)
    with pytest.raises(ImageFileError) as caught:
        read_picture(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


def test_unreadable_by_permission(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (20, 20)).save(path)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("permissions do not bind this user")
    with pytest.raises(ImageFileError, match="Permission denied"):
        read_picture(path)


@pytest.mark.parametrize(
    "kind", [SyntaxError, ValueError, OSError, struct.error, EOFError, zlib.error, MemoryError, KeyError]
)
def test_every_exception_of_a_decoder_is_an_image_file_error(
    tmp_path: Path, monkeypatch, kind: type[Exception]
) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")

    def load(self):
        raise kind("x")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(
        ImageFileError, match="does not fit into memory" if kind is MemoryError else "truncated or broken"
    ):
        read_picture(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("width", "height", "message"),
    [
        (60000, 60000, "more pixels than PIL.Image.MAX_IMAGE_PIXELS"),
        (2**31 - 1, 2**31 - 1, "more pixels than PIL.Image.MAX_IMAGE_PIXELS"),
        (10000, 9000, "more pixels than PIL.Image.MAX_IMAGE_PIXELS"),  # a warning, which pytest's filter raises
    ],
)
def test_bombs_are_refused(tmp_path: Path, width: int, height: int, message: str) -> None:
    (tmp_path / "a.png").write_bytes(png(width, height, 8, 2, b"\0"))
    with pytest.raises(ImageFileError, match=message):
        read_picture(tmp_path / "a.png")


def test_pixels_are_counted_before_decoding(tmp_path: Path, monkeypatch) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png", max_pixels=1200).size == (40, 30)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    with pytest.raises(ImageFileError, match="it has 40 x 30 pixels; expected at most max_pixels = 1199"):
        read_picture(tmp_path / "a.png", max_pixels=1199)


def test_large_pictures_below_pillows_error_are_read(tmp_path: Path, monkeypatch) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.warns(Image.DecompressionBombWarning):
        assert read_picture(tmp_path / "a.png").size == (40, 30)
    assert Image.MAX_IMAGE_PIXELS == 1000


@pytest.mark.parametrize(
    ("source", "limit", "message"),
    [
        (7, 1, "source must be a path or a PIL picture, got int"),
        (b"a.png", 1, "got bytes"),
        ("a", 0, "max_pixels"),
        ("a", 0.5, "max_pixels"),
    ],
)
def test_arguments_of_read_picture(source: object, limit: object, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        read_picture(source, max_pixels=limit)


def test_empty_pil_picture() -> None:
    with pytest.raises(ImageFileError, match=r"PIL picture RGB 0 x 5, it is empty"):
        read_picture(Image.new("RGB", (0, 5)))


def test_one_pixel(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), "red").save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png").pixels.flatten().tolist() == [1, 0, 0]
    with pytest.raises(InvalidInputError, match=r"fastift\.f: photo must have at least 16 x 16 pixels, got 1 x 1"):
        as_batch(tmp_path / "a.png", name="photo", who="fastift.f")


# forms of a picture


def test_as_batch_of_paths_pictures_and_pil(tmp_path: Path) -> None:
    image = noise(20, 24, 3)
    Image.fromarray(image).save(tmp_path / "a.png")
    want = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    picture = read_picture(tmp_path / "a.png")
    for form in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(image), picture):
        assert torch.equal(as_batch(form), want)
    assert as_batch(picture) is picture.pixels


@pytest.mark.parametrize(
    ("shape", "dtype", "scale"),
    [
        ((20, 24), np.uint8, 255),
        ((20, 24, 1), np.uint8, 255),
        ((20, 24, 3), np.uint8, 255),
        ((20, 24, 4), np.uint8, 255),
        ((2, 20, 24, 3), np.uint8, 255),
        ((20, 24, 3), np.uint16, 65535),
        ((20, 24), ">u2", 65535),
        ((20, 24), bool, 1),
        ((20, 24, 3), np.float32, 1),
        ((20, 24, 3), np.float64, 1),
        ((2, 20, 24, 3), np.float16, 1),
    ],
    ids=str,
)
def test_as_batch_of_arrays(shape: tuple[int, ...], dtype: object, scale: int) -> None:
    array = (np.random.default_rng(0).random(shape) * (scale if scale > 1 else 1)).astype(dtype)
    array = array if scale > 1 or np.dtype(dtype).kind == "f" else np.random.default_rng(0).random(shape) > 0.5
    before = array.copy()
    array.setflags(write=False)
    x = as_batch(array)
    spread = array.reshape(-1, 20, 24, array.shape[-1] if array.ndim > 2 else 1)[..., :3].astype(np.float64) / scale
    assert x.shape == (len(spread), 3, 20, 24)
    assert x.dtype == torch.float32
    assert x.is_contiguous()
    assert abs(x.permute(0, 2, 3, 1).numpy() - spread).max() < 1e-7
    x.zero_()
    assert np.array_equal(array, before)


def test_as_batch_of_a_reversed_view() -> None:
    image = noise(20, 24, 3)
    assert np.array_equal((as_batch(image[::-1, :, ::-1])[0] * 255).round().permute(1, 2, 0), image[::-1, :, ::-1])


@pytest.mark.parametrize("shape", [(3, 20, 24), (1, 20, 24), (2, 3, 20, 24), (2, 1, 20, 24)], ids=str)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_as_batch_of_tensors(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = torch.rand(shape) if dtype.is_floating_point else torch.randint(256, shape)
    x = x.to(dtype)
    y = as_batch(x)
    assert y.dtype == (dtype if dtype.is_floating_point else torch.float32)
    assert y.shape == (shape[0] if len(shape) == 4 else 1, 3, 20, 24)
    want = x if dtype.is_floating_point else x.float() / 255
    assert torch.equal(y, want.reshape(-1, *shape[-3:]).expand_as(y))


def test_gradients_pass_as_batch() -> None:
    x = torch.rand(1, 20, 20, requires_grad=True)
    as_batch(x).sum().backward()
    assert torch.equal(x.grad, torch.full_like(x, 3))


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor], ids=["array", "tensor"])
def test_values_barely_outside_are_clamped(kind) -> None:
    x = np.full((3, 20, 20), 0.5, np.float32)
    x[0, 0, 0], x[0, 0, 1] = -0.0009, 1.0009
    y = as_batch(kind(x if kind is torch.as_tensor else x.transpose(1, 2, 0)))
    assert y[0, 0, 0, :3].tolist() == [0, 1, 0.5]


@pytest.mark.parametrize("as_array", [True, False], ids=["array", "tensor"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "must be finite, got NaN or infinity"),
        (float("inf"), "must be finite"),
        (-float("inf"), "must be finite"),
        (-0.01, r"must lie in \[0, 1\], got values from -0.01 to 0.5$"),
        (1.01, r"got values from 0.5 to 1.01$"),
        (255.0, r"got values from 0.5 to 255; divide by 255"),
    ],
    ids=str,
)
def test_values_are_checked(value: float, message: str, as_array: bool) -> None:
    x = torch.full((3, 20, 20), 0.5)
    x[1, 2, 3] = value
    with pytest.raises(InvalidInputError, match=rf"^fastift\.f: photo .*{message}"):
        as_batch(x.permute(1, 2, 0).numpy() if as_array else x, name="photo", who="fastift.f")


def test_a_double_too_large_for_single_precision() -> None:
    with pytest.raises(InvalidInputError, match="must be finite"):
        as_batch(np.full((20, 20), 1e300))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_values_on_cuda_are_not_looked_at() -> None:
    x = torch.full((3, 20, 20), 7.0, device="cuda")
    assert as_batch(x).device.type == "cuda"


def test_values_on_an_accelerator_are_not_looked_at() -> None:
    x = torch.empty(3, 20, 20, device="meta")  # which holds no values to look at
    assert as_batch(x).device.type == "meta"


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros(20, np.uint8), r"must be an array .*, got \(20,\)$"),
        (np.zeros((20, 20, 2), np.uint8), r"got \(20, 20, 2\)$"),
        (np.zeros((3, 20, 20), np.uint8), r"got \(3, 20, 20\); arrays are channels last"),
        (np.zeros((2, 3, 20, 20), np.uint8), r"got \(2, 3, 20, 20\); arrays are channels last"),
        (np.zeros((2, 20, 20, 4), np.uint8), r"got \(2, 20, 20, 4\)$"),
        (np.zeros((0, 20, 3), np.uint8), r"must not be empty, got \(0, 20, 3\)"),
        (np.zeros((20, 20), np.int32), "got an array of int32"),
        (np.zeros((20, 20), np.complex64), "got an array of complex64"),
        (np.zeros((20, 20), object), "got an array of object"),
        (np.zeros((15, 20, 3), np.uint8), "at least 16 x 16 pixels, got 20 x 15"),
        (torch.zeros(20, 20), r"must be a tensor .*, got \(20, 20\)$"),
        (torch.zeros(20, 24, 3), r"got \(20, 24, 3\); tensors are channels first"),
        (torch.zeros(2, 20, 24, 4), r"got \(2, 20, 24, 4\); tensors are channels first"),
        (torch.zeros(4, 20, 20), r"got \(4, 20, 20\)$"),
        (torch.zeros(1, 1, 3, 20, 20), r"got \(1, 1, 3, 20, 20\)$"),
        (torch.zeros(0, 3, 20, 20), r"must not be empty, got \(0, 3, 20, 20\)"),
        (torch.zeros(3, 0, 20), "must not be empty"),
        (torch.zeros(3, 20, 20, dtype=torch.int64), "got a tensor of torch.int64"),
        (torch.zeros(3, 20, 20, dtype=torch.bool), "got a tensor of torch.bool"),
        (torch.zeros(3, 20, 20, dtype=torch.complex64), "got a tensor of torch.complex64"),
        (torch.zeros(3, 20, 15), "at least 16 x 16 pixels, got 15 x 20"),
        (Image.new("L", (15, 16)), "at least 16 x 16 pixels, got 15 x 16"),
        ([1, 2], "must be a path, a PIL picture, a Picture, an array or a tensor, got list"),
        (None, "got NoneType"),
    ],
    ids=lambda v: "" if isinstance(v, str) else f"{type(v).__name__} {getattr(v, 'shape', '')}",
)
def test_refused_forms(image: object, message: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"^fastift\.f: photo must .*{message.removeprefix('must ')}"):
        as_batch(image, name="photo", who="fastift.f")


def test_a_missing_path_is_an_image_file_error(tmp_path: Path) -> None:
    with pytest.raises(ImageFileError, match="no such file"):
        as_batch(tmp_path / "a.png")


# writing


def test_every_byte_survives_to_pil_and_back() -> None:
    image = np.arange(768, dtype=np.uint8).reshape(16, 16, 3)
    for x in (as_batch(image), as_batch(image)[0], as_batch(image).double()):
        assert np.array_equal(np.asarray(to_pil(x)), image)


@pytest.mark.parametrize(("value", "want"), [(0.6, 1), (0.4, 0), (254.6, 255), (254.4, 254), (-9.0, 0), (300.0, 255)])
def test_to_pil_rounds_and_clamps(value: float, want: int) -> None:
    image = to_pil(torch.full((3, 2, 2), value / 255))
    assert image.mode == "RGB"
    assert image.getpixel((1, 1)) == (want,) * 3


@pytest.mark.parametrize("shape", [(1, 1, 2, 3), (1, 2, 3)], ids=str)
def test_to_pil_with_alpha_and_profile(shape: tuple[int, ...]) -> None:
    image = to_pil(torch.ones(1, 3, 2, 3, dtype=torch.float16), torch.full(shape, 0.2), SRGB)
    assert (image.mode, image.size, image.getpixel((2, 1))) == ("RGBA", (3, 2), (255, 255, 255, 51))
    assert image.info["icc_profile"] == SRGB


@pytest.mark.parametrize(
    "profile", [GREY_PROFILE, ink_profile(), b"", b"?", None], ids=["grey", "cmyk", "empty", "junk", "none"]
)
def test_profiles_of_other_spaces_are_left_out(profile: bytes | None) -> None:
    assert "icc_profile" not in to_pil(torch.ones(3, 2, 2), None, profile).info


@pytest.mark.parametrize(
    ("pixels", "alpha", "message"),
    [
        (torch.ones(2, 3, 4, 4), None, r"pixels must be a floating-point tensor .*, got torch.float32 \(2, 3, 4, 4\)"),
        (torch.ones(1, 4, 4), None, r"pixels must be .* got torch.float32 \(1, 4, 4\)"),
        (torch.ones(4, 4), None, "pixels must be"),
        (torch.ones(3, 0, 4), None, "pixels must be"),
        (torch.ones(3, 4, 4, dtype=torch.uint8), None, "got torch.uint8"),
        (np.ones((3, 4, 4)), None, "got ndarray"),
        (torch.full((3, 4, 4), float("nan")), None, "pixels must be finite"),
        (torch.ones(3, 4, 4), torch.ones(3, 4, 4), "alpha must be a floating-point tensor"),
        (torch.ones(3, 4, 4), torch.full((1, 4, 4), float("inf")), "alpha must be finite"),
        (
            torch.ones(3, 4, 4),
            torch.ones(1, 4, 5),
            r"alpha must be as large as pixels, got \(1, 4, 5\) and \(3, 4, 4\)",
        ),
    ],
    ids=lambda v: "" if not isinstance(v, str) else v[:30],
)
def test_to_pil_refuses(pixels: object, alpha: object, message: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"^fastift\.to_pil: .*{message}"):
        to_pil(pixels, alpha)


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".PNG"])
def test_write_and_read_back(tmp_path: Path, suffix: str) -> None:
    smooth = torch.linspace(0, 1, 24).expand(3, 20, 24) * torch.tensor([1.0, 0.5, 0.2])[:, None, None]
    alpha = torch.full((1, 1, 20, 24), 0.2)
    write_picture(tmp_path / f"a{suffix}", smooth, alpha=alpha, icc_profile=SRGB)
    picture = read_picture(tmp_path / f"a{suffix}")
    lossless = suffix.lower() in (".png", ".tif", ".tiff", ".bmp")
    assert float((picture.pixels - smooth).abs().max()) < (0.502 / 255 if lossless else 12 / 255)
    if suffix in (".jpg", ".jpeg", ".bmp"):
        assert picture.alpha is None
    else:
        assert torch.allclose(picture.alpha, torch.tensor(0.2))
    assert picture.icc_profile == (None if suffix == ".bmp" else SRGB)
    assert [f.name for f in tmp_path.iterdir()] == [f"a{suffix}"]


def test_str_paths_and_relative_paths(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_picture("a.png", torch.ones(3, 16, 16))
    assert read_picture("a.png").size == (16, 16)


def test_jpeg_is_not_subsampled_and_quality_counts(tmp_path: Path) -> None:
    x = torch.rand(3, 64, 64)
    write_picture(tmp_path / "a.jpg", x)
    with Image.open(tmp_path / "a.jpg") as im:
        assert [layer[1:3] for layer in im.layer] == [(1, 1)] * 3
        im.save(tmp_path / "want.jpg", quality=95, subsampling=0)
        tables = im.quantization
    with Image.open(tmp_path / "want.jpg") as im:
        assert im.quantization == tables
    for suffix in (".jpg", ".webp"):
        write_picture(tmp_path / f"low{suffix}", x, quality=20)
        write_picture(tmp_path / f"high{suffix}", x)
        assert (tmp_path / f"low{suffix}").stat().st_size < 0.6 * (tmp_path / f"high{suffix}").stat().st_size


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_no_metadata_but_the_profile_travels(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x010E] = "SECRET"
    exif.get_ifd(0x8825)[2] = (48.0, 8.0, 24.0)
    source = tmp_path / f"a{suffix}"
    Image.new("RGB", (20, 20)).save(source, exif=exif, icc_profile=SRGB)
    assert b"SECRET" in source.read_bytes()
    with Image.open(source) as im:
        assert im.getexif().get_ifd(0x8825) or suffix == ".tif"  # for which Pillow does not write GPS
    picture = read_picture(source)
    write_picture(tmp_path / f"b{suffix}", picture.pixels, icc_profile=picture.icc_profile)
    assert b"SECRET" not in (tmp_path / f"b{suffix}").read_bytes()
    with Image.open(tmp_path / f"b{suffix}") as im:
        assert im.info["icc_profile"] == SRGB
        assert not im.getexif().get_ifd(0x8825)
        assert "exif" not in im.info


def refused(tmp_path: Path, kind: str) -> Path:
    match kind:
        case "exists":
            (tmp_path / "a.png").write_text("mine")
        case "directory":
            (tmp_path / "a.png").mkdir()
        case "no folder":
            return tmp_path / "none" / "a.png"
        case "file as folder":
            (tmp_path / "file").write_text("")
            return tmp_path / "file" / "a.png"
        case "unknown suffix":
            return tmp_path / "a.xyz"
        case "no suffix":
            return tmp_path / "a"
        case "too long":
            return tmp_path / f"{'a' * 300}.png"
        case "null":
            return tmp_path / "a\0.png"
        case "link":
            (tmp_path / "b.png").write_text("mine")
            (tmp_path / "a.png").symlink_to("b.png")
    return tmp_path / "a.png"


SUFFIX_LIST = r"suffix must be one of \.png \.jpg \.jpeg \.webp \.tif \.tiff \.bmp"


@pytest.mark.parametrize(
    ("kind", "force", "message"),
    [
        ("exists", False, "it exists already; pass --force"),
        ("link", False, "it exists already; pass --force"),
        ("directory", True, "it is a directory"),
        ("directory", False, "it is a directory"),
        ("no folder", True, r"the folder .*none does not exist"),
        ("file as folder", True, r"the folder .*file does not exist"),
        ("unknown suffix", True, SUFFIX_LIST),
        ("no suffix", True, SUFFIX_LIST),
        ("too long", False, "File name too long"),
        ("null", False, "null"),
    ],
)
def test_targets_that_are_refused(tmp_path: Path, kind: str, force: bool, message: str) -> None:
    path = refused(tmp_path, kind)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OutputError, match=rf"^fastift: cannot write .*{message}"):
        check_target(path, force)
    with pytest.raises(OutputError, match=message):
        write_picture(path, torch.ones(3, 16, 16), force=force)
    if "suffix" not in kind:
        with pytest.raises(OutputError, match=message):
            check_free(path, force)
    assert sorted(tmp_path.iterdir()) == before


def test_check_free_takes_any_suffix(tmp_path: Path) -> None:
    check_free(tmp_path / "a.safetensors")
    check_target(tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_unwritable_folder(tmp_path: Path, monkeypatch) -> None:
    tmp_path.chmod(0o500)
    if os.access(tmp_path, os.W_OK):  # permissions do not bind root, so only the answer to the question is tested
        monkeypatch.setattr(os, "access", lambda path, mode: path != os.path.realpath(tmp_path))
    with pytest.raises(OutputError, match=r"the folder .* is not writable"):
        write_picture(tmp_path / "a.png", torch.ones(3, 16, 16))
    tmp_path.chmod(0o700)
    assert not list(tmp_path.iterdir())


def test_force_overwrites_and_writes_through_links(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_text("old")
    (tmp_path / "a.png").symlink_to("b.png")
    write_picture(tmp_path / "a.png", torch.ones(3, 16, 16), force=True)
    assert (tmp_path / "a.png").is_symlink()
    assert float(read_picture(tmp_path / "b.png").pixels.min()) == 1
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640)], ids=oct)
def test_permissions_follow_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_picture(tmp_path / "a.png", torch.ones(3, 16, 16))
    finally:
        os.umask(before)
    assert (tmp_path / "a.png").stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    "kind", [OSError(errno.ENOSPC, "No space left on device"), ValueError("x"), KeyboardInterrupt()], ids=str
)
def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch, kind: BaseException, force: bool) -> None:
    if force:
        (tmp_path / "a.png").write_text("old")

    def save(self, file, **options):
        file.write(b"half")
        raise kind

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(OutputError if isinstance(kind, Exception) else KeyboardInterrupt) as caught:
        write_picture(tmp_path / "a.png", torch.ones(3, 16, 16), force=force)
    if isinstance(kind, Exception):
        assert str(kind) in str(caught.value)
        assert caught.value.__cause__ is kind
    assert [f.read_text() for f in tmp_path.iterdir()] == (["old"] if force else [])


def test_beyond_an_encoders_limit(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*a\.webp"):
        write_picture(tmp_path / "a.webp", torch.ones(3, 1, 16384))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("links", [True, False])
def test_a_file_made_meanwhile_is_kept(tmp_path: Path, monkeypatch, links: bool) -> None:
    save = Image.Image.save

    def slow_save(self, file, **options):
        save(self, file, **options)
        (tmp_path / "a.png").write_text("theirs")

    monkeypatch.setattr(Image.Image, "save", slow_save)
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(OutputError, match="it exists already"):
        write_picture(tmp_path / "a.png", torch.ones(3, 16, 16))
    assert [f.read_text() for f in tmp_path.iterdir()] == ["theirs"]


def no_links(source: str, target: str) -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")


def test_file_systems_without_hard_links(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(os, "link", no_links)
    write_picture(tmp_path / "a.png", torch.ones(3, 16, 16))
    assert [f.name for f in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("quality", [0, 101, 9.5, "best"])
def test_quality_is_checked(tmp_path: Path, quality: object) -> None:
    with pytest.raises(InvalidInputError, match="quality must be a whole number from 1 to 100"):
        write_picture(tmp_path / "a.jpg", torch.ones(3, 16, 16), quality=quality)


def test_the_path_to_write_must_be_a_path() -> None:
    with pytest.raises(InvalidInputError, match="must be a str or a PathLike, got int"):
        write_picture(3, torch.ones(3, 16, 16))


# resizing


@pytest.mark.parametrize(
    ("height", "width", "size", "want"),
    [
        (40, 60, 20, (20, 30)),
        (60, 40, 20, (30, 20)),
        (33, 50, 16, (16, 24)),
        (100, 101, 99, (99, 100)),
        (17, 1000, 16, (16, 941)),
    ],
)
def test_resize_shorter(height: int, width: int, size: int, want: tuple[int, int]) -> None:
    out = resize_shorter(torch.rand(2, 3, height, width), size)
    assert out.shape == (2, 3, *want)
    assert 0 <= float(out.min()) <= float(out.max()) <= 1


@pytest.mark.parametrize("size", [30, 31, 4000])
def test_resize_never_enlarges(size: int) -> None:
    x = torch.rand(1, 3, 30, 40)
    assert resize_shorter(x, size) is x


def test_resize_is_antialiased_and_stays_in_range() -> None:
    # the noise of an average over 8 x 8 pixels; four pixels alone would leave more than half of it
    assert float(resize_shorter(torch.rand(1, 3, 256, 256), 32).std()) < 0.29 / 4
    edge = torch.zeros(1, 3, 64, 64)
    edge[..., 32:] = 1
    out = resize_shorter(edge, 48)  # bicubic overshoots at an edge
    assert (float(out.min()), float(out.max())) == (0, 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_resize_keeps_the_dtype(dtype: torch.dtype) -> None:
    x = torch.rand(1, 3, 40, 40)
    out = resize_shorter(x.to(dtype), 20)
    assert out.dtype == dtype
    assert float((out.float() - resize_shorter(x, 20)).abs().max()) < 0.01


@pytest.mark.parametrize(
    ("pixels", "size", "message"),
    [
        (torch.rand(1, 3, 40, 40), 15, "size must be a whole number of at least 16, got 15"),
        (torch.rand(1, 3, 40, 40), 20.0, "size must be a whole number"),
        (torch.rand(3, 40, 40), 20, r"pixels must be .* got torch.float32 \(3, 40, 40\)"),
        (torch.ones(1, 3, 40, 40, dtype=torch.uint8), 20, "got torch.uint8"),
        (torch.rand(0, 3, 40, 40), 20, r"got torch.float32 \(0, 3, 40, 40\)"),
        ([1], 20, "got list"),
    ],
    ids=["small", "float", "rank", "dtype", "empty", "type"],
)
def test_resize_refuses(pixels: object, size: object, message: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"^fastift\.resize_shorter: .*{message}"):
        resize_shorter(pixels, size)
