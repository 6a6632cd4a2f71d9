"""Verify: whatever single byte is flipped, in whatever file, it is found and the file is named."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs import verify
from pipeline.artifacts import artifact, storage
from pipeline.data import damage, sources
from pipeline.data.sources import folder
from pipeline.data.sources.demo import VERSION, Demo
from tests.pipeline.data.test_folder import encoded, noise, write
from tests.pipeline.data.test_shards import REPOSITORY, direct


@pytest.fixture
def data_set(tmp_path: Path) -> Path:
    write(tmp_path / "s", *(f"train/{i}.png" for i in range(3)), "val/v 1.png")
    source = folder.Folder(str(tmp_path / "s"), folder.Options())
    direct(tmp_path / "run/data", source, size=2)
    request = storage.read_json(str(tmp_path / "run/data/request.json"))
    request["options"]["source"] = {"kind": "folder"}
    storage.publish_json(str(tmp_path / "run/data/request.json"), request)
    described = storage.read_json(str(tmp_path / "run/data/dataset.json"))
    storage.publish_json(str(tmp_path / "run/data/dataset.json"), {**described, "request": artifact.digest(request)})
    return tmp_path / "run/data"


@pytest.fixture
def one_artifact(data_set: Path) -> Path:
    folder = str(data_set.parent / "described")
    fingerprint = storage.read_json(str(data_set / "dataset.json"))["fingerprint"]
    artifact.begin(folder, "descriptors", 1, {"dataset": fingerprint}, {"net": "vgg16"})
    for part in range(2):
        artifact.publish_part(folder, part, pa.table({"key": ["a", "b"], "value": [part, 1.5]}))
    artifact.finish(folder, range(2), {"hubs": 0.25})
    return Path(folder)


def problems(root: Path, source: str = "") -> list[str]:
    return damage.walk(str(root), source).problems


def test_sound_things_are_followed_to_their_inputs(data_set: Path, one_artifact: Path) -> None:
    found = damage.walk(str(data_set.parent), str(data_set.parent.parent / "s"))
    assert found.problems == []
    assert len([line for line in found.seen if "compared with the source's bytes" in line]) == 1
    assert f"{one_artifact}: its dataset is {data_set}" in found.seen


@pytest.mark.parametrize("bit", [0, 5])
def test_any_flipped_byte_is_found(data_set: Path, one_artifact: Path, bit: int) -> None:
    generator = np.random.default_rng(bit)
    for path in sorted(p for p in data_set.parent.rglob("*") if p.is_file()):
        whole = path.read_bytes()
        small = len(whole) < 900
        places = range(0, len(whole), 17 if small else len(whole) // 16)
        for place in [*places, len(whole) - 1, int(generator.integers(len(whole)))]:
            path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :])
            found = problems(data_set.parent)
            assert found, f"{path} byte {place} of {len(whole)}"
            # Its own name; or that of the part or the card (in the same folder) that it no longer fits.
            assert any(str(path.with_suffix("")) in line or line.startswith(str(path.parent)) for line in found), found
        path.write_bytes(whole)
    assert problems(data_set.parent) == []


def test_a_changed_blank_is_found(data_set: Path, one_artifact: Path) -> None:
    for path in data_set.parent.rglob("*.json"):
        whole = path.read_bytes()
        path.write_bytes(whole.replace(b"\n ", b"\n\t", 1))
        assert [line for line in problems(data_set.parent) if line.startswith(f"{path}: was changed")], path
        path.write_bytes(whole)


def test_the_damaged_sample_is_named(data_set: Path) -> None:
    tar = data_set / "train/00000.tar"
    whole = bytearray(tar.read_bytes())
    whole[700] ^= 1
    tar.write_bytes(whole)
    found = problems(data_set)
    assert found[0].startswith(f"{tar}: does not have the sha256")
    assert found[1] == f"{tar}: sample 00000000 (train/0.png), target: damaged" and len(found) == 2


@pytest.mark.parametrize("name", ["train/00000.tar", "train/00001.parquet", "val/00000.json", "request.json"])
def test_missing_files(data_set: Path, name: str) -> None:
    (data_set / name).unlink()
    assert any(name.rsplit("/")[-1] in line for line in problems(data_set))


def test_unfinished_and_nothing(data_set: Path, one_artifact: Path, tmp_path: Path) -> None:
    (one_artifact / "card.json").unlink()
    assert problems(one_artifact) == [
        f"{one_artifact}: was not finished: neither dataset.json nor card.json; run its job again"
    ]
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ValueError, match="no data set, artifact or checkpoint"):
        damage.walk(str(tmp_path / "nothing"))


def test_a_changed_or_missing_source_is_found(data_set: Path, tmp_path: Path) -> None:
    source = tmp_path / "s"
    (source / "train/1.png").write_bytes(encoded(noise(8, 12, 99)))
    (source / "val/v 1.png").unlink()
    found = problems(data_set, str(source))
    assert len(found) == 2 and problems(data_set) == []
    assert "train/1.png: the source's bytes are not those that sample 00000001" in found[0]
    assert "val/v 1.png: cannot be read from the source" in found[1]
    with pytest.raises(ValueError, match="made from a folder"):
        sources.read_only({"kind": "folder"}, "demo")


def test_a_checkpoint(data_set: Path) -> None:
    folder = data_set.parent / "checkpoints"
    folder.mkdir()
    (folder / "7.pt").write_bytes(b"weights")
    sha256 = storage.sha256_file(str(folder / "7.pt"))
    storage.publish_json(str(folder / "7.json"), {"sha256": sha256})
    assert problems(data_set.parent) == []
    (folder / "7.pt").write_bytes(b"weightz")
    assert problems(data_set.parent) == [f"{folder}/7.pt: does not have the sha256 that its done-marker names"]


def test_a_recipe_that_is_not_its_weights_and_copies_that_are_left_aside(data_set: Path) -> None:
    run = data_set.parent / "run"
    facts: dict[str, Any] = {"family": "step", "recipe": {"rate": 0.1}, "inputs": {"dataset": "a"}}
    storage.publish(str(run / "weights.pt"), b"weights")
    marker = {**facts, "sha256": storage.sha256_file(str(run / "weights.pt"))}
    storage.publish_json(str(run / "weights.json"), marker)
    storage.publish_json(str(run / "recipe.json"), facts)
    copies = data_set.parent / "mlartifacts/1/artifacts"
    storage.publish_json(str(copies / "card.json"), {"a copy": "without its parts"})
    assert problems(data_set.parent) == []
    storage.publish_json(str(run / "recipe.json"), {**facts, "recipe": {"rate": 0.2}})
    assert problems(run) == [f"{run}/recipe.json: its recipe is not the one that weights.json names"]


def test_the_command(data_set: Path, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "jobs.verify", str(data_set), "--source", str(tmp_path / "s")]
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "no damage found" in done.stdout
    path = data_set / "train/00001.tar"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and str(path) in done.stderr and "Traceback" not in done.stderr


def test_the_demo_is_compared_with_its_photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    direct(tmp_path / "demo", Demo(16, 2), size=20)
    request = storage.read_json(str(tmp_path / "demo/request.json"))
    source = {"kind": "demo", "version": VERSION, "size": 16, "crops": 2, "seed": 0, "held_out": "regions"}
    request["options"]["source"] = source
    described = storage.read_json(str(tmp_path / "demo/dataset.json"))
    storage.publish_json(str(tmp_path / "demo/request.json"), request)
    storage.publish_json(str(tmp_path / "demo/dataset.json"), {**described, "request": artifact.digest(request)})
    verify.run(verify.Config(str(tmp_path / "demo"), "demo"))
    monkeypatch.setattr(Demo, "read", lambda self, path, member: b"other")
    with pytest.raises(ValueError, match="the source's bytes are not those"):
        verify.run(verify.Config(str(tmp_path / "demo"), "demo"))
