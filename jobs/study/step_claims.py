"""StEP's claims a to e tested again, small: what each part of it brings to the reconstruction of held-out pictures.

    python -m jobs.study step-claims --shoes FOLDER --facades FOLDER --weights vgg19.pth --folder DIR

a: stage 2 (E frozen) matches or beats BicycleGAN and MUNIT after the same CPU-seconds, E's own counted.
b: stage 3 beats stage 2 continued for as long.
c: E of the other set does as well as E of this one (control: E random and frozen).
d: stage 2 beats E trained jointly from scratch for the same CPU-seconds.
e: no further loss brings anything.
Beside them, the mapper against the gaussian on codes with known clusters.

"holds": so for each seed; "not": for none; else "seeds disagree". Finished runs of --folder are not trained again.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any, Literal

from jobs import shard
from jobs.comparison.rows import Entry
from jobs.study.claims import clusters
from jobs.study.claims.arms import SWITCHES, Bench, Lengths
from jobs.study.harness.folders import kept_in
from pipeline.artifacts import pool, storage
from pipeline.tracking.journal import Tracker

MATCHES = 0.1
"""dB that count as equal, in a claim that something is as good as something else."""
Figures = dict[str, dict[int, dict[str, float]]]
"""Arm -> seed -> figures."""


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
    facades_seeds: tuple[int, ...] = (0,)
    """None: no arms of that set."""
    encoder_images: int = 2400
    """Anchors seen in stage 1."""
    generator_images: int = 2000
    """Pictures seen in stage 2."""
    finetune_images: int = 1000
    """Pictures seen in stage 3."""
    switches: tuple[str, ...] = tuple(SWITCHES)
    """Losses of claim e."""
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


def run(config: Config) -> dict[str, Any]:
    """Figures by set and arm (mean over the seeds, and spread: largest - smallest), and each claim's verdict."""
    if unknown := sorted(set(config.switches) - SWITCHES.keys()):
        raise ValueError(f"--switches {unknown[0]}: choose among {', '.join(SWITCHES)}")
    with (
        kept_in(config.folder) as root,
        Tracker(root, config.tracking, job="study", name="step-claims") as tracker,
        pool.limited(1),
    ):
        benches = {name: _bench(config, name, root, tracker) for name in ("shoes", "facades")}
        figures: dict[str, Any] = {"size": config.size}
        for name, bench in benches.items():
            [other] = [one for key, one in benches.items() if key != name]
            if seeds := getattr(config, f"{name}_seeds"):
                found = _arms(config, bench, other, seeds)
                figures |= _table(name, found) | _verdicts(name, found)
        figures |= _clusters(config)
        tracker.scalars({k: v for k, v in figures.items() if isinstance(v, float)}, 0)
    return figures


def _bench(config: Config, name: str, root: str, tracker: Tracker) -> Bench:
    folder = storage.join(root, name)
    data = storage.join(folder, "data")
    source = getattr(config, name)
    shard.run(shard.Config(source=source, output=data, input_side=config.input_side, resize=config.size, workers=0))
    lengths = Lengths(config.encoder_images, config.generator_images, config.finetune_images)
    return Bench(folder, data, config.size, lengths, config.weights, config.limit, config.tracking, tracker)


def _arms(config: Config, bench: Bench, other: Bench, seeds: tuple[int, ...]) -> Figures:
    found: Figures = {}

    def note(arm: str, seed: int, folder: str) -> str:
        found.setdefault(arm, {})[seed] = bench.measure(folder)
        told = ", ".join(f"{k} {v:.4g}" for k, v in found[arm][seed].items())
        print(f"{bench.folder.rsplit('/', 1)[-1]}, {arm}, seed {seed}: {told}", flush=True)
        return folder

    stage2 = bench.recipe(**bench.generator(bench.images.generator))
    both = {**bench.generator(bench.images.generator), **bench.finetune(bench.images.finetune)}
    long = bench.recipe(**bench.generator(bench.images.generator + bench.images.finetune))
    joint = Entry("joint", "step", bench.recipe(**bench.finetune(bench.images.generator)))
    for seed in seeds:
        own, foreign = {"encoder": bench.encoder(seed)}, {"encoder": other.encoder(seed)}
        frozen = note("stage2", seed, bench.train(Entry("stage2", "step", stage2), seed, start=own))
        taken = {**own, "generator": storage.join(frozen, "stages", "generator.pt")}
        tuned = bench.recipe(**both)
        note("stage3", seed, bench.train(Entry("stage3", "step", tuned), seed, start=taken))
        note("stage2_long", seed, bench.train(Entry("stage2_long", "step", long), seed, start=own))
        note("foreign", seed, bench.train(Entry("foreign", "step", stage2), seed, start=foreign))
        note("random", seed, bench.train(Entry("random", "step", stage2), seed))
        first = found["stage2"][seeds[0]]["cpu_seconds"] + bench.encoder_seconds(seeds[0])
        for row in (joint, *bench.baselines()):
            note(row.name, seed, bench.train(bench.equal(row, first), seed))
        for switch in config.switches:
            row = Entry(f"switch-{switch}", "step", bench.recipe(**both, **SWITCHES[switch]))
            note(row.name, seed, bench.train(row, seed, start=own))
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


def _verdicts(name: str, found: Figures) -> dict[str, Any]:
    """Claim -> its verdict and the differences in PSNR (dB), a number a seed."""
    better = {
        "a": ("stage2", ("bicyclegan", "munit"), -MATCHES),
        "b": ("stage3", ("stage2_long",), 0.0),
        "c": ("foreign", ("stage2",), -MATCHES),
        "d": ("stage2", ("joint",), 0.0),
    }
    made: dict[str, Any] = {}
    for claim, (arm, others, least) in better.items():
        apart = [one["psnr"] - max(found[o][seed]["psnr"] for o in others) for seed, one in found[arm].items()]
        made |= _claim(f"{name}/claim_{claim}", f"{arm} - {' or '.join(others)}", apart, least)
    for arm in found:
        if arm.startswith("switch-"):
            apart = [found["stage3"][seed]["psnr"] - one["psnr"] for seed, one in found[arm].items()]
            made |= _claim(f"{name}/claim_e/{arm[7:]}", f"stage3 - with {arm[7:]}", apart, -MATCHES)
    return made


def _claim(name: str, what: str, apart: list[float], least: float) -> dict[str, Any]:
    said = _said([value > least for value in apart])
    print(f"{name}: {what}: {', '.join(f'{value:+.2f}' for value in apart)} dB: {said}", flush=True)
    return {name: said, f"{name}/db": [round(value, 4) for value in apart]}


def _said(held: list[bool]) -> str:
    """Of the seeds."""
    return "holds" if all(held) else "not" if not any(held) else "seeds disagree"


def _clusters(config: Config) -> dict[str, Any]:
    """The samplers of codes, and whether the mapper's lie nearer to the clusters."""
    found = [clusters.measured(config.codes, config.mapper_epochs, seed) for seed in config.shoes_seeds]
    row = _table("clusters", {"codes": dict(enumerate(_shared(found)))})
    apart = [one["mapper/near_a_cluster"] - one["gaussian/near_a_cluster"] for one in found]
    said = _said([value > 0 for value in apart])
    print(f"mapper - gaussian, share of codes near a cluster: {', '.join(f'{v:+.2f}' for v in apart)}: {said}")
    return {**row, "clusters/mapper_nearer": said}


def _shared(found: list[dict[str, float]]) -> list[dict[str, float]]:
    """The figures that all have."""
    names = [name for name in found[0] if all(name in one for one in found)]
    return [{name: one[name] for name in names} for one in found]
