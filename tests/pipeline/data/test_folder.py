"""What a folder lists: pairs, sides, classes, splits, odd names, files that cannot be read."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts import storage
from pipeline.data import samples
from pipeline.data.samples import Field
from pipeline.data.sources import folder


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
    assert source.left_out == ["README.txt"]
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
    with pytest.raises(ValueError, match=r"--source .*/notes\.txt is a file: give the folder"):
        folder.Folder(str(tmp_path / "notes.txt"), folder.Options())
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
