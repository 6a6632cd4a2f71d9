"""What a run's evaluation measures, over held-out pairs: reconstruction, and the samples of one input after the other.

Only the samples of one input are in memory at a time. They go through a distance's network a few at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from models.abilities import DrawsSamples, EncodesStyle, Reconstructs
from models.family import Batch
from pipeline.artifacts.progress import follow
from pipeline.data.images import Images
from pipeline.data.order import picks
from pipeline.data.shards import DataSet
from pipeline.evaluation import metrics

BATCH = 8
"""Pictures that go through a network at once."""
DRAWN = 20
"""Samples of one input that are asked of a family at once. Part of the random numbers' order, and so of the figures."""

Distances = Mapping[str, metrics.Distance]


@dataclass(frozen=True)
class Protocol:
    """How many samples of how many inputs are compared with each other."""

    inputs: int
    samples: int
    """Of each input."""
    pairs: Literal["consecutive", "disjoint"]

    @property
    def compared(self) -> int:
        """Pairs of each input."""
        return self.samples // 2 if self.pairs == "disjoint" else self.samples - 1


PROTOCOLS = {"bicyclegan": Protocol(100, 20, "consecutive"), "imle": Protocol(100, 80, "disjoint")}
"""BicycleGAN's (Zhu et al., NeurIPS 2017): 1,900 pairs. Conditional IMLE's (Li et al., ICCV 2019), as reported: 40
pairs of each input, 4,000 (see `metrics.diversity`)."""


def labels_of(labels: DataSet, data: DataSet, count: int, frame: tuple[int, int]) -> Tensor:
    """Label ids `N H W` of the first `count` samples of `data`, from a data set with the same photographs as targets.

    Raises:
        ValueError: no label maps, or not of the same photographs in the same size; the message says which.
    """
    if not {"input", "target"} <= set(labels.fields) or labels.fields["input"].kind != "labels":
        raise ValueError(
            f"--labels {labels.root}: wanted label maps as inputs (jobs.shard: folder labels/, --palette) and "
            "photographs as targets"
        )
    place = {key: i for i, key in enumerate(labels.keys)}
    keys = data.keys[:count]
    if missing := [key for key in keys if key not in place]:
        raise ValueError(f"--labels {labels.root}: {len(missing)} keys are missing: {', '.join(missing[:5])}")
    positions = [place[key] for key in keys]
    other = [key for i, key in enumerate(keys) if _photograph(labels, positions[i]) != _photograph(data, i)]
    if other:
        raise ValueError(
            f"--labels {labels.root}: {len(other)} photographs are others than those of {data.root}, or of another "
            f"size: {', '.join(other[:5])}; make it of the same source with the same --resize"
        )
    found: Tensor = Images(labels).centred(positions, ("input",), frame)["input"]
    return found


def _photograph(data: DataSet, i: int) -> tuple[object, ...]:
    """What tells the target of sample `i` from others: its source's bytes, its half of them and its size."""
    row, field = data.row(i), data.fields["target"]
    return row[f"{field.member}_source_sha256"], field.half, row["width"], row["height"]


def batched(distance: metrics.Distance) -> metrics.Distance:
    """The same distance, a few pictures at a time."""

    def apart(a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([distance(x, y) for x, y in zip(torch.split(a, BATCH), torch.split(b, BATCH), strict=True)])

    return apart


def features(vgg: metrics.Features, images: Tensor) -> Tensor:
    """`N C`: activations of the deepest layer, averaged over the positions; not normalised."""
    return torch.cat([vgg(part)[vgg.layers[-1]].mean((2, 3)) for part in torch.split(images, BATCH)])


def batches(pairs: Batch, what: str = "") -> Iterator[Batch]:
    """`what` is done with them, for the progress; empty: nothing is shown."""
    for start in follow(range(0, len(pairs["target"]), BATCH), what, unit="batches"):
        yield {name: value[start : start + BATCH] for name, value in pairs.items()}


def draw(family: DrawsSamples, given: Batch, count: int, generator: torch.Generator, sampler: str) -> Tensor:
    """`count 3 H W`: samples of one row (`given`: a batch of one)."""
    counts = [min(DRAWN, count - start) for start in range(0, count, DRAWN)]
    return torch.cat([family.sample(given, n, generator, sampler)[0] for n in counts])


def judge(
    drawn: Iterable[tuple[Tensor, Tensor]], distances: Distances, pairs: metrics.Pairs, vgg: metrics.Features
) -> tuple[dict[str, float], Tensor]:
    """Of inputs one after the other, given as their samples (`M 3 H W`) and truth (`3 H W`): means over the inputs of

    - `diversity_D`: the mean distance D between two samples;
    - `nearest_of_M_D`: the smallest distance of a sample to the truth;
    - `mean_D_to_truth`: their mean;
    - `best_of_M_psnr`: the highest PSNR of a sample, dB;

    and all samples' features (`inputs * M C`).
    """
    found: dict[str, list[float]] = defaultdict(list)
    seen = []
    for samples, truth in drawn:
        for name, distance in distances.items():
            apart = distance(samples, truth.expand_as(samples)).double()
            found[f"diversity_{name}"].append(metrics.diversity([samples], distance, pairs).mean)
            found[f"nearest_of_{len(samples)}_{name}"].append(float(apart.min()))
            found[f"mean_{name}_to_truth"].append(float(apart.mean()))
        best = metrics.psnr_each(samples, truth.expand_as(samples)).max()
        found[f"best_of_{len(samples)}_psnr"].append(float(best))
        seen.append(features(vgg, samples))
    return {name: float(np.mean(values)) for name, values in found.items()}, torch.cat(seen)


def reconstruction(family: Reconstructs, pairs: Batch, distances: Distances, swaps: int) -> dict[str, float]:
    """PSNR (dB), SSIM (from 11 pixels on) and distances of the output with the target's own code; of a family with
    style codes also `swapped`."""
    made, target = torch.cat([family.reconstruct(batch) for batch in batches(pairs, "reconstruct")]), pairs["target"]
    found = {"psnr": metrics.psnr(made, target)}
    if min(made.shape[2:]) >= metrics.SSIM_WINDOW:
        found["ssim"] = metrics.ssim(made, target)
    for name, distance in distances.items():
        found[name] = float(distance(made, target).double().mean())
    if isinstance(family, EncodesStyle):
        found |= swapped(family, pairs, swaps)
    return found


def swapped(family: EncodesStyle, pairs: Batch, swaps: int) -> dict[str, float]:
    """Every code tried on every input, of `swaps` samples.

    own_code_beats_others: share of the pairs (own code, another's code) of a target for which the own one gives the
    smaller squared error; chance 0.5. code_found_among_ten: `metrics.code_recovery` among ten codes, the own one and
    nine at even distances in the chosen samples; chance 0.1.
    """
    chosen = picks(len(pairs["target"]), swaps)
    n, target = len(chosen), pairs["target"]
    some = {name: value[chosen] for name, value in pairs.items()}
    y, z = target[chosen], family.codes(target)[chosen]
    apart = torch.zeros(n, n)
    recovered = torch.zeros(n, n, z.shape[1])
    for j in follow(range(n), "exchange style codes", unit="codes"):
        out = family.generate(some, z[j : j + 1].expand(n, -1))
        apart[:, j] = (out - y).square().mean((1, 2, 3))
        recovered[:, j] = family.codes(out)
    ten = [[(i + k * max(1, n // 10)) % n for k in range(min(10, n))] for i in range(n)]
    rows = torch.arange(n)[:, None]
    return {
        "own_code_beats_others": metrics.own_code_share(apart),
        "code_found_among_ten": metrics.code_recovery(z[torch.tensor(ten)], recovered[rows, torch.tensor(ten)]),
    }
