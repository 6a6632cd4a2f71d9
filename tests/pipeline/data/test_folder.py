"""What each source lists and how odd files are decoded: against arrays made here, and against Pillow's own reading."""

import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs import shard
from pipeline.artifacts import artifact, storage
from pipeline.data import decode, samples, sources
from pipeline.data.samples import Field
from pipeline.data.sources import demo, folder


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(picture: Image.Image | np.ndarray, form: str = "PNG", **options: object) -> bytes:
    sink = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(sink, form, **options)  # type: ignore[arg-type]
    return sink.getvalue()


def write(root: Path, *names: str) -> None:
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(noise(8, 12, i), "JPEG" if name.lower().endswith(("jpg", "jpeg")) else "PNG"))


def listed(source: samples.Source) -> dict[str, list[str]]:
    return {split: [entry.source for entry in entries] for split, entries in source.samples().items()}


# --- listings


def test_pairs_are_matched_by_stem(tmp_path: Path) -> None:
    write(tmp_path, "input/b.png", "input/a 1.png", "target/b.jpg", "target/a 1.JPG", "input/x.y.png", "target/x.y.jpg")
    source = folder.Folder(str(tmp_path), folder.Options())
    assert source.layout == "pairs"
    assert source.fields == {"input": Field("input"), "target": Field("target")}
    assert [e.files for e in source.samples()["train"]] == [
        {"input": "input/a 1.png", "target": "target/a 1.JPG"},
        {"input": "input/b.png", "target": "target/b.jpg"},
        {"input": "input/x.y.png", "target": "target/x.y.jpg"},
    ]
    assert not any(e.problem for e in source.samples()["train"])


def test_pairs_with_labels_folder(tmp_path: Path) -> None:
    write(tmp_path, "train/labels/a.png", "train/target/a.jpg")
    source = folder.Folder(str(tmp_path), folder.Options())
    assert source.fields["input"] == Field("input", "", "labels")
    assert source.samples()["train"][0].files == {"input": "train/labels/a.png", "target": "train/target/a.jpg"}


def test_missing_side_and_duplicate_stems_are_rows(tmp_path: Path) -> None:
    write(
        tmp_path,
        "input/a.png",
        "input/b.png",
        "input/b.jpg",
        "target/b.jpg",
        "target/c.jpg",
        "input/d.png",
        "target/d.jpg",
    )
    problems = {e.source: e.problem for e in folder.Folder(str(tmp_path), folder.Options()).samples()["train"]}
    assert problems["input/a.png"] == "no target of this name"
    assert problems["target/c.jpg"] == "no input of this name"
    assert "input/b.jpg" in problems["target/b.jpg"] and "twice" in problems["target/b.jpg"]
    assert problems["target/d.jpg"] == ""
    assert len(problems) == 4


def test_unicode_forms_match(tmp_path: Path) -> None:
    write(tmp_path, "input/cafe\u0301.png", "target/caf\u00e9.jpg")
    [entry] = folder.Folder(str(tmp_path), folder.Options()).samples()["train"]
    assert entry.problem == "" and set(entry.files) == {"input", "target"}


def test_name_that_is_not_utf8_is_a_row(tmp_path: Path) -> None:
    write(tmp_path, "a.png")
    (tmp_path / "b\udcff.png").write_bytes((tmp_path / "a.png").read_bytes())
    entries = folder.Folder(str(tmp_path), folder.Options()).samples()["train"]
    assert [e.problem for e in entries] == ["", "its name is not valid UTF-8"]
    assert entries[1].source.encode()  # can be written in an index


def test_splits_labels_and_other_files(tmp_path: Path) -> None:
    write(tmp_path, "train/monet/a.png", "train/photo/b.png", "val/monet/c.png", ".hidden.png", "train/.x.png")
    (tmp_path / "README.txt").write_text("about")
    source = folder.Folder(str(tmp_path), folder.Options())
    assert listed(source) == {"train": ["train/monet/a.png", "train/photo/b.png"], "val": ["val/monet/c.png"]}
    assert [e.label for e in source.samples()["train"]] == ["monet", "photo"]
    assert source.other_files == 1
    assert "input" not in source.fields


def test_images_beside_splits_are_an_error(tmp_path: Path) -> None:
    write(tmp_path, "train/a.png", "stray.png")
    with pytest.raises(ValueError, match=r"stray\.png.*belong to no split"):
        folder.Folder(str(tmp_path), folder.Options())


@pytest.mark.parametrize("side", ["left", "right"])
def test_sides(tmp_path: Path, side: str) -> None:
    write(tmp_path, "a.jpg")
    fields = folder.Folder(str(tmp_path), folder.Options(input_side=side)).fields
    assert fields["input"] == Field("pair", side)  # type: ignore[arg-type]
    assert fields["target"] == Field("pair", "left" if side == "right" else "right")


def test_layout_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder"):
        folder.Folder(str(tmp_path / "none"), folder.Options())
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match="no image in it"):
        folder.Folder(str(tmp_path), folder.Options())
    write(tmp_path, "target/a.png")
    with pytest.raises(ValueError, match="pairs need exactly"):
        folder.Folder(str(tmp_path), folder.Options())
    with pytest.raises(ValueError, match="--input-side left or right"):
        folder.Folder(str(tmp_path), folder.Options("sides"))


def test_val_share_is_by_name_alone(tmp_path: Path) -> None:
    write(tmp_path, *(f"{i:03d}.png" for i in range(60)))
    first = listed(folder.Folder(str(tmp_path), folder.Options(val_share=0.3)))
    assert 8 <= len(first["val"]) <= 28 and len(first["train"]) + len(first["val"]) == 60
    write(tmp_path, "new.png")
    again = listed(folder.Folder(str(tmp_path), folder.Options(val_share=0.3)))
    assert set(first["val"]) <= set(again["val"]) and set(first["train"]) <= set(again["train"])
    write(tmp_path / "own", "train/a.png")
    with pytest.raises(ValueError, match="--val-share"):
        folder.Folder(str(tmp_path / "own"), folder.Options(val_share=0.3)).samples()


def test_images_without_a_data_set(tmp_path: Path) -> None:
    write(tmp_path, "b.png", "a/c.png")
    found = dict(folder.images(str(tmp_path)))
    assert list(found) == ["a/c.png", "b.png"] and np.array_equal(found["b.png"], noise(8, 12, 0))
    (tmp_path / "d.png").write_bytes(b"text")
    with pytest.raises(ValueError, match=r"d\.png: not an image"):
        list(folder.images(str(tmp_path)))
    (tmp_path / "e.png").symlink_to("e.png")
    (tmp_path / "f.png").symlink_to("nowhere")
    (tmp_path / "g.png").mkdir()
    (tmp_path / "h.png").write_bytes(b"")
    (tmp_path / "i.png").write_bytes(encoded(noise(8, 8))[:-20])
    bad: list[tuple[str, str]] = []
    assert [name for name, _ in folder.images(str(tmp_path), bad=bad)] == ["a/c.png", "b.png"]
    reasons = dict(bad)
    assert list(reasons) == ["d.png", "e.png", "f.png", "h.png", "i.png"]  # a folder is no file
    assert "levels of symbolic links" in reasons["e.png"] and "No such file" in reasons["f.png"]
    assert "empty" in reasons["h.png"] and "truncated" in reasons["i.png"]


def test_a_file_without_permission_is_an_input_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As any user but root sees it."""
    write(tmp_path, "a.png", "b.png")
    monkeypatch.setattr(storage.os, "access", lambda path, mode: Path(path).name != "b.png")
    read = Path.read_bytes

    def refused(path: Path) -> bytes:
        if path.name == "b.png":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refused)
    assert storage.listing(str(tmp_path))["b.png"] == 0 < storage.listing(str(tmp_path))["a.png"]
    bad: list[tuple[str, str]] = []
    assert [name for name, _ in folder.images(str(tmp_path), bad=bad)] == ["a.png"]
    assert bad[0][0] == "b.png" and "Permission denied" in bad[0][1]


def test_a_disk_that_fails_is_no_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.png")

    def fails(path: Path) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", fails)
    with pytest.raises(OSError, match="Input/output"):
        list(folder.images(str(tmp_path), bad=[]))


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a source with fewer images."""
    write(tmp_path, "a.png", "b/c.png")
    scan = os.scandir

    def refused(path: str) -> object:
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(PermissionError, match="/b"):
        folder.Folder(str(tmp_path), folder.Options())


# --- the demo


def test_demo_crops_are_of_disjoint_regions() -> None:
    source = demo.Demo(size=32, crops=12)
    found = source.samples()
    count = len(demo.PHOTOGRAPHS)
    assert len(found["train"]) == 12 * count and len(found["val"]) == 3 * count
    assert {e.label for e in found["val"]} == set(demo.PHOTOGRAPHS)
    used: dict[str, np.ndarray] = {n: np.zeros(demo.photograph(n).shape[:2], int) for n in demo.PHOTOGRAPHS}
    for split, bit in (("train", 1), ("val", 2)):
        for entry in found[split]:
            name, place = entry.files["target"].split("/")
            top, left = map(int, place.split("-"))
            used[name][top : top + 32, left : left + 32] |= bit
            assert entry.files["input"] == entry.files["target"]
    assert not any((marks == 3).any() for marks in used.values())
    assert all((marks == 1).any() and (marks == 2).any() for marks in used.values())


@pytest.mark.parametrize("shape", [(300, 451), (451, 300, 3), (64, 64)])
def test_demo_regions_share_no_pixel(shape: tuple[int, ...]) -> None:
    marks = np.zeros(shape[:2], int)
    for split in ("train", "val"):
        top, left, bottom, right = demo.region(shape, split)
        marks[top:bottom, left:right] += 1
    assert (marks == 1).all()  # disjoint, and nothing is left out


def luma(picture: np.ndarray) -> np.ndarray:
    """ITU-R BT.601."""
    return np.asarray(picture @ np.array([0.299, 0.587, 0.114]))


def test_demo_crop_is_the_photographs_pixels_and_their_grey() -> None:
    source = demo.Demo(size=32, crops=2)
    entry = next(e for e in source.samples()["train"] if e.label == "china")
    top, left = map(int, entry.files["target"].split("/")[1].split("-"))
    with Image.open(demo._file("china")) as whole:
        expected = np.array(whole)[top : top + 32, left : left + 32]
    assert np.array_equal(decode.pixels(source.read(entry.files["target"], "target")), expected)
    with Image.open(io.BytesIO(source.read(entry.files["input"], "input"))) as file:
        assert file.mode == "RGB"
        grey = np.array(file)
    assert (grey == grey[..., :1]).all() and np.abs(grey[..., 0] - luma(expected)).max() < 1
    assert expected.std(2).mean() > 3  # the target is in colour


def test_demo_holds_out_whole_photographs() -> None:
    """Test: photographs of no other split, almost whole. Train and val: squares of many sizes, disjoint regions."""
    source = demo.Demo(size=16, crops=24, held_out="photographs")
    found = source.samples()
    assert {split: len(entries) for split, entries in found.items()} == {"train": 24 * 8, "val": 6 * 8, "test": 6 * 6}
    assert {e.label for e in found["train"]} == {e.label for e in found["val"]} == set(demo.SEEN)
    assert {e.label for e in found["test"]} == set(demo.UNSEEN) and not set(demo.SEEN) & set(demo.UNSEEN)
    sides: dict[str, list[float]] = {split: [] for split in found}
    used: dict[str, np.ndarray] = {n: np.zeros(demo.photograph(n).shape[:2], int) for n in demo.SEEN + demo.UNSEEN}
    for (split, entries), bit in zip(found.items(), (1, 2, 4), strict=True):
        for entry in entries:
            name, place = entry.files["target"].split("/")
            top, left, side = map(int, place.split("-"))
            height, width = demo.photograph(name).shape[:2]
            assert top + side <= height and left + side <= width
            used[name][top : top + side, left : left + side] |= bit
            sides[split].append(side / min(height, width))
    assert {int(mark) for marks in used.values() for mark in np.unique(marks)} == {0, 1, 2, 4}
    assert min(sides["train"]) < 0.3 and max(sides["train"]) > 0.6
    assert min(sides["test"]) >= 0.74 and max(sides["test"]) <= 1


def test_demo_s_crops_of_many_sizes_are_shrunk_and_seldom_plain() -> None:
    source = demo.Demo(size=32, crops=12, held_out="photographs")
    entries = source.samples()["train"]
    spread = []
    for entry in entries:
        target, grey = (decode.pixels(source.read(entry.files[m], m)) for m in ("target", "input"))
        assert target.shape == grey.shape == (32, 32, 3)
        assert np.abs(grey[..., 0] - luma(target)).max() < 1
        spread.append(grey.std())
    assert np.mean(np.array(spread) < 8) < 0.02  # hubble, retina and rocket are mostly plain where nothing is chosen
    whole = demo.photograph("china")
    entry = next(e for e in entries if e.label == "china")
    top, left, side = map(int, entry.files["target"].split("/")[1].split("-"))
    mean = whole[top : top + side, left : left + side].mean((0, 1))
    assert np.allclose(decode.pixels(source.read(entry.files["target"], "target")).mean((0, 1)), mean, atol=3)


def test_a_demo_of_edges_is_refused(tmp_path: Path) -> None:
    old = {"kind": "demo", "size": 16, "crops": 2, "seed": 0}
    with pytest.raises(ValueError, match="version 1, whose inputs were edges"):
        sources.read_only(old, "demo")
    config = shard.Config(source="demo", output=str(tmp_path), size=16, crops=2)
    now = shard.source_options(config, "demo")
    assert {name: now[name] for name in old} == old and now != old
    artifact.check(str(tmp_path), "dataset", 1, {}, {"source": now})
    storage.publish_json(
        str(tmp_path / "request.json"), {"kind": "dataset", "version": 1, "inputs": {}, "options": {"source": old}}
    )
    with pytest.raises(ValueError, match=r"options\.source\.version is 'absent' there, 2 wanted"):
        artifact.check(str(tmp_path), "dataset", 1, {}, {"source": now})


def test_demo_is_deterministic_and_seeded() -> None:
    assert demo.Demo(16, 3, 1).samples() == demo.Demo(16, 3, 1).samples()
    assert demo.Demo(16, 3, 1).samples() != demo.Demo(16, 3, 2).samples()
    views = [demo.Demo(16, 3, seed, "photographs").samples() for seed in (1, 1, 2)]
    assert views[0] == views[1] != views[2]
    for held_out in ("regions", "photographs"):
        with pytest.raises(ValueError, match="--size 300"):
            demo.Demo(300, 3, 0, held_out).samples()  # type: ignore[arg-type]


# --- headers and pixels


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
