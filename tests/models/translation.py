"""What the tests of the translation families share: batches by number, five steps with all gradients, resuming."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import models
from models.common.seeds import seeded
from models.common.vgg import VGG
from models.family import Batch, Family, PerceptualRecipe, Recipe
from models.group import Group
from tests.ranks import on_two_ranks

STEPS = 4


def built(name: str, recipe: Recipe, group: Group | None = None) -> Family:
    vgg = None
    if isinstance(recipe, PerceptualRecipe) and recipe.perceptual_layers:
        r = recipe
        settings = (r.perceptual_preprocessing, r.perceptual_pooling, r.perceptual_pools)
        vgg = VGG(r.perceptual_net, r.perceptual_layers, *settings).random(0)
    found: Family = models.load(name).build(recipe, group or Group(), vgg)
    return found


class Data:
    """Draws by number: the same global batches for every run that counts the same draws, a rank's share of each."""

    def __init__(
        self,
        family: Family,
        stage: str,
        rank: int = 0,
        world: int = 1,
        count: int = 0,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.family, self.stage, self.rank, self.world, self.count = family, stage, rank, world, count
        self.dtype = dtype or torch.float32
        self.specs = models.load(type(family).__module__.split(".")[1]).fields(family.recipe)

    def __call__(self, stream: str) -> Batch:
        wanted = self.family.streams(self.stage)[stream]
        assert wanted.batch % (self.world * wanted.unit) == 0
        whole = self.batch(wanted.fields, wanted.batch, stream)
        return {name: value.chunk(self.world)[self.rank] for name, value in whole.items()}

    def batch(self, fields: tuple[str, ...], rows: int, stream: str = "") -> Batch:
        self.count += 1
        generator = seeded(stream, self.count)
        height, width = self.family.recipe.frame
        found: Batch = {"index": torch.arange(rows) + self.count * rows}
        for name in fields:
            spec = self.specs[name]
            if spec.kind == "class":
                found[name] = torch.arange(rows) % 2
            elif spec.kind in ("labels", "instances"):
                # Blocks of four pixels: objects of several pixels.
                most = self.family.recipe.labels if spec.kind == "labels" else 2**31 - 1  # type: ignore[attr-defined]
                ids = torch.randint(0, most, (rows, height // 4, width // 4), generator=generator)
                found[name] = ids.repeat_interleave(4, 1).repeat_interleave(4, 2)
            else:
                flat = torch.rand(rows, spec.channels, 1, 1, generator=generator, dtype=self.dtype) * 2 - 1
                noise = torch.randn(rows, spec.channels, height, width, generator=generator, dtype=self.dtype)
                found[name] = (flat + 0.3 * noise).clamp(-1, 1)
        return found


Steps = dict[str, dict[str, Any]]


def train(name: str, recipe: Recipe, group: Group) -> Steps:
    """Stage -> losses and each step's gradients by optimiser, in float64."""
    found: Steps = {}
    family = built(name, recipe, group).double()
    for stage in family.stages:
        family.enter(stage.name)
        data = Data(family, stage.name, Group().rank, Group().world, dtype=torch.float64)
        losses: list[float] = []
        gradients: list[tuple[str, Tensor]] = []
        for label, optimiser in family.optimisers.items():

            def keep(optimiser: Any, *_: Any, label: str = label, gradients: list[Any] = gradients) -> None:
                grads = [p.grad for settings in optimiser.param_groups for p in settings["params"]]
                gradients.append((label, torch.cat([g.reshape(-1).clone() for g in grads])))

            optimiser.register_step_pre_hook(keep)
        for i in range(STEPS):
            scalars = {k: float(v) for k, v in family.update(data, i * stage.batch).items()}
            losses.append(group.mean(scalars)["loss"])
        found[stage.name] = {"losses": losses, "gradients": gradients}
    return found


def _worker(_: int, cases: dict[str, Recipe], make: Callable[[], Group]) -> dict[str, Steps]:
    return {name: train(name.split("/")[0], recipe, make()) for name, recipe in cases.items()}


def two_workers(cases: dict[str, Recipe], folder: Path, make: Callable[[], Group] = Group) -> dict[str, Steps]:
    """`cases`: family, or family/variant -> recipe."""
    found: dict[str, Steps] = on_two_ranks(folder, _worker, cases, make)[0]
    return found


def largest_error(one: Steps, two: Steps) -> dict[str, float]:
    """Stage -> the largest over losses and gradients, relative to the loss and to the network's largest gradient."""
    found = {}
    for stage, mine in one.items():
        errors = [abs(a - b) / abs(a) for a, b in zip(mine["losses"], two[stage]["losses"], strict=True)]
        for (name, a), (other, b) in zip(mine["gradients"], two[stage]["gradients"], strict=True):
            assert name == other and len(a) == len(b)
            errors.append(float((a - b).abs().max() / a.abs().max()))
        assert len(errors) >= 2 * STEPS
        found[stage] = max(errors)
    return found


def check_resume(name: str, recipe: Recipe, folder: Path) -> None:
    """In each stage: six steps are three, saved and loaded into a fresh family, and three more; bit for bit."""
    whole = built(name, recipe)
    for stage in whole.stages:
        before = {key: value.clone() for key, value in whole.state_dict().items()}
        whole.enter(stage.name)
        data = Data(whole, stage.name)
        for i in range(6):
            whole.update(data, i * stage.batch)
        half = built(name, recipe)
        half.load_state_dict(before)
        half.enter(stage.name)
        data = Data(half, stage.name)
        for i in range(3):
            half.update(data, i * stage.batch)
        torch.save([half.state_dict(), half.training_state()], folder / "state.pt")
        weights, training = torch.load(folder / "state.pt", weights_only=True)
        rest = built(name, recipe)
        rest.load_state_dict(weights)
        rest.enter(stage.name)
        rest.load_state_dict(weights)
        rest.load_training_state(training)
        data = Data(rest, stage.name, count=data.count)
        for i in range(3, 6):
            rest.update(data, i * stage.batch)
        a, b = whole.state_dict(), rest.state_dict()
        moved = [key for key in a if not torch.equal(a[key], before[key])]
        assert moved and a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a), [key for key in a if not torch.equal(a[key], b[key])]
        x, y = whole.training_state()["adam"], rest.training_state()["adam"]
        assert all(torch.equal(v, y[n][i][k]) for n in x for i in x[n] for k, v in x[n][i].items())
