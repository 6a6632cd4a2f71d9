"""How conditional flow matching is trained, and what it can then be asked for."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from models.common.average import Average
from models.common.graph import PICTURE, Call, Graph
from models.common.layers import Live
from models.common.optimise import adam, parameters, scalars
from models.common.padding import pad
from models.common.seeds import seeded
from models.common.stepwise import Move, Step, Stepwise
from models.family import Batch, Draw, Stage, Stream
from models.flow.networks import VelocityNet
from models.flow.paths import SOLVERS, matching_loss, straightness
from models.flow.recipe import Config
from models.group import Group

SHOWN, MEASURED = 3, 8  # samples of each input on a sheet; steps at which `evaluate` measures straightness


class Flow(Stepwise):
    """The velocity network and its average, which draws the pictures."""

    samplers = tuple(SOLVERS)
    recipe: Config

    def __init__(self, recipe: Config, group: Group) -> None:
        super().__init__()
        check(recipe)
        self.recipe, self.group, r = recipe, group, recipe
        self.generator = VelocityNet(3, 3, r.widths, r.blocks, r.patch)
        self.generator.draw(seeded(r.seed, "generator"))
        self.average = Average(self.generator, r.average_decay, warm_up=True)
        group.share(self)
        self.optimisers = {}

    @property
    def stages(self) -> list[Stage]:
        return [Stage("train", self.recipe.images, self.recipe.batch)]

    def streams(self, stage: str) -> dict[str, Stream]:
        r = self.recipe
        return {"pairs": Stream(fields=("input", "target"), batch=r.batch, augment=r.augment, flip=r.flip)}

    def parts(self, stage: str) -> tuple[str, ...]:
        return ("generator.", "average.")

    def enter(self, stage: str) -> None:
        if stage != "train":
            raise ValueError(f"no stage {stage!r}: flow has one, train")
        self.optimisers = {"generator": adam(parameters(self.generator), (0.9, 0.999))}

    def step(self, draw: Draw, images: int) -> Step:
        r, batch = self.recipe, draw("pairs")
        target = batch["target"]
        live = Live(seeded(r.seed, "noise", images), self.group)
        noise, logits = live.rows(target.shape).to(target), live.rows(target.shape[:1]).to(target)
        t = torch.sigmoid(-r.times[0] - r.times[1] * logits)
        loss = matching_loss(partial(self.generator, given=batch["input"]), noise, target, t)
        yield [Move("generator", torch.autograd.grad(loss, parameters(self.generator)), r.rate, r.clip)]
        return scalars(rate=r.rate, loss=loss)

    def update(self, draw: Draw, images: int) -> dict[str, Tensor]:
        found = super().update(draw, images)
        self.average.update(self.generator)
        return found

    @torch.no_grad()
    def sample(self, given: Batch, count: int, generator: torch.Generator, sampler: str = "") -> Tensor:
        """`sampler`: `heun` or `euler`, with the recipe's number of steps, or `euler:50` with 50. At any size."""
        name, _, steps = (sampler or self.samplers[0]).partition(":")
        if name not in SOLVERS or (steps and not steps.isdecimal()) or steps == "0":
            raise ValueError(f"--sampler {sampler}: choose one of {', '.join(SOLVERS)}, with steps as in euler:50")
        x = given["input"]
        grown = pad(x, self.generator.multiple)
        noise = torch.randn(len(x), count, 3, *grown.shape[2:], generator=generator).to(x)
        velocity, each = partial(self.average.net, given=grown), int(steps or self.recipe.steps)
        drawn = torch.stack([SOLVERS[name](velocity, noise[:, k], each) for k in range(count)], 1)
        return drawn[..., : x.shape[2], : x.shape[3]].clamp(-1, 1)

    def graph(self, given: Batch, generator: torch.Generator) -> Graph:
        """The velocity network. Euler's step is `state += velocity / steps`."""
        x, net = given["input"], self.average.net
        inputs = {"state": torch.randn(x.shape, generator=generator), "time": torch.rand(len(x), generator=generator)}
        ranges = {"state": "N(0, 1) to a picture", "time": "[0, 1]", "input": PICTURE, "velocity": "d state / d time"}
        return Graph(Call(net.forward, net), {**inputs, "input": x}, ranges, "velocity", self.generator.multiple)

    def preview(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        drawn = self.sample(batch, SHOWN, generator)
        return {"input": batch["input"], "truth": batch["target"]} | {f"sample {i}": drawn[:, i] for i in range(SHOWN)}

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> dict[str, float]:
        """The matching loss at fixed noise and times; `straightness` of the average's paths (0: one step suffices)."""
        target, generator = batch["target"], seeded(self.recipe.seed, "evaluate")
        noise = torch.randn(target.shape, generator=generator).to(target)
        t = torch.rand(len(target), generator=generator).to(target)
        velocity = partial(self.average.net, given=batch["input"])
        losses = matching_loss(velocity, noise, target, t), straightness(velocity, noise, MEASURED)
        return dict(zip(("matching", "straightness"), map(float, losses), strict=True))


def check(recipe: Config, perceptual: nn.Module | None = None) -> None:
    """Raises ValueError where sizes do not fit together, before anything is built."""
    for name in ("patch", "steps"):
        if getattr(recipe, name) < 1:
            raise ValueError(f"--{name} {getattr(recipe, name)}: give at least 1")
    multiple = recipe.patch << (len(recipe.widths) - 1)
    if recipe.size % multiple:
        raise ValueError(f"--size {recipe.size}: must be a multiple of {multiple}, by --widths and --patch")
