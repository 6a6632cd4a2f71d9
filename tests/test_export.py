"""jobs.export: a trained run in, files out that another program runs; what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

import models
from jobs import export, shard
from models.common.seeds import seeded
from models.group import Group
from pipeline.artifacts import storage
from pipeline.data.images import Images
from pipeline.data.shards import DataSet
from pipeline.runs import checkpoint
from pipeline.runs.sampler import open_run
from pipeline.tracking.journal import Tracker


def finished(folder: Path, name: str, **change: Any) -> str:
    """A run of a tiny preset with its first weights."""
    recipe = replace(models.load(name).PRESETS["tiny"], **change)
    family = models.load(name).build(recipe, Group(), None)
    facts = {"family": name, "recipe": checkpoint.recipe_json(recipe), "inputs": {"weights": "none"}}
    storage.publish_json(str(folder / "recipe.json"), facts)
    checkpoint.publish(str(folder / "weights"), {"family": family.state_dict()}, facts)
    return str(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("pairs")
    root = folder / "source"
    for part in ("input", "target"):
        (root / "val" / part).mkdir(parents=True)
        for i in range(5):
            pixels = np.random.default_rng([i, len(part)]).integers(0, 256, (20, 18, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "val" / part / f"{i}.png")
    shard.run(shard.Config(source=str(root), output=str(folder / "data"), workers=0))
    return str(folder / "data")


def test_files_are_run_by_another_program(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished(tmp_path / "run", "bicyclegan")
    with Tracker(str(tmp_path / "log"), None, "export", "export") as tracker:
        told = export.run(export.Config(run=run, data=data, output=str(tmp_path / "out")), tracker)
    assert (tmp_path / "log/metrics.jsonl").read_text().count("export/onnx_difference") == 1
    said = capsys.readouterr().out
    assert "generator.onnx: largest difference" in said and "code: float32 batch x 3, N(0, 1)" in said
    assert storage.read_json(str(tmp_path / "out/generator.json")) == told
    samples = DataSet(data, "val")
    assert told["compared"] == {
        "dataset": samples.fingerprint,
        "split": "val",
        "tolerance": 1e-4,
        "seed": 0,
        "keys": [samples.keys[p] for p in range(5) if samples.keys[p] in told["compared"]["keys"]],
    }
    assert len(told["compared"]["keys"]) == 4
    for name, file in told["files"].items():
        path = str(tmp_path / "out" / name)
        assert file["sha256"] == storage.sha256_file(path) and file["bytes"] == storage.size(path)
        assert 0 <= file["largest_difference"] < 1e-4

    family: Any = open_run(run).family
    given = Images(samples).centred([4], ["input"], (16, 16))
    code = torch.randn(1, 3, generator=seeded(5))
    wanted = family.generate(given, code)
    session = onnxruntime.InferenceSession(tmp_path / "out/generator.onnx")
    [picture] = session.run(["picture"], {"input": given["input"].numpy(), "code": code.numpy()})
    np.testing.assert_allclose(picture, wanted.numpy(), atol=1e-4)
    loaded = torch.export.load(tmp_path / "out/generator.pt2").module()
    torch.testing.assert_close(loaded(given["input"], code), wanted, atol=1e-5, rtol=0)


def test_a_family_without_input_needs_no_data(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", "gans")
    told = export.run(export.Config(run=run, output=str(tmp_path / "out"), forms=("pt2",)))
    assert set(told["files"]) == {"generator.pt2"} and told["compared"]["samples"] == 4
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["generator.json", "generator.pt2"]
    assert "onnx" not in told["versions"]


def test_refusals(data: str, tmp_path: Path) -> None:
    run, out = finished(tmp_path / "run", "munit"), str(tmp_path / "out")
    with pytest.raises(ValueError, match="--data: name a data set; munit reads input"):
        export.run(export.Config(run=run, output=out))
    with pytest.raises(ValueError, match=r"generator.pt2 differs from the run's own .* nothing is written"):
        export.run(export.Config(run=run, data=data, output=out, tolerance=-1.0))
    assert not Path(out).exists()
    with pytest.raises(ValueError, match="--samples 1: give at least 2"):
        export.Config(run=run, output=out, samples=1)
    other = finished(tmp_path / "other", "pixelcnn")
    with pytest.raises(ValueError, match=r"jobs\.export needs a family that exports its generator; this one: draws"):
        export.run(export.Config(run=other, data=data, output=out))
