"""What a trained run cost and costs: parameters of its generator, CPU-seconds of its training and of a sample."""

from __future__ import annotations

import json
import math
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from models.abilities import DrawsSamples
from models.common.seeds import seeded
from models.family import Batch, Family
from pipeline.artifacts import storage
from pipeline.evaluation.measures.pictures import makes_pictures
from pipeline.evaluation.setting import Setting, part

ROUNDS = 5
"""Times that a sample's seconds are taken; the fewest count."""


@dataclass(frozen=True)
class Length:
    """How long a generator is trained."""

    updates: int
    """Generator updates, over all stages that train it."""
    images: int
    """Pictures seen in them."""


def length(family: Family) -> Length:
    """Of the stages that train the generator; others (StEP's encoder and mapper) are not counted."""
    stages = [stage for stage in family.stages if stage.images and makes_pictures(family, stage.name)]
    steps = [math.ceil(stage.images / stage.batch) for stage in stages]
    return Length(sum(steps), sum(n * stage.batch for n, stage in zip(steps, stages, strict=True)))


def stage_seconds(folder: str) -> dict[str, tuple[int, float]]:
    """Stage -> (pictures seen, CPU-seconds a step) of the run in `folder`, from its journal: of the steps alone,
    without evaluations, sheets and checkpoints. Steps that were taken again after a kill count once."""
    seconds = {}
    for stage, logged in _logged(folder).items():
        widths = [images - before for (images, _), before in zip(logged, [0, *(i for i, _ in logged)], strict=False)]
        mean = sum(w * s for w, (_, s) in zip(widths, logged, strict=True)) / logged[-1][0]
        seconds[stage] = logged[-1][0], mean
    return seconds


def typical_seconds(folder: str, family: Family) -> dict[str, tuple[int, float]]:
    """As `stage_seconds`, with the median in place of the mean: what a step costs once a stage's first ones, which
    cost more, are over. Of stages with searches between the steps it is the mean, as those belong to the cost."""
    found, searching = stage_seconds(folder), {stage.name for stage in family.stages if stage.refresh_every}
    for stage, logged in _logged(folder).items():
        if stage not in searching:
            found[stage] = logged[-1][0], statistics.median(each for _, each in logged)
    return found


def _logged(folder: str) -> dict[str, list[tuple[int, float]]]:
    """Stage -> (pictures seen, CPU-seconds a step since the entry before), by pictures."""
    found: dict[str, list[tuple[int, float]]] = {}
    for line in storage.read(storage.join(folder, "metrics.jsonl")).splitlines():
        record: dict[str, Any] = json.loads(line)
        for name, value in record.get("values", {}).items():
            stage, _, figure = name.partition("/")
            if figure == "cpu_seconds_per_step":
                found.setdefault(stage, []).append((record["step"], float(value)))
    return {stage: sorted(logged) for stage, logged in found.items()}


def training_seconds(folder: str, family: Family) -> float:
    """CPU-seconds of all stages of the finished run in `folder`."""
    batches = {stage.name: stage.batch for stage in family.stages}
    return sum(images / batches[stage] * each for stage, (images, each) in stage_seconds(folder).items())


def sampling(setting: Setting) -> dict[str, float]:
    """`generator_parameters`: of the modules that a sample goes through; `seconds_per_sample`: CPU-seconds of a sample
    of one input by the first sampler, the fewest of `ROUNDS`. Empty where the family draws none."""
    family = setting.family
    if not isinstance(family, DrawsSamples) or not setting.count:
        return {}
    given = part(setting.pairs, slice(0, 1))
    with torch.no_grad():
        counted = generator_parameters(family, given)
        spent = []
        for i in range(ROUNDS):
            began = time.process_time()
            family.sample(given, 1, seeded(0, "cost", i), family.samplers[0])
            spent.append(time.process_time() - began)
    return {"generator_parameters": float(counted), "seconds_per_sample": min(spent)}


def generator_parameters(family: DrawsSamples, given: Batch) -> int:
    """Numbers in the parameters of all modules that are called while a sample is drawn."""
    used: dict[int, int] = {}

    def note(module: nn.Module, *_: object) -> None:
        used.update({id(p): p.numel() for p in module.parameters(recurse=False)})

    hook = nn.modules.module.register_module_forward_hook(note)
    try:
        family.sample(given, 1, seeded(0, "cost"), family.samplers[0])
    finally:
        hook.remove()
    return sum(used.values())
