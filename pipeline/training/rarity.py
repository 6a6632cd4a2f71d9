"""How rare each class's look is in each picture: what conditional IMLE re-balances data set and loss by.

Li et al., ICCV 2019, as its released code has it (there for GTA-5). For each class the density of its mean colours over
the pictures that have it is estimated (Gaussian kernels, Scott's bandwidth, three dimensions); the rarity of class c in
picture i is

    r(i, c) = 1 / density_c(mean colour of c in i),    0 where c does not occur.

A density cannot be estimated from too few pictures (`least`; the released code skips up to 67), nor from colours that
lie in a plane (one picture, one constant colour). There nothing is known of what is rare: every picture that has the
class counts alike in its sampling, and in a picture's mask the class weighs as much as the rarest class that is known
there. (The released code gives such a class one over the largest rarity seen so far in the picture, nearly 0, which
looks like a slip.)

Artifact: a part for each shard with each sample's pixel counts and mean colours by class, then one part of the scores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from models.family import Table
from pipeline.artifacts import artifact
from pipeline.data.shards import DataSet

VERSION = 1
LEAST = 68
"""Pictures that have a class, from which on its density is estimated. Source: released code (it skips <= 67)."""

Array = np.ndarray


def colours(ids: Array, image: Array, classes: int) -> tuple[Array, Array]:
    """(pixel counts int64 C, mean RGB float64 `C 3`, 0 where a class does not occur) of one labelled picture.

    Raises:
        ValueError: an id of no class.
    """
    flat = ids.reshape(-1).astype(np.int64)
    if flat.size and flat.max() >= classes:
        raise ValueError(f"label id {int(flat.max())}: there are {classes} classes (--classes)")
    counts = np.bincount(flat, minlength=classes)
    sums = np.stack([np.bincount(flat, image[..., k].reshape(-1).astype(np.float64), classes) for k in range(3)], 1)
    return counts, sums / np.maximum(counts, 1)[:, None]


def scores(counts: Array, means: Array, least: int = LEAST) -> tuple[Array, Array]:
    """r(i, c), float64 `N C`, from counts `N C` and mean colours `N C 3`; and which classes were estimated, bool `C`.

    A class that was not estimated has 1 where it occurs.
    """
    from scipy.stats import gaussian_kde

    there = counts > 0
    found = there.astype(np.float64)
    known = np.zeros(counts.shape[1], bool)
    for c in range(counts.shape[1]):
        points = means[there[:, c], c].T  # 3 n
        if points.shape[1] < max(least, 5) or np.linalg.matrix_rank(points - points.mean(1, keepdims=True)) < 3:
            continue
        known[c] = True
        found[there[:, c], c] = 1 / np.maximum(gaussian_kde(points)(points), np.finfo(np.float64).tiny)
    return found, known


def mask_weights(found: Array, known: Array) -> Array:
    """Weight of each class in each picture's loss, float32 `N C`: r(i, c) over the largest of the picture's estimated
    classes; 1 for classes that were not estimated, 0 where a class does not occur."""
    there, estimated = found > 0, found * known
    largest = estimated.max(1, keepdims=True)
    weights = np.where(known, estimated / np.where(largest > 0, largest, 1), there)
    return np.asarray(weights * there, dtype=np.float32)


def shard_counter(root: str, split: str, folder: str, classes: int, other: bool) -> Callable[[int], dict[str, Any]]:
    """For `pool.each`: counts and mean colours of one shard, published as a part. `other`: ids above the last class
    are of it."""
    data = DataSet(root, split)

    def work(shard: int) -> dict[str, Any]:
        rows: list[tuple[str, list[int], list[float]]] = []
        for i in data.shard_rows(shard):
            sample = data.sample(i, ("input", "target"))
            try:
                ids = sample["input"].clip(max=classes - 1) if other else sample["input"]
                counts, means = colours(ids, sample["target"], classes)
            except ValueError as error:
                raise ValueError(f"sample {data.keys[i]}: {error}") from error
            rows.append((data.keys[i], counts.tolist(), means.reshape(-1).tolist()))
        keys, counts_of, means_of = (list(column) for column in zip(*rows, strict=True))
        whole, real = pa.list_(pa.int64(), classes), pa.list_(pa.float64(), 3 * classes)
        table = {"key": keys, "counts": pa.array(counts_of, whole), "means": pa.array(means_of, real)}
        artifact.publish_part(folder, shard, pa.table(table))
        return {"part": shard, "images": len(rows)}

    return work


def finish(folder: str, data: DataSet, classes: int, least: int) -> artifact.Card:
    """Score all samples by the parts that are there, publish the last part and the card."""
    parts = [artifact.read_part(folder, shard) for shard in data.shards]
    whole = pa.concat_tables(parts)
    counts = np.array(whole["counts"].to_pylist(), np.int64)
    means = np.array(whole["means"].to_pylist()).reshape(-1, classes, 3)
    found, known = scores(counts, means, least)
    kind = pa.list_(pa.float64(), classes)
    last = len(data.shards)
    artifact.publish_part(folder, last, pa.table({"key": whole["key"], "rarity": pa.array(found.tolist(), kind)}))
    notes = {
        "pictures_with_class": (counts > 0).sum(0).tolist(),
        "area": (counts.sum(0) / max(1, counts.sum())).tolist(),
        "estimated": known.tolist(),
    }
    return artifact.finish(folder, range(last + 1), notes)


def load(folder: str, data: DataSet) -> tuple[Table, artifact.Card]:
    """Rows by position: `rarity` float64 `N C`, `mask` float32 `N C`; the classes by area, largest first, as `classes`
    (the same in each row); and the card.

    Raises:
        ValueError: not finished, damaged, or of another data set.
    """
    card = artifact.load_card(folder, "rarity")
    if card["inputs"]["dataset"] != data.fingerprint or card["inputs"]["split"] != data.split:
        raise ValueError(f"--rarity {folder} is of another data set or split than {data.root}: run jobs.rarity on it")
    table = artifact.read_part(folder, card["parts"] - 1)
    if table["key"].to_pylist() != data.keys:
        raise ValueError(f"--rarity {folder}: its keys are not those of {data.root}; run jobs.rarity again")
    found = np.array(table["rarity"].to_pylist())
    mask = mask_weights(found, np.array(card["notes"]["estimated"]))
    order = torch.tensor(card["notes"]["area"]).argsort(descending=True, stable=True)
    columns = {"rarity": torch.from_numpy(found), "mask": torch.from_numpy(mask)}
    return {**columns, "classes": order.expand(len(found), -1)}, card
