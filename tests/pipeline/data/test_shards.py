"""Shards: the same bytes for any workers and after kill -9, readable by others, bad input as rows, S3 at both ends."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs import shard
from pipeline.artifacts import pool, storage
from pipeline.data import decode, samples, shards, tars, ustar
from pipeline.data.shards import DataSet
from pipeline.data.sources import folder
from tests.pipeline.data.test_folder import bomb, encoded, noise, write

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


# --- the tar itself


def test_header_is_what_tarfile_writes() -> None:
    for name, size in (("00000001.target.jpg", 30_000), ("a" * 100, 0), ("é.png", 8**11 - 1)):
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = size, 0o644, 0
        assert ustar.header(name.encode(), size) == info.tobuf(tarfile.USTAR_FORMAT, "utf-8")
    with pytest.raises(ValueError, match="USTAR"):
        ustar.header(b"a" * 101, 1)
    with pytest.raises(ValueError, match="USTAR"):
        ustar.header(b"a", 8**11)


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


# --- bad input


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


# --- the job


def config(source: Path | str, output: Path | str, **options: object) -> shard.Config:
    return shard.Config(source=str(source), output=str(output), **options)  # type: ignore[arg-type]


def test_same_bytes_for_one_and_three_workers(tmp_path: Path, ray_cluster: None) -> None:
    for count in (1, 3):
        shard.run(config("demo", tmp_path / str(count), size=16, crops=4, shard_size=10, workers=count))
    one, three = tree(tmp_path / "1"), tree(tmp_path / "3")
    assert one == three and len(one) == 3 * 7 + 3 * 2 + 2
    text = b"".join(data for name, data in one.items() if name.endswith(".json"))
    assert str(tmp_path).encode() not in text and socket.gethostname().encode() not in text


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job's own logic without Ray's start-up seconds."""

    def each(make, arguments, items, workers, **_):  # type: ignore[no-untyped-def]
        work = make(*arguments)
        yield from ((i, work(item)) for i, item in enumerate(items))

    monkeypatch.setattr(pool, "each", each)


def test_rerun_writes_only_what_is_missing(tmp_path: Path, in_process: None) -> None:
    write(tmp_path / "s", *(f"{i:02d}.png" for i in range(9)))
    wanted = config(tmp_path / "s", tmp_path / "out", shard_size=3)
    shard.run(wanted)
    before = tree(tmp_path / "out")
    stamps = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out/train").iterdir()}
    (tmp_path / "out/train/00001.json").unlink()
    (tmp_path / "out/train/.tmp-left").write_bytes(b"half")
    shard.run(wanted)
    assert tree(tmp_path / "out") == before
    now = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out/train").iterdir()}
    assert {name for name in now if now[name] != stamps[name]} == {"00001.tar", "00001.parquet", "00001.json"}


def test_other_options_or_source_in_the_same_folder(tmp_path: Path, in_process: None) -> None:
    write(tmp_path / "s", "a.png", "b.png")
    shard.run(config(tmp_path / "s", tmp_path / "out"))
    before = tree(tmp_path / "out")
    with pytest.raises(ValueError, match=r"options\.resize is 0 there, 4 wanted"):
        shard.run(config(tmp_path / "s", tmp_path / "out", resize=4))
    write(tmp_path / "s", "c.png")
    with pytest.raises(ValueError, match=r"inputs\.source_listing"):
        shard.run(config(tmp_path / "s", tmp_path / "out"))
    assert tree(tmp_path / "out") == before


def test_bad_share_fails_after_finishing(tmp_path: Path, in_process: None) -> None:
    write(tmp_path / "s", *(f"{i}.png" for i in range(9)))
    (tmp_path / "s/9.png").write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"1 of 10 samples are bad.*--max-bad-share 0\.01(.|\n)*9\.png: the file is empty"
    ):
        shard.run(config(tmp_path / "s", tmp_path / "out"))
    assert (tmp_path / "out/train/00000.json").exists() and not (tmp_path / "out/dataset.json").exists()
    with pytest.raises(ValueError, match="sharding was not finished"):
        DataSet(str(tmp_path / "out"))
    assert shard.run(config(tmp_path / "s", tmp_path / "out", max_bad_share=0.1))["splits"]["train"]["bad"] == 1
    assert len(DataSet(str(tmp_path / "out"))) == 9


def test_a_link_to_itself_is_a_row_and_the_mended_source_is_taken(tmp_path: Path, in_process: None) -> None:
    write(tmp_path / "s", *(f"{i}.png" for i in range(5)))
    (tmp_path / "s/5.png").symlink_to("5.png")
    wanted = config(tmp_path / "s", tmp_path / "out", shard_size=3)
    with pytest.raises(ValueError, match=r"1 of 6 samples are bad(.|\n)*5\.png: .*levels of symbolic links"):
        shard.run(wanted)
    assert (tmp_path / "out/request.json").exists() and not (tmp_path / "out/dataset.json").exists()
    (tmp_path / "s/5.png").unlink()
    described = shard.run(wanted)
    assert described["splits"]["train"]["samples"] == 5 and described["splits"]["train"]["bad"] == 0
    fresh = shard.run(config(tmp_path / "s", tmp_path / "other", shard_size=3))
    assert described == fresh and tree(tmp_path / "out") == tree(tmp_path / "other")  # no shard of before is left


def test_a_listing_that_fails_leaves_nothing_behind(
    tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "s", "a.png", "b/c.png")
    scan = os.scandir

    def refused(path: str) -> object:
        if str(path).startswith(str(tmp_path)):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refused)
        with pytest.raises(PermissionError):
            shard.run(config(tmp_path / "s", tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert shard.run(config(tmp_path / "s", tmp_path / "out"))["splits"]["train"]["samples"] == 2


@pytest.mark.parametrize("kind", ["tar", "parquet", "json"])
def test_a_damaged_shard_is_written_again(tmp_path: Path, in_process: None, kind: str) -> None:
    write(tmp_path / "s", *(f"{i}.png" for i in range(4)))
    wanted = config(tmp_path / "s", tmp_path / "out", shard_size=2)
    shard.run(wanted)
    before = tree(tmp_path / "out")
    path = tmp_path / f"out/train/00001.{kind}"
    data = path.read_bytes()
    path.write_bytes(data[:-9] if kind != "parquet" else data[:-1] + bytes([data[-1] ^ 1]))
    shard.run(wanted)
    assert tree(tmp_path / "out") == before


def test_one_image_only(tmp_path: Path, in_process: None) -> None:
    write(tmp_path / "s", "a.png")
    shard.run(config(tmp_path / "s", tmp_path / "out"))
    assert len(DataSet(str(tmp_path / "out"))) == 1


@pytest.mark.parametrize(
    ("option", "value"),
    [("shard_size", 0), ("workers", -1), ("resize", -1), ("max_bad_share", 2.0), ("max_pixels", 10**9)],
)
def test_option_errors(option: str, value: float) -> None:
    with pytest.raises(ValueError, match="--" + option.replace("_", "-")):
        config("demo", "/tmp/none", **{option: value})


@pytest.mark.slow
def test_kill_9_mid_way_and_rerun(tmp_path: Path, ray_cluster: None) -> None:
    write(tmp_path / "s", "train/seed.png")
    picture = encoded(noise(300, 300), "PNG")
    for i in range(400):
        (tmp_path / f"s/train/{i:03d}.png").write_bytes(picture)
    options = {"resize": 200, "shard_size": 20, "workers": 2}
    shard.run(config(tmp_path / "s", tmp_path / "calm", **options))
    out = tmp_path / "out"
    line = [sys.executable, "-m", "jobs.shard", "--source", str(tmp_path / "s"), "--output", str(out)]
    line += [f"--{k.replace('_', '-')}={v}" for k, v in options.items()]
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    driver = subprocess.Popen(line, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 90
    while not list(out.glob("train/*.json")):
        assert driver.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    driver.send_signal(signal.SIGKILL)
    driver.wait(timeout=10)
    done = {p.name: p.stat().st_mtime_ns for p in out.glob("train/*.json")}
    assert len(done) < 21 and not (out / "dataset.json").exists()
    # The orphaned workers end with their driver's cluster; what they still publish meanwhile has the same bytes.
    shard.run(config(tmp_path / "s", out, **options))
    assert tree(out) == tree(tmp_path / "calm")
    assert {n: (out / "train" / n).stat().st_mtime_ns for n in done} == done


# --- S3, a real HTTP server on loopback


def test_storage_on_s3(s3: str, tmp_path: Path) -> None:
    path = f"{s3}/storage/a.json"
    assert not storage.exists(path) and storage.names(f"{s3}/storage") == []
    storage.publish(path, b"0123456789")
    storage.publish(path, b"abcdefghij")
    assert storage.read(path) == b"abcdefghij" and storage.size(path) == 10
    assert storage.read_range(path, 3, 4) == b"defg" and storage.read_range(path, 8, 9) == b"ij"
    with storage.temporary(path) as draft:
        Path(draft).write_bytes(b"new")
        storage.publish_file(path, draft)
    assert storage.read(path) == b"new" and not Path(draft).exists()
    assert storage.names(f"{s3}/storage") == ["a.json"]
    assert storage.listing(f"{s3}/storage") == {"a.json": 3}
    assert storage.sha256_file(path) == "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437"
    storage.remove(path)
    with pytest.raises(FileNotFoundError):
        storage.read(path)


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


@pytest.mark.slow
def test_the_job_on_s3(s3: str, tmp_path: Path) -> None:
    """In a process of its own: its Ray workers must find the endpoint in their environment."""
    write(tmp_path / "s", *(f"{i}.png" for i in range(6)))
    for path in storage.listing(str(tmp_path / "s")):
        storage.publish(f"{s3}/plain/{path}", (tmp_path / "s" / path).read_bytes())
    for job in (["jobs.shard", "--output", f"{s3}/job", "--shard-size", "3"], ["jobs.verify", f"{s3}/job"]):
        line = [sys.executable, "-m", *job, "--source", f"{s3}/plain"]
        done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    assert len(DataSet(f"{s3}/job")) == 6 and not [n for n in storage.names(f"{s3}/job") if n.startswith(".lease")]


@pytest.mark.parametrize("flush", [3001, 5000, 1 << 20])
def test_tar_of_members_of_every_size(tmp_path: Path, flush: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ustar, "BUFFER", flush)
    generator = np.random.default_rng(0)
    members = [generator.bytes(n) for n in (0, 1, 511, 512, 513, 4095, 4096, 4097, 100_000, 3) * 150]
    with open(tmp_path / "a.tar", "wb", buffering=0) as sink, ustar.TarFile(sink) as tar:
        offsets = [tar.add(f"{i}.bin", data) for i, data in enumerate(members)]
        tar.close()
    whole = (tmp_path / "a.tar").read_bytes()
    assert len(whole) == tar.bytes and hashlib.sha256(whole).hexdigest() == tar.sha256.hexdigest()
    assert all(whole[o : o + len(data)] == data for o, data in zip(offsets, members, strict=True))
    with tarfile.open(tmp_path / "a.tar") as found:
        assert found.getnames() == [f"{i}.bin" for i in range(len(members))]


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    with open("/dev/full", "wb", buffering=0) as sink, ustar.TarFile(sink) as tar:
        tar.add("a", bytes(10_000))
        with pytest.raises(OSError, match="No space left"):
            tar.close()


def test_a_cut_tar_is_written_again(tmp_path: Path, ray_cluster: None) -> None:
    write(tmp_path / "s", *(f"{i}.png" for i in range(6)))
    shard.run(config(tmp_path / "s", tmp_path / "out", shard_size=3))
    before = tree(tmp_path / "out")
    tar = tmp_path / "out" / "train" / "00001.tar"
    tar.write_bytes(tar.read_bytes()[:-3000])
    shard.run(config(tmp_path / "s", tmp_path / "out", shard_size=3))
    assert tree(tmp_path / "out") == before


def test_an_output_within_the_source_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "s", "a.png")
    with pytest.raises(ValueError, match="lies in --source"):
        shard.run(config(tmp_path / "s", tmp_path / "s" / "out"))
    with pytest.raises(ValueError, match="--output is empty"):
        shard.run(config(tmp_path / "s", ""))
