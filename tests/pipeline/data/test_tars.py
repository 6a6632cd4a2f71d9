"""What is written of each sample: readable by others, the source's own bytes, bad input as rows."""

import json
import subprocess
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.data import shards
from pipeline.data.shards import DataSet
from pipeline.data.sources import folder
from tests.pipeline.data.test_decode import bomb
from tests.pipeline.data.test_folder import encoded, noise, write
from tests.pipeline.data.test_shards import direct


def test_tar_webdataset_and_ray_data_read_it(tmp_path: Path, ray_cluster: None) -> None:
    import ray
    import webdataset

    write(tmp_path / "s", "input/ä b.png", "target/ä b.jpg", "input/c.png", "target/c.jpg")
    direct(tmp_path / "out", folder.Folder(str(tmp_path / "s"), folder.Options()))
    tar = tmp_path / "out/train/00000.tar"
    files = {
        "00000000.input.png": tmp_path / "s/input/c.png",
        "00000000.target.jpg": tmp_path / "s/target/c.jpg",
        "00000001.input.png": tmp_path / "s/input/ä b.png",
        "00000001.target.jpg": tmp_path / "s/target/ä b.jpg",
    }
    subprocess.run(["tar", "xf", tar, "-C", tmp_path], check=True, timeout=30)
    for name, source in files.items():
        assert (tmp_path / name).read_bytes() == source.read_bytes()
    assert json.loads((tmp_path / "00000001.json").read_text())["source"] == "target/ä b.jpg"

    found = list(webdataset.WebDataset(str(tar), shardshuffle=False))
    assert [s["__key__"] for s in found] == ["00000000", "00000001"]
    assert found[1]["target.jpg"] == files["00000001.target.jpg"].read_bytes()

    rows = ray.data.read_webdataset(str(tar), decoder=None).take_all()
    by_key = {row["__key__"]: row for row in rows}
    assert by_key["00000000"]["input.png"] == files["00000000.input.png"].read_bytes()
    assert sorted(by_key) == ["00000000", "00000001"]


def test_bad_input_becomes_rows_with_reasons(tmp_path: Path) -> None:
    s = tmp_path / "s"
    write(s, *(f"{kind}/{name}" for name in ("good.png", "size.png", "cut.png") for kind in ("input", "target")))
    write(s, "input/alone.png")
    (s / "target/size.png").write_bytes(encoded(noise(9, 12)))
    (s / "target/cut.png").write_bytes(encoded(noise(30, 30), "JPEG")[:-40])
    odd = {"empty": b"", "text": b"not pixels", "huge": bomb(30_000), "tiny": encoded(noise(1, 1))}
    for name, data in odd.items():
        (s / f"target/{name}.png").write_bytes(data)
        (s / f"input/{name}.png").write_bytes(encoded(noise(1, 1)))
    described = direct(tmp_path / "out", folder.Folder(str(s), folder.Options()))
    rows = [r for i in range(2) for r in shards.read_index(str(tmp_path / "out"), "train", i).to_pylist()]
    assert [r["key"] for r in rows] == [f"{i:08d}" for i in range(8)]
    found = {Path(r["source"]).stem: (r["status"], r["error"]) for r in rows}
    for name, reason in {
        "alone": "no target of this name",
        "cut": "target: truncated: the JPEG has no end marker",
        "empty": "target: the file is empty",
        "huge": "target: 30000 x 30000 pixels, more than --max-pixels 100000000",
        "size": "sizes differ: input 12 x 8, target 12 x 9",
        "text": "target: not an image, whatever its name says",
    }.items():
        assert found[name] == ("bad", reason)
    assert found["good"] == found["tiny"] == ("ok", None)
    assert described["splits"]["train"]["samples"] == 2 and described["splits"]["train"]["bad"] == 6  # type: ignore[index]
    data = DataSet(str(tmp_path / "out"))
    assert [Path(data.row(i)["source"]).stem for i in range(2)] == ["good", "tiny"]
    with (
        tarfile.open(tmp_path / "out/train/00000.tar") as first,
        tarfile.open(tmp_path / "out/train/00001.tar") as second,
    ):
        assert len(first.getnames() + second.getnames()) == 6  # nothing of the bad ones


def test_a_file_that_is_another_format_keeps_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s/a.png").write_bytes(encoded(noise(8, 8), "JPEG"))
    direct(tmp_path / "out", folder.Folder(str(tmp_path / "s"), folder.Options()))
    with tarfile.open(tmp_path / "out/train/00000.tar") as tar:
        assert tar.getnames() == ["00000000.target.jpg", "00000000.json"]


def test_resize(tmp_path: Path) -> None:
    (tmp_path / "s/labels").mkdir(parents=True)
    (tmp_path / "s/target").mkdir()
    (tmp_path / "s/labels/a.png").write_bytes(encoded(noise(40, 80)[:, :, 0] // 64 * 50))
    (tmp_path / "s/target/a.png").write_bytes(encoded(noise(40, 80)))
    direct(tmp_path / "out", folder.Folder(str(tmp_path / "s"), folder.Options()), resize=20)
    data = DataSet(str(tmp_path / "out"))
    assert data.image(0, "target").shape == (20, 40, 3) and data.image(0, "input").shape == (20, 40)
    assert set(np.unique(data.image(0, "input"))) <= {0, 50, 100, 150}
    expected = Image.fromarray(noise(40, 80)).resize((40, 20), Image.Resampling.BICUBIC)
    assert np.array_equal(data.image(0, "target"), np.array(expected))
    (tmp_path / "sides").mkdir()
    black_white = np.concatenate([np.zeros((40, 40, 3), np.uint8), np.full((40, 40, 3), 255, np.uint8)], axis=1)
    (tmp_path / "sides/a.png").write_bytes(encoded(black_white))
    direct(tmp_path / "halves", folder.Folder(str(tmp_path / "sides"), folder.Options(input_side="left")), resize=10)
    halves = DataSet(str(tmp_path / "halves")).sample(0)
    assert (halves["input"] == 0).all() and (halves["target"] == 255).all()  # nothing bled over the seam
    assert (DataSet(str(tmp_path / "halves")).row(0)["width"], halves["input"].shape) == (10, (10, 10, 3))
