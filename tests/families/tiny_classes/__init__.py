"""Class-conditional without an input: each class's mean picture plus noise along one direction."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from models.common.seeds import seeded
from models.family import ArtifactSpec, Batch, Draw, Facts, Family, FieldSpec, Recipe, Stage, Stream
from models.group import Group

SUMMARY = "test: a class as the only condition"


@dataclass(frozen=True)
class Config(Recipe):
    LENGTHS: ClassVar[tuple[str, ...]] = ("images",)
    size: int = 8
    batch: int = 4
    rate: float = 0.05
    images: int = 48


PRESETS = {"tiny": Config(), "long": Config(images=96)}


def fields(recipe: Config) -> dict[str, FieldSpec]:
    return {"class": FieldSpec("class"), "target": FieldSpec("image", channels=1)}


def artifacts(recipe: Config) -> dict[str, ArtifactSpec]:
    return {}


def check(recipe: Config, perceptual: nn.Module | None) -> None: ...


class Classes(Family):
    recipe: Config
    reads = ("class",)
    samplers = ("prior",)

    def __init__(self, recipe: Config, group: Group, facts: Facts) -> None:
        super().__init__()
        self.recipe, self.group = recipe, group
        self.means = nn.Embedding(facts.classes("class"), recipe.size**2)
        self.spread = nn.Parameter(torch.zeros(recipe.size**2))
        with torch.no_grad():
            self.means.weight.normal_(0, 0.1, generator=seeded(recipe.seed, "means"))
        self.optimisers = {}

    @property
    def stages(self) -> list[Stage]:
        return [Stage("main", self.recipe.images, self.recipe.batch)]

    def parts(self, stage: str) -> tuple[str, ...]:
        return ("means.", "spread")

    def streams(self, stage: str) -> dict[str, Stream]:
        def labelled(row: dict[str, int]) -> bool:
            return row["class_value"] >= 0

        return {"labelled": Stream(batch=self.recipe.batch, fields=("class", "target"), keep=labelled, flip=0.5)}

    def enter(self, stage: str) -> None:
        self.optimisers = {"main": torch.optim.Adam(self.parameters(), lr=0.0)}

    def update(self, draw: Draw, images: int) -> dict[str, Tensor]:
        losses = []
        for k in range(2):  # a burst: two draws a step
            batch = draw("labelled")
            y = batch["target"].flatten(1)
            z = torch.randn(self.recipe.batch, generator=seeded(self.recipe.seed, "z", images, k))
            z = z.chunk(self.group.world)[self.group.rank].to(y)
            losses.append((self.means(batch["class"]) + z[:, None] * self.spread - y).square().mean())
        loss = torch.stack(losses).mean()
        self.optimisers["main"].param_groups[0]["lr"] = self.recipe.rate
        loss.backward()
        self.group.average(self.parameters())
        self.optimisers["main"].step()
        self.optimisers["main"].zero_grad()
        return {"loss": loss.detach()}

    @torch.no_grad()
    def sample(self, given: Batch, count: int, generator: torch.Generator, sampler: str = "") -> Tensor:
        z = torch.randn(len(given["class"]), count, 1, generator=generator)
        x = self.means(given["class"])[:, None] + z * self.spread
        side = self.recipe.size
        return x.view(len(x), count, 1, side, side).expand(-1, -1, 3, -1, -1).clamp(-1, 1)

    @torch.no_grad()
    def judge(self, batches: Iterable[Batch]) -> dict[str, float]:
        apart = [(self.means(b["class"]) - b["target"].flatten(1)).square().mean(1) for b in batches]
        return {"median_error": float(torch.cat(apart).median())}


def build(recipe: Config, group: Group, perceptual: nn.Module | None = None, facts: Facts | None = None) -> Classes:
    return Classes(recipe, group, facts or Facts(0, {"class": {"classes": 1}}))
