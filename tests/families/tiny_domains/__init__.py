"""Two unpaired domains, a stream each: the other domain's mean colours on one's own content."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from models.common.seeds import seeded
from models.family import ArtifactSpec, Batch, Draw, Facts, Family, FieldSpec, Recipe, Stage, Stream
from models.group import Group

SUMMARY = "test: two unpaired domains"


@dataclass(frozen=True)
class Config(Recipe):
    LENGTHS: ClassVar[tuple[str, ...]] = ("images",)
    size: int = 8
    batch: int = 4
    rate: float = 0.05
    images: int = 48


PRESETS = {"tiny": Config(fit="stretch"), "long": Config(images=96)}


def fields(recipe: Config) -> dict[str, FieldSpec]:
    return {"target": FieldSpec("image"), "class": FieldSpec("class")}


def artifacts(recipe: Config) -> dict[str, ArtifactSpec]:
    return {}


def check(recipe: Config, perceptual: nn.Module | None) -> None: ...


class Domains(Family):
    recipe: Config
    reads = ("target", "class")
    samplers = ("prior",)

    def __init__(self, recipe: Config, group: Group) -> None:
        super().__init__()
        self.recipe, self.group = recipe, group
        self.colours = nn.Parameter(torch.randn(2, 3, generator=seeded(recipe.seed, "colours")))
        self.optimisers = {}

    @property
    def stages(self) -> list[Stage]:
        return [Stage("main", self.recipe.images, self.recipe.batch)]

    def parts(self, stage: str) -> tuple[str, ...]:
        return ("colours",)

    def streams(self, stage: str) -> dict[str, Stream]:
        def of(domain: int) -> Stream:
            return Stream(
                batch=self.recipe.batch,
                fields=("target",),
                keep=lambda row: row["class_value"] == domain,
                augment=(1.25,),
                flip=0.5,
            )

        return {"first": of(0), "second": of(1)}

    def enter(self, stage: str) -> None:
        self.optimisers = {"main": torch.optim.Adam(self.parameters(), lr=0.0)}

    def update(self, draw: Draw, images: int) -> dict[str, Tensor]:
        seen = torch.stack([draw(name)["target"].mean((2, 3)) for name in ("first", "second")])  # 2 B 3
        loss = (self.colours[:, None] - seen).square().mean()
        self.optimisers["main"].param_groups[0]["lr"] = self.recipe.rate
        loss.backward()
        self.group.average(self.parameters())
        self.optimisers["main"].step()
        self.optimisers["main"].zero_grad()
        return {"loss": loss.detach()}

    @torch.no_grad()
    def codes(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))

    @torch.no_grad()
    def generate(self, given: Batch, code: Tensor) -> Tensor:
        x = given["target"]
        return (x - x.mean((2, 3), keepdim=True) + code[:, :, None, None]).clamp(-1, 1)

    @torch.no_grad()
    def sample(self, given: Batch, count: int, generator: torch.Generator, sampler: str = "") -> Tensor:
        noise = 0.1 * torch.randn(len(given["target"]), count, 3, generator=generator)
        code = self.colours[1 - given["class"]][:, None] + noise
        return torch.stack([self.generate(given, code[:, k]) for k in range(count)], 1)

    def evaluate(self, batch: Batch) -> dict[str, float]:
        apart = self.codes(batch["target"]) - self.colours.detach()[batch["class"]]
        return {"colour_error": float(apart.square().mean())}

    def preview(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        return {"picture": batch["target"], "other domain": self.sample(batch, 1, generator)[:, 0]}


def build(recipe: Config, group: Group, perceptual: nn.Module | None = None, facts: Facts | None = None) -> Domains:
    return Domains(recipe, group)
