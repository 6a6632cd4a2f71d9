"""The nearest sample of each training pair (IMLE), searched on a pool of Ray actors that may be larger than the
training group: generator and data set in, a Parquet artifact out that a training stage reads.

The conditional case: a pair's candidates come from its own input, so a search is a reduction over them and needs no
index. The family searches; here its pairs are dealt out, shard by shard. A part has the columns `key`, `seed` (of the
noise; the noise itself is never kept), `candidate`, `distance` and `runners_up` (the next distances, ascending).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from models.family import Table
from models.imle import IMLE, Config, noise_seed
from pipeline import artifacts, checkpoint, rarity, storage
from pipeline.batches import Images
from pipeline.shards import DataSet
from pipeline.weights import of_recipe

VERSION = 1
CENTRE = (1.0, 0.5, 0.5)
"""Where the pictures are cut: (scale, top, left)."""


@dataclass(frozen=True)
class Search:
    """What the matches depend on."""

    run: str
    """Folder of the training run."""
    path: str
    """Its checkpoint."""
    data: str
    split: str
    weights: str
    """VGG checkpoint of the distance."""
    rarity: str
    """Artifact that the run was re-balanced by, or empty."""
    samples: int
    """m."""
    step: int
    """Part of the noise's seeds: the step of the training's own search to repeat, or any number."""


def open_run(search: Search) -> tuple[IMLE, DataSet]:
    """The family with the checkpoint's weights, and its data.

    Raises:
        ValueError: no run of conditional IMLE, or weights, data or rarity that are not the run's.
    """
    facts = storage.read_json(storage.join(search.run, "recipe.json"))
    if facts["family"] != "imle":
        raise ValueError(f"--run {search.run} is of family {facts['family']}: matches are conditional IMLE's")
    data = DataSet(search.data, search.split)
    recipe = checkpoint.recipe_from(Config, facts["recipe"])
    net, identity = None, ""
    if recipe.perceptual_layers:
        net, origin = of_recipe(search.weights, recipe)
        identity = origin.identity
    given = {"dataset": data.fingerprint, "split": search.split, "weights": identity, "rarity": ""}
    if search.rarity:
        table, card = rarity.load(search.rarity, data)
        given["rarity"] = card["content"]
    for what, value in given.items():
        if (wanted := facts["inputs"].get(what, "")) != value:
            option = {"dataset": "data"}.get(what, what)
            raise ValueError(f"--{option}: the run in {search.run} was trained with {wanted or 'none'}, not {value}")
    family, _ = checkpoint.revive(search.run, search.path, net)
    assert isinstance(family, IMLE)
    if search.rarity:
        family.take("rarity", table)
    return family, data


def make(search: Search, folder: str) -> Callable[[int], dict[str, Any]]:
    """For `workers.each`: match one shard, publish its part, return counts and seconds."""
    family, data = open_run(search)
    images = Images(data, 0)

    def work(shard: int) -> dict[str, Any]:
        began = time.perf_counter()
        rows = list(data.shard_rows(shard))
        found = [one(i) for i in rows]
        columns: dict[str, Any] = {"key": [data.keys[i] for i in rows]}
        columns |= {name: torch.cat([f[name] for f in found]).numpy() for name in ("seed", "candidate", "distance")}
        runners = np.concatenate([f["runners_up"].numpy() for f in found])
        columns["runners_up"] = pa.FixedSizeListArray.from_arrays(pa.array(runners.reshape(-1)), runners.shape[1])
        artifacts.publish_part(folder, shard, pa.table(columns))
        return {"part": shard, "images": len(rows), "seconds": time.perf_counter() - began}

    def one(i: int) -> Table:
        batch = images.centred([i], ("input", "target"), family.recipe.frame)
        try:
            return family.search(batch, [noise_seed(family.recipe.seed, search.step, i)], search.samples)
        except FloatingPointError as error:
            raise FloatingPointError(f"sample {data.keys[i]}: {error}") from error

    return work


def load(folder: str, data: DataSet) -> tuple[Table, artifacts.Card]:
    """Rows by position, as `IMLE.refresh` gives them: index, crop, seed, candidate, distance; and the card.

    Raises:
        ValueError: not finished, damaged, of another data set, or without some of its keys.
    """
    card = artifacts.load_card(folder, "matches")
    if card["inputs"]["dataset"] != data.fingerprint or card["inputs"]["split"] != data.split:
        raise ValueError(f"--matches {folder} are of another data set or split than {data.root}: run jobs.match on it")
    whole = pa.concat_tables([artifacts.read_part(folder, part) for part in range(card["parts"])])
    if (keys := whole["key"].to_pylist()) != data.keys:
        missing = sorted(set(data.keys) - set(keys))
        raise ValueError(f"--matches {folder}: {len(missing)} keys are missing ({', '.join(missing[:3])}); match again")
    columns = {name: torch.from_numpy(whole[name].to_numpy().copy()) for name in ("seed", "candidate", "distance")}
    index = torch.arange(len(data))
    return {"index": index, "crop": torch.tensor(CENTRE, dtype=torch.float64).expand(len(data), 3), **columns}, card
