"""Likelihoods of a data set, shard by shard."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs import likelihood, sample, shard
from models import pixelcnn
from pipeline.artifacts import artifact
from pipeline.data import decode
from pipeline.data.images import Images
from pipeline.data.shards import DataSet
from pipeline.runs import sampler
from pipeline.runs.sampler import BLOCK, open_run
from pipeline.training.job import Job, Run
from pipeline.training.loop import fit

QUIET = Run(workers=0, threads=1, checkpoint_every=100, log_every=100, evaluate_every=100)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, inline: Any) -> tuple[Path, Path]:
    """A data set of two classes (noise is in class b alone, and held-out sample 5 is noise too), and a run on it."""
    from pipeline.artifacts import pool

    root = tmp_path_factory.mktemp("likelihood")
    random = np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 3)):
        for name in ("a", "b"):
            folder = root / "pictures" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = np.full((8, 8), 40 if name == "a" else 200, np.uint8)
                if split == "val" and name == "b" and i == 2:
                    pixels = random.integers(0, 256, (8, 8)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "each", inline)
        source = {"source": str(root / "pictures"), "layout": "classes", "shard_size": 4, "workers": 1}
        shard.run(shard.Config(output=str(root / "data"), **source))  # type: ignore[arg-type]
    recipe = replace(pixelcnn.PRESETS["tiny-class"], images=160)
    fit(Job("pixelcnn", recipe, str(root / "data"), str(root / "run"), run=QUIET))
    return root / "data", root / "run"


def test_parts_hold_what_the_family_says(made: tuple[Path, Path], tmp_path: Path, no_ray: None) -> None:
    data, run = made
    card = likelihood.run(likelihood.Config(str(run), str(data), str(tmp_path / "out"), batch=3))
    names = sorted(p.name for p in (tmp_path / "out").glob("*.parquet"))
    assert len(names) == 2 == card["parts"] and card["rows"] == 6
    rows = [row for name in names for row in pq.read_table(tmp_path / "out" / name).to_pylist()]
    opened, held_out = open_run(str(run)), DataSet(str(data), "val")
    images = Images.of(held_out, opened.family.recipe, opened.specs, opened.facts)
    family: Any = opened.family
    nats = family.log_prob(images.centred(range(6), ["target", "class"], (8, 8)))
    assert [row["key"] for row in rows] == held_out.keys
    assert [row["log_prob"] for row in rows] == pytest.approx(nats.tolist(), rel=1e-5)
    bits = [-value / 64 / math.log(2) for value in nats.tolist()]
    assert [row["bits_per_dimension"] for row in rows] == pytest.approx(bits, rel=1e-5)
    assert card["notes"]["bits_per_dimension"] == pytest.approx(np.mean(bits), rel=1e-5)
    assert card["notes"]["least_likely"][0] == held_out.keys[int(np.argmax(bits))] == held_out.keys[5]  # the noise
    assert max(bits) > 2 * sorted(bits)[-2]


def test_a_rerun_makes_what_is_missing_and_the_same_bytes(
    made: tuple[Path, Path], tmp_path: Path, no_ray: None
) -> None:
    data, run = made
    config = likelihood.Config(str(run), str(data), str(tmp_path / "out"))
    card = likelihood.run(config)
    part = tmp_path / "out" / artifact.part_name(1)
    before = Path(f"{part}.parquet").read_bytes()
    for path in (tmp_path / "out" / "card.json", Path(f"{part}.json"), Path(f"{part}.parquet")):
        path.unlink()
    assert likelihood.run(config)["content"] == card["content"]
    assert Path(f"{part}.parquet").read_bytes() == before
    with pytest.raises(ValueError, match="batch"):
        likelihood.run(replace(config, batch=2))


def test_a_family_without_a_likelihood_is_refused(made: tuple[Path, Path], tmp_path: Path, no_ray: None) -> None:
    data, _ = made
    recipe = replace(pixelcnn.PRESETS["tiny-squared"], images=8)
    fit(Job("pixelcnn", recipe, str(data), str(tmp_path / "run"), run=QUIET))
    with pytest.raises(ValueError, match=r"jobs\.likelihood needs a family that gives a likelihood; this one: "):
        likelihood.run(likelihood.Config(str(tmp_path / "run"), str(data), str(tmp_path / "out")))
    with pytest.raises(ValueError, match="--batch 0"):
        likelihood.Config("a", "b", "c", batch=0)


def test_samples_are_the_same_for_any_number_of_actors(
    made: tuple[Path, Path], tmp_path: Path, ray_cluster: None
) -> None:
    """More than a block of a class: 66 pictures, the first 64 those of the sheets; the next block draws others. The run
    is hardly trained, so that its pictures are noise, and differ."""
    recipe = replace(pixelcnn.PRESETS["tiny-class"], images=8)
    fit(Job("pixelcnn", recipe, str(made[0]), str(tmp_path / "run"), run=QUIET))
    run = open_run(str(tmp_path / "run"))
    found = []
    for workers in (0, 2):
        output = tmp_path / str(workers)
        given = {
            "run": str(tmp_path / "run"),
            "output": str(output),
            "files": True,
            "workers": workers,
            "count": BLOCK + 2,
        }
        sample.run(sample.Config(**given, limit=1))  # type: ignore[arg-type]
        found.append({p.name: p.read_bytes() for p in (output / "prior").iterdir()})
    assert len(found[0]) == 2 * (BLOCK + 2) and found[0] == found[1]
    [first, _] = sampler.rows_of_values(run, {}, 1)
    family: Any = run.family
    drawn = sampler.sample(family, first.given, first.name, BLOCK, "prior", 0)
    assert [decode.to_png(picture) for picture in drawn] == [found[0][f"{first.name}-{i}.png"] for i in range(BLOCK)]
    assert len(set(found[0].values())) == len(found[0])
