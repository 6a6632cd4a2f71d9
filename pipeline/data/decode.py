"""Image files: what their header says without decoding, and their pixels as 8-bit RGB or as label ids.

JPEG and PNG, nearly all of any data set, are read here marker by marker: size, colours and the end marker in some
microseconds. The other formats go through Pillow's lazy `open`. Pixels are always Pillow's.
"""

from __future__ import annotations

import io
import struct
import warnings
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
"""File names that end so (in any case) are taken for images."""

LOSSLESS = ("png", "bmp", "gif", "ppm")
"""Extensions of files whose colours are those that were painted."""

MAX_PIXELS = 100_000_000
"""Larger pictures are refused before they are decoded."""

PILLOW_LIMIT = 178_956_970
"""Pillow itself refuses what has more pixels."""

_ORIENTATION = 0x0112
_FORMATS = {
    "JPEG": "jpg",
    "MPO": "jpg",
    "PNG": "png",
    "WEBP": "webp",
    "BMP": "bmp",
    "TIFF": "tif",
    "GIF": "gif",
    "PPM": "ppm",
}
_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I;16B", "I;16L", "I"}


_MARKER = struct.Struct(">BBH").unpack_from
_FRAME = struct.Struct(">BHHB").unpack_from


class Header(NamedTuple):
    """Size as shown (EXIF rotation done), and the extension that the format (not the file's name) asks for."""

    extension: str
    width: int
    height: int
    colours: int
    """Channels; a palette counts as one."""


def header(data: bytes, max_pixels: int = MAX_PIXELS) -> Header:
    """Read the header and look for the end marker; decode nothing.

    Raises:
        ValueError: empty, not an image, truncated, animated, too large, or of a kind that has no 8-bit form.
    """
    if not data:
        raise ValueError("the file is empty")
    if data[:3] == b"\xff\xd8\xff":
        found = _jpeg(data)
    elif data[:8] == b"\x89PNG\r\n\x1a\n":
        found = _png(data)
    else:
        found = _other(data)
    if found.width * found.height > max_pixels:
        raise ValueError(f"{found.width} x {found.height} pixels, more than --max-pixels {max_pixels}")
    if found.width < 1 or found.height < 1:
        raise ValueError(f"{found.width} x {found.height} pixels")
    return found


def _jpeg(data: bytes) -> Header:
    # ITU T.81, annex B: segments of marker and length, a frame header (SOFn), then scans up to EOI.
    at, size, width, height, colours, exif = 2, len(data), 0, 0, 0, False
    while True:
        if at + 4 > size:
            raise ValueError("truncated: the JPEG ends before its first scan")
        mark, code, length = _MARKER(data, at)
        if mark != 0xFF:
            raise ValueError(f"damaged JPEG: no marker at byte {at}")
        if code == 0xFF:  # a fill byte before the marker
            at += 1
            continue
        if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            if at + 10 > size:
                raise ValueError("truncated: the JPEG ends before its first scan")
            precision, height, width, colours = _FRAME(data, at + 4)
            if precision != 8:
                raise ValueError(f"{precision}-bit JPEG: only 8-bit JPEG can be decoded")
        elif code == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            exif = True
        elif code == 0xDA:
            break
        if length < 2:
            raise ValueError(f"damaged JPEG: a segment of {length} bytes at byte {at}")
        at += 2 + length
    if not colours:
        raise ValueError("damaged JPEG: a scan without a frame header")
    # Scans hold no FF D9 but the end; bytes after it (padding, a phone's second picture) are no damage.
    if not data.endswith(b"\xff\xd9") and data.rfind(b"\xff\xd9", at) < 0:
        raise ValueError("truncated: the JPEG has no end marker")
    turned = exif and _turned(data)
    return Header("jpg", *((height, width) if turned else (width, height)), colours)


def _png(data: bytes) -> Header:
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise ValueError("truncated: the PNG ends within its header")
    width, height, _depth, kind = struct.unpack_from(">IIBB", data, 16)
    colours = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(kind)
    if colours is None:
        raise ValueError(f"damaged PNG: colour type {kind}")
    at, exif = 33, False
    while data[at + 4 : at + 8] != b"IEND":
        if at + 12 > len(data):
            raise ValueError("truncated: the PNG has no end marker")
        if data[at + 4 : at + 8] == b"acTL" and int.from_bytes(data[at + 8 : at + 12]) > 1:
            raise ValueError("animated: a PNG of several frames")
        exif = exif or data[at + 4 : at + 8] == b"eXIf"
        at += 12 + int.from_bytes(data[at : at + 4])
    if at + 12 > len(data):
        raise ValueError("truncated: the PNG ends within its end marker")
    turned = exif and width * height <= MAX_PIXELS and _turned(data)
    return Header("png", *((height, width) if turned else (width, height)), colours)


def _other(data: bytes) -> Header:
    if data[:4] == b"RIFF" and len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise ValueError("truncated: the WEBP is shorter than its header says")
    with _open(data) as image:
        if image.format not in _FORMATS:
            raise ValueError(f"{image.format} files are not read: convert them to PNG")
        if getattr(image, "is_animated", False) and image.format != "MPO":
            raise ValueError(f"animated: a {image.format} of several frames")
        if image.mode not in _MODES:
            raise ValueError(f"{image.format} with pixels of kind {image.mode} has no 8-bit form")
        if image.format == "GIF" and not data.rstrip(b"\0").endswith(b";"):
            raise ValueError("truncated: the GIF has no end marker")
        width, height = image.size
        if image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8):
            width, height = height, width
        return Header(_FORMATS[image.format], width, height, len(image.getbands()))


def _open(data: bytes) -> Image.Image:
    with warnings.catch_warnings():
        # Sizes are checked against --max-pixels; Pillow warns at its own, lower number.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            return Image.open(io.BytesIO(data))
        except Image.DecompressionBombError as error:
            raise ValueError(f"too many pixels: {error}") from error
        except Exception as error:  # Pillow's parsers let struct.error, KeyError, SyntaxError through
            raise ValueError("not an image, whatever its name says") from error


def _turned(data: bytes) -> bool:
    """Whether EXIF says that the picture lies on its side."""
    with _open(data) as image:
        return image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)


def pixels(data: bytes, kind: str = "image", max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode: kind "image" to uint8 H W 3, kind "labels" to uint8 (or int64) H W ids; EXIF rotation done.

    16 bits are scaled to 8, transparent pixels are shown on white, palettes and CMYK become RGB; label maps keep
    their palette's indices and their grey values as they are.

    Raises:
        ValueError: as `header`, or undecodable, or a label map with more than one channel.
    """
    header(data, max_pixels)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd but readable metadata
            with _open(data) as opened:
                image: Image.Image = opened
                image.load()
                image = ImageOps.exif_transpose(image)
                return _ids(image) if kind == "labels" else _rgb(image)
    except ValueError:
        raise
    except Exception as error:  # OSError, SyntaxError, struct.error, zlib.error: Pillow's decoders differ
        raise ValueError(f"cannot be decoded: {error}") from error


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.int64)
        if deep.min() < 0 or deep.max() > 65535:
            raise ValueError("pixels of more than 16 bits have no 8-bit form")
        grey = ((deep * 255 + 32767) // 65535).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        over = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
    return np.array(image.convert("RGB"))


def _ids(image: Image.Image) -> np.ndarray:
    if image.mode in ("P", "L"):
        return np.array(image)
    if image.mode == "1":
        return np.array(image).astype(np.uint8)
    if image.mode.startswith("I"):
        return np.array(image).astype(np.int64)
    raise ValueError(f"a label map has one channel of ids, this has {image.mode}: use it as an image, or convert it")


def half(image: np.ndarray, side: str) -> np.ndarray:
    """The left or right half of H W ..., or all of it where `side` is empty. Raises ValueError on an odd width."""
    if not side:
        return image
    width = image.shape[1]
    if width % 2:
        raise ValueError(f"{width} pixels wide: two halves side by side need an even width")
    return image[:, : width // 2] if side == "left" else image[:, width // 2 :]


def resize(image: np.ndarray, shortest: int, kind: str = "image") -> np.ndarray:
    """H W or H W 3 with its shortest side made `shortest`, the ratio kept: bicubic (antialiased), labels nearest."""
    height, width = image.shape[:2]
    scale = shortest / min(height, width)
    return stretch(image, max(1, round(height * scale)), max(1, round(width * scale)), kind == "labels")


def stretch(image: np.ndarray, height: int, width: int, nearest: bool) -> np.ndarray:
    """H W or H W 3 made `height` x `width`: bicubic (antialiased; uint8 only), or nearest."""
    if nearest:
        rows = ((np.arange(height) + 0.5) * image.shape[0] / height).astype(np.int64)
        columns = ((np.arange(width) + 0.5) * image.shape[1] / width).astype(np.int64)
        return np.array(image[rows[:, None], columns[None, :]])
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def grey(image: np.ndarray) -> np.ndarray:
    """uint8 H W 3 -> uint8 H W: ITU-R 601 luma; grey pictures keep their values exactly."""
    return np.array(Image.fromarray(image).convert("L"))


def to_png(image: np.ndarray) -> bytes:
    """uint8 H W or H W 3, or ids H W up to 65535, as a PNG; the same bytes for the same pixels."""
    if image.dtype != np.uint8:
        if image.max(initial=0) > 65535:
            raise ValueError(f"label id {image.max()} does not fit in a 16-bit PNG")
        image = image.astype(np.uint16)
    sink = io.BytesIO()
    picture: Any = Image.fromarray(image)
    picture.save(sink, "PNG", optimize=False, compress_level=6)
    return sink.getvalue()


def ids_file(ids: np.ndarray) -> tuple[str, bytes]:
    """(suffix, content) of a file of ids `H W`: a PNG, or a TIFF of 32 bits where ids exceed 65535."""
    if ids.max(initial=0) <= 65535:
        return "png", to_png(ids)
    sink = io.BytesIO()
    Image.fromarray(ids.astype(np.int32)).save(sink, "TIFF")
    return "tif", sink.getvalue()
