"""A data set is read back by its keys, from both ends on S3 too; damage is named."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.artifacts import storage
from pipeline.data import decode, samples, shards, tars
from pipeline.data.shards import DataSet
from pipeline.data.sources import folder
from tests.pipeline.data.test_folder import encoded, noise, write

REPOSITORY = Path(__file__).parents[3]


def tree(root: Path) -> dict[str, bytes]:
    """Every file that is compared: all but the records."""
    return {
        p.relative_to(root).as_posix(): p.read_bytes()
        for p in sorted(root.rglob("*"))
        if p.is_file() and p.name != "timings.jsonl"
    }


def direct(root: Path, source: samples.Source, size: int = 4, **how: object) -> dict[str, object]:
    """What `jobs.shard` does, in this process and without Ray."""
    request = {"options": {"fields": {}, "max_pixels": decode.MAX_PIXELS}}
    treatment = tars.Treatment(source.fields, **how)  # type: ignore[arg-type]
    counts = {}
    for split, entries in source.samples().items():
        starts = range(0, len(entries), size)
        counts[split] = len(starts)
        for i, start in enumerate(starts):
            tars.write_shard(str(root), split, i, start, entries[start : start + size], source.reader, treatment)
    request["options"]["fields"] = {
        n: {"member": f.member, "half": f.half, "kind": f.kind} for n, f in source.fields.items()
    }
    described = shards.summary(str(root), request, counts)
    storage.publish_json(str(root / "request.json"), request)
    storage.publish_json(str(root / "dataset.json"), described)
    return described


# --- reading by key


def test_data_set_gives_the_sources_pixels(tmp_path: Path) -> None:
    for i in range(10):
        path = tmp_path / f"s/{'ab'[i % 2]}/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(noise(6, 10, i)))
    direct(tmp_path / "out", folder.Folder(str(tmp_path / "s"), folder.Options(input_side="right")))
    data = DataSet(str(tmp_path / "out"))
    assert len(data) == 10 and data.shards == [0, 1, 2]
    assert [data.shard_rows(s) for s in data.shards] == [range(4), range(4, 8), range(8, 10)]
    assert data.keys == [f"{i:08d}" for i in range(10)]
    assert data.labels == ["a"] * 5 + ["b"] * 5
    for i in (9, 0, 5):
        number = int(Path(data.row(i)["source"]).stem)
        assert np.array_equal(data.image(i, "input"), noise(6, 10, number)[:, 5:])
        assert np.array_equal(data.image(i, "target"), noise(6, 10, number)[:, :5])
        assert data.member(i, "pair") == (tmp_path / "s" / data.row(i)["source"]).read_bytes()
        assert (data.row(i)["width"], data.row(i)["height"]) == (5, 6)
    both = data.sample(3)
    assert set(both) == {"input", "target"} and np.array_equal(both["input"], data.image(3, "input"))
    for call, match in (
        (lambda: data.image(0, "mask"), "no field 'mask'"),
        (lambda: data.member(0, "mask"), "no member 'mask'"),
        (lambda: DataSet(str(tmp_path / "out"), "test"), "no split 'test', only train"),
        (lambda: DataSet(str(tmp_path)), "is no data set"),
    ):
        with pytest.raises(ValueError, match=match):
            call()


def test_undecodable_image_names_key_and_source(tmp_path: Path) -> None:
    write(tmp_path / "s", "a.png")
    data = bytearray((tmp_path / "s/a.png").read_bytes())
    data[60] ^= 0xFF  # within the pixels: the header check cannot see it
    (tmp_path / "s/b.png").write_bytes(data)
    direct(tmp_path / "out", folder.Folder(str(tmp_path / "s"), folder.Options()))
    found = DataSet(str(tmp_path / "out"))
    assert len(found) == 2
    with pytest.raises(ValueError, match=r"sample 00000001 \(b\.png\), target: cannot be decoded"):
        found.image(1, "target")
    direct(tmp_path / "checked", folder.Folder(str(tmp_path / "s"), folder.Options()), decode=True)
    assert len(DataSet(str(tmp_path / "checked"))) == 1


def test_tar_or_index_that_disagree(tmp_path: Path) -> None:
    write(tmp_path / "s", "a.png", "b.png")
    root = tmp_path / "out"
    direct(root, folder.Folder(str(tmp_path / "s"), folder.Options()), size=1)
    tar, whole = root / "train/00000.tar", (root / "train/00000.tar").read_bytes()
    tar.write_bytes(whole[:-512])
    with pytest.raises(ValueError, match=r"00000\.tar has \d+ of \d+ bytes: cut short"):
        DataSet(str(root))
    tar.write_bytes(whole[:600] + bytes([whole[600] ^ 1]) + whole[601:])
    with pytest.raises(ValueError, match="not the bytes that the index names"):
        DataSet(str(root)).image(0, "target")
    tar.write_bytes(whole)
    index = root / "train/00000.parquet"
    index.write_bytes((root / "train/00001.parquet").read_bytes())
    with pytest.raises(ValueError, match="not the index that its done-marker names"):
        DataSet(str(root))


# --- S3, a real HTTP server on loopback


def test_an_index_is_read_without_arrows_threads(tmp_path: Path) -> None:
    """One that still held the bytes when Python ended would abort the process, now and then."""
    write(tmp_path / "s", *(f"{i}.png" for i in range(3)))
    direct(tmp_path / "out", folder.Folder(str(tmp_path / "s"), folder.Options()))
    check = f"""
import os
import pipeline.data.damage
from pipeline.data.shards import read_index
threads = set(os.listdir("/proc/self/task"))
assert read_index({str(tmp_path / "out")!r}, "train", 0).num_rows == 3
assert set(os.listdir("/proc/self/task")) == threads
"""
    subprocess.run([sys.executable, "-c", check], cwd=REPOSITORY, check=True)


def test_s3_at_both_ends_gives_the_same_bytes(s3: str, tmp_path: Path) -> None:
    write(tmp_path / "s", "train/input/ä 1.png", "train/target/ä 1.jpg", "val/input/b.png", "val/target/b.jpg")
    local = direct(tmp_path / "out", folder.Folder(str(tmp_path / "s"), folder.Options()))
    for path in storage.listing(str(tmp_path / "s")):
        storage.publish(f"{s3}/s/{path}", (tmp_path / "s" / path).read_bytes())
    source = folder.Folder(f"{s3}/s", folder.Options())
    assert source.samples() == folder.Folder(str(tmp_path / "s"), folder.Options()).samples()
    treatment = tars.Treatment(source.fields, readers=16)
    for split, entries in source.samples().items():
        tars.write_shard(f"{s3}/out", split, 0, 0, entries, source.reader, treatment)
    for name in ("request.json", "dataset.json"):
        storage.publish(f"{s3}/out/{name}", (tmp_path / "out" / name).read_bytes())
    for path in storage.listing(f"{s3}/out"):
        assert storage.read(f"{s3}/out/{path}") == (tmp_path / "out" / path).read_bytes(), path
    data = DataSet(f"{s3}/out", "val")
    assert data.fingerprint == local["fingerprint"]
    assert np.array_equal(data.image(0, "input"), DataSet(str(tmp_path / "out"), "val").image(0, "input"))
