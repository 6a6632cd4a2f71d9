"""The nearest sample of each training pair (IMLE), searched on a pool of Ray actors that may be larger than the
training group: generator and data set in, a Parquet artifact out that a training stage reads.

The conditional case: a pair's candidates come from its own input, so a search is a reduction over them and needs no
index. The family searches; here its pairs are dealt out, shard by shard. A part has the columns `key`, `seed` (of the
noise; the noise itself is never kept), `candidate` (one number a level of the search, ordinarily one), `distance`,
`runners_up` (the next distances, ascending), `rejected` (candidates nearer than epsilon) and `all_rejected` (then the
furthest one won).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

import models
from models.abilities import SearchesNearest, require
from models.family import Family, PerceptualRecipe, Recipe, Table
from pipeline.artifacts import artifact, storage
from pipeline.data import tensors
from pipeline.data.images import Images
from pipeline.data.order import picks
from pipeline.data.shards import DataSet
from pipeline.runs import checkpoint
from pipeline.runs.checkpoint import note
from pipeline.style.weights import of_recipe
from pipeline.tracking import sheets
from pipeline.training import rarity

VERSION = 3
COLUMNS = ("seed", "candidate", "distance", "runners_up", "rejected", "all_rejected")
CENTRE = (1.0, 0.5, 0.5)
"""Where the pictures are cut: (scale, top, left)."""


def open_run(run: str, path: str, data: DataSet, weights: str, rare: str) -> tuple[Family, dict[str, str]]:
    """The family of the run in folder `run` with the weights of its checkpoint `path`, and what it was trained on by
    content: data set, split, VGG weights (`weights`: path, URL, ...), rarity (`rare`: the artifact's folder, or empty).

    Raises:
        ValueError: a run that searches for no matches, or weights, data or rarity that are not the run's.
    """
    facts = storage.read_json(storage.join(run, "recipe.json"))
    module = models.load(facts["family"])
    recipe = checkpoint.recipe_from(module.Config, facts["recipe"])
    net, table = None, None
    given = {"dataset": data.fingerprint, "split": data.split, "weights": "", "rarity": ""}
    if isinstance(recipe, PerceptualRecipe) and recipe.perceptual_layers:
        net, origin = of_recipe(weights, recipe)
        given["weights"] = origin.identity
    if rare:
        table, card = rarity.load(rare, data)
        given["rarity"] = card["content"]
    for what, value in given.items():
        if (wanted := facts["inputs"].get(what, "")) != value:
            option = {"dataset": "data"}.get(what, what)
            raise ValueError(
                f"--{option}: the run in {run} was trained with {wanted or 'none'}, not with {value or 'none'}"
            )
    family, _ = checkpoint.revive(run, path, net)
    if table is not None:
        family.take("rarity", table)
    return family, given


def shard_matcher(
    family: Family, root: str, split: str, folder: str, samples: int, step: int
) -> Callable[[int], dict[str, Any]]:
    """For `pool.each`: match one shard of the data set `root` among `samples` candidates each, publish its part,
    return counts and seconds. `step`: part of the noise's seeds."""
    searching = require(family, SearchesNearest, "jobs.match")
    data = DataSet(root, split)
    images = Images(data, 0)

    def work(shard: int) -> dict[str, Any]:
        began = time.perf_counter()
        rows = list(data.shard_rows(shard))
        found = [one(i) for i in rows]
        columns: dict[str, Any] = {"key": [data.keys[i] for i in rows]}
        for name in COLUMNS:
            column = torch.cat([f[name] for f in found]).numpy()
            if column.ndim == 2:
                column = pa.FixedSizeListArray.from_arrays(pa.array(column.reshape(-1)), column.shape[1])
            columns[name] = column
        artifact.publish_part(folder, shard, pa.table(columns))
        return {"part": shard, "images": len(rows), "seconds": time.perf_counter() - began}

    def one(i: int) -> Table:
        batch = images.centred([i], ("input", "target"), family.recipe.frame)
        try:
            return searching.search(batch, [searching.search_seed(step, i)], samples)
        except FloatingPointError as error:
            raise FloatingPointError(f"sample {data.keys[i]}: {error}") from error

    return work


def load(folder: str, data: DataSet, recipe: Recipe) -> tuple[Table, artifact.Card]:
    """Rows by position, as a `refresh` gives them: index, crop and `COLUMNS`; and the card.

    Raises:
        ValueError: not finished, damaged, of another data set, of other noise than the recipe's, or without some keys.
    """
    card = artifact.load_card(folder, "matches")
    for name, value in recipe.candidates.items():
        if card["options"][name] != value:
            raise ValueError(f"--matches {folder} are of {name} {card['options'][name]}, this run's is {value}")
    if card["inputs"]["dataset"] != data.fingerprint or card["inputs"]["split"] != data.split:
        raise ValueError(f"--matches {folder} are of another data set or split than {data.root}: run jobs.match on it")
    whole = pa.concat_tables([artifact.read_part(folder, part) for part in range(card["parts"])])
    if (keys := whole["key"].to_pylist()) != data.keys:
        missing = sorted(set(data.keys) - set(keys))
        raise ValueError(f"--matches {folder}: {len(missing)} keys are missing ({', '.join(missing[:3])}); match again")
    columns = {name: torch.tensor(np.array(whole[name].to_pylist())) for name in COLUMNS}
    columns |= {name: columns[name].float() for name in ("distance", "runners_up")}
    index = torch.arange(len(data))
    return {"index": index, "crop": torch.tensor(CENTRE, dtype=torch.float64).expand(len(data), 3), **columns}, card


@torch.no_grad()
def nearest(family: Family, data: DataSet, output: str, count: int) -> Image.Image:
    """Of `count` pairs: input, target and the nearest sample, made again from the noise that the match names."""
    searching = require(family, SearchesNearest, "jobs.match")
    table, card = load(output, data, family.recipe)
    images, rows, names = Images(data), [], []
    for i in picks(len(data), count):
        pair = images.centred([i], ("input", "target"), family.recipe.frame)
        sample = searching.found(pair, {name: column[i : i + 1] for name, column in table.items()})
        rows.append([tensors.to_uint8(each[0]) for each in (pair["input"], pair["target"], sample)])
        names.append(f"{data.keys[i]}\ndistance {float(table['distance'][i]):.4g}")
    return sheets.sheet(rows, names, ["input", "target", "nearest sample"], "Nearest samples", note(card))


def notes(output: str, data: DataSet, samples: int) -> dict[str, float]:
    """Mean distances of the matches and, where there were several candidates, of the first runners-up; share of the
    candidates that were measured and rejected, and of the pairs whose candidates all were."""
    total, second, rejected, forced, count = 0.0, 0.0, 0, 0, 0
    for shard in data.shards:
        part = artifact.read_part(output, shard)
        total += sum(part["distance"].to_pylist())
        second += sum(row[0] for row in part["runners_up"].to_pylist())
        rejected += sum(part["rejected"].to_pylist())
        forced += sum(part["all_rejected"].to_pylist())
        count += part.num_rows
    found = {"distance": total / count, "second_distance": second / count}
    if rejected:
        found |= {"rejected": rejected / (count * samples), "all_rejected": forced / count}
    return {name: value for name, value in found.items() if math.isfinite(value)}
