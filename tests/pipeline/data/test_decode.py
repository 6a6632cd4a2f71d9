"""Decoding against Pillow: headers, damage, size limits, depths, orientation, resizing."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data import decode
from tests.pipeline.data.test_folder import encoded, noise


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM"])
def test_header_against_pillow(form: str) -> None:
    data = encoded(noise(7, 11), form)
    with Image.open(io.BytesIO(data)) as image:
        assert decode.header(data)[1:3] == image.size
        expected = np.array(image.convert("RGB"))
    assert np.array_equal(decode.pixels(data), expected)


def test_every_real_header_against_pillow(real_data: Path) -> None:
    paths = sorted(real_data.glob("styles/**/*.*"))[::9] + sorted(real_data.glob("facades/val/*"))[::9]
    for path in [p for p in paths if p.suffix in (".jpg", ".png")]:
        found = decode.header(path.read_bytes())
        with Image.open(path) as image:
            assert (found.width, found.height) == image.size


@pytest.mark.parametrize(
    "options", [{"progressive": True}, {"optimize": True}, {"subsampling": 0}, {"comment": b"\xff\xd9"}]
)
def test_truncated_jpeg(options: dict[str, object]) -> None:
    data = encoded(noise(40, 40), "JPEG", **options)
    assert decode.header(data)[1:3] == (40, 40)
    assert decode.header(data + b"\0" * 600)[1:3] == (40, 40)  # padding after the end is no damage
    for end in (len(data) - 1, len(data) - 2, len(data) // 2, 60, 12, 3):
        with pytest.raises(ValueError, match=r"truncated|not an image"):
            decode.header(data[:end])


def test_truncated_jpeg_whose_thumbnail_is_whole() -> None:
    # The EXIF thumbnail has an end marker of its own.
    exif = b"Exif\0\0" + encoded(noise(8, 8), "JPEG")
    data = encoded(noise(40, 40), "JPEG")
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    with pytest.raises(ValueError, match="no end marker"):
        decode.header(data[:-20])


@pytest.mark.parametrize("form", ["PNG", "GIF", "WEBP"])
def test_truncated_others(form: str) -> None:
    data = encoded(noise(20, 20), form)
    decode.header(data)
    with pytest.raises(ValueError, match="truncated"):
        decode.header(data[:-9])


def test_not_images() -> None:
    for data, reason in ((b"", "empty"), (b"hello, I am text", "not an image"), (b"\x89PNG\r\n\x1a\n", "truncated")):
        with pytest.raises(ValueError, match=reason):
            decode.header(data)


def test_animated_are_refused() -> None:
    frames = [Image.fromarray(noise(8, 8, i)) for i in range(2)]
    for form in ("GIF", "PNG", "WEBP", "TIFF"):
        data = encoded(frames[0], form, save_all=True, append_images=frames[1:])
        with pytest.raises(ValueError, match="animated"):
            decode.header(data)


def bomb(side: int) -> bytes:
    """A PNG of side x side pixels in some kilobytes."""
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, body in (
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0" * 1000)),
        (b"IEND", b""),
    ):
        parts.append(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))
    return b"".join(parts)


def test_30000_by_30000_is_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_open", lambda data: pytest.fail("opened by Pillow"))
    for call in (decode.header, decode.pixels):
        with pytest.raises(ValueError, match="30000 x 30000 pixels, more than --max-pixels"):
            call(bomb(30_000))  # type: ignore[operator]


def test_large_gif_is_refused_without_warning() -> None:
    data = bytearray(encoded(noise(8, 8), "GIF"))
    for side in (10_100, 30_000):  # between Pillow's warning and its error, and above
        data[6:10] = struct.pack("<HH", side, side)
        with warnings.catch_warnings(), pytest.raises(ValueError, match="pixels"):
            warnings.simplefilter("error")
            decode.header(bytes(data))


def test_sixteen_bits_are_scaled() -> None:
    deep = np.array([[0, 128, 129, 257, 32768, 65535]], dtype=np.uint16)
    found = decode.pixels(encoded(Image.fromarray(deep)))
    # v * 255 / 65535, rounded: clipping would give 255 from 257 on.
    assert found[0, :, 0].tolist() == [round(v / 257) for v in deep[0].tolist()] == [0, 0, 1, 1, 128, 255]
    assert found.shape == (1, 6, 3)


def test_palette_cmyk_grey_and_transparency() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putdata([0, 1])
    assert decode.pixels(encoded(palette)).tolist() == [[[255, 0, 0], [0, 0, 255]]]
    assert decode.pixels(encoded(palette), "labels").tolist() == [[0, 1]]
    assert decode.pixels(encoded(Image.new("L", (1, 1), 7))).tolist() == [[[7, 7, 7]]]
    clear = Image.new("RGBA", (1, 1), (10, 20, 30, 0))
    assert decode.pixels(encoded(clear)).tolist() == [[[255, 255, 255]]]
    cmyk = encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95)
    assert np.abs(decode.pixels(cmyk).astype(int) - [255, 0, 0]).max() < 12


def test_labels_of_sixteen_bits_and_of_three_channels() -> None:
    ids = np.array([[0, 300, 65535]], dtype=np.uint16)
    found = decode.pixels(encoded(Image.fromarray(ids)), "labels")
    assert found.dtype == np.int64 and found.tolist() == ids.tolist()
    with pytest.raises(ValueError, match="one channel"):
        decode.pixels(encoded(noise(2, 2)), "labels")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_exif_rotation(orientation: int, form: str) -> None:
    picture = Image.new("RGB", (24, 16), "black")
    picture.paste((255, 255, 255), (0, 0, 8, 8))  # the stored picture's first corner
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(picture, form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    found = decode.pixels(data)
    turned = orientation >= 5
    assert found.shape == ((24, 16, 3) if turned else (16, 24, 3))
    assert decode.header(data)[1:3] == (found.shape[1], found.shape[0])
    corners = {(y, x): int(found[y, x, 0]) for y in (2, -3) for x in (2, -3)}
    # EXIF 2.3, where the stored first row and column are shown: 1 top left, 2 top right, 3 bottom right, 4 bottom left,
    # 5 left top, 6 right top, 7 right bottom, 8 left bottom.
    expected = {1: (2, 2), 2: (2, -3), 3: (-3, -3), 4: (-3, 2), 5: (2, 2), 6: (2, -3), 7: (-3, -3), 8: (-3, 2)}[
        orientation
    ]
    assert max(corners, key=lambda c: corners[c]) == expected and corners[expected] > 200


def test_resize_keeps_the_ratio_and_label_ids() -> None:
    assert decode.resize(noise(30, 60), 10).shape == (10, 20, 3)
    assert decode.resize(noise(60, 30), 10).shape == (20, 10, 3)
    ids = np.where(np.arange(64)[None, :] < 32, 3, 200).astype(np.uint8).repeat(64, 0).reshape(64, 64)
    assert set(np.unique(decode.resize(ids, 20, "labels"))) == {3, 200}  # nothing in between
    assert np.array_equal(decode.resize(ids, 64, "labels"), ids)
    assert decode.resize(ids, 7, "labels")[3].tolist() == [ids[32, int((j + 0.5) * 64 / 7)] for j in range(7)]
    flat = np.full((50, 50, 3), 90, np.uint8)
    assert np.array_equal(decode.resize(flat, 13), np.full((13, 13, 3), 90))


def test_half() -> None:
    image = noise(4, 6)
    assert np.array_equal(decode.half(image, "left"), image[:, :3])
    assert np.array_equal(decode.half(image, "right"), image[:, 3:])
    with pytest.raises(ValueError, match="even width"):
        decode.half(noise(4, 5), "left")
