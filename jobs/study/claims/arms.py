"""The runs by which StEP's claims are tested on one set: each arm is a recipe, and what it starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

import models.step
from jobs.comparison.budget import lengths
from jobs.comparison.rows import Entry, entry
from jobs.comparison.runs import Planned, artifacts_of
from models.abilities import Reconstructs
from pipeline.artifacts import storage
from pipeline.data.shards import DataSet
from pipeline.evaluation import cost, protocol
from pipeline.evaluation.setting import Options, Setting
from pipeline.runs.sampler import open_run
from pipeline.tracking.journal import Tracker
from pipeline.training.loop import fit

REMOVED: dict[str, dict[str, Any]] = {
    "use_vgg_loss": {"perceptual_weight": 0.0, "pixel_weight": 10.0},
    "loss_z_l2": {"code_weight": 0.0},
}
"""Switch of the released code that is on in the published runs -> the recipe without it. E is the usual one."""
ADDED: dict[str, dict[str, Any]] = {
    "use_vae": {"vae": True},
    "loss_z_kl": {"vae": True, "kl_weight": 0.01},
    "loss_z_recon": {"code_recon_weight": 10.0},
    "loss_z_rand_recon": {"random_code_weight": 10.0},
    "loss_D_rand_z": {"random_gan_weight": 1.0},
    "loss_D_swap_z": {"swapped_gan_weight": 1.0},
    "loss_cyclic_recon": {"cycle_weight": 0.02},
    "loss_D_cyclic": {"cycle_gan_weight": 1.0},
}
"""Switch of the released code that is off in the published runs -> the recipe with it."""
BASELINES = {"bicyclegan": "bicyclegan:small:levels={levels}", "munit": "munit:small-paired:pair_weight=10"}
TRIAL = 200
"""Updates by which it is measured how many fit into a number of CPU-seconds."""


@dataclass(frozen=True)
class Lengths:
    """Of each stage, in images."""

    encoder: int
    generator: int
    finetune: int


@dataclass(frozen=True)
class _Equal:
    """A budget, as `lengths` reads it."""

    seconds: float
    weights: str
    updates: int = 0
    images: int = 0
    workers: int = 0
    threads: int = 1


@dataclass(frozen=True)
class Bench:
    """One data set with its folder, and how its runs are trained and measured."""

    folder: str
    data: str
    size: int
    images: Lengths
    weights: str
    limit: int
    tracking: str | None
    parent: Tracker
    near: int = 5
    far: int = 13
    workers: int = 0

    def recipe(self, **changes: Any) -> models.step.Config:
        """The base recipe, no stage in it: arms say which they train."""
        none = {"encoder_images": 0, "generator_images": 0, "finetune_images": 0, "mapper_epochs": 0}
        return replace(models.step.PRESETS["demo"], size=self.size, batch=4, **{**none, **changes})

    def generator(self, images: int) -> dict[str, Any]:
        """The generator stage, the last third of it at a falling rate."""
        return {"generator_images": images, "generator_constant": images * 2 // 3}

    def finetune(self, images: int) -> dict[str, Any]:
        """The finetune stage, likewise."""
        return {"finetune_images": images, "finetune_constant": images * 2 // 3}

    def encoder(self, seed: int, switch: str = "") -> str:
        """E of this set, trained alone; the checkpoint. With a `switch` that makes E variational it is another one."""
        changes = ADDED.get(switch, {})
        changes = changes if changes.get("vae") else {}
        recipe = self.recipe(encoder_images=self.images.encoder, **changes)
        row = Entry("triplets", "step", recipe)
        made = artifacts_of(row, self.data, self, self.folder, self.tracking, self.parent)
        folder = self.train(Entry(f"encoder-{switch}" if changes else "encoder", "step", recipe), seed, made)
        return storage.join(folder, "stages", "encoder.pt")

    def train(
        self, row: Entry, seed: int, artifacts: Mapping[str, str] | None = None, start: Mapping[str, str] | None = None
    ) -> str:
        """One run, unless it is there; its folder."""
        plan = Planned(
            row.seeded(seed), seed, self.data, artifacts or {}, storage.join(self.folder, row.name, f"seed-{seed}")
        )
        more = {"tracking": self.tracking, "parent": self.parent.as_parent, "start": dict(start or {})}
        fit(plan.job(self.weights, 1, name=f"{self.folder.rsplit('/', 1)[-1]} {row.name} {seed}", **more))
        return storage.join(plan.folder, "train")

    def encoder_seconds(self, seed: int) -> float:
        """CPU-seconds that E's own training took."""
        folder = storage.join(self.folder, "encoder", f"seed-{seed}", "train")
        return cost.training_seconds(folder, open_run(folder).family)

    def budget(self, seconds: float) -> float:
        """CPU-seconds of the arms that get as many as stage 2 with E: of the first seed that the folder ever had, as
        the others' work is the same."""
        path = storage.join(self.folder, "budget.json")
        if not storage.exists(path):
            storage.publish_json(path, {"cpu_seconds": seconds})
        found: float = storage.read_json(path)["cpu_seconds"]
        return found

    def equal(self, row: Entry, seconds: float) -> Entry:
        """The row, stretched to so many CPU-seconds; how long an update takes is measured once."""
        given = _Equal(seconds, self.weights)
        [found] = lengths(given, [row], {row.name: self.data}, {row.name: {}}, self.folder, TRIAL)
        return found

    def baselines(self) -> list[Entry]:
        """BicycleGAN and MUNIT, on the same pictures."""
        levels = self.size.bit_length() - 1
        return [entry(f"{name}={text.format(levels=levels)}", self.size) for name, text in BASELINES.items()]

    def measure(self, folder: str) -> dict[str, float]:
        """Reconstruction of the held-out pictures with their own codes."""
        run = open_run(folder)
        assert isinstance(run.family, Reconstructs)
        options = Options(weights=self.weights, net="vgg19", limit=self.limit)
        setting = Setting(run, folder, DataSet(self.data, "val"), folder, options)
        with torch.no_grad():
            found = protocol.reconstruction(run.family, setting.pairs, setting.distances, options.swaps)
        short = {name.split("-")[0]: value for name, value in found.items()}
        return {**short, "cpu_seconds": cost.training_seconds(folder, run.family)}
