"""Text to answer: a bag of words and a linear layer over the vocabulary of answers."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.common.seeds import seeded
from models.family import ArtifactSpec, Batch, Draw, Facts, Family, FieldSpec, Recipe, Stage, Stream
from models.group import Group

SUMMARY = "test: a question in, an answer out"


@dataclass(frozen=True)
class Config(Recipe):
    LENGTHS: ClassVar[tuple[str, ...]] = ("questions",)
    batch: int = 4
    rate: float = 0.1
    width: int = 8
    questions: int = 96


PRESETS = {"tiny": Config(), "long": Config(questions=192)}


def fields(recipe: Config) -> dict[str, FieldSpec]:
    return {"question": FieldSpec("tokens", length=6), "answers": FieldSpec("answers", required=False, length=3)}


def artifacts(recipe: Config) -> dict[str, ArtifactSpec]:
    return {}


def check(recipe: Config, perceptual: nn.Module | None) -> None: ...


class Text(Family):
    recipe: Config
    reads = ("question",)

    def __init__(self, recipe: Config, group: Group, facts: Facts) -> None:
        super().__init__()
        self.recipe, self.group = recipe, group
        self.answers = tuple(facts.fields["answers"]["answers"][:3])
        self.words = nn.Embedding(len(facts.fields["question"]["words"]) + 2, recipe.width)
        self.head = nn.Linear(recipe.width, len(self.answers))
        generator = seeded(recipe.seed, "weights")
        with torch.no_grad():
            for p in self.parameters():
                p.normal_(0, 0.3, generator=generator)
        self.optimisers = {}

    @property
    def stages(self) -> list[Stage]:
        return [Stage("main", self.recipe.questions, self.recipe.batch)]

    def parts(self, stage: str) -> tuple[str, ...]:
        return ("words.", "head.")

    def streams(self, stage: str) -> dict[str, Stream]:
        return {"questions": Stream(batch=self.recipe.batch, fields=("question", "answers"))}

    def enter(self, stage: str) -> None:
        self.optimisers = {"main": torch.optim.Adam(self.parameters(), lr=0.0)}

    def answer(self, given: Batch) -> Tensor:
        known = torch.arange(given["question"].shape[1], device=given["question"].device)
        mask = (known < given["question_length"][:, None]).float()
        bag = (self.words(given["question"]) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        scores: Tensor = self.head(bag)
        return scores

    def update(self, draw: Draw, images: int) -> dict[str, Tensor]:
        batch = draw("questions")
        loss = F.cross_entropy(self.answer(batch), batch["answers"].argmax(1))
        self.optimisers["main"].param_groups[0]["lr"] = self.recipe.rate
        loss.backward()
        self.group.average(self.parameters())
        self.optimisers["main"].step()
        self.optimisers["main"].zero_grad()
        return {"loss": loss.detach()}

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> dict[str, float]:
        return {"wrong": float((self.answer(batch).argmax(1) != batch["answers"].argmax(1)).double().mean())}


def build(recipe: Config, group: Group, perceptual: nn.Module | None = None, facts: Facts | None = None) -> Text:
    plain = {"question": {"words": ["a"]}, "answers": {"answers": ["yes"]}}
    return Text(recipe, group, facts or Facts(0, plain))
