"""Question answering as a family: the baselines and r-DAN, trained on answers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.common.overlay import overlay, word_bars
from models.common.seeds import seeded
from models.family import Batch, Draw, Facts, Family, Stage, Stream
from models.group import Group
from models.vqa.attention import Maps, Reasoning
from models.vqa.layers import Masks, start
from models.vqa.losses import agreement, answer_loss
from models.vqa.networks import FIRST, Answerer, BagOfWords, Classifier, Concatenation, Picture, Product, Recurrent
from models.vqa.recipe import Config
from models.vqa.steps import optimiser, step


def check(recipe: Config, perceptual: nn.Module | None) -> None:
    """Refuse what does not fit together.

    Raises:
        ValueError: the option, its value, what to do.
    """
    for option in ("dropout", "dropout_inputs"):
        if getattr(recipe, option) >= 1:
            raise ValueError(f"--{option.replace('_', '-')} {getattr(recipe, option)}: give a share below 1")
    for option in ("steps", "hidden", "answers", "layers", "longest"):
        if getattr(recipe, option) < 1:
            raise ValueError(f"--{option} {getattr(recipe, option)}: give at least 1")
    if recipe.network != "baseline":
        return
    both = recipe.question != "none" and recipe.image != "none"
    if both != (recipe.fusion != "none"):
        raise ValueError(
            f"--fusion {recipe.fusion}: with --question {recipe.question} and --image {recipe.image} give "
            f"{'concatenation or product' if both else 'none'}"
        )
    if recipe.question == recipe.image == "none":
        raise ValueError("--question none --image none: the network would see nothing")


def baseline(recipe: Config, facts: Facts) -> Answerer:
    """The baseline that a recipe describes, without first weights."""
    question: BagOfWords | Recurrent | None = None
    image: Picture | None = None
    fusion: Concatenation | Product | None = None
    width = 0
    if recipe.question == "bow":
        question = BagOfWords(recipe.common, _openers(facts, recipe.openers))
    elif recipe.question == "lstm":
        question = Recurrent(
            _words(facts, "question"), recipe.embedding, recipe.hidden, recipe.layers, recipe.dropout_inputs
        )
    if recipe.image != "none":
        image = Picture(int(facts.fields["vector"]["shape"][0]), recipe.image == "norm")
    if question is not None and image is not None:
        if recipe.fusion == "concatenation":
            fusion = Concatenation(question.width, image.width)
        else:
            fusion = Product(question.width, image.width, recipe.joint, recipe.direct, recipe.dropout_inputs)
        width = fusion.width
    else:
        width = (question or image).width  # type: ignore[union-attr]  # `check` saw that there is one
    answers = min(recipe.answers, len(facts.fields["answers"]["answers"]))
    # Without hidden layers (released code) it is the joined vector that is dropped out.
    classifier = Classifier(width, recipe.mlp, answers, recipe.dropout, first=not recipe.mlp)
    return Answerer(question, image, fusion, classifier)


def _words(facts: Facts, field: str) -> int:
    return FIRST + len(facts.fields[field]["words"])


def _openers(facts: Facts, count: int) -> list[list[int]]:
    """Numbers of the most frequent first, second and third words."""
    known = facts.fields["question"]
    places = {word: FIRST + place for place, word in enumerate(known["words"])}
    return [[places[word] for word in opening[:count]] for opening in known.get("openers", [])]


class Answerers(Family):
    """Answers questions. `state_dict()`: the network's."""

    recipe: Config

    def __init__(self, recipe: Config, group: Group, facts: Facts) -> None:
        super().__init__()
        self.recipe, self.group = recipe, group
        self.answers = tuple(facts.fields["answers"]["answers"][: recipe.answers])
        self.net: Answerer | Reasoning
        if recipe.network == "r-dan":
            regions = int(facts.fields["grid"]["shape"][-1])
            self.net = Reasoning(
                _words(facts, "question"), regions, recipe.hidden, recipe.steps, len(self.answers), recipe.dropout
            )
            self.sees = "grid"
        else:
            self.net = baseline(recipe, facts)
            self.sees = "" if recipe.image == "none" else "vector"
        start(self.net, seeded(recipe.seed, "weights"), recipe.uniform)
        group.share(self)
        self.reads = ("question", self.sees) if self.sees else ("question",)  # type: ignore[misc]  # of this network
        self.optimisers = {}

    @property
    def stages(self) -> list[Stage]:
        return [Stage("main", self.recipe.questions, self.recipe.batch)]

    def parts(self, stage: str) -> tuple[str, ...]:
        return ("net.",)

    def streams(self, stage: str) -> dict[str, Stream]:
        return {"questions": Stream(batch=self.recipe.batch, fields=(*self.reads, "answers"))}

    def enter(self, stage: str) -> None:
        self.optimisers = {"main": optimiser(self.recipe, self.net.parameters())}

    def scores(self, given: Batch, masks: Masks | None = None) -> tuple[Float[Tensor, "b k"], Maps | None]:
        """Scores of the answers, and what r-DAN looked at."""
        image = None
        if self.sees:
            image = regions(given["grid"]) if self.sees == "grid" else given["vector"]
        found: tuple[Tensor, Maps | None] = self.net(given["question"], given["question_length"], image, masks)
        return found

    def answer(self, given: Batch) -> Float[Tensor, "b k"]:
        """A score for each of `answers`."""
        return self.scores(given)[0]

    def update(self, draw: Draw, images: int) -> dict[str, Tensor]:
        batch, group = draw("questions"), self.group
        # Rows are of one length on every worker, so that masks are.
        short = self.recipe.longest - batch["question"].shape[1]
        batch["question"] = F.pad(batch["question"], (0, short))
        masks = Masks(seeded(self.recipe.seed, "dropout", images), group.rank, group.world)
        scores, _ = self.scores(batch, masks)
        total, known = answer_loss(scores, batch["answers"])
        everyone = group.gather(known[None]).sum().clamp(min=1)
        # The mean over the global batch's questions; `average` divides by the workers.
        loss = total * group.world / everyone
        loss.backward()  # type: ignore[no-untyped-call]
        step(self.recipe, group, self.optimisers["main"], list(self.net.parameters()), images)
        return {"loss": loss.detach(), "agreement": agreement(scores.detach(), batch["answers"]).mean()}

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> dict[str, float]:
        """`disagreement`: 1 - VQA's accuracy, without the official normalisation of answers."""
        found = agreement(self.answer(batch), batch["answers"])
        return {"disagreement": 1 - float(found.double().mean())}

    @torch.no_grad()
    def attention(self, given: Batch) -> dict[str, Tensor]:
        """Of r-DAN: weights of `grid` and of `question`."""
        maps = self.scores(given)[1]
        if maps is None:
            return {}
        return {"grid": maps.image.reshape(*maps.image.shape[:2], *given["grid"].shape[1:3]), "question": maps.text}

    @torch.no_grad()
    def preview(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Of r-DAN: as `pictured`."""
        return pictured(batch, self.attention(batch), "question")


def pictured(batch: Batch, attention: dict[str, Tensor], text: str) -> dict[str, Tensor]:
    """The image, and of each step where was looked and which words of `text` were read (bars, left to right)."""
    if not attention or "image" not in batch:
        return {}
    columns = {"image": batch["image"]}
    for k, (seen, read) in enumerate(zip(attention["grid"].unbind(1), attention[text].unbind(1), strict=True), 1):
        columns[f"step {k}: image"] = overlay(batch["image"], seen)
        columns[f"step {k}: words"] = word_bars(read, batch[f"{text}_length"], batch["image"])
    return columns


def regions(grid: Float[Tensor, "b h w d"]) -> Float[Tensor, "b n d"]:
    """A grid's cells as a list, row by row."""
    return grid.flatten(1, -2)
