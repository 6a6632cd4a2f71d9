"""StEP's claims a to e tested again, small: what each part of it brings to the reconstruction of held-out pictures.

    python -m jobs.study step-claims --shoes FOLDER --facades FOLDER --weights vgg19.pth --folder DIR

a: stage 2 (E frozen) matches or beats BicycleGAN and MUNIT (with a loss on pairs) after the same CPU-seconds.
b: stage 3 beats stage 2 continued for as long.
c: E of the other set does as well as E of this one, and better than E random and frozen.
d: stage 2 beats E trained jointly from scratch for the same CPU-seconds.
e: no further loss brings anything.
Beside them: two losses left out, and the mapper against the gaussian on codes with known clusters.

"holds": so for each seed; "not": for none; else "seeds disagree". The same CPU-seconds are those of stage 2 and of E's
training; E's neighbour lists are not counted. "seconds differ": in the mean over the seeds by more than 10 %. Finished
runs of --folder are not trained again.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any, Literal

import models.step
from jobs import shard
from jobs.comparison.rows import Entry
from jobs.study.claims import clusters
from jobs.study.claims.arms import ADDED, REMOVED, Bench, Lengths
from jobs.study.claims.verdicts import Figures, said_of, verdicts
from jobs.study.harness.folders import kept_in
from pipeline.artifacts import pool, storage
from pipeline.data.shards import DataSet
from pipeline.tracking.journal import Tracker


@dataclass(frozen=True)
class Config:
    """What is trained, on what, how long."""

    shoes: str
    """Folder of side-by-side images with splits (edges2shoes)."""
    facades: str
    """Another one (facades)."""
    input_side: Literal["left", "right"] = "right"
    """Of both: where the input is."""
    weights: str = "torchvision"
    """VGG-19: path, URL, `torchvision`, or `random`."""
    size: int = 64
    """Pixels."""
    shoes_seeds: tuple[int, ...] = (0, 1, 2)
    """Of the runs on --shoes. Empty: only E is trained on that set, for claim c."""
    facades_seeds: tuple[int, ...] = (0,)
    """Of the runs on --facades. Empty: only E is trained on that set, for claim c."""
    encoder_images: int = 2400
    """Anchors seen in stage 1."""
    generator_images: int = 2000
    """Pictures seen in stage 2."""
    finetune_images: int = 1000
    """Pictures seen in stage 3."""
    switches: tuple[str, ...] = (*REMOVED, *ADDED)
    """Losses that are left out or added, by their names in the released code."""
    limit: int = 100
    """Held-out pictures that are measured."""
    codes: int = 1200
    """Codes of the known clusters."""
    mapper_epochs: int = 500
    """Epochs of the mapper over them (paper: 500)."""
    folder: str = ""
    """Where runs are kept; none: a temporary folder."""
    tracking: str | None = None
    """MLflow tracking URI; none: off."""

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.switches) - {*REMOVED, *ADDED}):
            raise ValueError(f"--switches {unknown[0]}: choose among {', '.join((*REMOVED, *ADDED))}")
        given = [seeds for seeds in (self.shoes_seeds, self.facades_seeds) if seeds]
        if not given or any(len(set(seeds)) < len(seeds) or min(seeds) < 0 for seeds in given):
            raise ValueError("give --shoes-seeds or --facades-seeds, each seed once, from 0 on")
        least = {"encoder_images": 1, "generator_images": 2, "finetune_images": 2, "limit": 2, "codes": 100}
        for name, smallest in {**least, "mapper_epochs": 1}.items():
            if getattr(self, name) < smallest:
                raise ValueError(f"--{name.replace('_', '-')} {getattr(self, name)}: at least {smallest}")


def run(config: Config) -> dict[str, Any]:
    """Figures by set and arm (mean over the seeds, and spread: largest - smallest), and each claim's verdict."""
    with (
        kept_in(config.folder) as root,
        Tracker(root, config.tracking, job="study", name="step-claims") as tracker,
        pool.limited(1),
    ):
        benches = {name: _bench(config, name, root, tracker) for name in ("shoes", "facades")}
        figures: dict[str, Any] = {"size": config.size, **_clusters(config)}
        for name, bench in benches.items():
            [other] = [one for key, one in benches.items() if key != name]
            if seeds := getattr(config, f"{name}_seeds"):
                found = _arms(config, bench, other, seeds)
                figures |= _table(name, found) | verdicts(name, found)
        tracker.scalars({k: v for k, v in figures.items() if isinstance(v, float)}, 0)
    return figures


def _bench(config: Config, name: str, root: str, tracker: Tracker) -> Bench:
    """Raises ValueError where the set, or pictures of this size, do not do."""
    folder = storage.join(root, name)
    data = storage.join(folder, "data")
    source = getattr(config, name)
    if "://" not in source and not storage.exists(storage.absolute(source, f"--{name}")):
        raise ValueError(f"--{name} {source}: there is no such folder")
    lengths = Lengths(config.encoder_images, config.generator_images, config.finetune_images)
    made = Bench(folder, data, config.size, lengths, config.weights, config.limit, config.tracking, tracker)
    made.baselines()
    models.step.check(made.recipe(), None)
    shard.run(shard.Config(source=source, output=data, input_side=config.input_side, resize=config.size, workers=0))
    if not all(DataSet(data, split).square for split in ("train", "val")):
        raise ValueError(f"--{name}: pictures that are not square would be cut in different ways")
    return made


def _arms(config: Config, bench: Bench, other: Bench, seeds: tuple[int, ...]) -> Figures:
    found: Figures = {}

    def note(arm: str, seed: int, folder: str) -> str:
        found.setdefault(arm, {})[seed] = bench.measure(folder)
        told = ", ".join(f"{k} {v:.4g}" for k, v in found[arm][seed].items())
        print(f"{bench.folder.rsplit('/', 1)[-1]}, {arm}, seed {seed}: {told}", flush=True)
        return folder

    stage2 = bench.recipe(**bench.generator(bench.images.generator))
    both = {**bench.generator(bench.images.generator), **bench.finetune(bench.images.finetune)}
    joint = Entry("joint", "step", bench.recipe(**bench.finetune(bench.images.generator)))
    for seed in seeds:
        own, foreign = {"encoder": bench.encoder(seed)}, {"encoder": other.encoder(seed)}
        frozen = note("stage2", seed, bench.train(Entry("stage2", "step", stage2), seed, start=own))
        taken = {**own, "generator": storage.join(frozen, "stages", "generator.pt")}
        for name, more in {"stage3": {}, "stage2_more": {"finetune_encoder": False}}.items():
            note(name, seed, bench.train(Entry(name, "step", bench.recipe(**both, **more)), seed, start=taken))
        note("foreign", seed, bench.train(Entry("foreign", "step", stage2), seed, start=foreign))
        note("random", seed, bench.train(Entry("random", "step", stage2), seed))
        spent = found["stage2"][seed]["cpu_seconds"] + bench.encoder_seconds(seed)
        found["stage2"][seed]["cpu_seconds_with_encoder"] = spent
        for row in (joint, *bench.baselines()):
            note(row.name, seed, bench.train(bench.equal(row, bench.budget(spent)), seed))
        for switch in config.switches:
            changes = {**REMOVED, **ADDED}[switch]
            row = Entry(f"switch-{switch}", "step", bench.recipe(**both, **changes))
            try:
                note(row.name, seed, bench.train(row, seed, start={"encoder": bench.encoder(seed, switch)}))
            except FloatingPointError as error:
                print(f"{row.name}, seed {seed}: training failed: {error}", flush=True)
    return found


def _table(name: str, found: Figures) -> dict[str, Any]:
    """Mean and spread over the seeds."""
    row: dict[str, Any] = {}
    for arm, by_seed in found.items():
        for figure in next(iter(by_seed.values())):
            values = [one[figure] for one in by_seed.values()]
            row[f"{name}/{arm}/{figure}"] = round(statistics.mean(values), 4)
            row[f"{name}/{arm}/{figure}_spread"] = round(max(values) - min(values), 4)
    return row


def _clusters(config: Config) -> dict[str, Any]:
    """The samplers of codes, and whether the mapper's lie nearer to the clusters."""
    found = [
        clusters.measured(config.codes, config.mapper_epochs, seed)
        for seed in config.shoes_seeds or config.facades_seeds
    ]
    row = _table("clusters", {"codes": dict(enumerate(_shared(found)))})
    apart = [one["mapper/near_a_cluster"] - one["gaussian/near_a_cluster"] for one in found]
    said = said_of([value > 0 for value in apart])
    print(f"mapper - gaussian, share of codes near a cluster: {', '.join(f'{v:+.2f}' for v in apart)}: {said}")
    return {**row, "clusters/mapper_nearer": said}


def _shared(found: list[dict[str, float]]) -> list[dict[str, float]]:
    """The figures that all have."""
    names = [name for name in found[0] if all(name in one for one in found)]
    return [{name: one[name] for name in names} for one in found]
