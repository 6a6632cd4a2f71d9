"""The job: the same bytes for any workers and after kill -9, resumed and mended, what it names and refuses."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs import shard, verify
from pipeline.artifacts import pool, storage
from pipeline.data.shards import DataSet
from tests.pipeline.data.test_folder import encoded, noise, write
from tests.pipeline.data.test_shards import REPOSITORY, tree


def config(source: Path | str, output: Path | str, **options: object) -> shard.Config:
    return shard.Config(source=str(source), output=str(output), **options)  # type: ignore[arg-type]


def test_same_bytes_in_this_process_and_on_two_workers(tmp_path: Path, ray_cluster: None) -> None:
    for count in (0, 2):
        shard.run(config("demo", tmp_path / str(count), size=16, crops=4, shard_size=10, workers=count))
    one, two = tree(tmp_path / "0"), tree(tmp_path / "2")
    assert one == two and len(one) == 3 * 7 + 3 * 2 + 2
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


def test_what_is_left_out_or_bad_is_named(tmp_path: Path, in_process: None, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "source"
    write(source, *(f"target/{i}.png" for i in range(9)), *(f"input/{i}.png" for i in range(9) if i not in (3, 7)))
    for i in range(7):
        (source / f"notes-{i}.txt").write_text("x")
    shard.run(config(source, tmp_path / "data", max_bad_share=0.5))
    told = capsys.readouterr().out
    assert (
        "7 files of the source belong to no sample and were left out: "
        "notes-0.txt, notes-1.txt, notes-2.txt, notes-3.txt, notes-4.txt, ...\n"
    ) in told
    assert "    target/3.png: no input of this name\n    target/7.png: no input of this name\n" in told
    for i in range(5):
        (source / f"input/{i}.png").unlink(missing_ok=True)
    shard.run(config(source, tmp_path / "fewer", max_bad_share=0.9))
    assert capsys.readouterr().out.count(": no input of this name") == shard.NAMED == 5  # of six


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
    for i in range(160):
        (tmp_path / f"s/train/{i:03d}.png").write_bytes(picture)
    options = {"resize": 200, "shard_size": 8, "workers": 2}
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


@pytest.mark.slow
def test_the_job_on_s3(s3: str, tmp_path: Path) -> None:
    """In a process of its own: its Ray worker must find the endpoint in its environment."""
    write(tmp_path / "s", *(f"{i}.png" for i in range(6)))
    for path in storage.listing(str(tmp_path / "s")):
        storage.publish(f"{s3}/plain/{path}", (tmp_path / "s" / path).read_bytes())
    line = [sys.executable, "-m", "jobs.shard", "--output", f"{s3}/job", "--shard-size", "3", "--workers", "1"]
    line += ["--source", f"{s3}/plain"]
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not verify.run(verify.Config(f"{s3}/job", source=f"{s3}/plain")).problems
    assert len(DataSet(f"{s3}/job")) == 6 and not [n for n in storage.names(f"{s3}/job") if n.startswith(".lease")]


def test_a_cut_tar_is_written_again(tmp_path: Path) -> None:
    write(tmp_path / "s", *(f"{i}.png" for i in range(6)))
    shard.run(config(tmp_path / "s", tmp_path / "out", shard_size=3, workers=0))
    before = tree(tmp_path / "out")
    tar = tmp_path / "out" / "train" / "00001.tar"
    tar.write_bytes(tar.read_bytes()[:-3000])
    shard.run(config(tmp_path / "s", tmp_path / "out", shard_size=3, workers=0))
    assert tree(tmp_path / "out") == before


def test_an_output_within_the_source_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "s", "a.png")
    with pytest.raises(ValueError, match="lies in --source"):
        shard.run(config(tmp_path / "s", tmp_path / "s" / "out"))
    with pytest.raises(ValueError, match="--output is empty"):
        shard.run(config(tmp_path / "s", ""))
